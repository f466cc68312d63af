"""A store whose commits fail when they are told to, before or after they have taken place."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum

from darkroom.projections.store import Changes, Checkpoint, Identity, ShardStore, Snapshot, StoreError


class CommitLost(StoreError):
    """The commit failed; whether it was stored, the one who asked is not told."""


class Fate(Enum):
    """What becomes of a commit."""

    STORED = "stored"
    FAILS_BEFORE = "fails before it is stored"
    FAILS_AFTER = "fails after it was stored"


def always_stored() -> Fate:
    return Fate.STORED


class UnreliableStore:
    """A store in front of another. `next_fate` is asked once a commit."""

    def __init__(self, store: ShardStore, next_fate: Callable[[], Fate] = always_stored) -> None:
        self.store = store
        self.next_fate = next_fate

    @property
    def identity(self) -> Identity:
        return self.store.identity

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return self.store.snapshot()

    def checkpoint(self) -> Checkpoint:
        return self.store.checkpoint()

    def commit(self, expected: int, checkpoint: Checkpoint, changes: Changes) -> None:
        fate = self.next_fate()
        if fate is Fate.FAILS_BEFORE:
            raise CommitLost("before it was stored")
        self.store.commit(expected, checkpoint, changes)
        if fate is Fate.FAILS_AFTER:
            raise CommitLost("after it was stored")

    def bytes_stored(self) -> int:
        return self.store.bytes_stored()

    def close(self) -> None:
        self.store.close()
