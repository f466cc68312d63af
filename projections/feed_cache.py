"""The cache of active users' feeds: their head pages, which are candidates, so all else is still judged at read.

A cache that is told of changes gives a lease with each miss, and takes a fill only with a lease that no change has
ended since (Nishtala et al., "Scaling Memcache at Facebook", 2013). One that nobody tells compares versions. Either may
drop an entry at any moment.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from darkroom.projections.views import FeedHead


class FeedKey(NamedTuple):
    """Whose feed, in which generation and shard."""

    generation: int
    shard: int
    user: int


class Lease(NamedTuple):
    """What a miss is given; a fill needs it. `token` 0 fills nothing.

    A cache that is told of changes notes besides in which epoch of its own, and to a reader at which position.
    """

    token: int
    epoch: bytes = b""
    position: int = 0


NOTHING_TO_FILL = Lease(0)


@dataclass
class CacheCounts:
    """`failures` is how often the cache did not answer in time, or at all; each was a miss too, or a lost fill."""

    hits: int = 0
    misses: int = 0
    failures: int = 0

    @property
    def hit_rate(self) -> float:
        """From 0 to 1; 0 where nothing was asked."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class FeedCache(Protocol):
    """Any number of threads may call. Nothing is raised: a cache that is gone is a cache that misses."""

    counts: CacheCounts

    def get(self, key: FeedKey, version: Callable[[], int], position: int) -> FeedHead | Lease:
        """The feed's head page as a view at the position may give it, or a lease for a fill from that same view.

        `version` is asked only by a cache that nobody tells of changes, `position` looked at only by one that is told.
        """

    def put(self, key: FeedKey, lease: Lease, head: FeedHead) -> None:
        """Keep what the view gave, if the lease still holds; older entries make room."""


class NoFeedCache:
    """Keeps nothing."""

    def __init__(self) -> None:
        self.counts = CacheCounts()

    def get(self, key: FeedKey, version: Callable[[], int], position: int) -> FeedHead | Lease:  # noqa: ARG002
        self.counts.misses += 1
        return NOTHING_TO_FILL

    def put(self, key: FeedKey, lease: Lease, head: FeedHead) -> None:
        """Kept nowhere."""


class LruFeedCache:
    """In this process, of at most `entries_max` feeds, the least recently read dropped first; a lease is a version."""

    def __init__(self, entries_max: int) -> None:
        self.counts = CacheCounts()
        self._entries_max = entries_max
        self._entries: OrderedDict[FeedKey, tuple[int, FeedHead]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: FeedKey, version: Callable[[], int], position: int) -> FeedHead | Lease:  # noqa: ARG002
        present = version()
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry[0] != present:
                self.counts.misses += 1
                return Lease(present)
            self._entries.move_to_end(key)
            self.counts.hits += 1
            return entry[1]

    def put(self, key: FeedKey, lease: Lease, head: FeedHead) -> None:
        if not lease.token:
            return  # a feed without rows has no version
        with self._lock:
            self._entries[key] = (lease.token, head)
            self._entries.move_to_end(key)
            while len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)
