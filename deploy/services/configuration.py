"""The file that has Darkroom use the servers: `darkroom.yaml`, a cluster file with their addresses and passwords.

It is written anew at each start, and names every server of the folder that was ever started there.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from records import Record

NAME = "darkroom.yaml"

_HEAD = """\
# Written by `python deploy/services start`: `darkroom serve --config` this file uses the servers of this folder.
cluster_name: darkroom
provider: {type: local, head_ip: 127.0.0.1, worker_ips: []}
auth: {ssh_user: darkroom}
metadata:
  darkroom:
"""


def write(root: Path, records: Mapping[str, Record]) -> Path:
    """Replace the file, which only its owner can read."""
    settings = [line for name, record in sorted(records.items()) for line in _settings(name, record)]
    new = root / f"{NAME}.new"
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_HEAD + "".join(f"    {key}: {value}\n" for key, value in settings))
    return new.replace(root / NAME)


def _settings(name: str, record: Record) -> list[tuple[str, str]]:
    place = f"{record.host}:{record.port}"
    address = (name, f"bolt://{place}" if name == "neo4j" else place)
    if not record.user:
        return [address]
    # Quoted, for a password may be nothing but digits.
    return [address, (f"{name}_user", record.user), (f"{name}_password", f'"{record.password}"')]
