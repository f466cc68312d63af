"""The packed tables as a shard's fold changes them: read on demand, changed as dictionaries, written once a batch.

There is one writer, so what is kept here stays true after a commit and serves as its cache.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from darkroom.projections.pages import KEY_MAX, columns, columns_of, entries_max, header, page_key, read_header
from darkroom.projections.routing import Ids
from darkroom.projections.store import Snapshot
from darkroom.projections.tables import WORDS

assert sys.byteorder == "little", "pages are little-endian and copied as they are"

Entries = dict[int, Any]
"""Key → True, a word, or a tuple of words, for tables of 0, 1 or more words."""


class OwnerPages:
    """One owner's entries: those pages that were needed so far, as dictionaries, with the ranges they answer for."""

    __slots__ = ("_changed", "_ends", "_owner", "_pages", "_starts", "_table", "count")

    def __init__(self, table: "PackedTable", owner: int) -> None:
        self._table = table
        self._owner = owner
        self._starts = [0]
        self._changed: set[int] = set()
        self._pages: list[Entries] = [{}]
        first = table.source.get(table.name, page_key(owner, 0))
        if first is None:
            self.count = 0
            self._ends = [KEY_MAX]
            return
        self.count, more = read_header(first)
        self._pages = [_decode(table.words, columns_of(table.name, page_key(owner, 0), first))]
        self._ends = [self._next_start(0) if more else KEY_MAX]
        table.loaded += len(self._pages[0])

    def get(self, key: int) -> Any:
        """The entry's value, or None."""
        if not 0 <= key < KEY_MAX:
            return None
        return self._pages[self._index(key)].get(key)

    def set(self, key: int, value: Any = True) -> None:
        index = self._index(key)
        page = self._pages[index]
        if key not in page:
            self.count += 1
            self._table.loaded += 1
        if self._table.changing is not None:
            self._table.changing(self._owner, key, value, page.get(key))
        page[key] = value
        self._mark(index)

    def pop(self, key: int) -> Any:
        """Remove the entry and return its value; None where there is none."""
        if not 0 <= key < KEY_MAX:
            return None
        index = self._index(key)
        value = self._pages[index].pop(key, None)
        if value is not None:
            self.count -= 1
            self._mark(index)
            if self._table.changing is not None:
                self._table.changing(self._owner, key, None, value)
        return value

    def items(self) -> list[tuple[int, Any]]:
        """All entries, in no order; safe to change while it is walked."""
        self._load_all()
        return [item for page in self._pages for item in page.items()]

    def clear(self) -> None:
        if self.count:
            self._load_all()
            if self._table.changing is not None:
                for key, value in self.items():
                    self._table.changing(self._owner, key, None, value)
            for index, page in enumerate(self._pages):
                page.clear()
                self._mark(index)
            self.count = 0

    def _mark(self, index: int) -> None:
        if not self._changed:
            self._table.changed.append(self)
        self._changed.add(self._starts[index])

    def _index(self, key: int) -> int:
        if len(self._starts) == 1 and self._ends[0] == KEY_MAX:
            return 0
        index = bisect_right(self._starts, key) - 1
        return index if key < self._ends[index] else self._load(key)

    def _load(self, key: int) -> int:
        """Read the page that covers `key`, which none of those at hand does."""
        table, owner = self._table, self._owner
        [(row_key, page)] = table.source.scan(
            table.name, page_key(owner, 0), page_key(owner, key + 1), limit=1, reverse=True
        )
        start = int.from_bytes(row_key[8:], "big")
        index = bisect_left(self._starts, start)
        self._starts.insert(index, start)
        self._ends.insert(index, self._next_start(start))
        self._pages.insert(index, _decode(table.words, columns_of(table.name, row_key, page)))
        table.loaded += len(self._pages[index])
        return index

    def _next_start(self, start: int) -> int:
        table, owner = self._table, self._owner
        following = table.source.scan(table.name, page_key(owner, start + 1), page_key(owner, KEY_MAX), limit=1)
        return int.from_bytes(following[0][0][8:], "big") if following else KEY_MAX

    def _load_all(self) -> None:
        start = 0
        while start < KEY_MAX:
            start = self._ends[self._index(start)]

    def flush(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows to write for what changed, in no order."""
        starts = self._changed
        self._changed = set()
        for start in starts:
            self._split(start)
        changed = [s for s in self._starts if s in starts or s in self._changed]
        self._changed = set()
        if 0 not in starts and self._starts != [0]:
            changed.insert(0, 0)  # its header counts every page's entries
        single = len(self._starts) == 1 and self._ends[0] == KEY_MAX
        for start in changed:
            page = self._pages[bisect_left(self._starts, start)]
            key = page_key(self._owner, start)
            if not start:
                data = header(self.count, more=not single) + _encode(self._table.words, page)
                yield key, data if self.count else None
            else:
                yield key, _encode(self._table.words, page) if page else None
        self._forget_empty()

    def _split(self, start: int) -> None:
        """Cut a page that has grown over the limit; at the end of the map full pages are left behind."""
        index = bisect_left(self._starts, start)
        page, limit = self._pages[index], self._table.entries_max
        if len(page) <= limit:
            return
        keys = sorted(page)
        parts = -(-len(keys) // limit)
        step = limit if self._ends[index] == KEY_MAX else -(-len(keys) // parts)
        cuts = range(step, len(keys), step)
        starts = [keys[cut] for cut in cuts]
        self._pages[index : index + 1] = [
            {key: page[key] for key in keys[cut : cut + step]} for cut in range(0, len(keys), step)
        ]
        self._ends[index : index + 1] = [*starts, self._ends[index]]
        self._starts[index + 1 : index + 1] = starts
        self._changed.update(starts)

    def _forget_empty(self) -> None:
        """Pages that were deleted leave their range to the page before them, as it is in the store."""
        for index in range(len(self._starts) - 1, 0, -1):
            if not self._pages[index] and self._ends[index - 1] == self._starts[index]:
                self._ends[index - 1] = self._ends[index]
                del self._starts[index], self._ends[index], self._pages[index]

    def keys(self) -> Ids:
        """All keys, in no order."""
        self._load_all()
        return np.fromiter((key for page in self._pages for key in page), dtype=np.uint64, count=self.count)


class PackedTable:
    """One packed table; `table[owner]` is the owner's entries. `source` is a snapshot at the last commit.

    `changing`, where it is set, is told of each change: owner, key, and the value after and before it.
    """

    __slots__ = ("_owners", "changed", "changing", "entries_max", "loaded", "name", "source", "words")

    def __init__(self, name: str) -> None:
        self.name = name
        self.words = WORDS[name]
        self.entries_max = entries_max(name)
        self.source: Snapshot
        self._owners: dict[int, OwnerPages] = {}
        self.changed: list[OwnerPages] = []
        self.changing: Callable[[int, int, Any, Any], None] | None = None
        self.loaded = 0

    def __getitem__(self, owner: int) -> OwnerPages:
        pages = self._owners.get(owner)
        if pages is None:
            pages = self._owners[owner] = OwnerPages(self, owner)
            self.loaded += 1
        return pages

    def keys(self, owner: int) -> Ids:
        """All of an owner's keys, in no order, without unpacking them where nothing has touched them."""
        pages = self._owners.get(owner)
        return columns(self.source, self.name, owner)[0] if pages is None else pages.keys()

    def flush(self) -> list[tuple[bytes, bytes | None]]:
        """The rows to write since the last flush, in key order."""
        rows = [row for pages in self.changed for row in pages.flush()]
        rows.sort(key=_row_key)
        self.changed = []
        return rows

    def forget(self) -> None:
        """Drop what is kept, after a commit."""
        self._owners.clear()
        self.loaded = 0


def _row_key(row: tuple[bytes, bytes | None]) -> bytes:
    return row[0]


def _decode(words: int, part: Ids) -> Entries:
    keys, *values = part.tolist()
    if not words:
        return dict.fromkeys(keys, True)
    return dict(zip(keys, values[0] if words == 1 else zip(*values, strict=True), strict=True))


def _encode(words: int, page: Entries) -> bytes:
    keys = sorted(page)
    data = array("Q", keys)
    if words == 1:
        data.extend(map(page.__getitem__, keys))
    elif words:
        for column in zip(*map(page.__getitem__, keys), strict=True):
            data.extend(column)
    return data.tobytes()
