"""The celebrity threshold, swept from 0, which pulls everything, to never, which pushes everything

One shard, so that a threshold is one of followers. At every threshold the same pages are read.
"""

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.fan_out_contenders import delivery_count
from benchmarks.measure import OURS, Aim, Curve, Measurement, Row, percentile, seconds, turns
from benchmarks.reads import Pages
from benchmarks.run import Bench
from benchmarks.worlds import (
    Graph,
    GraphMissing,
    append_all,
    follows,
    of_edges,
    posts,
    real,
    registrations,
    simulated_mix,
)
from darkroom.actors.shard import Shard
from darkroom.events.facts import PostPublished, personal
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.routing import Ids
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

Counts = npt.NDArray[np.int64]
"""The followers of each user."""

TITLE = "The celebrity threshold"
NEVER, DEFAULT = "never", 10_000
THRESHOLDS = {"0": 0, "30": 30, "100": 100, "300": 300, "1000": 1_000, "3000": 3_000, "30000": 30_000}
CELEBRITIES = (0.06, 0.18, 0.37, 0.74)
"""Whom so many of all people follow besides: nobody in the real graph has more than 3,383 followers."""

CELEBRITY_POSTS = 1 / 200
SINGLE_POSTS = 20


def rows(bench: Bench) -> Iterator[Row | Curve]:
    with bench.folder() as folder, ExitStack() as stack:
        sweep = _Sweep(bench, folder, stack)
        sweep.check()
        contenders: dict[str, Measurement] = {name: partial(sweep.read_us, name) for name in sweep.shards}
        read = turns(contenders, bench.repeats)
        writes: dict[str, Measurement] = {name: partial(sweep.write, name) for name in sweep.shards}
        wrote = turns(writes, bench.repeats)
        yield from sweep.curves(read, wrote, sweep.singles(bench.repeats, bench.size(200, 10)))
        yield Row(
            name=f"page of 20 at the default threshold ({DEFAULT:,})",
            unit="us",
            values={OURS: read[str(DEFAULT)], "pure push": read[NEVER], "pure pull": read["0"]},
            aims=[Aim(1.5, "pure push", "at most")],
            checked="200 people's first pages are the same at every threshold",
        )
        for name in (str(DEFAULT), sweep.crossed()):
            yield sweep.visible(name, bench.repeats)


class _Sweep:
    """One log, and a shard of it at every threshold."""

    def __init__(self, bench: Bench, folder: Path, stack: ExitStack) -> None:
        self.graph = _graph(bench)
        self.log = LmdbEventLog(folder / "log")
        self.posts = bench.size(20_000, 1_000)
        chance = np.random.default_rng(4)
        batches = bench.repeats + 1
        self.authors = _authors(chance, self.graph.users, self.posts * batches)
        append_all(self.log, registrations(self.graph.users))
        self.first = append_all(self.log, follows(self.graph)) + 1
        append_all(self.log, posts(self.authors.tolist()))
        self.shards: dict[str, Shard] = {}
        thresholds: dict[str, int | None] = {**THRESHOLDS, str(DEFAULT): DEFAULT, NEVER: None}
        for name, threshold in thresholds.items():
            store = LmdbShardStore(folder / f"shard-{name}", Identity(FORMAT, 1, 0, 1))
            stack.callback(store.close)
            self.shards[name] = Shard(self.log, store, FoldSettings(threshold, feed_rows=1_000_000))
            _fold_to(self.shards[name], self.first + self.posts - 1)
        stack.callback(self.log.close)
        self.pages = {name: Pages([shard.store]) for name, shard in self.shards.items()}
        self.p99s: dict[str, list[float]] = {name: [] for name in self.shards}
        users = random.Random(3)
        self.readers = [users.randrange(self.graph.users) + 1 for _ in range(bench.size(2_000, 200))]

    def check(self) -> None:
        for user in self.readers[:200]:
            found = {name: [entry.post for entry in pages.entries(user)] for name, pages in self.pages.items()}
            assert all(page == found[NEVER] for page in found.values()), f"user {user}'s pages differ: {found}"

    def read_us(self, name: str) -> float:
        median, tail = self.pages[name].times_us(self.readers)
        self.p99s[name].append(tail)
        return median

    def write(self, name: str) -> float:
        """Posts a second of the next batch, in one commit as large as it may be."""
        shard = self.shards[name]
        return self.posts / seconds(lambda: _fold_to(shard, shard.position + self.posts))

    def singles(self, repeats: int, count: int) -> dict[str, list[float]]:
        """How long single posts by anybody took at every threshold, in turns."""
        chance, taken = np.random.default_rng(5), {name: list[float]() for name in self.shards}
        for _ in range(repeats):
            authors = _authors(chance, self.graph.users, count).tolist()
            for name, found in taken.items():
                found += self._single_ms(name, authors)
        return taken

    def curves(
        self, read: dict[str, list[float]], wrote: dict[str, list[float]], singles: dict[str, list[float]]
    ) -> Iterator[Curve]:
        names = sorted(self.shards, key=lambda name: float("inf") if name == NEVER else int(name))
        everything = delivery_count(self.graph, self.authors)
        series: dict[str, dict[str, list[float | None]]] = {
            "us": {
                "a page p50": [statistics.median(read[name]) for name in names],
                "a page p99": [statistics.median(self.p99s[name]) for name in names],
                "a post until it is read p50": [1e3 * percentile(singles[name], 50) for name in names],
                "a post until it is read p99": [1e3 * percentile(singles[name], 99) for name in names],
            },
            "posts/s": {"written in large batches": [statistics.median(wrote[name]) for name in names]},
            "% of pure push": {"deliveries": [100 * self._pushed(name) / everything for name in names]},
        }
        for unit, lines in series.items():
            name = f"Celebrity threshold on {self.graph.name}, {unit}"
            yield Curve(name=name, unit=unit, x_name="threshold, followers", x=names, series=lines)

    def _pushed(self, name: str) -> int:
        if name == NEVER:
            return delivery_count(self.graph, self.authors)
        at = self.authors.astype(np.int64)
        counts = (self.graph.starts[at] - self.graph.starts[at - 1]).astype(np.int64)
        return int((counts[counts < int(name)] + 1).sum())

    def crossed(self) -> str:
        """The highest threshold that the most followed has reached, whose posts are pulled there."""
        reached = [name for name, threshold in THRESHOLDS.items() if threshold <= self._counts().max()]
        return reached[-1]

    def _counts(self) -> Counts:
        return np.diff(self.graph.starts).astype(np.int64)

    def visible(self, name: str, repeats: int) -> Row:
        """A post by whom most follow, and one by whom as many follow as half the others."""
        counts = self._counts()
        most, ordinary = int(np.argmax(counts)) + 1, int(np.argsort(counts)[len(counts) // 2]) + 1
        contenders: dict[str, Measurement] = {
            OURS: lambda: statistics.median(self._single_ms(name, [most] * SINGLE_POSTS)),
            "an ordinary author's": lambda: statistics.median(self._single_ms(name, [ordinary] * SINGLE_POSTS)),
        }
        return Row(
            name=f"a post by the most followed ({counts.max():,}) until it is read, threshold {int(name):,}",
            unit="ms",
            values=turns(contenders, repeats),
            aims=[Aim(2, "an ordinary author's", "at most")],
            checked="each single post is the first that a follower reads",
        )

    def _single_ms(self, name: str, authors: list[int]) -> list[float]:
        """How long each takes from its append until a follower, or the author, reads it."""
        shard, pages, taken = self.shards[name], self.pages[name], []
        _fold_to(shard, self.log.head())
        for author in authors:
            reader = next(iter(self.graph.of(author).tolist()), author)
            began = time.perf_counter()
            self.log.append([PostPublished(author=author, caption=personal("dusk"))])
            _fold_to(shard, self.log.head())
            found = pages.entries(reader)[0].post
            taken.append(1e3 * (time.perf_counter() - began))
            assert found == self.log.head(), f"user {reader} does not see the post by {author}"
        return taken


def _graph(bench: Bench) -> Graph:
    if bench.quick:
        return _with_celebrities(simulated_mix(1_000, 30_000))
    try:
        return _with_celebrities(real("ego-twitter-mutual"))
    except GraphMissing:
        return _with_celebrities(simulated_mix())


def _with_celebrities(graph: Graph) -> Graph:
    """The last users of the world."""
    chance = np.random.default_rng(10)
    everybody = np.arange(1, graph.users + 1, dtype=np.uint64)
    fans = [np.sort(chance.choice(everybody, int(part * graph.users), replace=False)) for part in CELEBRITIES]
    famous = np.arange(graph.users + 1, graph.users + len(fans) + 1, dtype=np.uint64)
    followees = np.repeat(everybody, np.diff(graph.starts).astype(np.int64))
    return of_edges(
        f"{graph.name} with {len(fans)} celebrities",
        graph.users + len(fans),
        np.concatenate([graph.followers, *fans]),
        np.concatenate([followees, np.repeat(famous, [len(one) for one in fans])]),
    )


def _authors(chance: np.random.Generator, users: int, count: int) -> Ids:
    """Anybody, and every so often one of the celebrities."""
    authors = chance.integers(1, users - len(CELEBRITIES) + 1, count, dtype=np.uint64)
    famous = chance.random(count) < CELEBRITY_POSTS
    chosen = chance.integers(users - len(CELEBRITIES) + 1, users + 1, count, dtype=np.uint64)
    return np.where(famous, chosen, authors)


def _fold_to(shard: Shard, position: int) -> None:
    while shard.position < position:
        shard.step(min(100_000, position - shard.position))
