"""The cache of active users' first pages: candidate words of the pushed part only, so all else is judged at read.

An entry is valid only at the version of the feed that it was made from. It may be dropped at any moment.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

FeedKey = tuple[int, int]
"""(generation, user)"""


@dataclass
class CacheCounts:
    hits: int = 0
    misses: int = 0

    @property
    def hit_rate(self) -> float:
        """From 0 to 1; 0 where nothing was asked."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class FeedCache(Protocol):
    """`version` is the newest word of the feed: rows are only ever added at that end."""

    counts: CacheCounts

    def get(self, key: FeedKey, version: int) -> list[int] | None:
        """The feed's newest words, newest first, if the entry is of this version."""

    def put(self, key: FeedKey, version: int, words: list[int]) -> None:
        """Keep the words; older entries make room."""


class NoFeedCache:
    """Keeps nothing."""

    def __init__(self) -> None:
        self.counts = CacheCounts()

    def get(self, key: FeedKey, version: int) -> list[int] | None:  # noqa: ARG002
        self.counts.misses += 1
        return None

    def put(self, key: FeedKey, version: int, words: list[int]) -> None:
        """Kept nowhere."""


class LruFeedCache:
    """In this process, of at most `entries_max` feeds, the least recently read dropped first."""

    def __init__(self, entries_max: int) -> None:
        self.counts = CacheCounts()
        self._entries_max = entries_max
        self._entries: OrderedDict[FeedKey, tuple[int, list[int]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: FeedKey, version: int) -> list[int] | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry[0] != version:
                self.counts.misses += 1
                return None
            self._entries.move_to_end(key)
            self.counts.hits += 1
            return entry[1]

    def put(self, key: FeedKey, version: int, words: list[int]) -> None:
        with self._lock:
            self._entries[key] = (version, words)
            self._entries.move_to_end(key)
            while len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)
