"""The event log on LMDB: key = position, value = checksum, time, event. Any number of processes may append and read.

LMDB's write lock is held across processes and the position is allotted inside the transaction, so none can fork the
order. Concurrent appends are committed in groups (Jim Gray's group commit), by whoever has the turn.
"""

from __future__ import annotations  # LMDB's classes are generic to type checkers only

import errno
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb

from darkroom.events.clock import Clock, system_clock
from darkroom.events.codec import Codec, UndecodableEvent
from darkroom.events.facts import Event, Recorded
from darkroom.events.lmdb_environments import (
    NO_ROOM,
    EnvironmentUnusable,
    WriteLockTimeout,
    close_environment,
    open_environment,
)
from darkroom.events.log import APPEND_EVENTS_MAX, DamagedRecord, LogBusy, LogFull, LogStopped, encoded_group

WAITING_EVENTS_MAX = 4 * APPEND_EVENTS_MAX
POLL_S_MIN, POLL_S_MAX = 0.0005, 0.002

_HEAD = struct.Struct("<IQ")  # checksum, time_ms
_TIME = struct.Struct("<Q")
_KEY = struct.Struct(">Q")


class _Ticket:
    """One caller's events, each as time and bytes; when done, their positions or the error that kept them out."""

    __slots__ = ("bodies", "done", "error", "first", "gone", "turn")

    def __init__(self, bodies: list[bytes]) -> None:
        self.bodies = bodies
        self.first = 0
        self.done = False
        self.error: Exception | None = None
        self.gone = False
        self.turn = threading.Lock()  # released once, when the turn is this caller's
        self.turn.acquire()


class LmdbEventLog:
    """See `EventLog`. `path` is a folder; `create` makes it, otherwise a missing log is EnvironmentUnusable."""

    def __init__(
        self, path: Path, *, create: bool = True, clock: Clock = system_clock, codec: Codec | None = None
    ) -> None:
        self._environment = open_environment(path, create=create, append_only=True)
        self._clock = clock
        self._decode = (codec or Codec()).decode
        self._line_lock = threading.Lock()  # guards the next three
        self._line: deque[_Ticket] = deque()  # those who are done and not told yet, before those who wait
        self._has_turn: _Ticket | None = None
        self._waiting_events = 0
        self._stopped: str | None = None
        self._closed = False
        try:
            self._check_count()
        except BaseException:
            close_environment(self._environment)
            raise

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> range:
        # Whatever can be wrong with an event is found here, before it shares a transaction with others'.
        pack_time = _TIME.pack
        ticket = _Ticket([pack_time(time_ms) + data for time_ms, data in encoded_group(events, times_ms, self._clock)])
        if not events:
            head = self.head()
            return range(head + 1, head + 1)
        try:
            self._enqueue(ticket)
            if self._is_mine_to_commit(ticket):
                self._commit_waiting(ticket)
        finally:
            self._leave(ticket)
        if ticket.error is not None:
            raise ticket.error
        return range(ticket.first, ticket.first + len(ticket.bodies))

    def _enqueue(self, ticket: _Ticket) -> None:
        with self._line_lock:
            if self._waiting_events + len(ticket.bodies) > WAITING_EVENTS_MAX:
                raise LogBusy(f"{self._waiting_events} events wait to be appended; the limit is {WAITING_EVENTS_MAX}")
            self._line.append(ticket)
            self._waiting_events += len(ticket.bodies)
            if self._has_turn is None:
                self._pass_turn()

    def _is_mine_to_commit(self, ticket: _Ticket | None) -> bool:
        """Wait until the ticket was committed by another thread, or this thread is to commit all that wait."""
        if ticket is None:
            ticket = _Ticket([])
            self._enqueue(ticket)
        try:
            ticket.turn.acquire()
        except BaseException:
            self._leave(ticket)
            raise
        return not ticket.done

    def _let_the_next_commit(self) -> None:
        with self._line_lock:
            self._pass_turn()

    def _pass_turn(self) -> None:
        """Give the turn to the next in line who is still there.

        From hand to hand, for threads that are woken at once contend for the interpreter: that took twice the CPU
        time. Those whose events are stored come first, so that they are back in line for the next commit. Never to
        whoever is quickest: threads that do not pause won again and again, and others waited 1.1 s.
        """
        self._has_turn = None
        while self._line and self._has_turn is None:
            ticket = self._line.popleft()
            if not ticket.gone:
                self._has_turn = ticket
                ticket.turn.release()

    def _leave(self, ticket: _Ticket) -> None:
        """Wait no more, interrupted or not, and keep nobody waiting."""
        with self._line_lock:
            ticket.gone = True
            if self._has_turn is ticket:
                self._pass_turn()

    def _commit_waiting(self, mine: _Ticket) -> None:
        """Commit every waiting ticket in one transaction; all share its outcome."""
        interrupted = LogStopped(f"an append to {self._environment.path} was interrupted; open it again and look")
        error: Exception | None = interrupted
        group: list[_Ticket] = []
        try:
            group = self._take_waiting(mine)
            self._commit(group)
            error = None
        except Exception as failure:
            error = self._named(failure)
        finally:
            # Also when it was a KeyboardInterrupt: the others in the group must not take silence for success.
            if error is interrupted:
                self._stopped = str(interrupted)
            for ticket in group:
                ticket.error, ticket.done = error, True
            with self._line_lock:
                self._line.extendleft(reversed(group[1:]))

    def _take_waiting(self, mine: _Ticket) -> list[_Ticket]:
        with self._line_lock:
            group = [mine, *(ticket for ticket in self._line if ticket.bodies and not ticket.gone)]
            self._line = deque(ticket for ticket in self._line if not ticket.bodies)  # those who are to close the log
            self._waiting_events = 0
            return group

    def _commit(self, group: list[_Ticket]) -> None:
        if self._stopped is not None:
            raise LogStopped(self._stopped)
        with self._environment.write() as transaction:
            position = sound_head(transaction)
            with transaction.cursor() as cursor:
                for ticket in group:
                    ticket.first = position + 1
                    rows = rows_of(ticket.bodies, ticket.first)
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
        code = getattr(failure, "code", None) or getattr(failure, "errno", None)
        cut_short = code == errno.EIO and self._environment.is_full()
        if isinstance(failure, lmdb.MapFullError) or code in NO_ROOM or cut_short:
            return LogFull(f"no room in {self._environment.path}: {failure}")
        # After a failed fsync the page cache may say one thing and the disk another (the "fsyncgate" of 2018), so
        # neither a retry nor an answer from memory would be honest.
        self._stopped = f"a write to {self._environment.path} failed ({failure}); check the disk, then start again"
        return LogStopped(self._stopped)

    def read(self, after: int, limit: int) -> list[Recorded]:
        records: list[Recorded] = []
        if limit <= 0:
            return records
        with self._snapshot() as transaction, transaction.cursor() as cursor:
            expected, stop, decode, add = after + 1, after + limit, self._decode, records.append
            try:
                if cursor.set_range(_KEY.pack(expected)):
                    for key, value in cursor.iternext():
                        add(Recorded(expected, _checked_time(expected, key, value), decode(value[_HEAD.size :])))
                        if expected == stop:
                            return records
                        expected += 1
                # A damaged page can also hide what follows it.
                if expected <= (count := _count(transaction)):
                    raise DamagedRecord(expected, f"it is not there, but {count} records are counted")
            except (DamagedRecord, UndecodableEvent, lmdb.Error) as error:
                if records:
                    return records
                raise _at(expected, error) from error
        return records

    @contextmanager
    def _snapshot(self) -> Iterator[lmdb.Transaction[bytes]]:
        try:
            with self._environment.read() as transaction:
                yield transaction
        except lmdb.PanicError as error:  # after a meta page could not be written LMDB reads no more either
            raise LogStopped(f"{self._environment.path}: {error}; check the disk, then start again") from error

    def head(self) -> int:
        with self._snapshot() as transaction:
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
        """Free the snapshots of processes that were killed, which otherwise keep old pages; how many were freed."""
        return int(self._environment.env.reader_check())

    def bytes_stored(self) -> int:
        return (self._environment.path / "data.mdb").stat().st_size

    def close(self) -> None:
        self._is_mine_to_commit(None)
        was_closed, self._closed = self._closed, True
        self._stopped = self._stopped or "the log is closed"
        self._let_the_next_commit()
        if not was_closed:
            close_environment(self._environment)

    def _check_count(self) -> None:
        with self._environment.read() as transaction:
            try:
                sound_head(transaction)
            except DamagedRecord as error:
                raise DamagedRecord(_first_missing(transaction), error.reason) from error


def rows_of(bodies: list[bytes], first: int) -> list[tuple[bytes, bytes]]:
    pack_key, crc32 = _KEY.pack, zlib.crc32
    # The position seeds the checksum, so that a record under another's key is damage too.
    return [
        (pack_key(position), crc32(body, position & 0xFFFFFFFF).to_bytes(4, "little") + body)
        for position, body in enumerate(bodies, first)
    ]


def _checked_time(expected: int, key: bytes, value: bytes) -> int:
    """The time of a record that is what was written."""
    if key != _KEY.pack(expected):
        raise DamagedRecord(expected, f"the next key is {key[: _KEY.size].hex()}")
    if len(value) < _HEAD.size:
        raise DamagedRecord(expected, "it is cut short")
    checksum: int
    time_ms: int
    checksum, time_ms = _HEAD.unpack_from(value)
    if zlib.crc32(value[4:], expected & 0xFFFFFFFF) != checksum:
        raise DamagedRecord(expected, "its checksum does not match")
    return time_ms


def _at(position: int, error: Exception) -> Exception:
    if isinstance(error, DamagedRecord):
        return error
    if isinstance(error, UndecodableEvent):
        return type(error)(f"position {position}: {error}")
    return DamagedRecord(position, str(error))


def _last_position(transaction: lmdb.Transaction[bytes]) -> int:
    with transaction.cursor() as cursor:
        if not cursor.last():
            return 0
        key = cursor.key()
        if len(key) != _KEY.size:
            raise DamagedRecord(_count(transaction), f"the last key is of {len(key)} bytes")
        return int.from_bytes(key, "big")


def _count(transaction: lmdb.Transaction[bytes]) -> int:
    return int(transaction.stat()["entries"])


def sound_head(transaction: lmdb.Transaction[bytes]) -> int:
    """The head; DamagedRecord where it is not the count, as with a gap or a page that fell back to an older version."""
    count = _count(transaction)
    try:
        head = _last_position(transaction)
    except lmdb.Error as error:
        raise DamagedRecord(count, str(error)) from error
    if head != count:
        raise DamagedRecord(min(head, count) + 1, f"the head is {head} but {count} records are counted")
    return head


def _first_missing(transaction: lmdb.Transaction[bytes]) -> int:
    expected = 1
    with suppress(lmdb.Error), transaction.cursor() as cursor:
        for key in cursor.iternext(keys=True, values=False):
            if int.from_bytes(key, "big") != expected:
                break
            expected += 1
    return expected


__all__ = ["EnvironmentUnusable", "LmdbEventLog"]
