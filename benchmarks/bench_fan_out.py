"""Durable fan-out through a whole shard, beside raw LMDB loops that write the same deliveries and nothing else.

    python -m benchmarks.bench_fan_out [USERS] [POSTS]

The world is a power law of 33 followers a user at the mean. Feeds are filled before anything is measured, for an empty
store flatters everybody. The floors are handed each batch's deliveries in memory; the shard reads and decides the log.
"""

import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import lmdb
import numpy as np

from benchmarks.measure import compare, rate, show_machine
from darkroom.actors.shard import Shard
from darkroom.events.facts import Event, PostPublished, UserFollowed, UserRegistered, personal
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections import feed_rows
from darkroom.projections.routing import Ids, routed
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import LmdbShardStore

MEAN_FOLLOWERS = 33
REPEATS = 3
FOLD = FoldSettings(celebrity_threshold=None, feed_rows=1_000_000)


class World:
    """A filled shard, the batches still to come, and the same deliveries for the floors."""

    def __init__(self, folder: Path, users: int, posts: int) -> None:
        chance = random.Random(1)
        self.log = LmdbEventLog(folder / "log")
        self._append([UserRegistered(username=personal(f"u{n}"), display_name=personal("")) for n in range(users)])
        self.followers = _power_law(users)
        self._append(
            [UserFollowed(follower=f, followee=a) for a, them in self.followers.items() for f in them.tolist()]
        )
        self.shard = Shard(self.log, LmdbShardStore(folder / "shard", Identity(1, 1, 0, 1)), FOLD)
        self.batch = posts
        self.authors: dict[int, int] = {}
        authors = [chance.randrange(users) + 1 for _ in range(posts * (2 + REPEATS))]
        first = self.log.head() + 1
        self._append([PostPublished(author=author, caption=personal("dusk")) for author in authors])
        self.authors = dict(enumerate(authors, first))
        while self.shard.position < first + 2 * posts - 1:
            self.shard.step(first + 2 * posts - 1 - self.shard.position)
        self.measured = self.shard.position
        self.floors = {"packed pages": _Floor(folder / "packed"), "one key a delivery": _Floor(folder / "keys")}
        for post in range(first, self.measured + 1, posts):
            words, owners = self.deliveries(post)
            self.floors["packed pages"].packed(words, owners)
            self.floors["one key a delivery"].keyed(words, owners)

    def _append(self, events: list[Event]) -> None:
        for start in range(0, len(events), 20_000):
            self.log.append(events[start : start + 20_000])

    def deliveries(self, first: int) -> tuple[Ids, Ids]:
        """(words, owners) of one batch of posts."""
        posts = range(first, first + self.batch)
        audiences = [np.append(self.followers[self.authors[post]], self.authors[post]) for post in posts]
        words = np.repeat([routed(post, self.authors[post]) for post in posts], [len(them) for them in audiences])
        return words.astype(np.uint64), np.concatenate(audiences).astype(np.uint64)


class _Floor:
    """A store of its own for a raw loop."""

    def __init__(self, path: Path) -> None:
        self._env = lmdb.open(str(path), map_size=1 << 36, lib_version=0, readahead=False, meminit=False)

    def packed(self, words: Ids, owners: Ids) -> None:
        """Pages of 128 rows, key (owner, chunk), the last chunk found by its number in a dictionary of bytes."""
        order = np.argsort(owners, kind="stable")
        owners, data = owners[order], words[order].tobytes()
        cuts = np.flatnonzero(np.diff(owners)) + 1
        starts = [0, *(8 * cuts).tolist()]
        stops = [*starts[1:], len(data)]
        rows = []
        with self._env.begin() as reading:
            for owner, start, stop in zip(owners[np.append(0, cuts)].tolist(), starts, stops, strict=True):
                key = owner.to_bytes(8, "big")
                page = (reading.get(key) or b"") + data[start:stop]
                while len(page) > 1024:
                    rows.append((key + page[:8], page[:1024]))
                    page = page[1024:]
                rows.append((key, page))
        with self._env.begin(write=True) as writing, writing.cursor() as cursor:
            cursor.putmulti(rows)

    def keyed(self, words: Ids, owners: Ids) -> None:
        """Key (owner, word), no value."""
        order = np.lexsort((words, owners))
        pairs = np.stack((owners[order], words[order]), axis=1).astype(">u8").tobytes()
        with self._env.begin(write=True) as writing, writing.cursor() as cursor:
            cursor.putmulti([(pairs[start : start + 16], b"") for start in range(0, len(pairs), 16)])


def _power_law(users: int) -> dict[int, Ids]:
    chance = np.random.default_rng(1)
    weights = 1 / np.arange(1, users + 1) ** 0.6
    counts = np.minimum((weights / weights.mean() * MEAN_FOLLOWERS).astype(int), users // 4)
    everybody = np.arange(1, users + 1)
    return {
        author: np.sort(np.setdiff1d(chance.choice(everybody, count, replace=False), [author])).astype(np.uint64)
        for author, count in enumerate(counts.tolist(), 1)
    }


def main(users: int, posts: int) -> None:
    show_machine()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), users, posts)
        turn = dict.fromkeys(("ours", *world.floors), 0)

        def batch(name: str) -> int:
            turn[name] += 1
            return world.measured + 1 + (turn[name] - 1) * posts

        def ours() -> float:
            count = len(world.deliveries(batch("ours"))[0])
            return rate(count, lambda: _fold(world.shard, posts))

        def floor(name: str) -> float:
            words, owners = world.deliveries(batch(name))
            write = world.floors[name].packed if name == "packed pages" else world.floors[name].keyed
            return rate(len(words), lambda: write(words, owners))

        title = f"fan-out, {users:,} users, batches of {posts:,} posts"
        compare(title, "deliveries/s", ours, {name: partial(floor, name) for name in world.floors}, REPEATS)
        _check(world)


def _fold(shard: Shard, posts: int) -> None:
    left = posts
    while left:
        left -= shard.step(left)


def _check(world: World) -> None:
    """Every feed sampled holds what was delivered to it."""
    words, owners = world.deliveries(world.shard.position - world.batch + 1)
    with world.shard.store.snapshot() as snapshot:
        for owner in owners[:: len(owners) // 50].tolist():
            head = feed_rows.head(snapshot, owner)[1]
            newest = feed_rows.newest(snapshot, owner, head, below=1 << 48, limit=20)
            assert newest[: (owners == owner).sum()] == sorted(words[owners == owner].tolist(), reverse=True)[:20]


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:3]]
    main(*sizes, *(40_000, 5_000)[len(sizes) :])
