"""When a shard's state is saved: after so many events or so much time, on a thread of its own beside the shard.

A snapshot that fails never stops the shard. Its recovery policy is *retry later*, with growing pauses, and until it
succeeds the failure stands in the shard's snapshot status, which any process can read.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from darkroom.projections.state_snapshots import SnapshotStore
from darkroom.projections.store import Identity

CLOSE_S_MAX = 60.0


class SnapshotPolicy(NamedTuple):
    """Save after `every_events` events, or `every_s` seconds if there was any; try again after the pause, doubled."""

    every_s: float = 900.0
    every_events: int = 1_000_000
    retry_s_min: float = 5.0
    retry_s_max: float = 300.0


class SnapshotStatus(msgspec.Struct, frozen=True):
    """The last position saved or restored (0: none), why saving fails since then (None: it does not), how often."""

    position: int = 0
    fault: str | None = None
    failures: int = 0


class SnapshotSchedule:
    """Saves the state of the shard's store at `path` until it is closed; the shard tells it how far it is."""

    def __init__(self, snapshots: SnapshotStore, path: Path, identity: Identity, policy: SnapshotPolicy) -> None:
        self._snapshots = snapshots
        self._path = path
        self._policy = policy
        self._status = snapshot_status(path)
        self._position = 0
        # The shards of a node begin together; they need not copy together.
        self._due_s = time.monotonic() + policy.every_s * (identity.shard + 1) / identity.shards
        self._retry_s: float | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        name = f"snapshots-{identity.generation}-{identity.shard}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def committed(self, position: int) -> None:
        """The shard's position now. Costs next to nothing."""
        with self._changed:
            had_nothing_new = self._position == self._status.position
            self._position = position
            if had_nothing_new or self._events_are_due():
                self._changed.notify()

    def close(self) -> None:
        """End the thread; a snapshot under way is given up, and its bytes count for nothing."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(CLOSE_S_MAX)

    def _run(self) -> None:
        while self._wait_until_due():
            try:
                position = self._snapshots.save(self._path, self._stopping)
            except Exception as failure:  # whatever it is, the shard goes on and the next try comes
                if not self._stopping.is_set():
                    self._failed(f"{type(failure).__name__}: {failure}")
            else:
                self._saved(position)

    def _wait_until_due(self) -> bool:
        """False when it is to end instead."""
        with self._changed:
            while not self._stopping.is_set():
                due_s = self._next_s()
                left_s = None if due_s is None else due_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return True
                self._changed.wait(left_s)
        return False

    def _next_s(self) -> float | None:
        """When to save next; None while there is nothing new."""
        if self._retry_s is not None:
            return self._retry_s
        if self._position == self._status.position:
            return None
        return 0.0 if self._events_are_due() else self._due_s

    def _events_are_due(self) -> bool:
        return self._retry_s is None and self._position - self._status.position >= self._policy.every_events

    def _saved(self, position: int) -> None:
        with self._changed:
            self._retry_s = None
            self._due_s = time.monotonic() + self._policy.every_s
            self._status = SnapshotStatus(position)
        note_snapshot(self._path, self._status)

    def _failed(self, fault: str) -> None:
        with self._changed:
            failures = self._status.failures + 1
            pause_s = min(self._policy.retry_s_min * 2 ** min(failures - 1, 30), self._policy.retry_s_max)
            self._retry_s = time.monotonic() + pause_s
            self._status = SnapshotStatus(self._status.position, fault, failures)
        note_snapshot(self._path, self._status)


def snapshot_status(path: Path) -> SnapshotStatus:
    """How the snapshots of the shard at `path` are doing, for any process."""
    try:
        return msgspec.json.decode((path / "snapshot.json").read_bytes(), type=SnapshotStatus)
    except (FileNotFoundError, msgspec.MsgspecError):
        return SnapshotStatus()


def note_snapshot(path: Path, status: SnapshotStatus) -> None:
    """Have others see it; also after a restore, so that the next snapshot is counted from there."""
    temporary = path / "snapshot.json.new"
    with suppress(OSError):  # a status that cannot be written down must not stop the saving
        temporary.write_bytes(msgspec.json.encode(status) + b"\n")
        temporary.replace(path / "snapshot.json")
