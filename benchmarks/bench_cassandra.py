"""Views on Cassandra: rows published a second, and home feed pages read, by the real server of `make services`."""

import gc
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from time import perf_counter
from typing import Any

from cassandra.concurrent import execute_concurrent
from cassandra.query import BatchStatement, BatchType

from benchmarks.measure import OURS, Aim, Measurement, Row, percentile, rate, turns
from benchmarks.run import Bench
from benchmarks.running_servers import running
from benchmarks.worlds import append_all
from darkroom.actors.shard import Shard
from darkroom.events.facts import Event
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.gateway.simulation import mix
from darkroom.projections import feed_rows, home_feed, timelines
from darkroom.projections.cassandra_requests import BATCH_STATEMENTS_MAX, UNTIMED, Request
from darkroom.projections.cassandra_session import CONCURRENCY, CassandraAddress, CassandraSession, open_session
from darkroom.projections.effects import Effects
from darkroom.projections.feed_cache import FeedCache, LruFeedCache
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Checkpoint, Identity
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.view_adapters.cassandra import CassandraViews
from darkroom.projections.view_adapters.cassandra_publisher import CassandraPublisher
from darkroom.projections.view_adapters.cassandra_tables import create_generation, user_slot

TITLE = "Views on Cassandra"
BATCH_EVENTS = 5_000
NAIVE_ROWS = 20_000
LIMIT = 20
PUSHED, PULLED, OTHERS = 0, 1, 2
"""Shards of one generation: the world as it is pushed, the same as it is pulled, and those that are written to."""


class Batches:
    """A publisher that keeps what is published."""

    def __init__(self) -> None:
        self.batches: list[tuple[Effects, int, Checkpoint]] = []

    def open(self, position: int) -> None: ...

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        self.batches.append((effects, expected, checkpoint))

    def reached(self, checkpoint: Checkpoint) -> None: ...

    def close(self) -> None: ...

    def publish_to(self, publisher: CassandraPublisher) -> None:
        for effects, expected, checkpoint in self.batches:
            publisher.publish(effects, expected, checkpoint)
            publisher.reached(checkpoint)


class Recorder:
    """A session that keeps what would be written, as groups of one partition."""

    def __init__(self, session: CassandraSession) -> None:
        self._session = session
        self.address = session.address
        self.groups: list[list[Request]] = []

    def prepare(self, cql: str) -> Any:
        return self._session.prepare(cql)

    def execute(self, statement: Any, parameters: Sequence[Any] = ()) -> Any:
        return self._session.execute(statement, parameters)

    def write_batches(self, groups: Any) -> None:
        self.groups += groups


def rows(bench: Bench) -> Iterator[Row]:
    users = bench.size(1_000, 200)
    events = list(mix(1, users, follows=30 * users, posts=3 * users // 2, likes=5 * users, changes=users // 4))
    with keyspace() as session:
        create_generation(session, 1)
        pushed, pulled = effects_of(events, None), effects_of(events, 0)
        yield _publishing(bench, session, pushed)
        for shard, batches in ((PUSHED, pushed), (PULLED, pulled)):
            publisher = CassandraPublisher(session, 1, shard)
            publisher.open(0)
            batches.publish_to(publisher)
        yield from _reading(bench, session, users)


@contextmanager
def keyspace() -> Iterator[CassandraSession]:
    """A keyspace of its own on the server that `make services` started."""
    (server,) = running("cassandra")
    name = f"bench_{uuid.uuid4().hex[:12]}"
    address = CassandraAddress(((server["host"], server["port"]),), name, server["user"], server["password"])
    session = open_session(address, create=True, wait_s=60, tell=print)
    try:
        yield session
    finally:
        session.define(f"DROP KEYSPACE {name}")
        session.close()


def effects_of(events: list[Event], threshold: int | None) -> Batches:
    log, kept = MemoryEventLog(), Batches()
    append_all(log, events)
    shard = Shard(log, MemoryShardStore(Identity(1, 1, 0, 1)), FoldSettings(threshold), [kept])
    while shard.step(BATCH_EVENTS):
        pass
    return kept


# ---- publishing


def _publishing(bench: Bench, session: CassandraSession, batches: Batches) -> Row:
    """Everybody writes the same rows, each to a shard of its own, over and over, which costs what once does."""
    publisher = CassandraPublisher(session, 1, OTHERS)
    publisher.open(0)
    groups = {shard: recorded(session, shard, batches) for shard in (OTHERS + 1, OTHERS + 2)}
    count = sum(len(group) for group in groups[OTHERS + 1])
    single = list(islice(chain.from_iterable(groups[OTHERS + 2]), NAIVE_ROWS))
    gc.disable()  # as a shard does while it publishes
    contenders: dict[str, Measurement] = {
        OURS: lambda: rate(count, lambda: batches.publish_to(publisher)),
        "the driver alone, in the same batches": lambda: rate(count, lambda: raw(session, groups[OTHERS + 1])),
        "execute_concurrent, a row a statement": lambda: rate(
            len(single),
            lambda: execute_concurrent(session.driver, single, concurrency=CONCURRENCY, execution_profile=UNTIMED),
        ),
    }
    values = turns(contenders, bench.repeats)
    gc.enable()
    found = [contents(session, shard) for shard in (OTHERS, OTHERS + 1)]
    assert found[0] == found[1], "both wrote the same rows"
    return Row(
        name="published rows",
        unit="rows/s",
        values=values,
        aims=[Aim(0.8, "the driver alone, in the same batches")],
        checked=f"{sum(map(len, found[0]))} rows of each are the same, with their timestamps",
        notes=[
            f"{count:,} rows in {len(batches.batches)} batches of {BATCH_EVENTS:,} records; a row a statement is"
            f" measured with {len(single):,} of them"
        ],
    )


def recorded(session: CassandraSession, shard: int, batches: Batches) -> list[list[Request]]:
    recorder: Any = Recorder(session)
    publisher = CassandraPublisher(recorder, 1, shard)
    publisher.open(0)
    for effects, _, checkpoint in batches.batches:
        publisher.publish(effects, 0, checkpoint)  # none of it is there yet, and the publisher looks
        publisher.reached(checkpoint)
    groups: list[list[Request]] = recorder.groups
    return groups


def raw(session: CassandraSession, groups: list[list[Request]]) -> None:
    """As fast as the driver goes: bind, batch, send, so many at once; nothing is asked, kept or tried again."""
    free = threading.Semaphore(CONCURRENCY)

    def done(_: object) -> None:
        free.release()

    for group in groups:
        for start in range(0, len(group), BATCH_STATEMENTS_MAX):
            batch = BatchStatement(BatchType.UNLOGGED)
            for statement, parameters in group[start : start + BATCH_STATEMENTS_MAX]:
                batch.add(statement, parameters)
            free.acquire()
            session.driver.execute_async(batch, execution_profile=UNTIMED).add_callbacks(done, done)
    for _ in range(CONCURRENCY):
        free.acquire()


def contents(session: CassandraSession, shard: int) -> list[list[Any]]:
    """Every row of the shard with when it was written, without the shard."""
    selects = {
        "entries": "name, slot, bucket, owner, key, w0, w1, w2, writetime(w0)",
        "sizes": "name, slot, owner, bucket, size, writetime(size)",
        "table_rows": "name, slot, key, value, writetime(value)",
        "feed_heads": "slot, user, page, writetime(page)",
        "feed_pages": "user, bucket, word, rows, writetime(rows)",
        "positions": "position, time_ms, writetime(position)",
    }
    where = f"WHERE shard = {shard} ALLOW FILTERING"
    queries = [
        f"SELECT {what} FROM {session.address.keyspace}.{name}_g000001 {where}" for name, what in selects.items()
    ]
    return [sorted(session.execute(session.prepare(query)), key=repr) for query in queries]


# ---- reading


def _reading(bench: Bench, session: CassandraSession, users: int) -> Iterator[Row]:
    readers = [1 + 37 * number % users for number in range(bench.size(600, 60))]
    pushed, pulled = CassandraViews(session, 1, PUSHED), CassandraViews(session, 1, PULLED)
    for user in readers[:50]:
        assert page(pushed, user) == page(pulled, user), f"user {user}'s page"
    cache = LruFeedCache(10_000)
    by: dict[str, Callable[[int], object]] = {
        OURS: partial(page, pushed),
        "with the head in a cache": lambda user: page(pushed, user, cache),
        "everybody a celebrity": partial(page, pulled),
        "a head and twenty posts, unjudged": partial(bare, pushed),
    }
    tails: dict[str, list[float]] = {name: [] for name in by}

    def measure(name: str) -> float:
        times = []
        for user in readers:
            began = perf_counter()
            by[name](user)
            times.append(1e6 * (perf_counter() - began))
        tails[name].append(percentile(times, 99))
        return percentile(times, 50)

    checked = "first pages of 50 people, pushed and pulled, are the same"
    values = turns({name: partial(measure, name) for name in by}, bench.repeats)
    yield Row(name="a page of 20 posts and their authors, p50", unit="us", values=values, checked=checked)
    yield Row(name="a page of 20 posts and their authors, p99", unit="us", values=tails)


def page(views: CassandraViews, user: int, cache: FeedCache | None = None) -> list[int]:
    with Reading([views]) as reading:
        return [entry.post for entry in home_feed.page(reading, user, limit=LIMIT, cache=cache)]


def bare(views: CassandraViews, user: int) -> object:
    """A head, the position and the posts, without asking whom one follows or whether anything may be shown."""
    head = views.session.execute(views.queries.head, (PUSHED, user_slot(user), user))
    words = feed_rows.words_of(head[0][0][16:] if head else b"")[-LIMIT:].tolist()
    with Reading([views]) as reading:
        return timelines.rows(reading.shard(0), [word >> 16 for word in words])
