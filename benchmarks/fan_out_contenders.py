"""Who delivers posts to feeds: a whole shard of ours from the log, and the floors from the same deliveries in memory.

Each lives in a process of its own, for one shard of so many, and is told which posts to deliver in batches of how many.
"""

from pathlib import Path

import numpy as np

from benchmarks.developed import feed_words
from benchmarks.floor_feeds import FeedFloor, OneKeyEach, PackedPages, SqliteRows
from benchmarks.worlds import Graph, load
from darkroom.actors.shard import Shard
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.routing import ROUTE_BITS, Ids, routes
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

FLOORS: dict[str, type[PackedPages] | type[OneKeyEach] | type[SqliteRows]] = {
    "LMDB, packed pages": PackedPages,
    "LMDB, one key a delivery": OneKeyEach,
    "sqlite": SqliteRows,
}


class ShardContender:
    """The product: decodes the log, keeps every projection, and commits a batch with its position."""

    def __init__(self, folder: Path, log: Path, settings: FoldSettings, shard: int, shards: int) -> None:
        self._log = LmdbEventLog(log, create=False)
        self._store = LmdbShardStore(folder / f"darkroom-{shard}-of-{shards}", Identity(FORMAT, 1, shard, shards))
        self._shard = Shard(self._log, self._store, settings)

    def prepare(self, first: int, count: int, batch: int) -> None:
        """What is to come lies in the log already."""

    def deliver(self, first: int, count: int, batch: int) -> None:
        """The posts from position `first` on, so many, in commits of at most `batch`."""
        assert self._shard.position == first - 1, f"shard is at {self._shard.position}, not before {first}"
        self.fold_to(first + count - 1, batch)

    def fold_to(self, position: int, batch: int) -> None:
        while self._shard.position < position:
            left = position - self._shard.position
            assert self._shard.step(min(batch, left)), f"the log ends at {self._shard.position}"

    def newest(self, owner: int, limit: int) -> list[int]:
        with self._store.snapshot() as snapshot:
            return feed_words(snapshot, owner)[: -limit - 1 : -1]

    def bytes_stored(self) -> int:
        return self._store.bytes_stored()

    def close(self) -> None:
        self._store.close()
        self._log.close()


class FloorContender:
    """A raw loop. Working out the deliveries is not counted."""

    def __init__(
        self, name: str, folder: Path, graph: Path, authors: Path, first: int, shard: int, shards: int
    ) -> None:
        self._floor: FeedFloor = FLOORS[name](folder / f"{name}-{shard}-of-{shards}")
        self._graph = load(graph)
        self._authors, self._first = np.load(authors), first
        self._shard, self._shards = shard, shards
        self._batches: list[tuple[Ids, Ids]] = []

    def prepare(self, first: int, count: int, batch: int) -> None:
        """Have the deliveries of these posts in memory."""
        for start in range(first, first + count, batch):
            authors = self._authors[start - self._first : min(start + batch, first + count) - self._first]
            self._batches.append(deliveries(self._graph, start, authors, self._shard, self._shards))

    def deliver(self, first: int, count: int, batch: int) -> None:  # noqa: ARG002
        for words, owners in self._batches:
            self._floor.write(words, owners)
        self._batches = []

    def newest(self, owner: int, limit: int) -> list[int]:
        return self._floor.newest(owner, limit)

    def close(self) -> None:
        self._floor.close()


def deliveries(graph: Graph, first: int, authors: Ids, shard: int, shards: int) -> tuple[Ids, Ids]:
    """(words, owners) of posts by the authors from position `first` on, into this shard's feeds."""
    index, owners = graph.deliveries(authors)
    words = ((np.uint64(first) + index) << np.uint64(ROUTE_BITS)) | routes(authors)[index.astype(np.int64)]
    if shards == 1:
        return words, owners
    ours = routes(owners) % np.uint64(shards) == np.uint64(shard)
    return words[ours], owners[ours]


def delivery_count(graph: Graph, authors: Ids) -> int:
    """Rows that posts by these authors become, their own feeds' among them."""
    at = authors.astype(np.int64)
    return int((graph.starts[at] - graph.starts[at - 1]).sum()) + len(authors)
