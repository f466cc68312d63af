"""The port of a shard's store: ordered tables of bytes, one writer, consistent snapshots, one commit a batch.

State, views and position change in one transaction. Calls speak in batches; no row costs a round trip.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

Changes = Mapping[str, Sequence[tuple[bytes, bytes | None]]]
"""Table → (key, value) pairs in key order; None deletes."""


class StoreError(Exception):
    """The store could not do what was asked."""


class Superseded(StoreError):
    """Somebody else has committed: the stored position is not the expected one. This incarnation must stop.

    Nothing was stored.
    """


class StoreFull(StoreError):
    """No room for the commit, of which nothing was stored. It may be tried again when there is room."""


class StoreBusy(StoreError):
    """Too many wait, or the write lock is held for too long (the message names its holder). It may be tried again."""


class SnapshotExpired(StoreError):
    """A snapshot was held for longer than its deadline, and would keep old pages from being freed."""


class StoreUnavailable(StoreError):
    """No answer by the deadline, or none that could be given. What was asked may still be done; ask again."""


class StoreRefused(StoreError):
    """The server will not do it, however often it is asked; the message says what to change."""


class WrongCredentials(StoreRefused):
    """The user or the password is not the server's."""


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """What a store is of: it is refused where it is opened as anything else."""

    format: int
    generation: int
    shard: int
    shards: int


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """How far the log is folded in: the last position, and the highest log time up to it."""

    position: int = 0
    time_ms: int = 0


class Snapshot(Protocol):
    """One moment of one shard."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    def get(self, table: str, key: bytes) -> bytes | None:
        """The row's value, or None."""

    def get_many(self, table: str, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The rows that exist among `keys`."""

    def get_each(self, table: str, keys: Iterable[bytes]) -> list[bytes | None]:
        """The value of each key, in order, or None."""

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows with start <= key < stop, ascending, or from the highest down with `reverse`."""


class ShardStore(Protocol):
    """One shard's store."""

    @property
    def identity(self) -> Identity: ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A consistent view; SnapshotExpired from its methods when it is held too long."""

    def checkpoint(self) -> Checkpoint:
        """The present checkpoint, cheaply."""

    def commit(self, expected: int, checkpoint: Checkpoint, changes: Changes) -> None:
        """Store all or nothing, durably, if the stored position is `expected`; Superseded or StoreFull otherwise."""

    def bytes_stored(self) -> int:
        """Bytes on disk."""

    def close(self) -> None:
        """Free what it holds."""
