"""The event log on LMDB: key = position, value = checksum, time, event. Any number of processes may append and read.

LMDB's write lock is held across processes and the position is allotted inside the transaction, so none can fork the
order. Concurrent appends are committed in groups by whoever holds the lock next (Jim Gray's group commit).
"""

from __future__ import annotations  # LMDB's classes are generic to type checkers only

import errno
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import lmdb

from darkroom.events.clock import Clock, system_clock
from darkroom.events.codec import Codec, UndecodableEvent, encode
from darkroom.events.facts import Event, Recorded
from darkroom.events.lmdb_environments import (
    EnvironmentUnusable,
    WriteLockTimeout,
    close_environment,
    open_environment,
)
from darkroom.events.lmdb_pages import check_meta_pages
from darkroom.events.log import APPEND_EVENTS_MAX, DamagedRecord, LogBusy, LogFull, LogStopped

WAITING_EVENTS_MAX = 4 * APPEND_EVENTS_MAX
POLL_S_MIN, POLL_S_MAX = 0.0005, 0.002

_HEAD = struct.Struct("<IQ")  # checksum, time_ms
_KEY = struct.Struct(">Q")


class _Ticket:
    """One caller's events, encoded, and afterwards their positions or the error that kept them out."""

    __slots__ = ("done", "encoded", "error", "first")

    def __init__(self, encoded: list[tuple[int, bytes]]) -> None:
        self.encoded = encoded
        self.first = 0
        self.done = False
        self.error: Exception | None = None


class LmdbEventLog:
    """See `EventLog`. `path` is a folder; `create` makes it, otherwise a missing log is EnvironmentUnusable."""

    def __init__(
        self, path: Path, *, create: bool = True, clock: Clock = system_clock, codec: Codec | None = None
    ) -> None:
        check_meta_pages(path)
        self._environment = open_environment(path, create=create)
        self._clock = clock
        self._decode = (codec or Codec()).decode
        self._waiting: list[_Ticket] = []
        self._waiting_events = 0
        self._waiting_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._stopped: str | None = None
        try:
            self._check_count()
        except BaseException:
            close_environment(self._environment)
            raise

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> range:
        if len(events) > APPEND_EVENTS_MAX:
            raise ValueError(f"{len(events)} events in one append; the limit is {APPEND_EVENTS_MAX}")
        if not events:
            return range(self.head() + 1, self.head() + 1)
        times = [self._clock()] * len(events) if times_ms is None else times_ms
        ticket = _Ticket([(time_ms, encode(event)) for time_ms, event in zip(times, events, strict=True)])
        self._enqueue(ticket)
        with self._commit_lock:
            if not ticket.done:
                self._commit_waiting()
        if ticket.error is not None:
            raise ticket.error
        return range(ticket.first, ticket.first + len(ticket.encoded))

    def _enqueue(self, ticket: _Ticket) -> None:
        with self._waiting_lock:
            if self._waiting_events + len(ticket.encoded) > WAITING_EVENTS_MAX:
                raise LogBusy(f"{self._waiting_events} events wait to be appended; the limit is {WAITING_EVENTS_MAX}")
            self._waiting.append(ticket)
            self._waiting_events += len(ticket.encoded)

    def _commit_waiting(self) -> None:
        """Commit every waiting ticket in one transaction; all share its outcome."""
        with self._waiting_lock:
            group, self._waiting, self._waiting_events = self._waiting, [], 0
        error: Exception | None = None
        try:
            self._commit(group)
        except Exception as failure:
            error = self._named(failure)
        for ticket in group:
            ticket.error, ticket.done = error, True

    def _commit(self, group: list[_Ticket]) -> None:
        if self._stopped is not None:
            raise LogStopped(self._stopped)
        with self._environment.write() as transaction:
            position = _last_position(transaction)
            with transaction.cursor() as cursor:
                for ticket in group:
                    ticket.first = position + 1
                    rows = _rows(ticket.encoded, ticket.first)
                    _, added = cursor.putmulti(rows, append=True)
                    if added != len(rows):
                        raise DamagedRecord(ticket.first, "the head is not the highest key")
                    position += len(rows)

    def _named(self, failure: Exception) -> Exception:
        """The log's own error for a failed commit. Nothing was acknowledged; LMDB has rolled back or never began."""
        if isinstance(failure, LogStopped | DamagedRecord):
            return failure
        if isinstance(failure, WriteLockTimeout):
            return LogBusy(str(failure))
        if isinstance(failure, lmdb.MapFullError) or getattr(failure, "code", None) in (errno.ENOSPC, errno.EDQUOT):
            return LogFull(f"no room in {self._environment.path}: {failure}")
        if "No space left" in str(failure) or "File too large" in str(failure):
            return LogFull(f"no room in {self._environment.path}: {failure}")
        # After a failed fsync the page cache may say one thing and the disk another (the "fsyncgate" of 2018), so
        # neither a retry nor an answer from memory would be honest.
        self._stopped = f"a write to {self._environment.path} failed ({failure}); check the disk, then start again"
        return LogStopped(self._stopped)

    def read(self, after: int, limit: int) -> list[Recorded]:
        records: list[Recorded] = []
        with self._environment.read_in_place() as transaction, transaction.cursor() as cursor:
            if limit <= 0 or not cursor.set_range(_KEY.pack(after + 1)):
                return records
            expected, stop, decode, add = after + 1, after + limit, self._decode, records.append
            try:
                for key, value in cursor.iternext():
                    time_ms, data = _checked(expected, key, value)
                    add(Recorded(expected, time_ms, decode(data)))
                    if expected == stop:
                        break
                    expected += 1
            except (DamagedRecord, UndecodableEvent, lmdb.Error) as error:
                if records:
                    return records
                raise _at(expected, error) from error
        return records

    def head(self) -> int:
        with self._environment.read() as transaction:
            return _last_position(transaction)

    def wait(self, position: int, timeout_s: float) -> bool:
        # Other processes append too and LMDB has no signal, so the head is polled: a look costs some 2 µs.
        deadline = time.monotonic() + timeout_s
        pause_s = POLL_S_MIN
        while self.head() < position:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.2, POLL_S_MAX)
        return True

    def release_dead_readers(self) -> int:
        """Free the snapshots of processes that were killed, which otherwise keep old pages; how many there were."""
        return int(self._environment.env.reader_check())

    def bytes_stored(self) -> int:
        return (self._environment.path / "data.mdb").stat().st_size

    def close(self) -> None:
        with self._commit_lock:
            self._stopped = self._stopped or "the log is closed"
        close_environment(self._environment)

    def _check_count(self) -> None:
        """A page that fell back to an older version shows as a head that is not the count, or as a gap."""
        with self._environment.read() as transaction:
            head, count = _last_position(transaction), int(transaction.stat()["entries"])
        if head != count:
            raise DamagedRecord(min(head, count) + 1, f"the head is {head} but {count} records are counted")


def _rows(encoded: list[tuple[int, bytes]], first: int) -> list[tuple[bytes, bytes]]:
    pack_key, pack_time, crc32 = _KEY.pack, struct.Struct("<Q").pack, zlib.crc32
    rows = []
    for position, (time_ms, data) in enumerate(encoded, first):
        body = pack_time(time_ms) + data
        # The position seeds the checksum, so that a record under another's key is damage too.
        rows.append((pack_key(position), crc32(body, position & 0xFFFFFFFF).to_bytes(4, "little") + body))
    return rows


def _checked(expected: int, key: memoryview, value: memoryview) -> tuple[int, memoryview]:
    position = int.from_bytes(key, "big")
    if position != expected:
        raise DamagedRecord(expected, f"the next record is {position}")
    if len(value) < _HEAD.size:
        raise DamagedRecord(expected, "it is cut short")
    checksum, time_ms = _HEAD.unpack_from(value)
    if zlib.crc32(value[4:], position & 0xFFFFFFFF) != checksum:
        raise DamagedRecord(expected, "its checksum does not match")
    return time_ms, value[_HEAD.size :]


def _at(position: int, error: Exception) -> Exception:
    if isinstance(error, DamagedRecord):
        return error
    if isinstance(error, UndecodableEvent):
        return type(error)(f"position {position}: {error}")
    return DamagedRecord(position, str(error))


def _last_position(transaction: lmdb.Transaction[bytes]) -> int:
    with transaction.cursor() as cursor:
        return int.from_bytes(cursor.key(), "big") if cursor.last() else 0


__all__ = ["EnvironmentUnusable", "LmdbEventLog"]
