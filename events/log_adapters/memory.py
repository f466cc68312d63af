"""The event log in memory: the oracle of the conformance suite, and a log for tests. It survives nothing."""

import threading
from collections.abc import Sequence

from darkroom.events.clock import Clock, system_clock
from darkroom.events.codec import Codec, encode
from darkroom.events.facts import Event, Recorded
from darkroom.events.log import APPEND_EVENTS_MAX


class MemoryEventLog:
    """Keeps encoded events, so that a reader gets what a codec makes of them and never a shared object."""

    def __init__(self, clock: Clock = system_clock, codec: Codec | None = None) -> None:
        self._clock = clock
        self._decode = (codec or Codec()).decode
        self._records: list[tuple[int, bytes]] = []
        self._grown = threading.Condition()

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> range:
        if len(events) > APPEND_EVENTS_MAX:
            raise ValueError(f"{len(events)} events in one append; the limit is {APPEND_EVENTS_MAX}")
        times = [self._clock()] * len(events) if times_ms is None else times_ms
        encoded = [(time_ms, encode(event)) for time_ms, event in zip(times, events, strict=True)]
        with self._grown:
            first = len(self._records) + 1
            self._records += encoded
            self._grown.notify_all()
        return range(first, first + len(encoded))

    def read(self, after: int, limit: int) -> list[Recorded]:
        records = self._records[after : after + limit]
        return [Recorded(after + i, time_ms, self._decode(data)) for i, (time_ms, data) in enumerate(records, 1)]

    def head(self) -> int:
        return len(self._records)

    def wait(self, position: int, timeout_s: float) -> bool:
        with self._grown:
            return self._grown.wait_for(lambda: len(self._records) >= position, timeout_s)

    def close(self) -> None:
        """Nothing is held."""
