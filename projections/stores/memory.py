"""A shard's store in memory, for tests and oracles: sorted dictionaries, copied when a snapshot would see a change."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sortedcontainers import SortedDict

from darkroom.projections.store import Changes, Checkpoint, Identity, Superseded
from darkroom.projections.tables import TABLES


class MemorySnapshot:
    def __init__(self, tables: dict[str, SortedDict], checkpoint: Checkpoint) -> None:
        self._tables = tables
        self._checkpoint = checkpoint

    @property
    def checkpoint(self) -> Checkpoint:
        return self._checkpoint

    def get(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._tables[table].get(key)
        return value

    def get_many(self, table: str, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        rows = self._tables[table]
        return {key: rows[key] for key in keys if key in rows}

    def get_each(self, table: str, keys: Iterable[bytes]) -> list[bytes | None]:
        return [*map(self._tables[table].get, keys)]

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        rows = self._tables[table]
        found: list[tuple[bytes, bytes]] = []
        for key in rows.irange(start, stop, inclusive=(True, False), reverse=reverse):
            if len(found) >= limit:
                break
            found.append((key, rows[key]))
        return found


class MemoryShardStore:
    """See `ShardStore`."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._tables = {name: SortedDict() for name in TABLES}
        self._checkpoint = Checkpoint()
        self._lock = threading.Lock()
        self._shared: set[str] = set()  # tables whose present dictionary a snapshot may hold

    @property
    def identity(self) -> Identity:
        return self._identity

    @contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        with self._lock:
            self._shared.update(TABLES)
            snapshot = MemorySnapshot(self._tables, self._checkpoint)
        yield snapshot

    def checkpoint(self) -> Checkpoint:
        return self._checkpoint

    def commit(self, expected: int, checkpoint: Checkpoint, changes: Changes) -> None:
        with self._lock:
            if self._checkpoint.position != expected:
                raise Superseded(f"expected position {expected}, found {self._checkpoint.position}")
            tables = {name: self._tables[name] for name in changes}  # an unknown one raises before anything is changed
            for name, rows in changes.items():
                table = tables[name].copy() if name in self._shared else tables[name]
                for key, value in rows:
                    if value is None:
                        table.pop(key, None)
                    else:
                        table[key] = bytes(value)
                tables[name] = table
            self._tables, self._checkpoint = self._tables | tables, checkpoint
            self._shared.difference_update(changes)

    def bytes_stored(self) -> int:
        return sum(len(key) + len(value) for table in self._tables.values() for key, value in table.items())

    def close(self) -> None:
        """Nothing is held."""
