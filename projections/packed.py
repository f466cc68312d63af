"""The packed tables as a shard's fold changes them: read on demand, changed in place, written once a batch.

A page is in memory as it is stored, so reading and writing one are copies of bytes. There is one writer, so what is
kept here stays true after a commit and serves as its cache.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from darkroom.projections.pages import HEADER_BYTES, KEY_MAX, columns, entries_max, header, page_key, read_header
from darkroom.projections.routing import Ids
from darkroom.projections.store import Snapshot
from darkroom.projections.tables import WORDS

assert sys.byteorder == "little", "pages are little-endian and copied as they are"

OWNER_ENTRIES = 20
"""An owner's objects weigh as much as so many entries, some 500 bytes."""

PART_PAGES = 32
"""A page that grows by so many within a batch is cut in memory, for an entry put in moves all behind it."""

Page: TypeAlias = "array[int]"
"""As it is stored, less the header: the keys, ascending, then one column a word."""

Starts = set[int]
"""The lowest possible keys of pages."""

Row = tuple[bytes, bytes | None]


class OwnerPages:
    """One owner's entries: those pages that were needed so far, as arrays, with the ranges they answer for."""

    __slots__ = ("_changed", "_ends", "_owner", "_pages", "_parts", "_starts", "_table", "_whole", "count")

    def __init__(self, table: "PackedTable", owner: int) -> None:
        self._table = table
        self._owner = owner
        self._starts = [0]
        self._ends = [KEY_MAX]
        self._changed: Starts | None = None
        self._parts: list[int] = []  # starts of what is no page in the store, but a part of the one before it
        self._whole = True  # whether one page is all there is
        self.count = 0
        first = table.source.get(table.name, page_key(owner, 0))
        if first is None:
            self._pages = [array("Q")]
            return
        self.count, more = read_header(first)
        self._pages = [array("Q", first[HEADER_BYTES:])]
        if more:
            self._ends = [self._next_start(0)]
            self._whole = False
        table.loaded += len(self._pages[0]) // table.width

    def get(self, key: int) -> Any:
        """The entry's value, or None."""
        if not 0 <= key < KEY_MAX:
            return None
        page = self._pages[0 if self._whole else self._index(key)]
        entries = len(page) // self._table.width
        at = bisect_left(page, key, 0, entries)
        return _value(page, at, entries) if at < entries and page[at] == key else None

    def add(self, key: int, value: Any = True) -> bool:
        """Make the entry where there is none; whether there was none."""
        table, index = self._table, 0 if self._whole else self._index(key)
        page = self._pages[index]
        entries = len(page) // table.width
        at = bisect_left(page, key, 0, entries)
        if at < entries and page[at] == key:
            return False
        if table.changing is not None:
            table.changing(self._owner, key, value, None)
        _insert(page, at, entries, key, value)
        self.count += 1
        table.loaded += 1
        self._mark(index)
        if entries >= table.part_max:
            self._part(index)
        return True

    def set(self, key: int, value: Any = True) -> None:
        """Make the entry, or give it another value."""
        if self.add(key, value):
            return
        index = self._index(key)
        page = self._pages[index]
        entries = len(page) // self._table.width
        at = bisect_left(page, key, 0, entries)
        if self._table.changing is not None:
            self._table.changing(self._owner, key, value, _value(page, at, entries))
        page[at::entries] = array("Q", (key, *_words(value)))
        self._mark(index)

    def pop(self, key: int) -> Any:
        """Remove the entry and return its value; None where there is none."""
        value = self.get(key)
        if value is not None:
            index = self._index(key)
            page = self._pages[index]
            entries = len(page) // self._table.width
            del page[bisect_left(page, key, 0, entries) :: entries]
            self.count -= 1
            self._mark(index)
            if self._table.changing is not None:
                self._table.changing(self._owner, key, None, value)
        return value

    def items(self) -> list[tuple[int, Any]]:
        """All entries, in key order; safe to change while it is walked."""
        self._load_all()
        width = self._table.width
        return [
            (page[at], _value(page, at, entries))
            for page in self._pages
            for entries in [len(page) // width]
            for at in range(entries)
        ]

    def clear(self) -> None:
        if self.count:
            self._load_all()
            if self._table.changing is not None:
                for key, value in self.items():
                    self._table.changing(self._owner, key, None, value)
            for index, page in enumerate(self._pages):
                del page[:]
                self._mark(index)
            self.count = 0

    def _mark(self, index: int) -> None:
        start = self._starts[index] if index else 0
        if self._changed is None:
            self._table.changed.append(self)
            self._changed = {start}
        else:
            self._changed.add(start)

    def _part(self, index: int) -> None:
        page = self._pages[index]
        entries = len(page) // self._table.width
        middle = entries // 2
        self._pages[index : index + 1] = [_cut(page, 0, middle, entries), _cut(page, middle, entries, entries)]
        self._starts.insert(index + 1, page[middle])
        self._ends.insert(index, page[middle])
        self._parts.append(page[middle])
        self._whole = False

    def _join_parts(self, changed: Starts) -> None:
        """Which pages are written follows from the batch, not from how it was held."""
        for start in sorted(self._parts, reverse=True):
            index = bisect_left(self._starts, start)
            self._pages[index - 1] = _joined(self._pages[index - 1 : index + 1], self._table.width)
            self._drop(index)
            changed.discard(start)
            changed.add(self._starts[index - 1])
        self._parts.clear()

    def _drop(self, index: int) -> None:
        """Leave the page's range to the one before it."""
        self._ends[index - 1] = self._ends[index]
        del self._starts[index], self._ends[index], self._pages[index]

    def _index(self, key: int) -> int:
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
        self._pages.insert(index, array("Q", page[0 if start else HEADER_BYTES :]))
        table.loaded += len(self._pages[index]) // table.width
        return index

    def _next_start(self, start: int) -> int:
        table, owner = self._table, self._owner
        following = table.source.scan(table.name, page_key(owner, start + 1), page_key(owner, KEY_MAX), limit=1)
        return int.from_bytes(following[0][0][8:], "big") if following else KEY_MAX

    def _load_all(self) -> None:
        start = 0
        while start < KEY_MAX:
            start = self._ends[self._index(start)]

    def flush(self, rows: list[Row]) -> None:
        """Add the rows to write for what changed, in no order."""
        page, table = self._pages[0], self._table
        changed, self._changed = self._changed, None
        if self._whole and len(page) <= table.entries_max * table.width:  # the usual case
            rows.append((page_key(self._owner, 0), header(self.count, more=False) + page.tobytes() if page else None))
        elif changed is not None:
            self._join_parts(changed)
            for start in list(changed):
                changed.update(self._split(start))
            self._whole = self._starts == [0] and self._ends == [KEY_MAX]
            if not self._whole:
                changed.add(0)  # its header counts every page's entries
            rows += map(self._page_row, changed)
            self._forget_empty()

    def _page_row(self, start: int) -> Row:
        page, key = self._pages[bisect_left(self._starts, start)], page_key(self._owner, start)
        if start:
            return key, page.tobytes() if page else None
        return key, header(self.count, more=not self._whole) + page.tobytes() if self.count else None

    def _split(self, start: int) -> list[int]:
        """Cut a page that has grown over the limit, where; at the end of the map full pages are left behind."""
        index = bisect_left(self._starts, start)
        page, limit = self._pages[index], self._table.entries_max
        entries = len(page) // self._table.width
        if entries <= limit:
            return []
        parts = -(-entries // limit)
        step = limit if self._ends[index] == KEY_MAX else -(-entries // parts)
        starts = page[step:entries:step].tolist()
        self._pages[index : index + 1] = [_cut(page, cut, cut + step, entries) for cut in range(0, entries, step)]
        self._ends[index : index + 1] = [*starts, self._ends[index]]
        self._starts[index + 1 : index + 1] = starts
        return starts

    def _forget_empty(self) -> None:
        """Pages that were deleted leave their range to the page before them, as it is in the store."""
        for index in range(len(self._starts) - 1, 0, -1):
            if not self._pages[index] and self._ends[index - 1] == self._starts[index]:
                self._drop(index)

    def keys(self) -> Ids:
        """All keys, ascending."""
        self._load_all()
        width = self._table.width
        return np.concatenate([np.frombuffer(page[: len(page) // width], dtype=np.uint64) for page in self._pages])


class PackedTable:
    """One packed table; `table[owner]` is the owner's entries. `source` is a snapshot at the last commit.

    `changing`, where it is set, is told of each change: owner, key, and the value after and before it.
    """

    __slots__ = ("_owners", "changed", "changing", "entries_max", "loaded", "name", "part_max", "source", "width")

    def __init__(self, name: str) -> None:
        self.name = name
        self.width = 1 + WORDS[name]  # columns: keys and words
        self.entries_max = entries_max(name)
        self.part_max = PART_PAGES * self.entries_max
        self.source: Snapshot
        self._owners: dict[int, OwnerPages] = {}
        self.changed: list[OwnerPages] = []
        self.changing: Callable[[int, int, Any, Any], None] | None = None
        self.loaded = 0

    def __getitem__(self, owner: int) -> OwnerPages:
        pages = self._owners.get(owner)
        if pages is None:
            pages = self._owners[owner] = OwnerPages(self, owner)
            self.loaded += OWNER_ENTRIES
        return pages

    def keys(self, owner: int) -> Ids:
        """All of an owner's keys, ascending."""
        pages = self._owners.get(owner)
        return columns(self.source, self.name, owner)[0] if pages is None else pages.keys()

    def flush(self) -> list[Row]:
        """The rows to write since the last flush, in key order."""
        rows: list[Row] = []
        for pages in self.changed:
            pages.flush(rows)
        rows.sort(key=itemgetter(0))
        self.changed = []
        return rows

    def forget(self) -> None:
        """Drop what is kept, after a commit."""
        self._owners.clear()
        self.loaded = 0


def _words(value: Any) -> tuple[int, ...]:
    if value is True:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _value(page: Page, at: int, entries: int) -> Any:
    words = page[entries + at :: entries]
    if not words:
        return True
    return words[0] if len(words) == 1 else tuple(words)


def _insert(page: Page, at: int, entries: int, key: int, value: Any) -> None:
    place = len(page) - entries + at
    for word in reversed(_words(value)):
        page.insert(place, word)
        place -= entries
    page.insert(at, key)


def _cut(page: Page, start: int, stop: int, entries: int) -> Page:
    """The entries from `start` to `stop` as a page."""
    stop = min(stop, entries)
    part = array("Q")
    for column in range(0, len(page), entries):
        part += page[column + start : column + stop]
    return part


def _joined(pages: list[Page], width: int) -> Page:
    """Pages that follow each other as one."""
    whole = array("Q")
    for column in range(width):
        for page in pages:
            entries = len(page) // width
            whole += page[column * entries : (column + 1) * entries]
    return whole
