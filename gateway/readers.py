"""How the gateway reads: the serving generation, re-opened when it is switched, and reads that wait or leave out.

Reads go straight to the shards' stores and never through an actor.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from darkroom.events.clock import Clock
from darkroom.events.log import EventLog
from darkroom.projections.feed_cache import FeedCache, NoFeedCache
from darkroom.projections.generations import Generation, open_serving, read_pointer
from darkroom.projections.reading import Behind, Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.store import Identity, ShardStore
from darkroom.projections.stores.memory import MemoryShardStore

T = TypeVar("T")
POLL_S = 0.001


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class NotThere(Exception):
    """The position asked for was not reached in time; the read may be tried again."""


class Readers:
    """Reads of one data directory. Any number of threads may read; a generation is closed when its last read ends."""

    def __init__(
        self,
        generations: Path,
        log: EventLog,
        *,
        wait_ms: int = 5000,
        max_lag_ms: int | None = 10_000,
        cache: FeedCache | None = None,
        clock: Clock = monotonic_ms,
    ) -> None:
        self._folder = generations
        self._log = log
        self._wait_ms = wait_ms
        self._max_lag_ms = max_lag_ms
        self._clock = clock
        self._awaited: dict[int, tuple[int, int]] = {}  # shard → the head that it is behind, and since when
        self.cache = cache or NoFeedCache()
        self._lock = threading.Lock()
        self._current: Generation | None = None
        self._seen: tuple[int, int] | None = None  # the pointer file's identity: its inode and time of change
        self._uses: dict[int, int] = {}
        self._retired: dict[int, Generation] = {}
        self._nothing = MemoryShardStore(Identity(1, 0, 0, 1))  # what is read before anything was projected

    def read(self, answer: Callable[[Reading], T], *, min_position: int = 0) -> T:
        """`answer` of a reading; blocks until `min_position` is reached. NotThere after `wait_ms`."""
        deadline = time.monotonic() + self._wait_ms / 1000
        while True:
            try:
                return self.try_read(answer, min_position)
            except Behind as behind:
                if time.monotonic() >= deadline:
                    raise NotThere(str(behind)) from None
            time.sleep(POLL_S)

    async def read_async(self, answer: Callable[[Reading], T], *, min_position: int = 0) -> T:
        """As `read`, leaving the event loop to others while it waits; `answer` itself runs in it and must be short."""
        deadline = time.monotonic() + self._wait_ms / 1000
        while True:
            try:
                return self.try_read(answer, min_position)
            except Behind as behind:
                if time.monotonic() >= deadline:
                    raise NotThere(str(behind)) from None
            await asyncio.sleep(POLL_S)

    def try_read(self, answer: Callable[[Reading], T], min_position: int = 0) -> T:
        """One try; Behind where a shard that it touches is not at `min_position`."""
        generation = self._acquire()
        try:
            stores: list[ShardStore] = list(generation.stores) if generation else []
            with Reading(
                stores or [self._nothing],
                min_position=min_position,
                lagging=self._is_lagging,
                generation=generation.number if generation else 0,
            ) as reading:
                return answer(reading)
        finally:
            if generation is not None:
                self._release(generation)

    def reached(self, position: int, users: Iterable[int]) -> bool:
        """Whether the shards of all these users have folded the position in."""
        positions = self.positions()
        return bool(positions) and all(positions[shard_of(user, len(positions))] >= position for user in users)

    def positions(self) -> list[int]:
        """Each shard's position; none where nothing was ever projected."""
        generation = self._acquire()
        if generation is None:
            return []
        try:
            return generation.positions()
        finally:
            self._release(generation)

    def _is_lagging(self, shard: int, position: int) -> bool:
        """Whether the shard was first seen behind the same head too long ago.

        What counts is waiting, on a clock that never jumps: records carry times of their own, which may be years old.
        """
        if self._max_lag_ms is None:
            return False
        awaited, since_ms = self._awaited.get(shard, (0, 0))
        if position >= awaited:
            head = self._log.head()
            if position >= head:
                return False
            since_ms = self._clock()
            self._awaited[shard] = (head, since_ms)
        return self._clock() - since_ms >= self._max_lag_ms

    def _acquire(self) -> Generation | None:
        with self._lock:
            seen = self._look()
            if self._current is None or seen != self._seen:
                self._switch(seen)
            if self._current is not None:
                number = self._current.number
                self._uses[number] = self._uses.get(number, 0) + 1
            return self._current

    def _look(self) -> tuple[int, int] | None:
        try:
            status = (self._folder / "current.json").stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _switch(self, seen: tuple[int, int] | None) -> None:
        current = self._current
        if current is not None and read_pointer(self._folder).generation == current.number:
            self._seen = seen
            return
        self._current = open_serving(self._folder)
        self._seen = seen
        self._awaited.clear()
        if current is not None:
            if self._uses.get(current.number):
                self._retired[current.number] = current
            else:
                current.close()

    def _release(self, generation: Generation) -> None:
        with self._lock:
            self._uses[generation.number] -= 1
            if not self._uses[generation.number]:
                del self._uses[generation.number]
                retired = self._retired.pop(generation.number, None)
                if retired is not None:
                    retired.close()

    def close(self) -> None:
        with self._lock:
            for generation in (self._current, *self._retired.values()):
                if generation is not None:
                    generation.close()
            self._current = None
            self._retired.clear()
