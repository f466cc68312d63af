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

V = TypeVar("V")


class KeptRows:
    """Of one shard, for any number of threads."""

    def __init__(self, shards: int = 1) -> None:
        """`shards` have as much together as one would have alone."""
        self._limit = max(KEPT_MIN, KEPT_MAX // shards)
        self._lock = threading.Lock()
        self._position = -1
        self._kinds: dict[Hashable, dict[int, Any]] = {}

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
                if len(kept) > self._limit:
                    self._make_room(kept)

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

    def _make_room(self, kept: dict[int, Any]) -> None:
        """Drop an eighth, of what has been there for the longest time.

        Not one by one: the first of a dictionary is looked for behind all that was dropped before, for some 10 µs each.
        """
        over = len(kept) - self._limit
        for each in list(islice(kept, over + self._limit // 8)):
            del kept[each]

    def _move(self, snapshot: Snapshot) -> bool:
        """Bring what is kept to the snapshot's position; whether it is not beyond that."""
        position = snapshot.checkpoint.position
        if position < self._position:
            return False
        changed = changed_since(snapshot, self._position)
        for kept in self._kinds.values():
            if changed is None:
                kept.clear()
                continue
            for each in changed:
                kept.pop(each, None)
        self._position = position
        return True
