"""Views of a shard whose store is at hand: each is one snapshot, so it answers at exactly its checkpoint."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from darkroom.projections import bitmaps, feed_rows, pages
from darkroom.projections.celebrities import LAST_CHANGE, KnownCelebrities
from darkroom.projections.change_notes import NOTED, owner_of
from darkroom.projections.kept_rows import KeptRows
from darkroom.projections.pages import KEY_MAX, id_key
from darkroom.projections.routing import Ids
from darkroom.projections.shard_state import HORIZON_KEY
from darkroom.projections.store import Checkpoint, ShardStore, Snapshot
from darkroom.projections.tables import (
    CELEBRITIES,
    COMMENT,
    COMMENTED,
    FEED_HEADS,
    FOLLOW,
    FOLLOWING,
    LIKE,
    LIKED,
    LIVE,
    META,
    POST,
    POSTS,
    PROFILES,
    TIMELINES,
)
from darkroom.projections.traces import Trace
from darkroom.projections.views import Deed, Entry, FeedHead, View

LAST_PAGE = "last page"
"""What is kept of an author's timeline, at most 1 KB: what is newest is asked for most."""


class StoreViews:
    """See `ShardViews`."""

    def __init__(self, store: ShardStore) -> None:
        self.store = store
        self._celebrities = KnownCelebrities()
        self._kept = KeptRows(store.identity.shards)

    def view(self) -> "OpenView":
        return OpenView(self.store.snapshot(), self._celebrities, self._kept)

    def checkpoint(self) -> Checkpoint:
        return self.store.checkpoint()


class OpenView:
    """A view while it is entered."""

    __slots__ = ("_celebrities", "_kept", "_snapshot")

    def __init__(
        self, snapshot: AbstractContextManager[Snapshot], celebrities: KnownCelebrities, kept: KeptRows
    ) -> None:
        self._snapshot = snapshot
        self._celebrities = celebrities
        self._kept = kept

    def __enter__(self) -> View:
        return SnapshotView(self._snapshot.__enter__(), self._celebrities, self._kept)

    def __exit__(self, *exception: object) -> None:
        self._snapshot.__exit__(None, None, None)


class SnapshotView:
    """See `View`. `celebrities` and `kept` are what is known from earlier snapshots of the store."""

    __slots__ = ("_celebrities", "_kept", "_snapshot", "_trace")

    def __init__(
        self, snapshot: Snapshot, celebrities: KnownCelebrities | None = None, kept: KeptRows | None = None
    ) -> None:
        self._snapshot = snapshot
        self._celebrities = celebrities or KnownCelebrities()
        self._kept = kept or KeptRows()
        self._trace: Trace | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        return self._snapshot.checkpoint

    def note_in(self, trace: Trace | None) -> None:
        self._trace = trace

    def stands(self, trace: Trace) -> bool:
        if not (self._kept.unchanged(self._snapshot, trace.ids, trace.position) and trace.has_rows_of(self._snapshot)):
            return False
        trace.position = self.checkpoint.position
        return True

    def _asked(self, table: str, owners: Iterable[int]) -> None:
        """Whatever tells of the owners' entries calls this, or `_asked_row` for a row from which all it tells follows.
        (A test has the names of all methods.)
        """
        if self._trace is not None:
            self._trace.ids.update(owners)
            self._trace.whole &= table in NOTED

    def _asked_row(self, table: str, key: bytes) -> None:
        if self._trace is not None:
            self._trace.rows[table, key] = self._snapshot.get(table, key)

    def sizes(self, tables: Sequence[str], owners: Sequence[int]) -> list[tuple[int, ...]]:
        for table in tables:
            self._asked(table, owners)
        ask = partial(pages.sizes, self._snapshot, tables)
        if not NOTED.issuperset(tables):
            return ask(owners)
        return self._kept.each(self._snapshot, tuple(tables), owners, ask)

    def counted(self, table: str, owners: Sequence[int], key: int) -> list[tuple[int, bool]]:
        self._asked(table, owners)
        ask = partial(pages.first_pages, self._snapshot, table)
        firsts = self._kept.each(self._snapshot, table, owners, ask) if table in NOTED else ask(owners)
        return pages.counted(self._snapshot, table, owners, firsts, key)

    def find(self, table: str, entries: Sequence[tuple[int, int]]) -> list[tuple[int, ...] | None]:
        self._asked(table, (owner for owner, _ in entries))
        return [pages.find(self._snapshot, table, owner, key) for owner, key in entries]

    def columns(self, table: str, owner: int) -> Ids:
        self._asked(table, [owner])
        return pages.columns(self._snapshot, table, owner)

    def newest(self, table: str, owner: int, *, below: int = KEY_MAX, above: int = 0, limit: int) -> list[Entry]:
        self._asked(table, [owner])
        if table == TIMELINES:
            [last] = self._kept.each(self._snapshot, LAST_PAGE, [owner], self._last_pages)
            keys = pages.newest_keys(self._snapshot, table, owner, last, below=below, above=above, limit=limit)
            return [(key,) for key in keys]
        return pages.newest(self._snapshot, table, owner, below=below, above=above, limit=limit)

    def oldest(self, table: str, owner: int, *, above: int = 0, below: int = KEY_MAX, limit: int) -> list[Entry]:
        self._asked(table, [owner])
        return pages.oldest(self._snapshot, table, owner, above=above, below=below, limit=limit)

    def newest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        assert table == TIMELINES, "nothing else is asked of many owners"
        owners = [owner for owner, _ in bounds]
        self._asked(table, owners)
        known: list[pages.LastPage | None] = self._kept.recall(self._snapshot, LAST_PAGE, owners)
        read: list[tuple[int, pages.LastPage]] = []
        # One after another, for what one owner has spares reading the next ones as deep (docs/decisions/0004).
        found: list[tuple[int, int]] = []
        for (owner, below), last in zip(bounds, known, strict=True):
            if below <= above + 1:
                continue
            if last is None:
                last = pages.last_page(self._snapshot, table, owner)
                read.append((owner, last))
            if below <= last.oldest:
                continue  # so it is with most who are pulled: they were followed before they posted
            keys = pages.newest_keys(self._snapshot, table, owner, last, below=below, above=above, limit=limit)
            if len(keys) == limit:
                above = max(above, keys[-1] - 1)
            found += [(key, owner) for key in keys]
        self.keep(LAST_PAGE, read)
        return [entry for entry in found if entry[0] > above], above

    def oldest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        self._asked(table, (owner for owner, _ in bounds))
        found: list[tuple[int, int]] = []
        highest = KEY_MAX
        for owner, below in bounds:
            stop = below if below <= highest else highest + 1
            entries = pages.oldest(self._snapshot, table, owner, above=above, below=stop, limit=limit)
            if len(entries) == limit:
                highest = min(highest, entries[-1][0])
            found += [(entry[0], owner) for entry in entries]
        return [entry for entry in found if entry[0] <= highest], highest

    def _last_pages(self, authors: Sequence[int]) -> list[pages.LastPage]:
        return [pages.last_page(self._snapshot, TIMELINES, author) for author in authors]

    def row(self, table: str, key: bytes) -> bytes | None:
        self._asked(table, [owner_of(key)])
        return self._snapshot.get(table, key)

    def rows(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if table not in (POSTS, PROFILES):
            self._asked(table, map(owner_of, keys))
            return self._snapshot.get_each(table, keys)
        ids = struct.unpack(f">{len(keys)}Q", b"".join(keys))
        self._asked(table, ids)
        return self._kept.each(self._snapshot, table, ids, partial(self._rows_of, table))

    def _rows_of(self, table: str, ids: Sequence[int]) -> list[bytes | None]:
        return self._snapshot.get_each(table, [id_key(each) for each in ids])

    def recall(self, kind: str, ids: Sequence[int]) -> list[Any]:
        if self._trace is not None:
            self._trace.ids.update(ids)
        return self._kept.recall(self._snapshot, kind, ids)

    def keep(self, kind: str, values: Iterable[tuple[int, Any]]) -> None:
        self._kept.keep(self._snapshot, kind, values)

    def live(self, users: Sequence[int]) -> list[bool]:
        self._asked(LIVE, users)
        return [bitmaps.contains(self._snapshot, LIVE, user) for user in users]

    def celebrities(self, users: Ids) -> Ids:
        self._asked_row(CELEBRITIES, LAST_CHANGE)
        return self._celebrities.since(self._snapshot, users)

    def deeds(self, user: int, *, below: int, limit: int) -> list[Deed]:
        """Read from the user's own posts, likes, comments and follows: likes and follows do not lie by time."""
        (posts,) = self.columns(TIMELINES, user)
        comments, commented, comment_owners = self.columns(COMMENTED, user)
        _, liked, liked_owners, likes = self.columns(LIKED, user)
        followed, follows = self.columns(FOLLOWING, user)
        done = np.concatenate(
            [
                _deeds(posts, POST, posts, np.full_like(posts, user)),
                _deeds(comments, COMMENT, commented, comment_owners),
                _deeds(likes, LIKE, liked, liked_owners),
                _deeds(follows, FOLLOW, followed, followed),
            ],
            axis=1,
        )
        done = done[:, done[0] < np.uint64(min(below, KEY_MAX))]
        newest = np.argsort(done[0])[::-1][:limit]
        return [Deed(*deed) for deed in done[:, newest].T.tolist()]

    def feed_head(self, user: int) -> FeedHead:
        self._asked_feed(user)
        return feed_rows.head(self._snapshot, user)

    def sealed_below(self, user: int, word: int) -> Iterator[bytes]:
        self._asked_feed(user)
        return feed_rows.sealed_below(self._snapshot, user, word)

    def sealed_from(self, user: int, word: int) -> Iterator[bytes]:
        self._asked_feed(user)
        return feed_rows.sealed_from(self._snapshot, user, word)

    def _asked_feed(self, user: int) -> None:
        """What is sealed never changes but with the head, whose newest row is there only once."""
        self._asked_row(FEED_HEADS, id_key(user))

    def expired(self) -> int:
        self._asked_row(META, HORIZON_KEY)
        data = self._snapshot.get(META, HORIZON_KEY)
        return 0 if data is None else int.from_bytes(data, "big")


def _deeds(positions: Ids, kind: int, objects: Ids, owners: Ids) -> Ids:
    return np.array([positions, np.full_like(positions, kind), objects, owners])
