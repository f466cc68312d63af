"""When authors were last celebrities of a shard, as readers ask it of everyone whom somebody follows at once.

They are few and change seldom, so a process keeps a shard's in memory for as long as the table says that it has not
changed: its row 0, which is nobody's, holds the position of its last change.
"""

from collections.abc import Sequence

import numpy as np

from darkroom.projections.pages import id_key
from darkroom.projections.routing import Ids
from darkroom.projections.store import Snapshot
from darkroom.projections.tables import CELEBRITIES

INFINITY = (1 << 64) - 1
LAST_CHANGE = id_key(0)
KEPT_MAX = 4096
"""Where there are more they are looked up: reading these again after a change takes some three milliseconds."""

_NEVER = id_key(0)


def since_of(rows: Sequence[bytes | None]) -> Ids:
    """The table's rows as numbers, 0 where there is none."""
    return np.frombuffer(b"".join([row or _NEVER for row in rows]), dtype=">u8").astype(np.uint64)


class KnownCelebrities:
    """Those of one shard, for any number of threads."""

    def __init__(self) -> None:
        self._known: tuple[bytes | None, Ids | None] | None = None

    def since(self, snapshot: Snapshot, users: Ids) -> Ids:
        """See `View.celebrities`."""
        change, known = snapshot.get(CELEBRITIES, LAST_CHANGE), self._known
        if known is None or known[0] != change:
            known = self._known = change, _all_of(snapshot)
        if known[1] is None:
            return since_of(snapshot.get_each(CELEBRITIES, [id_key(user) for user in users.tolist()]))
        authors, since = known[1]
        if len(authors) == 1:  # nobody ever was one
            return np.zeros(len(users), dtype=np.uint64)
        index = authors.searchsorted(users)
        return np.where(authors[index] == users, since[index], np.uint64(0))


def _all_of(snapshot: Snapshot) -> Ids | None:
    """The authors, ascending, and since when, with one behind them all whom nobody follows; None for too many."""
    rows = snapshot.scan(CELEBRITIES, id_key(1), id_key(INFINITY), limit=KEPT_MAX + 1)
    if len(rows) > KEPT_MAX:
        return None
    authors, since = zip(*rows, (id_key(INFINITY), _NEVER), strict=True)
    return np.array([since_of(authors), since_of(since)])
