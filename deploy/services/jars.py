"""The jars of a server, fetched once with Maven into a folder that is named for the pom that asked for them.

A folder is there whole or not at all: it is filled under another name. Maven refuses what its checksum contradicts.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from refusals import ServiceError, ToolMissing

JAVA = 17  # the one version that Cassandra 5, Neo4j 5.26 and Kafka 4 all run on
FETCH_S = 900


def java() -> str:
    """The path of a Java that serves. Raises `ToolMissing`."""
    home = os.environ.get("JAVA_HOME", "")
    path = shutil.which(f"{home}/bin/java" if home else "java")
    if path is None:
        raise ToolMissing(f"Java {JAVA} is needed (Debian: openjdk-{JAVA}-jre-headless) and was not found")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) != JAVA:
        version = found[1] if found else "of an unknown version"
        raise ToolMissing(f"Java {JAVA} is needed, and {path} is {version}; name another with JAVA_HOME")
    return path


def folder_of(pom: Path, root: Path) -> Path:
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    return root / "jars" / f"{pom.parent.name}-{digest}"


def fetch(pom: Path, root: Path) -> Path:
    """The folder with the jars that the pom names. Raises `ToolMissing` and `ServiceError`."""
    folder = folder_of(pom, root)
    if folder.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise ToolMissing("Maven is needed to fetch the jars (Debian: maven) and was not found")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={part}"]
    command = [maven, "-q", "-B", "-C", "-f", str(pom), *goal]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_S)
    if done.returncode:
        raise ServiceError(f"Maven could not fetch what {pom} names:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    part.rename(folder)
    return folder
