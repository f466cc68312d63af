"""The event log in memory: the oracle of the conformance suite, and a log for tests. It survives nothing."""

import threading
from collections.abc import Sequence

from darkroom.events.clock import Clock, system_clock
from darkroom.events.codec import Codec, UndecodableEvent
from darkroom.events.facts import Event, Recorded
from darkroom.events.log import encoded_group


class MemoryEventLog:
    """Keeps encoded events, so that a reader gets what a codec makes of them and never a shared object."""

    def __init__(self, clock: Clock = system_clock, codec: Codec | None = None) -> None:
        self._clock = clock
        self._decode = (codec or Codec()).decode
        self._records: list[tuple[int, bytes]] = []
        self._grown = threading.Condition()

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> range:
        encoded = encoded_group(events, times_ms, self._clock)
        with self._grown:
            first = len(self._records) + 1
            self._records += encoded
            self._grown.notify_all()
        return range(first, first + len(encoded))

    def read(self, after: int, limit: int) -> list[Recorded]:
        records: list[Recorded] = []
        for position, (time_ms, data) in enumerate(self._records[after : after + max(limit, 0)], after + 1):
            try:
                records.append(Recorded(position, time_ms, self._decode(data)))
            except UndecodableEvent as error:
                if records:
                    break
                raise type(error)(f"position {position}: {error}") from error
        return records

    def head(self) -> int:
        return len(self._records)

    def wait(self, position: int, timeout_s: float) -> bool:
        with self._grown:
            return self._grown.wait_for(lambda: len(self._records) >= position, timeout_s)

    def bytes_stored(self) -> int:
        return 0

    def release_dead_readers(self) -> int:
        return 0  # nobody else reads it

    def close(self) -> None:
        """Nothing is held."""
