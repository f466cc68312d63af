"""The event log's port: one totally ordered sequence of records, durable before their writer is told so."""

from collections.abc import Sequence
from typing import Protocol

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


class DamagedRecord(LogError):
    """The record at `position` is not what was written. Readers stop here; nothing is skipped or guessed."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"log is damaged at position {position}: {reason}")
        self.position = position


class EventLog(Protocol):
    """Positions are 1, 2, 3 … without a gap, in the order of the log, whoever appends."""

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> range:
        """Store all or none, durably, and return their positions; times default to now.

        UndecodableEvent for an event over the size limit, ValueError for more than APPEND_EVENTS_MAX events,
        LogFull, LogBusy or LogStopped where they cannot be stored.
        """

    def read(self, after: int, limit: int) -> list[Recorded]:
        """At most `limit` records above `after`, in order; DamagedRecord, UnknownEventType or UndecodableEvent.

        Intact records before a faulty one are returned first: the error comes when it is the next to be read.
        """

    def head(self) -> int:
        """The last position, 0 when the log is empty."""

    def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until the head has reached `position`; False when `timeout_s` passed first."""

    def close(self) -> None:
        """Free what it holds. Appends under way are finished first."""
