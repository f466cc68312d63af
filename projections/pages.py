"""Packed pages: how an owner's sorted map of 64-bit keys lies in a table, and how it is read.

Row key: owner, then the page's lowest possible key. Value: little-endian columns, keys first, then one column a word.
An owner's first page starts at 0 and leads with a header: the number of entries in all pages, doubled, plus one where
there are further pages. So a size is one look-up, and so is all there is to know of most owners.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from darkroom.projections.routing import Ids
from darkroom.projections.store import Snapshot
from darkroom.projections.tables import WORDS

PAGE_BYTES_MAX = 1024  # three to four pages in one of LMDB's; larger ones leave more of it unused
KEY_MAX = (1 << 64) - 1
SCAN_PAGES = 16

_KEY = struct.Struct(">QQ")
_HEADER = struct.Struct("<Q")
HEADER_BYTES = _HEADER.size


class LastPage(NamedTuple):
    """An owner's last page, of a table without words."""

    start: int
    """The lowest key that it may hold."""
    oldest: int
    """Below which the owner surely has nothing."""
    keys: "array[int]"


page_key = _KEY.pack
"""(owner, first) → row key."""

id_key = struct.Struct(">Q").pack
"""id → row key, of tables that have one row for each."""


def entries_max(table: str) -> int:
    """How many entries a page of the table may hold."""
    return PAGE_BYTES_MAX // (8 * (1 + WORDS[table]))


def header(count: int, *, more: bool) -> bytes:
    return _HEADER.pack(count << 1 | more)


def read_header(page: bytes) -> tuple[int, bool]:
    """(entries in all pages, whether there are further pages) from an owner's first page."""
    word: int = _HEADER.unpack_from(page)[0]
    return word >> 1, bool(word & 1)


def columns_of(table: str, row_key: bytes, page: bytes) -> Ids:
    """The page as an array of shape (1 + words, entries)."""
    offset = 0 if row_key[8:].strip(b"\0") else _HEADER.size
    return np.frombuffer(page, dtype="<u8", offset=offset).reshape(1 + WORDS[table], -1)


def size(snapshot: Snapshot, table: str, owner: int) -> int:
    """How many entries the owner has."""
    page = snapshot.get(table, page_key(owner, 0))
    return 0 if page is None else read_header(page)[0]


def sizes(snapshot: Snapshot, tables: Sequence[str], owners: Sequence[int]) -> list[tuple[int, ...]]:
    """How many entries each owner has in each of the tables."""
    keys = [page_key(owner, 0) for owner in owners]
    headers = [_headers(snapshot.get_each(table, keys)) for table in tables]
    return list(zip(*([header >> 1 for header in column] for column in headers), strict=True))


def _headers(firsts: Sequence[bytes | None]) -> list[int]:
    """The header of each owner's first page as it is stored; 0 where there is no page."""
    word = _HEADER.unpack_from
    return [word(page)[0] if page else 0 for page in firsts]


def first_pages(snapshot: Snapshot, table: str, owners: Sequence[int]) -> list[bytes]:
    """Each owner's first page as it is stored, empty where there is none."""
    return [page or b"" for page in snapshot.get_each(table, [page_key(owner, 0) for owner in owners])]


def counted(
    snapshot: Snapshot, table: str, owners: Sequence[int], firsts: Sequence[bytes], key: int
) -> list[tuple[int, bool]]:
    """How many entries each owner has, of whom the first pages are at hand, and whether one of them has the key."""
    # Most have one page, which is read for the count anyway; where the key's bytes are not in it, the key is not.
    trace = (key & KEY_MAX).to_bytes(8, "little")
    return [
        (header >> 1, (header & 1 == 1 or trace in page) and find(snapshot, table, owner, key) is not None)
        for owner, page, header in zip(owners, firsts, _headers(firsts), strict=True)
    ]


def find(snapshot: Snapshot, table: str, owner: int, key: int) -> tuple[int, ...] | None:
    """The entry's words, or None where there is no such entry."""
    if not 0 <= key < KEY_MAX:
        return None
    for row_key, page in snapshot.scan(table, page_key(owner, 0), page_key(owner, key + 1), limit=1, reverse=True):
        columns = columns_of(table, row_key, page)
        index = int(np.searchsorted(columns[0], np.uint64(key)))
        if index < columns.shape[1] and columns[0, index] == key:
            return tuple(columns[1:, index].tolist())
    return None


def columns(snapshot: Snapshot, table: str, owner: int) -> Ids:
    """Everything the owner has, in key order, as an array of shape (1 + words, entries)."""
    first = snapshot.get(table, page_key(owner, 0))
    if first is None:
        return np.empty((1 + WORDS[table], 0), dtype=np.uint64)
    parts = [columns_of(table, page_key(owner, 0), first)]
    start = page_key(owner, 1)
    further = read_header(first)[1]
    while further:
        rows = snapshot.scan(table, start, page_key(owner, KEY_MAX), limit=SCAN_PAGES)
        parts += [columns_of(table, *row) for row in rows]
        further = len(rows) == SCAN_PAGES
        start = rows[-1][0] + b"\0" if rows else start
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def newest(
    snapshot: Snapshot, table: str, owner: int, *, below: int = KEY_MAX, above: int = 0, limit: int
) -> list[tuple[int, ...]]:
    """At most `limit` entries (key, *words) with above < key < below, from the highest key down."""
    found: list[tuple[int, ...]] = []
    while below > above + 1 and len(found) < limit:
        rows = snapshot.scan(table, page_key(owner, 0), page_key(owner, below), limit=1, reverse=True)
        if not rows:
            break
        row_key, page = rows[0]
        part = _between(columns_of(table, row_key, page), above, below)
        wanted = limit - len(found)
        found += list(zip(*part[:, ::-1][:, :wanted].tolist(), strict=True))
        below = _KEY.unpack(row_key)[1]
    return found


def last_page(snapshot: Snapshot, table: str, owner: int) -> LastPage:
    """The owner's last page, of a table without words; one that starts at 0 and is empty where there is none."""
    rows = snapshot.scan(table, page_key(owner, 0), page_key(owner, KEY_MAX), limit=1, reverse=True)
    row_key, page = rows[0] if rows else (page_key(owner, 0), header(0, more=False))
    start = _KEY.unpack(row_key)[1]
    keys = array("Q", page[0 if start else HEADER_BYTES :])
    oldest = 0 if start else keys[0] if keys else KEY_MAX
    return LastPage(start, oldest, keys)


def newest_keys(
    snapshot: Snapshot, table: str, owner: int, last: LastPage, *, below: int, above: int, limit: int
) -> list[int]:
    """The keys of `newest`, of an owner whose last page is at hand: most that is asked for lies there."""
    start, keys = last.start, last.keys
    stop = bisect_left(keys, below)
    found = keys[max(bisect_right(keys, above), stop - limit) : stop].tolist()[::-1]
    if len(found) < limit and above + 1 < start:
        rest = newest(snapshot, table, owner, below=min(below, start), above=above, limit=limit - len(found))
        found += [key for (key,) in rest]
    return found


def oldest(
    snapshot: Snapshot, table: str, owner: int, *, above: int = 0, below: int = KEY_MAX, limit: int
) -> list[tuple[int, ...]]:
    """At most `limit` entries (key, *words) with above < key < below, from the lowest key up."""
    found: list[tuple[int, ...]] = []
    rows: Sequence[tuple[bytes, bytes]] = snapshot.scan(
        table, page_key(owner, 0), page_key(owner, above + 1), limit=1, reverse=True
    )
    while rows and len(found) < limit:
        for row_key, page in rows:
            part = _between(columns_of(table, row_key, page), above, below)
            found += list(zip(*part[:, : limit - len(found)].tolist(), strict=True))
        rows = snapshot.scan(table, rows[-1][0] + b"\0", page_key(owner, below), limit=1)
    return found


def _between(part: Ids, above: int, below: int) -> Ids:
    start = int(np.searchsorted(part[0], np.uint64(above), side="right")) if above else 0
    stop = int(np.searchsorted(part[0], np.uint64(below), side="left"))
    return part[:, start:stop]
