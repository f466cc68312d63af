"""What readers of one shard keep in memory of what pages show, exact at the position of the view that asks.

Most of what a page shows of posts and people did not change since it was last shown. What did is told by the shard's
own commits (see `change_notes`), so nothing here is ever trusted for a time.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from darkroom.projections.change_notes import changed_since
from darkroom.projections.store import Snapshot

KEPT_MAX = 32_768
"""Of each kind in all shards together; a post with all that goes with it takes some 5 KB (decision 9)."""

KEPT_MIN = 256
"""Of each kind in one of many shards."""

K = TypeVar("K")
V = TypeVar("V")


class KeptRows:
    """Of one shard, for any number of threads."""

    def __init__(self, shards: int = 1) -> None:
        """`shards` have as much together as one would have alone."""
        self._limit = max(KEPT_MIN, KEPT_MAX // shards)
        self._lock = threading.Lock()
        self._position = -1
        self._kinds: dict[Hashable, dict[int, Any]] = {}
        self._changed: dict[int, int] = {}  # id → the position of a view by which it had changed last, ascending
        self._told_from = 0  # whatever changed since then is among these

    def recall(self, snapshot: Snapshot, kind: Hashable, ids: Sequence[int]) -> list[Any]:
        """What was kept of each id, in order, and is what the snapshot says too; None for the rest."""
        with self._lock:
            if snapshot.checkpoint.position != self._position and not self._move(snapshot):
                return [None] * len(ids)  # others have read at a later position already
            get = self._kinds.setdefault(kind, {}).get
            return [get(each) for each in ids]

    def keep(self, snapshot: Snapshot, kind: Hashable, values: Iterable[tuple[int, Any]]) -> None:
        """What follows from the snapshot's rows of each id in noted tables, and from nothing else."""
        with self._lock:
            if snapshot.checkpoint.position == self._position:
                kept = self._kinds.setdefault(kind, {})
                kept.update(values)
                drop_eldest(kept, self._limit)

    def each(
        self, snapshot: Snapshot, kind: Hashable, ids: Sequence[int], ask: Callable[[Sequence[int]], list[V]]
    ) -> list[V]:
        """What the snapshot says of each id, in order: what is kept, or else what `ask` says of those, in order.

        None, for what is not there, is not kept.
        """
        found = self.recall(snapshot, kind, ids)
        if None in found:
            missing = [at for at, value in enumerate(found) if value is None]
            for at, value in zip(missing, ask([ids[at] for at in missing]), strict=True):
                found[at] = value
            self.keep(snapshot, kind, [(ids[at], found[at]) for at in missing if found[at] is not None])
        return found

    def unchanged(self, snapshot: Snapshot, ids: set[int], since: int) -> bool:
        """Whether no commit after that position up to the snapshot's changed any of the ids, as far as is known."""
        with self._lock:
            if snapshot.checkpoint.position != self._position and not self._move(snapshot):
                return False
            changed = self._changed
            return self._told_from <= since <= self._position and all(
                changed[each] <= since for each in changed.keys() & ids
            )

    def _move(self, snapshot: Snapshot) -> bool:
        """Bring what is kept to the snapshot's position; whether it is not beyond that."""
        position = snapshot.checkpoint.position
        if position < self._position:
            return False
        changed = changed_since(snapshot, self._position)
        if changed is None:
            for kept in (*self._kinds.values(), self._changed):
                kept.clear()
            self._told_from = position
        else:
            for kept in (*self._kinds.values(), self._changed):
                for each in changed:
                    kept.pop(each, None)
            self._changed.update(dict.fromkeys(changed, position))
            for _, latest in drop_eldest(self._changed, self._limit):
                self._told_from = latest
        self._position = position
        return True


def drop_eldest(kept: dict[K, V], limit: int) -> list[tuple[K, V]]:
    """Where there are more, drop and return an eighth of the limit, and what is above it: what came first.

    Not one by one: the first of a dictionary is looked for behind all that was dropped before, for some 10 µs each.
    """
    if len(kept) <= limit:
        return []
    eldest = list(islice(kept.items(), len(kept) - limit + limit // 8))
    for each, _ in eldest:
        del kept[each]
    return eldest
