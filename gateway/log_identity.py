"""Which log it is, so that what one log has filled on a server is never filled by another.

A log's name comes with its topic or its folder. Its first record tells it from others even after a restore from a
backup, when the name is another. Neither ever changes.
"""

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from darkroom.events.facts import Event
from darkroom.events.json_lines import format_line
from darkroom.events.log import EventLog
from darkroom.gateway.servers import foreseen_topic, kafka_address
from darkroom.gateway.settings import Settings

DIGITS = 32


@dataclass(frozen=True)
class LogIdentity:
    """`first` is a hash of the first record, None while there is none. `told` is what people call the log.

    `name` is empty until the log is given one, which it is when it is first noted anywhere.
    """

    name: str
    first: str | None
    told: str

    def is_of(self, log: "LogIdentity") -> bool:
        """Whether what bears this note is that log's: by its first record, or by its name if it had none then."""
        return self.first == log.first if self.first else self.name == log.name


def identity_of(settings: Settings, folder: Path, log: EventLog) -> LogIdentity:
    """Of the opened log, which is in `folder` or has its copy there."""
    first = [_hash(record.time_ms, record.event) for record in log.read(0, 1)]
    name, told = _topic(settings, str(_noted(settings, folder))) if settings.kafka else _folder(folder)
    return LogIdentity(name, first[0] if first else None, told)


def foreseen_identity(
    settings: Settings, folder: Path, *, create: bool, tell: Callable[[str], None]
) -> LogIdentity | None:
    """Of the log that would be opened, or made, in `folder` or with its copy there; nothing is written.

    None where the node has it already, so that to open it makes nothing. TopicRefused and LogUnreachable as from that.
    """
    if settings.kafka is None:
        name, told = _folder(folder)
        return None if (folder / "data.mdb").exists() else LogIdentity(name, None, told)
    if _noted(settings, folder) is not None:
        return None
    found = foreseen_topic(settings, create=create, tell=tell, wait_s=settings.service_wait_s)
    if found is None:
        return LogIdentity("", None, f"Kafka topic {settings.kafka_topic}, which is still to be made")
    topic, first = found
    name, told = _topic(settings, topic)
    return LogIdentity(name, None if first is None else _hash(*first), told)


def named(log: LogIdentity, folder: Path) -> LogIdentity:
    """With a name, which lies beside the records in the folder, so that a copy of it is the same log."""
    return log if log.name else replace(log, name=f"lmdb-{_given(folder / 'identity')}")


def _hash(time_ms: int, event: Event) -> str:
    return hashlib.sha256(format_line(event, time_ms)).hexdigest()[:DIGITS]


def _noted(settings: Settings, mirror: Path) -> str | None:
    kafka_address(settings)  # which names a driver that is not installed
    from darkroom.events.log_adapters.kafka_mirror import noted_topic

    return noted_topic(mirror, settings.kafka_topic)


def _topic(settings: Settings, topic: str) -> tuple[str, str]:
    name = topic.replace("+", "-").replace("/", "_")  # as Base64 is written where + and / mean something
    return f"kafka-{name}", f"Kafka topic {settings.kafka_topic} (id {topic})"


def _folder(folder: Path) -> tuple[str, str]:
    try:
        name = "lmdb-" + (folder / "identity").read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        name = ""
    return name, f"the log in {folder}"


def _given(path: Path) -> str:
    """A random name, given once."""
    folder = path.parent
    part = folder / f"identity.{os.getpid()}-{secrets.token_hex(4)}"
    with part.open("w", encoding="ascii") as file:
        file.write(secrets.token_hex(DIGITS // 2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process was quicker, and its is the log's
        path.hardlink_to(part)
    part.unlink()
    return path.read_text(encoding="ascii").strip()
