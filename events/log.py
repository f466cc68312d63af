"""The event log's port: one totally ordered sequence of records, durable before their writer is told so."""

from collections.abc import Sequence
from typing import Protocol

from darkroom.events.clock import TIME_MS_MAX, Clock
from darkroom.events.codec import encode
from darkroom.events.facts import Event, Recorded

POSITION_MAX = 2**48 - 1
"""Feed rows keep 48 bits for a position: at a hundred thousand records a second, 89 years."""

APPEND_EVENTS_MAX = 100_000


class LogError(Exception):
    """The log could not do what was asked; nothing was acknowledged."""


class LogFull(LogError):
    """No room: no part of the group was stored. The log goes on when there is room."""


class LogBusy(LogError):
    """Too many appends wait, or the write lock is held for too long (the message names its holder). Try again."""


class LogStopped(LogError):
    """A write failed in a way that leaves its outcome to the disk. This log appends no more until it is reopened."""


class LogUnreachable(LogBusy):
    """No answer within the deadline. What was to be appended is surely not stored; try again later."""


class OutcomeUnknown(LogStopped):
    """It was not told in time whether the group is stored: look in the log before it is appended again."""


class DamagedRecord(LogError):
    """The record at `position` is not what was written. Readers stop here; nothing is skipped or guessed."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"log is damaged at position {position}: {reason}")
        self.position = position
        self.reason = reason


class EventLog(Protocol):
    """Positions are 1, 2, 3 … without a gap, in the order of the log, whoever appends."""

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> Sequence[int]:
        """Store them, durably, and return their positions, which ascend; times default to now.

        At hand, all or none are stored and their positions are a range. Behind a network another's may lie between,
        and a group that failed may have left a prefix.

        UndecodableEvent for an event that could not be read back, ValueError for more than APPEND_EVENTS_MAX events or
        a time that is not from 0 to TIME_MS_MAX, LogFull, LogBusy or LogStopped where they cannot be stored.
        """

    def read(self, after: int, limit: int) -> list[Recorded]:
        """At most `limit` records above `after`, in order; DamagedRecord, UnknownEventType or UndecodableEvent.

        Intact records before a faulty one are returned first: the error comes when it is the next to be read.
        """

    def head(self) -> int:
        """The last position, 0 when the log is empty."""

    def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until the head has reached `position`; False when `timeout_s` passed first."""

    def bytes_stored(self) -> int:
        """How many bytes of it are on this node's disk."""

    def release_dead_readers(self) -> int:
        """Free what readers that were killed still hold; how many there were."""

    def close(self) -> None:
        """Free what it holds, once. Appends under way are finished first."""


def encoded_group(events: Sequence[Event], times_ms: Sequence[int] | None, clock: Clock) -> list[tuple[int, bytes]]:
    """What an append is to store, time and bytes; raises what `EventLog.append` says before anything is stored."""
    if len(events) > APPEND_EVENTS_MAX:
        raise ValueError(f"{len(events)} events in one append; the limit is {APPEND_EVENTS_MAX}")
    times = [clock()] * len(events) if times_ms is None else times_ms
    if times and not 0 <= min(times) <= max(times) <= TIME_MS_MAX:
        raise ValueError(f"a time is not from 0 to {TIME_MS_MAX} ms")
    return [(time_ms, encode(event)) for time_ms, event in zip(times, events, strict=True)]
