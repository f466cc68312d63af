"""Published views in memory: what every adapter of this port does, in its plainest form; for tests.

Of each row the last change is kept, that of the highest position; of two by one record, the one that takes away. Views
are no snapshots: each call answers from the rows as they are then.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from sortedcontainers import SortedDict

from darkroom.projections.bitmaps import row_holds, row_key
from darkroom.projections.celebrities import since_of
from darkroom.projections.effects import Change, Effects, ViewsLost
from darkroom.projections.feed_rows import newest_id, read_head
from darkroom.projections.pages import KEY_MAX, id_key
from darkroom.projections.routing import Ids
from darkroom.projections.shard_state import HORIZON_KEY
from darkroom.projections.store import Checkpoint
from darkroom.projections.tables import CELEBRITIES, LIVE, META, WORDS
from darkroom.projections.views import Deed, Entry, FeedHead, KeepsNothing, View

HEADS, SIZES, DEEDS, PAGES = "feed heads", "sizes", "deeds", "feed pages"


class ChangedRows:
    """(table, owner) → key → the row's last change, in order of key. What is gone leaves its change behind."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, int], SortedDict] = {}

    def merge(self, table: str, owner: int, key: Any, new: Change) -> None:
        rows = self._owners.setdefault((table, owner), SortedDict())
        old = rows.get(key)
        if old is None or (new.position, new.value is None) >= (old.position, old.value is None):
            rows[key] = new

    def get(self, table: str, owner: int, key: Any) -> Any:
        """The row's value, or None."""
        change = self._owners.get((table, owner), {}).get(key)
        return None if change is None else change.value

    def between(
        self, table: str, owner: int, above: int = -1, below: int = KEY_MAX, *, reverse: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """(key, value) with above < key < below. Whoever lets rows change meanwhile must begin anew."""
        rows = self._owners.get((table, owner))
        if rows is not None and above < below:
            for key in rows.irange(above, below, inclusive=(False, False), reverse=reverse):
                if rows[key].value is not None:
                    yield key, rows[key].value


class MemoryViews:
    """See `Publisher` and `ShardViews`: both, of one shard. For one thread."""

    def __init__(self) -> None:
        self.changed = ChangedRows()
        self._checkpoint = Checkpoint()

    # As a publisher.

    def open(self, position: int) -> None:
        if self._checkpoint.position < position:
            raise ViewsLost(f"the views are at position {self._checkpoint.position}, {position} is committed")

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:  # noqa: ARG002
        merge = self.changed.merge
        for table, entries in effects.entries.items():
            for (owner, key), change in entries.items():
                merge(table, owner, key, change)
        for table, sizes in effects.sizes.items():
            for (owner, bucket), change in sizes.items():
                merge(SIZES + table, owner, bucket, change)
        for table, rows in effects.rows.items():
            for row, change in rows.items():
                merge(table, 0, row, change)
        for (user, position), change in effects.deeds.items():
            merge(DEEDS, user, position, change)
        # Before the heads, for a head says that what is not in it lies in a page.
        for user, word, page in effects.feed_pages:
            merge(PAGES, user, word, Change(newest_id(page), page))
        for user, change in effects.feed_heads.items():
            merge(HEADS, user, 0, change)

    def reached(self, checkpoint: Checkpoint) -> None:
        if checkpoint.position > self._checkpoint.position:
            self._checkpoint = checkpoint

    def close(self) -> None:
        """Nothing is held."""

    # As views.

    @contextmanager
    def view(self) -> Iterator[View]:
        yield MemoryView(self.changed, self._checkpoint)

    def checkpoint(self) -> Checkpoint:
        return self._checkpoint


class MemoryView(KeepsNothing):
    """See `View`. It tells its checkpoint as it was at first, and rows as they are when asked."""

    def __init__(self, rows: ChangedRows, checkpoint: Checkpoint) -> None:
        self._rows = rows
        self.checkpoint = checkpoint

    def sizes(self, tables: Sequence[str], owners: Sequence[int]) -> list[tuple[int, ...]]:
        return [tuple(self._size(table, owner) for table in tables) for owner in owners]

    def _size(self, table: str, owner: int) -> int:
        return sum(size for _, size in self._rows.between(SIZES + table, owner))

    def counted(self, table: str, owners: Sequence[int], key: int) -> list[tuple[int, bool]]:
        return [(self._size(table, owner), self._rows.get(table, owner, key) is not None) for owner in owners]

    def find(self, table: str, entries: Sequence[tuple[int, int]]) -> list[tuple[int, ...] | None]:
        return [self._rows.get(table, owner, key) for owner, key in entries]

    def columns(self, table: str, owner: int) -> Ids:
        entries = [(key, *words) for key, words in self._rows.between(table, owner)]
        return np.array(entries, dtype=np.uint64).reshape(-1, 1 + WORDS[table]).T

    def newest(self, table: str, owner: int, *, below: int = KEY_MAX, above: int = 0, limit: int) -> list[Entry]:
        entries = self._rows.between(table, owner, above, below, reverse=True)
        return [(key, *words) for key, words in islice(entries, limit)]

    def oldest(self, table: str, owner: int, *, above: int = 0, below: int = KEY_MAX, limit: int) -> list[Entry]:
        return [(key, *words) for key, words in islice(self._rows.between(table, owner, above, below), limit)]

    def newest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        # All of them as deep, as they are asked who are asked at once.
        found: list[tuple[int, int]] = []
        low = above
        for owner, below in bounds:
            keys = [entry[0] for entry in self.newest(table, owner, below=below, above=above, limit=limit)]
            if len(keys) == limit:
                low = max(low, keys[-1] - 1)
            found += [(key, owner) for key in keys]
        return [(key, owner) for key, owner in found if key > low], low

    def oldest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        found: list[tuple[int, int]] = []
        high = KEY_MAX
        for owner, below in bounds:
            keys = [entry[0] for entry in self.oldest(table, owner, above=above, below=below, limit=limit)]
            if len(keys) == limit:
                high = min(high, keys[-1])
            found += [(key, owner) for key in keys]
        return [(key, owner) for key, owner in found if key <= high], high

    def row(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._rows.get(table, 0, key)
        return value

    def rows(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._rows.get(table, 0, key) for key in keys]

    def live(self, users: Sequence[int]) -> list[bool]:
        keys = [row_key(user) for user in users]
        return [key is not None and row_holds(self.row(LIVE, key), user) for user, key in zip(users, keys, strict=True)]

    def celebrities(self, users: Ids) -> Ids:
        return since_of(self.rows(CELEBRITIES, [id_key(user) for user in users.tolist()]))

    def deeds(self, user: int, *, below: int, limit: int) -> list[Deed]:
        return [deed for _, deed in islice(self._rows.between(DEEDS, user, -1, below, reverse=True), limit)]

    def feed_head(self, user: int) -> FeedHead:
        page = self._rows.get(HEADS, user, 0)
        return FeedHead() if page is None else read_head(page)

    def sealed_below(self, user: int, word: int) -> Iterator[bytes]:
        while page := next(self._rows.between(PAGES, user, -1, word, reverse=True), None):
            word = page[0]
            yield page[1]

    def sealed_from(self, user: int, word: int) -> Iterator[bytes]:
        covering = next(self._rows.between(PAGES, user, -1, word + 1, reverse=True), None)
        page = covering or next(self._rows.between(PAGES, user, word), None)
        while page is not None:
            yield page[1]
            page = next(self._rows.between(PAGES, user, page[0]), None)

    def expired(self) -> int:
        data = self.row(META, HORIZON_KEY)
        return 0 if data is None else int.from_bytes(data, "big")
