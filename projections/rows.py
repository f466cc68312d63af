"""Plain rows as the fold changes them: read through, kept for the batch, written once."""

from collections.abc import Callable

from darkroom.projections.store import Snapshot


class RowTable:
    """`changing`, where it is set, is told of each change: key, and the value or None."""

    __slots__ = ("_rows", "changing", "name", "source")

    def __init__(self, name: str) -> None:
        self.name = name
        self.source: Snapshot
        self.changing: Callable[[bytes, bytes | None], None] | None = None
        self._rows: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._rows[key]
        except KeyError:
            return self.source.get(self.name, key)

    def set(self, key: bytes, value: bytes) -> None:
        self._rows[key] = value
        if self.changing is not None:
            self.changing(key, value)

    def delete(self, key: bytes) -> None:
        self._rows[key] = None
        if self.changing is not None:
            self.changing(key, None)

    def flush(self) -> list[tuple[bytes, bytes | None]]:
        rows = sorted(self._rows.items())
        self._rows = {}
        return rows
