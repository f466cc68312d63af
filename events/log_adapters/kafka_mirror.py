"""The node's copy of the topic: an LMDB log that every process reads and one, the tail, fills.

It is never ahead of the topic and never has a gap. It may be removed at any time while nobody has it open. What the
tail last heard lies beside it in shared memory, so that to ask how far the log reaches costs no round trip.
"""

import errno
import fcntl
import json
import mmap
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from darkroom.events.clock import Clock, system_clock
from darkroom.events.codec import Codec
from darkroom.events.lmdb_environments import EnvironmentUnusable
from darkroom.events.log import DamagedRecord, LogError, LogUnreachable
from darkroom.events.log_adapters.kafka_address import TopicRefused
from darkroom.events.log_adapters.lmdb import LmdbEventLog, rows_of, sound_head

FORMAT = 1
_WORDS = 8
_HEAD, _HEARD_NS, _TAIL_PROCESS, _FAULT_NS = range(4)


class Fault(NamedTuple):
    """What stopped the tail, as it is told to the other processes."""

    kind: str
    position: int
    reason: str

    def error(self) -> LogError:
        if self.kind == "DamagedRecord":
            return DamagedRecord(self.position, self.reason)
        kinds = {kind.__name__: kind for kind in (TopicRefused, LogUnreachable)}
        return kinds.get(self.kind, LogError)(self.reason)


class Mirror(LmdbEventLog):
    """The records. `extend` is for the tail alone."""

    def __init__(self, folder: Path, clock: Clock = system_clock, codec: Codec | None = None) -> None:
        """A copy that is damaged is thrown away, unless somebody else has it open: EnvironmentUnusable then."""
        self._users = _locked(folder / "users.lock", fcntl.LOCK_SH)
        try:
            try:
                super().__init__(folder / "records", clock=clock, codec=codec)
            except (EnvironmentUnusable, DamagedRecord) as error:
                self._discard(folder, error)
                super().__init__(folder / "records", clock=clock, codec=codec)
        except BaseException:
            os.close(self._users)
            raise

    def _discard(self, folder: Path, error: Exception) -> None:
        if isinstance(error.__cause__, OSError):  # that is no damage: no permission, no more open files
            raise error
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentUnusable(
                f"{error}; it is a copy of the topic, and is made anew when no other process has it open"
            ) from error
        shutil.rmtree(folder / "records")
        fcntl.flock(self._users, fcntl.LOCK_SH)

    def extend(self, bodies: Sequence[bytes], after: int) -> None:
        """Add these times and events above `after`, which must be the head. LogError."""
        try:
            with self._environment.write() as transaction:
                head = sound_head(transaction)
                if head != after:
                    raise LogError(f"the mirror's head is {head}, not {after}: two processes fill it")
                with transaction.cursor() as cursor:
                    cursor.putmulti(rows_of(list(bodies), after + 1), append=True)
        except LogError:
            raise
        except Exception as failure:
            raise self._named(failure) from failure

    def close(self) -> None:
        if not self._closed:
            super().close()
            os.close(self._users)


class Notes:
    """Which topic the mirror is of, and what its tail has heard."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened_ns = time.monotonic_ns()
        file = os.open(folder / "tail.state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(file, 0, 8 * _WORDS)
            self._map = mmap.mmap(file, 8 * _WORDS)
        finally:
            os.close(file)
        self._words = memoryview(self._map).cast("Q")

    @property
    def head(self) -> int:
        """The topic's last position, as last heard; it never falls."""
        return self._words[_HEAD]

    @property
    def heard_ns(self) -> int:
        """When the servers last answered, by the monotonic clock; 0 where that was before a restart of the machine."""
        heard = self._words[_HEARD_NS]
        return heard if heard <= time.monotonic_ns() else 0

    @property
    def tail_process(self) -> int:
        return self._words[_TAIL_PROCESS]

    def take_over(self) -> None:
        self._words[_TAIL_PROCESS] = os.getpid()

    def hear(self, head: int) -> None:
        self._words[_HEAD] = max(head, self._words[_HEAD])
        self._words[_HEARD_NS] = time.monotonic_ns()

    @property
    def fault(self) -> Fault | None:
        """What stops the tail now; one from before this was opened is not told."""
        if self._words[_FAULT_NS] < self._opened_ns:
            return None
        try:
            return Fault(*json.loads((self._folder / "fault").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def stop_at(self, fault: Fault) -> None:
        _replace(self._folder / "fault", json.dumps(fault))
        self._words[_FAULT_NS] = time.monotonic_ns()

    def go_on(self) -> None:
        if self._words[_FAULT_NS]:
            self._words[_FAULT_NS] = 0
            (self._folder / "fault").unlink(missing_ok=True)

    def close(self) -> None:
        self._words.release()
        self._map.close()


def noted_topic(folder: Path, name: str) -> str | None:
    """The id of the topic that the mirror in this folder is of; None where there is no mirror. TopicRefused."""
    try:
        note = json.loads((folder / "topic.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if (folder / "records").exists():
            raise TopicRefused(f"{folder} has records of an unknown topic. Remove it: it is only a copy") from None
        return None
    except ValueError:
        raise TopicRefused(f"{folder / 'topic.json'} is damaged. Remove {folder}: it is only a copy") from None
    if note["format"] != FORMAT:
        raise TopicRefused(f"{folder} has format {note['format']}; this version knows {FORMAT}. Remove it")
    if note["topic"] != name:
        raise TopicRefused(f"{folder} mirrors Kafka topic {note['topic']}, not {name}. Name another folder")
    return str(note["id"])


def note_topic(folder: Path, name: str, identity: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "topic.json", json.dumps({"format": FORMAT, "topic": name, "id": identity}))


def try_lock(path: Path) -> int | None:
    """The open file that holds the lock, None where another has it. The system gives it up when the holder dies."""
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise


def _locked(path: Path, how: int) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, how)
    except BaseException:
        os.close(file)
        raise
    return file


def _replace(path: Path, text: str) -> None:
    """Write the file whole or not at all; whoever reads it meets the old text or the new."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
