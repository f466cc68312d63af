"""A batch's effects on the views, for stores elsewhere: of each row its last change, and the record that caused it.

Effects are functions of the log alone, never of how it was cut into batches, so publishing them again, or again with
another cut, ends in the same rows wherever the later position wins: what a batch made and took away again is published
as taken away, for an earlier attempt may have published the making.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from darkroom.projections.feed_rows import newest_id, page_place
from darkroom.projections.store import Checkpoint, Snapshot, StoreError
from darkroom.projections.tables import (
    BLOCKS,
    COMMENT,
    COMMENTED,
    FOLLOW,
    FOLLOWERS,
    FOLLOWING,
    LIKE,
    LIKED,
    LIKERS,
    MENTIONS,
    META,
    MUTES,
    POST,
    RECEIVED,
    THREADS,
    TIMELINES,
    TOMBSTONES,
)
from darkroom.projections.views import Deed

BUCKET_BITS = 22
"""Entries of one owner are counted, and lie together, by ranges of 2^22 keys: no partition has more than that many."""

ENTRY_TABLES = (
    FOLLOWING,
    FOLLOWERS,
    BLOCKS,
    MUTES,
    TIMELINES,
    LIKERS,
    THREADS,
    TOMBSTONES,
    COMMENTED,
    RECEIVED,
    MENTIONS,
)
"""The packed tables that are published. LIKED is not: what it is read for lies in the deeds."""

COUNTED_TABLES = (FOLLOWERS, FOLLOWING, TIMELINES, LIKERS, THREADS)
"""Those whose sizes are shown as counters."""


class Change(NamedTuple):
    """The last change of a row: by the record at `position`, to `value`, or None where the row is gone."""

    position: int
    value: Any


class BucketSizes:
    """How many entries an owner has in each bucket, as the fold counts them. Kept only where views are published."""

    def __init__(self) -> None:
        self.source: Snapshot
        self._sizes: dict[bytes, int] = {}

    def add(self, table: str, owner: int, bucket: int, entries: int) -> int:
        """The bucket's size, now that it has so many more."""
        key = _SIZE_KEY.pack(b"size", COUNTED_TABLES.index(table), owner, bucket)
        size = self._sizes.get(key)
        if size is None:
            stored = self.source.get(META, key)
            size = 0 if stored is None else int.from_bytes(stored, "big")
        self._sizes[key] = size = size + entries
        return size

    def flush(self) -> list[tuple[bytes, bytes | None]]:
        """The rows of META to write, in no order."""
        rows = [(key, size.to_bytes(8, "big") if size else None) for key, size in self._sizes.items()]
        self._sizes = {}
        return rows


class Effects:
    """What one batch changes, as the fold tells it. `position` is that of the record at hand.

    `serves` tells whether a user is this shard's: what is kept in the shards of both ends but read only in the owner's
    is published by that one.
    """

    def __init__(self, serves: Callable[[int], bool], bucket_sizes: BucketSizes) -> None:
        self._serves = serves
        self._bucket_sizes = bucket_sizes
        self.position = 0
        self.entries: dict[str, dict[tuple[int, int], Change]] = {name: {} for name in ENTRY_TABLES}
        """Table → (owner, key) → its words, a tuple of integers."""
        self.sizes: dict[str, dict[tuple[int, int], Change]] = {name: {} for name in COUNTED_TABLES}
        """Table → (owner, bucket) → how many entries; never None."""
        self.rows: dict[str, dict[bytes, Change]] = {}
        """Table → key → bytes. Among them are the rows of LIVE (see `bitmaps`), and META's of the horizon in time."""
        self.deeds: dict[tuple[int, int], Change] = {}
        """(user, position of the deed) → Deed, see `views`."""
        self.feed_heads: dict[int, Change] = {}
        """User → the feed's head page, see `feed_rows`; caused by its newest row. None where the user is gone."""
        self.feed_pages: list[tuple[int, int, bytes]] = []
        """(user, first word, rows) of pages sealed in this batch, which never change again; caused by the last row."""

    def entry_changed(self, table: str, owner: int, key: int, new: Any, old: Any) -> None:
        """An entry as a packed table holds it (True, a word or a tuple), now and before; None where there is none."""
        if table in _ONLY_OF_THE_SERVED and not self._serves(owner):
            return
        if table in self.entries:
            self.entries[table][owner, key] = Change(self.position, _words(new))
        if table in self.sizes and (new is None or old is None):
            bucket = key >> BUCKET_BITS
            size = self._bucket_sizes.add(table, owner, bucket, -1 if new is None else 1)
            self.sizes[table][owner, bucket] = Change(self.position, size)
        deed = _DEEDS.get(table)
        if deed is not None and self._serves(owner):
            done = deed(owner, key, old if new is None else new)
            self.deeds[owner, done.position] = Change(self.position, None if new is None else done)

    def row_changed(self, table: str, key: bytes, value: bytes | None) -> None:
        self.rows.setdefault(table, {})[key] = Change(self.position, value)

    def feed_forgotten(self, user: int) -> None:
        self.feed_heads[user] = Change(self.position, None)

    def feeds_changed(
        self, heads: Iterable[tuple[bytes, bytes | None]], sealed: Iterable[tuple[bytes, bytes | None]]
    ) -> None:
        """Pages as `FeedRows.flush` gives them. Dropped ones are left for the stores' own time to live."""
        for key, head in heads:
            if head is not None:
                self.feed_heads[int.from_bytes(key, "big")] = Change(newest_id(head), head)
        self.feed_pages += [(*page_place(key), page) for key, page in sealed if page is not None]


def _words(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if value is True:
        return ()
    return value if isinstance(value, tuple) else (value,)


_ONLY_OF_THE_SERVED = frozenset({FOLLOWING, FOLLOWERS})

_SIZE_KEY = struct.Struct(">4sBQQ")

_DEEDS: dict[str, Callable[[int, int, Any], Deed]] = {
    TIMELINES: lambda author, post, _: Deed(post, POST, post, author),
    COMMENTED: lambda _, comment, of: Deed(comment, COMMENT, *of),
    LIKED: lambda _, __, like: Deed(like[2], LIKE, like[0], like[1]),
    FOLLOWING: lambda _, followee, position: Deed(position, FOLLOW, followee, followee),
}


class ViewsLost(StoreError):
    """Where views are published there is less than the shard has committed. A rebuild makes them again."""


class Publisher(Protocol):
    """One store of views of one shard. What is published twice changes nothing; StoreError where it cannot be."""

    def open(self, position: int) -> None:
        """Before anything else, with the position that the shard has committed. ViewsLost."""

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        """Store the effects of the records above `expected` up to the checkpoint, durably.

        An earlier attempt may have published some of them, or more than them. Sealed pages are stored before any head,
        for a row that a head has no longer is looked for there; all else may be stored in any order.
        """

    def reached(self, checkpoint: Checkpoint) -> None:
        """Every publisher of the shard has stored everything up to the checkpoint: readers may be told."""

    def close(self) -> None:
        """Free what it holds."""
