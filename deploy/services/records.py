"""The file that says where each server is: `services.json`, one object a server, for programs to read.

A record stays when its server is stopped, for its ports and its password belong to its data. Only its owner can read
it. It is replaced whole, so a crash leaves the old one or the new one.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from processes import Process
from refusals import ServiceError

NAME = "services.json"


@dataclass(frozen=True)
class Record:
    """Where one server is, how to log in, and the process that it was last seen as."""

    host: str
    port: int
    user: str
    password: str
    ports: dict[str, int]
    process: Process | None


def read(root: Path) -> dict[str, Record]:
    try:
        stored = json.loads((root / NAME).read_text(encoding="utf-8"))
        return {name: _record(fields) for name, fields in stored.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ServiceError(f"{root / NAME} cannot be read ({error}); end what runs, then remove {root}") from error


def write(root: Path, records: Mapping[str, Record]) -> None:
    text = json.dumps({name: asdict(record) for name, record in sorted(records.items())}, indent=2)
    new = root / f"{NAME}.new"
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    new.replace(root / NAME)


def _record(fields: dict[str, object]) -> Record:
    process = fields.pop("process")
    return Record(**fields, process=Process(**process) if isinstance(process, dict) else None)  # type: ignore[arg-type]
