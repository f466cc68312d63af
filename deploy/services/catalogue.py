"""What each server is: the ports it wants, its configuration, its command, and how it is asked whether it serves."""

import shutil
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import answers
import jars
from refusals import ServiceError, ToolMissing

SERVERS = Path(__file__).parent / "servers"
PREPARE_S = 120
CASSANDRA_PORTS = ("port", "storage_port", "jmx_port")
JAVA_HABITS = ("-Djava.net.preferIPv4Stack=true", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")


@dataclass(frozen=True)
class Site:
    """What one server is given: a folder of its own under the root, ports, and the password to set."""

    name: str
    root: Path
    ports: dict[str, int]
    password: str

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def port(self) -> int:
        return self.ports["port"]


@dataclass(frozen=True)
class Service:
    """`user` is empty where nobody logs in; `needs` raises what is missing, and fetches what can be fetched."""

    name: str
    user: str
    port_names: tuple[str, ...]
    needs: Callable[[Path], None]
    command: Callable[[Site], list[str]]
    ask: Callable[[Site], None]


def _needs_redis(_root: Path) -> None:
    if shutil.which("redis-server") is None:
        raise ToolMissing("redis-server is needed (Debian: redis-server) and was not found")


def _redis(site: Site) -> list[str]:
    configuration = _write(site, "redis.conf")
    return [shutil.which("redis-server") or "redis-server", str(configuration)]


def _ask_redis(site: Site) -> None:
    answers.redis(site.port)


def _needs_jars(name: str) -> Callable[[Path], None]:
    def needs(root: Path) -> None:
        jars.java()
        jars.fetch(SERVERS / name / "pom.xml", root)

    return needs


def _kafka(site: Site) -> list[str]:
    configuration = _write(site, "server.properties")
    logging = SERVERS / "kafka/log4j2.properties"
    java = [*_java(site), f"-Dlog4j2.configurationFile={logging}"]
    if not (site.data / "meta.properties").exists():
        cluster = str(uuid.uuid4())
        _once(
            [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(configuration)],
            site,
        )
    return [*java, "kafka.Kafka", str(configuration)]


def _ask_kafka(site: Site) -> None:
    answers.kafka(site.port)


def _cassandra(site: Site) -> list[str]:
    configuration = _write(site, "cassandra.yaml")
    properties = {
        "cassandra.config": configuration.as_uri(),
        "cassandra.storagedir": str(site.data),
        "cassandra.jmx.local.port": str(site.ports["jmx_port"]),
        "com.sun.management.jmxremote.rmi.port": str(site.ports["jmx_port"]),
        "logback.configurationFile": str(SERVERS / "cassandra/logback.xml"),
    }
    return [
        *_java(site),
        *(f"-D{name}={value}" for name, value in properties.items()),
        "org.apache.cassandra.service.CassandraDaemon",
    ]


def _ask_cassandra(site: Site) -> None:
    """A new Cassandra has one user with a known password, which is changed before the server counts as started."""
    user = "cassandra"
    try:
        answers.cassandra(site.port, user, site.password)
    except answers.Unanswered:
        change = f"ALTER ROLE cassandra WITH PASSWORD = '{site.password}'"
        answers.cassandra(site.port, user, "cassandra", change)
        answers.cassandra(site.port, user, site.password)


def _neo4j(site: Site) -> list[str]:
    _write(site, "neo4j.conf")
    if not (site.data / "dbms/auth.ini").exists() and not (site.data / "databases").exists():
        _set_neo4j_password(site)
    home = [f"--home-dir={site.folder}", f"--config-dir={site.folder}", "--console-mode"]
    return [*_java(site), "org.neo4j.server.CommunityEntryPoint", *home]


def _set_neo4j_password(site: Site) -> None:
    """By a file of arguments, for a command line can be read by everybody on the machine."""
    arguments = site.folder / "password.arguments"
    arguments.touch(0o600)
    arguments.write_text(f"org.neo4j.cli.AdminTool dbms set-initial-password {site.password}\n", encoding="utf-8")
    try:
        _once([*_java(site), f"@{arguments}"], site, {"NEO4J_HOME": str(site.folder), "NEO4J_CONF": str(site.folder)})
    finally:
        arguments.unlink()


def _ask_neo4j(site: Site) -> None:
    answers.neo4j(site.port)


def _java(site: Site) -> list[str]:
    """Java with its options, all that is temporary kept in the server's own folder."""
    temporary = site.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return [
        jars.java(),
        f"@{SERVERS / site.name / 'jvm.options'}",
        *JAVA_HABITS,
        f"-Djava.io.tmpdir={temporary}",
        f"-Djna.tmpdir={temporary}",
        "-cp",
        f"{jars.folder_of(SERVERS / site.name / 'pom.xml', site.root)}/*",
    ]


def _write(site: Site, name: str) -> Path:
    """The template of that name with the ports and the data folder filled in."""
    site.data.mkdir(parents=True, exist_ok=True)
    text = (SERVERS / site.name / name).read_text(encoding="utf-8")
    path = site.folder / name
    path.write_text(Template(text).substitute(site.ports, data=str(site.data)), encoding="utf-8")
    return path


def _once(command: list[str], site: Site, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=site.folder, env=environment or {}, capture_output=True, text=True, timeout=PREPARE_S
    )
    if done.returncode:
        raise ServiceError(f"{site.name} could not be prepared:\n{(done.stdout + done.stderr).strip()[-2000:]}")


SERVICES = {
    service.name: service
    for service in (  # the quickest first, for they are waited for one after another
        Service("redis", "", ("port",), _needs_redis, _redis, _ask_redis),
        Service("kafka", "", ("port", "controller_port"), _needs_jars("kafka"), _kafka, _ask_kafka),
        Service("cassandra", "cassandra", CASSANDRA_PORTS, _needs_jars("cassandra"), _cassandra, _ask_cassandra),
        Service("neo4j", "neo4j", ("port",), _needs_jars("neo4j"), _neo4j, _ask_neo4j),
    )
}
