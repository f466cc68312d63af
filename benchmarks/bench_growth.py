"""Growth: the same measures as the world grows to 64 times its size

A power law of ten follows a user, and some four posts, on two shards in two processes. Everything is measured at
every size by the same code; rows that are flat need no explanation.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.crew import Crew
from benchmarks.fan_out_contenders import ShardContender, delivery_count
from benchmarks.measure import Curve, Row
from benchmarks.reads import LIMIT, Pages
from benchmarks.run import Bench
from benchmarks.worlds import append_all, follows, posts, power_law, registrations
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.routing import Ids
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.stores.lmdb import LmdbShardStore

TITLE = "Growth of the world"
SIZES = (1, 4, 16, 64)
USERS, MEAN_FOLLOWS, POSTS_A_USER = 20_480, 10, 3.75
SHARDS = 2
BATCH = 100_000
MEASURED_BATCHES = (1_000, 20_000)
READERS = 2_000


def rows(bench: Bench) -> Iterator[Row | Curve]:
    measured: dict[str, list[float | None]] = {}
    labels, rows_told = [], []
    for size in SIZES[:2] if bench.quick else SIZES:
        users = size * bench.size(USERS, 500)
        with bench.folder() as folder:
            world = _World(bench, folder, users)
            found = world.measure()
        labels.append(f"{size}x: {users:,}")
        rows_told.append(f"{users:,} users, {world.feed_rows():,}")
        for name, value in found.items():
            measured.setdefault(name, []).append(value)
    for unit, names in (
        ("per second", [name for name in measured if name.endswith("/s")]),
        ("microseconds", [name for name in measured if name.endswith("us")]),
        ("MB", [name for name in measured if name.endswith("MB")]),
        ("bytes", [name for name in measured if name.endswith("bytes an event")]),
    ):
        series = {name: measured[name] for name in names}
        notes = [f"Feed rows in the end: {'; '.join(rows_told)}."]
        yield Curve(
            name=f"Growth of the world, {unit}", unit=unit, x_name="users", x=labels, series=series, notes=notes
        )


class _World:
    """One size: a log, two shards that develop it, and readers of them."""

    def __init__(self, bench: Bench, folder: Path, users: int) -> None:
        self.folder, self.graph = folder, power_law(users, MEAN_FOLLOWS)
        chance = np.random.default_rng(7)
        self.batches = [bench.size(batch, batch // 50) for batch in MEASURED_BATCHES]
        self.repeats = bench.repeats
        self.filling = int(users * POSTS_A_USER)
        total = self.filling + self.repeats * sum(self.batches)
        self.authors: Ids = chance.integers(1, users + 1, total, dtype=np.uint64)
        log = LmdbEventLog(folder / "log")
        append_all(log, registrations(users))
        self.first = append_all(log, follows(self.graph)) + 1
        append_all(log, posts(self.authors.tolist()))
        self.log_bytes = log.bytes_stored()
        log.close()
        self.readers = chance.integers(1, users + 1, READERS).tolist()

    def feed_rows(self) -> int:
        """Nobody here has so many followers as to be pulled, or so many followed as to fill a feed."""
        return delivery_count(self.graph, self.authors)

    def measure(self) -> dict[str, float]:
        shards = [(self.folder, self.folder / "log", FoldSettings(), shard, SHARDS) for shard in range(SHARDS)]
        crew = Crew(ShardContender, shards)
        try:
            filled = self.first + self.filling - 1
            found = {"rebuild, events/s": filled / crew.seconds("fold_to", filled, BATCH)}
            next_post = filled + 1
            for batch in self.batches:
                rates = []
                for _ in range(self.repeats):
                    start = next_post - self.first
                    count = delivery_count(self.graph, self.authors[start : start + batch])
                    rates.append(count / crew.seconds("deliver", next_post, batch, batch))
                    next_post += batch
                found[f"batches of {batch:,}, deliveries/s"] = statistics.median(rates)
            stored = sum(crew.call("bytes_stored"))
        finally:
            crew.close()
        events = self.first + len(self.authors)
        found |= {"log, bytes an event": self.log_bytes / events, "shards, bytes an event": stored / events}
        return found | self._reads() | {"log, MB": self.log_bytes / 1e6, "shards, MB": stored / 1e6}

    def _reads(self) -> dict[str, float]:
        """Pages of random people; some of them are compared with what their followees posted."""
        stores = [LmdbShardStore(self.folder / f"darkroom-{shard}-of-{SHARDS}") for shard in range(SHARDS)]
        try:
            pages = Pages(stores)
            for user in self.readers[:20]:
                assert [entry.post for entry in pages.entries(user)] == self._page_of(user), f"user {user}'s page"
            pages.times_us(self.readers, "made")  # once for the page cache, and for what is kept
            median, tail = pages.times_us(self.readers)
            whole, whole_tail = pages.times_us(self.readers, "made")
        finally:
            for store in stores:
                store.close()
        return {
            "page p50, us": median,
            "page p99, us": tail,
            "page with all p50, us": whole,
            "page with all p99, us": whole_tail,
        }

    def _page_of(self, user: int) -> list[int]:
        theirs = np.isin(self.authors, np.append(self.graph.followees(user), np.uint64(user)))
        found: list[int] = (np.flatnonzero(theirs)[::-1][:LIMIT] + self.first).tolist()
        return found
