"""Which log it is, so that what one log has filled on a server is never filled by another.

A log's name comes with its topic or its folder. Its first record tells it from others even after a restore from a
backup, when the name is another. Neither ever changes.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from darkroom.events.json_lines import format_line
from darkroom.events.log import EventLog
from darkroom.gateway.settings import Settings

DIGITS = 32


@dataclass(frozen=True)
class LogIdentity:
    """`first` is a hash of the first record, None while there is none. `told` is what people call the log."""

    name: str
    first: str | None
    told: str

    def is_of(self, log: "LogIdentity") -> bool:
        """Whether what bears this note is that log's: by its first record, or by its name if it had none then."""
        return self.first == log.first if self.first else self.name == log.name


def identity_of(settings: Settings, folder: Path, log: EventLog) -> LogIdentity:
    """Of the opened log, which is in `folder` or has its copy there."""
    records = log.read(0, 1)
    first = [hashlib.sha256(format_line(record.event, record.time_ms)).hexdigest()[:DIGITS] for record in records]
    name, told = _topic(settings, folder) if settings.kafka else (f"lmdb-{_folder_id(folder)}", f"the log in {folder}")
    return LogIdentity(name, first[0] if first else None, told)


def _topic(settings: Settings, mirror: Path) -> tuple[str, str]:
    from darkroom.events.log_adapters.kafka_mirror import noted_topic

    topic = str(noted_topic(mirror, settings.kafka_topic))
    name = topic.replace("+", "-").replace("/", "_")  # as Base64 is written where + and / mean something
    return f"kafka-{name}", f"Kafka topic {settings.kafka_topic} (id {topic})"


def _folder_id(folder: Path) -> str:
    """A random one, given once; it lies beside the records, so that a copy of the folder is the same log."""
    path = folder / "identity"
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    part = folder / f"identity.{os.getpid()}-{secrets.token_hex(4)}"
    with part.open("w", encoding="ascii") as file:
        file.write(secrets.token_hex(DIGITS // 2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process was quicker, and its is the log's
        path.hardlink_to(part)
    part.unlink()
    return path.read_text(encoding="ascii").strip()
