"""Sets of ids as bitmaps, 4,096 ids a row: a bit a record, whatever the log grows to."""

import struct
from collections.abc import Callable

from darkroom.projections.routing import ID_MASK
from darkroom.projections.store import Snapshot

_ROW_BITS = 12
_ROW_BYTES = (1 << _ROW_BITS) // 8
_EMPTY = bytes(_ROW_BYTES)
_pack = struct.Struct(">Q").pack


def contains(snapshot: Snapshot, table: str, member: int) -> bool:
    """Whether `member` is in the set, as a reader asks."""
    key = row_key(member)
    return key is not None and row_holds(snapshot.get(table, key), member)


def row_key(member: int) -> bytes | None:
    """The key of the row that tells of `member`; None for what can be no member."""
    return _pack(member >> _ROW_BITS) if 0 <= member <= ID_MASK else None


def row_holds(row: bytes | None, member: int) -> bool:
    """Whether `member` is in the set, by its row as it is stored."""
    return row is not None and bool(row[(member & 4095) >> 3] >> (member & 7) & 1)


class Bitmap:
    """A set as the fold changes it. Rows stay in memory once read.

    `changing`, where it is set, is told of each change: key and value of the row.
    """

    __slots__ = ("_changed", "_rows", "changing", "name", "source")

    def __init__(self, name: str) -> None:
        self.name = name
        self.source: Snapshot
        self.changing: Callable[[bytes, bytes], None] | None = None
        self._rows: dict[int, bytes | bytearray] = {}
        self._changed: set[int] = set()

    def __contains__(self, member: int) -> int:
        row = self._rows.get(member >> _ROW_BITS)
        if row is None:
            row = self._load(member >> _ROW_BITS)
        return row[(member & 4095) >> 3] >> (member & 7) & 1

    def add(self, member: int) -> None:
        row = self._writable(member)
        row[(member & 4095) >> 3] |= 1 << (member & 7)
        self._tell(member, row)

    def remove(self, member: int) -> None:
        row = self._writable(member)
        row[(member & 4095) >> 3] &= ~(1 << (member & 7))
        self._tell(member, row)

    def _tell(self, member: int, row: bytearray) -> None:
        if self.changing is not None:
            self.changing(_pack(member >> _ROW_BITS), bytes(row))

    def _writable(self, member: int) -> bytearray:
        index = member >> _ROW_BITS
        row = self._rows.get(index)
        if not isinstance(row, bytearray):
            row = self._rows[index] = bytearray(self._load(index) if row is None else row)
        self._changed.add(index)
        return row

    def _load(self, index: int) -> bytes | bytearray:
        # Ids that nobody was ever given are asked for too; they must not fill the memory.
        if not 0 <= index <= ID_MASK >> _ROW_BITS:
            return _EMPTY
        row = self.source.get(self.name, _pack(index))
        if row is None:
            # Kept too, for nobody else adds rows, but only of ids that were given: others may ask for any.
            if index <= self.source.checkpoint.position >> _ROW_BITS:
                self._rows[index] = _EMPTY
            return _EMPTY
        self._rows[index] = row
        return row

    def flush(self) -> list[tuple[bytes, bytes | None]]:
        rows: list[tuple[bytes, bytes | None]] = [(_pack(i), bytes(self._rows[i])) for i in sorted(self._changed)]
        self._changed.clear()
        return rows
