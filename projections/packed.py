"""The packed tables as a shard's fold changes them: read on demand, changed in place, written once a batch.

There is one writer, so what is kept here stays true after a commit and serves as its cache.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from darkroom.projections.page_arrays import cut, extend, insert, joined, value_at, words_of
from darkroom.projections.pages import HEADER_BYTES, KEY_MAX, columns, entries_max, header, page_key, read_header
from darkroom.projections.routing import Ids
from darkroom.projections.store import Snapshot
from darkroom.projections.tables import WORDS

OWNER_ENTRIES = 20
"""An owner's objects weigh as much as so many entries, some 500 bytes."""

PART_PAGES = 32
"""A page that grows by so many within a batch is cut in memory, for an entry put in moves all behind it."""

Starts = set[int]
"""The lowest possible keys of pages."""

Row = tuple[bytes, bytes | None]

Entry = tuple[int, int, Any]
"""Owner, key and value."""

_OWNER = itemgetter(0)


class OwnerPages:
    """One owner's entries: those pages that were needed so far, as arrays, with the ranges they answer for."""

    __slots__ = ("_changed", "_ends", "_late", "_owner", "_pages", "_parts", "_starts", "_table", "_whole", "count")

    def __init__(self, table: "PackedTable", owner: int) -> None:
        self._table = table
        self._owner = owner
        self._starts = [0]
        self._ends = [KEY_MAX]
        self._changed: Starts | None = None
        self._late: list[int] = []  # keys and words of what was appended and not asked for yet
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
        if self._late:
            self._settle()
        page = self._pages[0 if self._whole else self._index(key)]
        entries = len(page) // self._table.width
        at = bisect_left(page, key, 0, entries)
        return value_at(page, at, entries) if at < entries and page[at] == key else None

    def add(self, key: int, value: Any = True) -> bool:
        """Make the entry where there is none; whether there was none."""
        if self._late:
            self._settle()
        table, index = self._table, 0 if self._whole else self._index(key)
        page = self._pages[index]
        entries = len(page) // table.width
        if not insert(page, entries, key, value):
            return False
        if table.changing is not None:
            table.changing(self._owner, key, value, None)
        self.count += 1
        table.loaded += 1
        if not (self._whole and self._changed):  # a whole is marked once
            self._mark(index)
        if entries >= table.part_max:
            self._part(index)
        return True

    def add_all(self, entries: Iterable[Entry]) -> list[Entry]:
        """`add` each, of which nobody is told; those that were there already."""
        if self._late:
            self._settle()
        if not self._whole:
            return [entry for entry in entries if not self.add(entry[1], entry[2])]
        page, count, refused = self._pages[0], self.count, []
        for entry in entries:
            if insert(page, count, entry[1], entry[2]):
                count += 1
            else:
                refused.append(entry)
        if count > self.count:
            self._table.loaded += count - self.count
            self.count = count
            self._mark(0)
            self._part(0)
        return refused

    def append(self, key: int, *words: int) -> None:
        """Make an entry whose key is above all that there ever were, as the position of the record at hand is."""
        table = self._table
        if table.changing is not None:
            table.changing(self._owner, key, words, None)
        self._late += (key, *words)
        self.count += 1
        table.loaded += 1
        if self._changed is None:
            self._marked()

    def _settle(self) -> None:
        """Put what was appended into the last page, column by column."""
        late, self._late = self._late, []
        index = self._index(late[0])
        extend(self._pages[index], self._table.width, late)
        self._mark(index)
        self._part(index)

    def set(self, key: int, value: Any = True) -> None:
        """Make the entry, or give it another value."""
        if self.add(key, value):
            return
        index = self._index(key)
        page = self._pages[index]
        entries = len(page) // self._table.width
        at = bisect_left(page, key, 0, entries)
        if self._table.changing is not None:
            self._table.changing(self._owner, key, value, value_at(page, at, entries))
        page[at::entries] = array("Q", (key, *words_of(value)))
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
            (page[at], value_at(page, at, entries))
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
        self._marked().add(self._starts[index])

    def _marked(self) -> Starts:
        """Where pages start that will be written; having asked, the table knows that there are some."""
        if self._changed is None:
            self._changed = set()
            self._table.changed.append(self)
        return self._changed

    def _part(self, index: int) -> None:
        page = self._pages[index]
        entries = len(page) // self._table.width
        if entries <= self._table.part_max:
            return
        middle = entries // 2
        self._pages[index : index + 1] = [cut(page, 0, middle, entries), cut(page, middle, entries, entries)]
        self._starts.insert(index + 1, page[middle])
        self._ends.insert(index, page[middle])
        self._parts.append(page[middle])
        self._whole = False

    def _join_parts(self, changed: Starts) -> None:
        """Which pages are written follows from the batch, not from how it was held."""
        for start in sorted(self._parts, reverse=True):
            index = bisect_left(self._starts, start)
            self._pages[index - 1] = joined(self._pages[index - 1 : index + 1], self._table.width)
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
        if self._late:
            self._settle()
        start = 0
        while start < KEY_MAX:
            start = self._ends[self._index(start)]

    def flush(self, rows: list[Row]) -> None:
        """Add the rows to write for what changed, in no order."""
        if self._late:
            self._settle()
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
        self._pages[index : index + 1] = [cut(page, first, first + step, entries) for first in range(0, entries, step)]
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

    def add_all(self, entries: list[Entry]) -> list[Entry]:
        """Add entries owner by owner, each owner's in their order; those that were there already."""
        refused: list[Entry] = []
        for owner, group in groupby(sorted(entries, key=_OWNER), _OWNER):
            refused += self[owner].add_all(group)
        return refused

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
