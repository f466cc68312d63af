"""A small mix, and what Darkroom makes of it, for the tests of what the benchmarks compare."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from benchmarks.worlds import append_all
from darkroom.actors.shard import Shard
from darkroom.events.facts import Event, UserRegistered
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.simulation import mix
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, ShardStore
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

_numbers = count(1)


def small_mix() -> list[Event]:
    return list(mix(1, users=400, follows=8_000, posts=800, likes=3_000, changes=500))


def users_of(events: list[Event]) -> list[int]:
    return [position for position, event in enumerate(events, 1) if isinstance(event, UserRegistered)]


@contextmanager
def log_of(folder: Path, events: list[Event]) -> Iterator[LmdbEventLog]:
    log = LmdbEventLog(folder / f"log-{next(_numbers)}")
    try:
        append_all(log, events)
        yield log
    finally:
        log.close()


@contextmanager
def folded(folder: Path, log: LmdbEventLog, shards: int) -> Iterator[list[ShardStore]]:
    """The whole log in so many shards, nothing trimmed."""
    number, stores = next(_numbers), list[LmdbShardStore]()
    try:
        for shard in range(shards):
            store = LmdbShardStore(folder / f"{number}-{shard}", Identity(FORMAT, 1, shard, shards))
            stores.append(store)
            worker = Shard(log, store, FoldSettings(feed_rows=1_000_000))
            while worker.step(100_000):
                pass
        yield list(stores)
    finally:
        for store in stores:
            store.close()
