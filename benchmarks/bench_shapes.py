"""Growth of one thing at a time: a feed's depth, an author's followers, the people followed, the shards

One small world of one shard; what grows is the one user's whom the curve is about.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.bench_rebuild import mixed
from benchmarks.measure import Curve, percentile
from benchmarks.reads import Pages
from benchmarks.run import Bench
from benchmarks.worlds import append_all, posts, registrations
from darkroom.actors.shard import Shard
from darkroom.events.facts import Event, PostPublished, UserFollowed, UserRegistered, personal
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.routing import ID_MASK
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

TITLE = "Growth of one thing at a time"
READS = 2_000
SINGLE_POSTS = 15


def rows(bench: Bench) -> Iterator[Curve]:
    for curve in (_depth, _followers, _followed):
        with bench.folder() as folder, ExitStack() as stack:
            yield curve(bench, folder, stack)
    with bench.folder() as folder, ExitStack() as stack:
        yield from _shards(bench, folder, stack)


class _Grown:
    """A log of our own making and the shards that have folded it."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        events: list[Event],
        shards: int = 1,
        settings: FoldSettings | None = None,
    ) -> None:
        self.log = LmdbEventLog(folder / f"log-{shards}")
        stack.callback(self.log.close)
        append_all(self.log, events)
        self.shards = []
        for shard in range(shards):
            store = LmdbShardStore(folder / f"{shard}-of-{shards}", Identity(FORMAT, 1, shard, shards))
            stack.callback(store.close)
            self.shards.append(Shard(self.log, store, settings or FoldSettings()))
        self.pages = Pages([shard.store for shard in self.shards])

    def fold(self) -> float:
        """Seconds until all shards are at the head, one after another."""
        return sum(self.fold_each())

    def fold_each(self) -> list[float]:
        """As `fold`, shard by shard."""
        taken = []
        for shard in self.shards:
            began = time.perf_counter()
            while shard.step(100_000):
                pass
            taken.append(time.perf_counter() - began)
        return taken

    def post_ms(self, author: int) -> float:
        """The median time of a single post's append and fold."""
        taken = []
        for _ in range(SINGLE_POSTS):
            self.log.append([PostPublished(author=author, caption=personal("dusk"))])
            taken.append(1e3 * self.fold())
        return statistics.median(taken)


def _read_us(read: Callable[[], object]) -> tuple[float, float]:
    times = []
    for _ in range(READS):
        began = time.perf_counter()
        read()
        times.append(1e6 * (time.perf_counter() - began))
    return percentile(times, 50), percentile(times, 99)


def _depth(bench: Bench, folder: Path, stack: ExitStack) -> Curve:
    """User 1 follows 100 people, who post until far more rows are in the feed than it keeps."""
    deepest = bench.size(10_000, 500)
    follows: list[Event] = [UserFollowed(follower=1, followee=other) for other in range(2, 102)]
    events = [*registrations(101), *follows, *posts(2 + number % 100 for number in range(deepest))]
    grown = _Grown(folder, stack, events)
    grown.fold()
    found, depths = [], [depth for depth in (0, 10, 100, 500, 1_000, 2_000, 9_000) if depth < deepest]
    for depth in depths:
        below = ID_MASK + 1 if not depth else len(events) - depth + 1
        page = grown.pages.entries(1, below)
        assert [entry.post for entry in page] == list(range(len(events) - depth, len(events) - depth - 20, -1))
        found.append(_read_us(partial(grown.pages.entries, 1, below)))
    return Curve(
        name="A feed's depth",
        unit="us a page of 20",
        x_name="posts above the page",
        x=[f"{depth:,}" for depth in depths],
        series={"p50": [one[0] for one in found], "p99": [one[1] for one in found]},
        notes=["A feed keeps 1,000 rows; what is deeper is pulled from the 100 timelines."],
    )


def _followers(bench: Bench, folder: Path, stack: ExitStack) -> Curve:
    """Authors with more and more followers, each of whom posts singly."""
    counts = [10, 100, 1_000] if bench.quick else [10, 100, 1_000, 10_000, 100_000]
    users = counts[-1] + len(counts)
    follows: list[Event] = [
        UserFollowed(follower=len(counts) + number, followee=author)
        for author, count in enumerate(counts, 1)
        for number in range(1, count + 1)
    ]
    all_pushed = FoldSettings(celebrity_threshold=None)
    pushing = _Grown(folder, stack, [*registrations(users), *follows], settings=all_pushed)
    pushing.fold()
    took = [pushing.post_ms(author) for author in range(1, len(counts) + 1)]
    newest = pushing.log.head()
    assert pushing.pages.entries(users)[0].post == newest, "the last follower sees the most followed author's last post"
    return Curve(
        name="An author's followers, all pushed",
        unit="ms a post, from append to commit",
        x_name="followers",
        x=[f"{count:,}" for count in counts],
        series={
            "a post": took,
            "per 1,000 deliveries": [ms / count * 1_000 for ms, count in zip(took, counts, strict=True)],
        },
    )


def _followed(bench: Bench, folder: Path, stack: ExitStack) -> Curve:
    """People who follow more and more others, of whom all have posted since."""
    counts = [10, 100, 500] if bench.quick else [10, 100, 1_000, 5_000]
    authors = counts[-1]
    follows: list[Event] = [
        UserFollowed(follower=authors + index, followee=author)
        for index, count in enumerate(counts, 1)
        for author in range(1, count + 1)
    ]
    after = [*registrations(authors + len(counts)), *follows, *posts(range(authors, 0, -1))]
    before = [*registrations(authors + len(counts)), *posts(range(authors, 0, -1)), *follows]
    series: dict[str, list[float | None]] = {}
    for name, events in (("posted since", after), ("posted before: pulled", before)):
        grown = _Grown(folder / name.split()[1].strip(":"), stack, events)
        grown.fold()
        found = [_read_us(partial(grown.pages.entries, authors + index)) for index in range(1, len(counts) + 1)]
        assert len(grown.pages.entries(authors + len(counts))) == 20
        series |= {f"{name}, p50": [one[0] for one in found], f"{name}, p99": [one[1] for one in found]}
    return Curve(
        name="People followed",
        unit="us a page of 20",
        x_name="followed",
        x=[f"{count:,}" for count in counts],
        series=series,
    )


def _shards(bench: Bench, folder: Path, stack: ExitStack) -> Iterator[Curve]:
    """The same events folded by more and more shards in one process, one after another: what each adds."""
    events, counts = mixed(bench), [1, 2, 4] if bench.quick else [1, 2, 4, 8, 16]
    users = [at for at, event in enumerate(events, 1) if isinstance(event, UserRegistered)]
    more = list(posts(random.Random(1).choices(users, k=bench.size(20_000, 400))))
    rebuilt, caught_up, reads, stored, seen = [], [], [], [], []
    for count in counts:
        grown = _Grown(folder, stack, events, count)
        rebuilt.append(grown.fold_each())
        stored.append(sum(shard.store.bytes_stored() for shard in grown.shards) / len(events))
        append_all(grown.log, more)
        caught_up.append(grown.fold_each())
        readers = range(1, 201)
        seen.append([[entry.post for entry in grown.pages.entries(user)] for user in readers])
        reads.append(grown.pages.times_us(list(readers) * 3))
    assert all(pages == seen[0] for pages in seen), "pages differ by the number of shards"
    for what, unit, many, took in (
        ("rebuilding", "events/s", len(events), rebuilt),
        (f"a batch of {len(more):,} posts", "posts/s", len(more), caught_up),
    ):
        yield Curve(
            name=f"The number of shards, in one process, {what}",
            unit=unit,
            x_name="shards",
            x=[str(count) for count in counts],
            series={
                "all shards, one after another": [many / sum(each) for each in took],
                "the slowest alone": [many / max(each) for each in took],
            },
            notes=["Every shard reads the whole log, and keeps a follow of whom it serves at either end."],
        )
    yield Curve(
        name="The number of shards, in one process, reading",
        unit="us a page of 20",
        x_name="shards",
        x=[str(count) for count in counts],
        series={"p50": [one[0] for one in reads], "p99": [one[1] for one in reads]},
    )
    yield Curve(
        name="The number of shards, on the disk",
        unit="bytes an event, all shards",
        x_name="shards",
        x=[str(count) for count in counts],
        series={"all shards": stored},
    )
