"""Home feed pages in process: rows alone, with posts, authors and counters, and encoded; with what is kept and without

Also how many pages stand while others write, and what reading timelines in parallel would be (decision 4).
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.bench_rebuild import mixed
from benchmarks.floor_fold import bodies_of, decode_and_apply
from benchmarks.measure import OURS, Aim, Curve, Measurement, Row, Told, seconds, turns
from benchmarks.reads import LIMIT, Pages
from benchmarks.run import Bench
from benchmarks.worlds import append_all
from darkroom.actors.shard import Shard
from darkroom.events.facts import Event, UserRegistered
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections import pages
from darkroom.projections.feed_cache import LruFeedCache
from darkroom.projections.routing import shard_of
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, ShardStore
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.tables import TIMELINES

TITLE = "Reading in process"
SHARDS = 2
KINDS = {
    "entries": "posts and authors of a page of 20",
    "made": "a page of 20 with its posts, authors and counters, put together anew",
    "shown": "a page of 20 with its posts, authors and counters",
    "encoded": "the same, encoded to JSON",
}
ALONE = "msgspec alone, encoding it"
WRITTEN = (1, 10, 100, 1_000, 10_000)
COMMIT_EVENTS = 10
AIMS = {"shown": [Aim(100, None, "at most")]}


def rows(bench: Bench) -> Iterator[Told]:
    events = mixed(bench)
    users = [at for at, event in enumerate(events, 1) if isinstance(event, UserRegistered)]
    with bench.folder() as folder, ExitStack() as stack:
        stores = developed_stores(folder, events, stack)
        checked = _check(stores, events, users)
        chance = random.Random(2)
        active = [chance.choice(users) for _ in range(len(users) // 10)]
        readers = [chance.choice(active) for _ in range(bench.size(3_000, 200))]
        yield from _pages(bench, stores, readers, checked)
        yield from _parallel(bench, stores, users)
    with bench.folder() as folder, ExitStack() as stack:
        yield from _while_others_write(bench, folder, events, stack)


def developed_stores(folder: Path, events: list[Event], stack: ExitStack) -> list[ShardStore]:
    """The events, folded by every shard."""
    return _developed(folder, events, stack)[0]


def _developed(
    folder: Path, events: list[Event], stack: ExitStack
) -> tuple[list[ShardStore], list[Shard], LmdbEventLog]:
    log = LmdbEventLog(folder / "log")
    stack.callback(log.close)
    append_all(log, events)
    stores: list[ShardStore] = []
    workers: list[Shard] = []
    for shard in range(SHARDS):
        store = LmdbShardStore(folder / f"shard-{shard}", Identity(FORMAT, 1, shard, SHARDS))
        stack.callback(store.close)
        worker = Shard(log, store, FoldSettings())
        while worker.step(100_000):
            pass
        stores.append(store)
        workers.append(worker)
    return stores, workers, log


def _check(stores: list[ShardStore], events: list[Event], users: list[int]) -> str:
    """Feeds are what the floor's timelines say: a merge of all that one follows."""
    world, reader = decode_and_apply(bodies_of(events)), Pages(stores)
    for user in random.Random(1).sample(users, 200):
        followed = [*world.following[user], user]
        wanted = sorted((post for author in followed for post in world.timelines[author]), reverse=True)[:LIMIT]
        assert [entry.post for entry in reader.entries(user)] == wanted, f"user {user}'s page"
        assert [int(status["id"]) for status in msgspec.json.decode(reader.encoded(user))] == wanted
    return "first pages of 200 people are those merged from the floor's timelines"


def _pages(bench: Bench, stores: list[ShardStore], readers: list[int], checked: str) -> Iterator[Row]:
    """All kinds in the same turns, for they are compared with each other too."""
    by = {
        OURS: Pages(stores, LruFeedCache(10_000)),
        "without the cache": Pages(stores),
        "nothing kept": Pages(stores, forgets=True),
    }
    tails: dict[tuple[str, str], list[float]] = {(kind, contender): [] for kind in KINDS for contender in by}

    def measure(kind: str, contender: str) -> float:
        median, tail = by[contender].times_us(readers, kind)
        tails[kind, contender].append(tail)
        return median

    page = msgspec.json.decode(by[OURS].encoded(readers[0]))
    contenders: dict[str, Measurement] = {f"{kind}, {name}": partial(measure, kind, name) for kind, name in tails}
    values = turns(contenders | {ALONE: lambda: 1e6 * _encoding_s(page)}, bench.repeats)
    for kind, told in KINDS.items():
        found = {contender: values[f"{kind}, {contender}"] for contender in by}
        if kind == "encoded":
            found[ALONE] = values[ALONE]
        yield Row(name=f"{told}, p50", unit="us", values=found, aims=AIMS.get(kind, []), checked=checked)
        yield Row(name=f"{told}, p99", unit="us", values={contender: tails[kind, contender] for contender in by})


def _encoding_s(page: object) -> float:
    times = 200
    return seconds(lambda: [msgspec.json.encode(page) for _ in range(times)]) / times


def _while_others_write(bench: Bench, folder: Path, events: list[Event], stack: ExitStack) -> Iterator[Curve]:
    """The last events of the mix come one small commit after another, and the same people look again."""
    last = sum(WRITTEN)
    stores, workers, log = _developed(folder, events[:-last], stack)
    users = [at for at, event in enumerate(events[:-last], 1) if isinstance(event, UserRegistered)]
    readers, pages = random.Random(4).sample(users, bench.size(1_000, 100)), Pages(stores, LruFeedCache(10_000))
    stand: list[float | None] = []
    p50s: list[float | None] = []
    tail = iter(events[-last:])
    pages.times_us(readers, "shown")  # whose names they are is asked once
    for written in WRITTEN:
        pages.times_us(readers, "shown")
        log.append(list(islice(tail, written)))
        for worker in workers:
            while worker.step(COMMIT_EVENTS):
                pages.shown(readers[0])  # as others do all the time: notes of 64 commits are stored
        pages.made_anew = 0
        p50s.append(pages.times_us(readers, "shown")[0])
        stand.append(100 - 100 * pages.made_anew / len(readers))
    x = [f"{written:,}" for written in WRITTEN]
    name, axis = "Pages while others write", f"events of {len(users):,} people since the last look"
    yield Curve(name=name, unit="% that stand", x_name=axis, x=x, series={"pages that stand": stand})
    yield Curve(name=f"{name}, p50", unit="us a page of 20", x_name=axis, x=x, series={"p50": p50s})


def _parallel(bench: Bench, stores: list[ShardStore], users: list[int]) -> Iterator[Row]:
    """Timelines of so many authors, one after another or a thread a shard; how long, not how many."""
    chance = random.Random(3)
    with ThreadPoolExecutor(SHARDS) as threads:
        for count in (4, 40, 400):
            authors = list(islice((chance.choice(users) for _ in iter(int, 1)), count))
            groups = [[author for author in authors if shard_of(author, SHARDS) == shard] for shard in range(SHARDS)]

            def pull(shard: int, groups: list[list[int]] = groups) -> None:
                with stores[shard].snapshot() as snapshot:
                    for author in groups[shard]:
                        pages.newest(snapshot, TIMELINES, author, limit=LIMIT)

            def one(pull: object = pull) -> float:
                return 1e6 * seconds(lambda: [list(map(pull, range(SHARDS))) for _ in range(50)]) / 50  # type: ignore[call-overload]

            def both(pull: object = pull) -> float:
                return 1e6 * seconds(lambda: [list(threads.map(pull, range(SHARDS))) for _ in range(50)]) / 50  # type: ignore[arg-type]

            values = turns({OURS: one, "a thread a shard": both}, bench.repeats)
            yield Row(name=f"{count} timelines, one after another", unit="us", values=values)
