"""From append until everything can be read

Events are appended in groups of 100, each group durable before the next begins, while the shards of two processes fold
them. The clock stops when the last shard has committed the last event. Lone writes are timed one by one afterwards.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.bench_rebuild import BATCH, UNTRIMMED, mixed
from benchmarks.crew import Crew
from benchmarks.developed import developed
from benchmarks.floor_fold import apply, as_call
from benchmarks.floor_log import FileLog
from benchmarks.floor_sql import SqlWorld
from benchmarks.measure import OURS, Aim, Measurement, Row, collector_off, percentile, turns
from benchmarks.peer_environments import PeerMissing, PeerProcess
from benchmarks.peers.plain_world import PlainWorld
from benchmarks.peers.protocol import digests, write_blocks
from benchmarks.reads import Pages
from benchmarks.run import Bench
from darkroom.actors.shard import Shard
from darkroom.events.facts import Event, PostPublished, UserFollowed, UserRegistered, UserUnfollowed, personal
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

TITLE = "End to end, until readable"
GROUP = 100
SHARDS = 2
READY_S = 60
WAIT_S = 0.5
POLL_S = 0.0005
FLOOR, SQL, EVENTSOURCING = "file + dictionaries", "one SQLite file", "eventsourcing, not durable"


class FollowingShard:
    """A shard that pulls whatever is appended, in a process of its own, as its worker does."""

    def __init__(self, folder: Path, shard: int) -> None:
        self._log = LmdbEventLog(folder / "log", create=False)
        self._store = LmdbShardStore(folder / f"shard-{shard}")
        self._shard = Shard(self._log, self._store, UNTRIMMED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._pull, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _pull(self) -> None:
        while not self._stopping.is_set():
            if not self._shard.step(BATCH):
                self._log.wait(self._shard.position + 1, WAIT_S)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._store.close()
        self._log.close()


class Served:
    """An empty log, the shards that follow it, and their stores as a reader has them open."""

    def __init__(self, folder: Path) -> None:
        self.log = LmdbEventLog(folder / "log")
        self.stores = [
            LmdbShardStore(folder / f"shard-{shard}", Identity(FORMAT, 1, shard, SHARDS)) for shard in range(SHARDS)
        ]
        self._crew = Crew(FollowingShard, [(folder, shard) for shard in range(SHARDS)])
        self._crew.call("start")

    def wait(self, position: int) -> None:
        """Until every shard has committed it."""
        deadline = time.monotonic() + READY_S
        while min(reached := [store.checkpoint().position for store in self.stores]) < position:
            if time.monotonic() > deadline:
                raise TimeoutError(f"shards at {reached}, wanted {position}")
            time.sleep(POLL_S)

    def close(self) -> None:
        self._crew.close()
        for store in self.stores:
            store.close()
        self.log.close()


def rows(bench: Bench) -> Iterator[Row]:
    with bench.folder() as folder, ExitStack() as stack:
        trial = _Trial(bench, folder)
        contenders: dict[str, Measurement] = {OURS: trial.ours, FLOOR: trial.floor, SQL: trial.sql}
        missing = {}
        try:
            peer = stack.enter_context(bench.peer("rebuild_eventsourcing"))
        except PeerMissing as reason:
            missing[EVENTSOURCING] = str(reason)
        else:
            contenders[EVENTSOURCING] = partial(trial.peer, peer)
        values = turns(contenders, bench.repeats)
    trial.check()
    yield Row(
        name=f"end to end, groups of {GROUP}, {SHARDS} shards",
        unit="events/s",
        values=values,
        aims=[Aim(0.4, FLOOR), Aim(3, SQL), Aim(3, EVENTSOURCING)],
        missing=missing,
        checked="afterwards all hold the same follows, timelines, likes and feeds of all users",
    )
    yield Row(
        name="a lone write, until readable, p50",
        unit="ms",
        values={OURS: trial.waited_ms},
        aims=[Aim(10, None, "at most")],
        checked="each lone write is a post, and is then the first that a follower reads",
    )


class _Trial:
    """The contenders, each of which begins with nothing and leaves digests of what it came to hold."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._events = mixed(bench)
        self._groups = [self._events[start : start + GROUP] for start in range(0, len(self._events), GROUP)]
        self._folder, self._tries = folder, count(1)
        self._lone_writes = bench.size(300, 30)
        self._follow = follow_of(self._events)
        self._held: dict[str, dict[str, str]] = {}
        self.waited_ms: list[float] = []
        write_blocks(str(folder / "calls"), (msgspec.msgpack.encode(as_call(event)) for event in self._events))

    def _new_folder(self) -> Path:
        folder = self._folder / str(next(self._tries))
        folder.mkdir()
        return folder

    def ours(self) -> float:
        served = Served(self._new_folder())
        try:
            with collector_off():
                began = time.perf_counter()
                for group in self._groups:
                    served.log.append(group)
                served.wait(len(self._events))
                taken = time.perf_counter() - began
            users = [at for at, event in enumerate(self._events, 1) if isinstance(event, UserRegistered)]
            self._held[OURS] = digests(developed(served.stores, users))
            self.waited_ms.append(lone_write_ms(served, *self._follow, self._lone_writes))
        finally:
            served.close()
        return len(self._events) / taken

    def floor(self) -> float:
        log, world, position = FileLog(self._new_folder() / "log"), PlainWorld(), 1
        with collector_off():
            began = time.perf_counter()
            for group in self._groups:
                log.append(group)
                apply(world, position, group)
                position += len(group)
            taken = time.perf_counter() - began
        self._held[FLOOR] = digests(world.tables())
        log.close()
        return len(self._events) / taken

    def sql(self) -> float:
        world, position = SqlWorld(self._new_folder() / "world.sqlite"), 1
        with collector_off():
            began = time.perf_counter()
            for group in self._groups:
                world.append(position, group, [0] * len(group))
                position += len(group)
            taken = time.perf_counter() - began
        self._held[SQL] = digests(world.tables())
        world.close()
        return len(self._events) / taken

    def peer(self, peer: PeerProcess) -> float:
        taken = float(peer.ask("end_to_end", path=str(self._folder / "calls"), group=GROUP))
        self._held[EVENTSOURCING] = peer.ask("digests")
        return len(self._events) / taken

    def check(self) -> None:
        """All hold what the floor holds, of those tables that they have."""
        wanted = self._held[FLOOR]
        for name, tables in self._held.items():
            assert tables == {table: wanted[table] for table in tables}, f"{name} holds something else than the floor"


def follow_of(events: list[Event]) -> tuple[int, int]:
    """(follower, followee) of somebody who follows in the end."""
    standing = dict[tuple[int, int], None]()
    for event in events:
        match event:
            case UserFollowed(follower=follower, followee=followee):
                standing[follower, followee] = None
            case UserUnfollowed(follower=follower, followee=followee):
                standing.pop((follower, followee), None)
    return next(reversed(standing))


def lone_write_ms(served: Served, follower: int, followee: int, times: int) -> float:
    """The median of single posts, each when nothing else is to be done, from append until a follower has read it."""
    pages, taken = Pages(served.stores), []
    for _ in range(times):
        began = time.perf_counter()
        [position] = served.log.append([PostPublished(author=followee, caption=personal("dusk"))])
        served.wait(position)
        newest = pages.entries(follower)[0].post
        taken.append(1e3 * (time.perf_counter() - began))
        assert newest == position, f"user {follower} does not see the post by {followee}"
    return percentile(taken, 50)
