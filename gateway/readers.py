"""How the gateway reads: the serving generation, re-opened when it is switched, and reads that wait or leave out.

Reads go straight to the views and never through an actor. Views at hand are read on the event loop, for a page takes
less than a thread's turn does; views behind a network are read on threads.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TypeVar

from darkroom.events.clock import Clock
from darkroom.events.log import EventLog, LogUnreachable
from darkroom.projections.feed_cache import FeedCache, NoFeedCache
from darkroom.projections.generations import Generations, OpenGeneration
from darkroom.projections.graph import Graph
from darkroom.projections.graph_adapters.embedded import EmbeddedGraph
from darkroom.projections.kept_answers import KeptAnswers
from darkroom.projections.reading import Behind, Lagging, Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.store import Identity, StoreBusy, StoreUnavailable
from darkroom.projections.store_views import StoreViews
from darkroom.projections.stores.memory import MemoryShardStore

T = TypeVar("T")
POLL_S, REMOTE_POLL_S = 0.001, 0.005
READ_THREADS, ASKED_MAX = 32, 1024
HOLDERS_MAX = 65_536


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class NotThere(Exception):
    """The position asked for was not reached in time; the read may be tried again."""


class Readers:
    """Reads of one data directory. Any number of threads may read; a generation is closed when its last read ends."""

    def __init__(
        self,
        generations: Generations,
        log: EventLog,
        *,
        wait_ms: int = 5000,
        max_lag_ms: int | None = 10_000,
        cache: FeedCache | None = None,
        clock: Clock = monotonic_ms,
        remote: bool = False,
        deadline_s: float = 5.0,
        graph: Callable[[Reading], Graph] = EmbeddedGraph,
    ) -> None:
        """`remote` where generations or log are behind a network, which are waited for until `deadline_s`; `graph`
        answers beside a reading.
        """
        self.graph = graph
        self._generations = generations
        self._log = log
        self._wait_ms = wait_ms
        self._max_lag_ms = max_lag_ms
        self._clock = clock
        self._awaited: dict[int, tuple[int, int]] = {}  # shard → the head that it is behind, and since when
        self.cache = cache or NoFeedCache()
        self._deadline_s = deadline_s
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read") if remote else None
        self._places = threading.BoundedSemaphore(ASKED_MAX)
        self._poll_s = REMOTE_POLL_S if remote else POLL_S
        self._lock = threading.Lock()
        self._current: OpenGeneration | None = None
        self._seen: object = None
        self._uses: dict[int, int] = {}
        self._holders: dict[str, int] = {}  # of names, as the current generation has them (see `people`)
        self._answers = KeptAnswers()  # of the current generation
        self._retired: dict[int, OpenGeneration] = {}
        self._nothing = StoreViews(MemoryShardStore(Identity(1, 0, 0, 1)))  # what is read before anything was projected

    def read(self, answer: Callable[[Reading], T], *, min_position: int = 0) -> T:
        """`answer` of a reading; blocks until `min_position` is reached. NotThere after `wait_ms`."""
        deadline = time.monotonic() + self._wait_ms / 1000
        while True:
            try:
                return self.try_read(answer, min_position)
            except Behind as behind:
                if time.monotonic() >= deadline:
                    raise NotThere(str(behind)) from None
            time.sleep(self._poll_s)

    async def read_async(self, answer: Callable[[Reading], T], *, min_position: int = 0) -> T:
        """As `read`, leaving the event loop to others while it waits; `answer` may run in it and must be short."""
        deadline = time.monotonic() + self._wait_ms / 1000
        while True:
            try:
                return await self.ask(lambda: self.try_read(answer, min_position))
            except Behind as behind:
                if time.monotonic() >= deadline:
                    raise NotThere(str(behind)) from None
            await asyncio.sleep(self._poll_s)

    async def ask(self, question: Callable[[], T]) -> T:
        """The question's answer, asked on a thread where it may cross a network. StoreBusy where too many wait,
        StoreUnavailable where there is none by the deadline, of which waiting for a thread is a part.
        """
        if self._threads is None:
            return question()
        if not self._places.acquire(blocking=False):
            raise StoreBusy(f"{ASKED_MAX} reads wait for the stores, and that is the limit")
        asked = self._threads.submit(question)
        # Whoever stops waiting takes back what no thread has begun, but stops no thread: the place is free when that
        # is done.
        asked.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(self._deadline_s) as limit:
                return await asyncio.wrap_future(asked)
        except TimeoutError:
            if not limit.expired():
                raise
            raise StoreUnavailable(f"no answer in {self._deadline_s:g} s") from None

    async def wait_for(self, position: int, users: Iterable[int], wait_ms: int) -> bool:
        """Whether the shards of all these users have folded the position in before the time was over.

        A server that hangs holds up each look for as long as its own deadline, but not who waits here.
        """
        concerned = frozenset(users)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / 1000):
                while not await self.ask(lambda: self.reached(position, concerned)):
                    await asyncio.sleep(self._poll_s)
                return True
        return False

    def try_read(self, answer: Callable[[Reading], T], min_position: int = 0) -> T:
        """One try; Behind where a shard that it touches is not at `min_position`."""
        generation, holders, answers = self._acquire()
        try:
            with Reading(
                generation.views if generation else [self._nothing],
                min_position=min_position,
                lagging=self._lagging(),
                generation=generation.number if generation else 0,
                holders=holders,
                answers=answers,
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
        generation, _, _ = self._acquire()
        if generation is None:
            return []
        try:
            return generation.positions()
        finally:
            self._release(generation)

    def _lagging(self) -> Lagging:
        """For one reading, which looks at the log's head once, however many shards it touches."""
        head = cache(self._log.head)
        return lambda shard, position: self._is_lagging(shard, position, head)

    def _is_lagging(self, shard: int, position: int, look_at_head: Callable[[], int]) -> bool:
        """Whether the shard was first seen behind the same head too long ago.

        What counts is waiting, on a clock that never jumps: records carry times of their own, which may be years old.
        """
        if self._max_lag_ms is None:
            return False
        awaited, since_ms = self._awaited.get(shard, (0, 0))
        if position >= awaited:
            try:
                head = look_at_head()
            except LogUnreachable:
                return False  # nothing newer is known to exist
            if position >= head:
                return False
            since_ms = self._clock()
            self._awaited[shard] = (head, since_ms)
        return self._clock() - since_ms >= self._max_lag_ms

    def _acquire(self) -> tuple[OpenGeneration | None, dict[str, int], KeptAnswers]:
        # A look may take as long as a server that hangs, and must not be waited for by whoever looks after it.
        seen = self._generations.look()
        with self._lock:
            if self._current is None or seen != self._seen:
                self._switch(seen)
            if self._current is not None:
                number = self._current.number
                self._uses[number] = self._uses.get(number, 0) + 1
            if len(self._holders) > HOLDERS_MAX:
                self._holders = {}
            return self._current, self._holders, self._answers

    def _switch(self, seen: object) -> None:
        current = self._current
        if current is not None and self._generations.pointer().generation == current.number:
            self._seen = seen
            return
        self._current = self._generations.open_serving()
        self._seen = seen
        self._holders = {}
        self._answers = KeptAnswers()
        self._awaited.clear()
        if current is not None:
            if self._uses.get(current.number):
                self._retired[current.number] = current
            else:
                current.close()

    def _release(self, generation: OpenGeneration) -> None:
        with self._lock:
            self._uses[generation.number] -= 1
            if not self._uses[generation.number]:
                del self._uses[generation.number]
                retired = self._retired.pop(generation.number, None)
                if retired is not None:
                    retired.close()

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
        with self._lock:
            for generation in (self._current, *self._retired.values()):
                if generation is not None:
                    generation.close()
            self._current = None
            self._retired.clear()
