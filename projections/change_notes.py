"""What each of a shard's last commits changed of what pages show, so that readers may keep the rest in memory.

A note is a row of META, written in the commit that it tells of: the position before it, and the ids of all users and
posts of whom a noted table changed. Whoever read at an earlier position forgets what the notes since then name. Where
they do not reach back to it, for a commit changed too much or is long past, everything is forgotten.
"""

import struct
from collections import deque

from darkroom.projections.store import Changes, Snapshot
from darkroom.projections.tables import FOLLOWERS, FOLLOWING, LIKERS, META, MUTES, POSTS, PROFILES, THREADS, TIMELINES

NOTED = frozenset((POSTS, PROFILES, LIKERS, THREADS, FOLLOWERS, FOLLOWING, TIMELINES, MUTES))
"""Tables whose row keys begin with the id of a user or a post. No id is of both, for it is a record's position."""

NOTES_KEPT = 64
IDS_MAX, ROWS_MAX = 1024, 4096
"""A commit that changes more ids, or so many rows of a table, is not told of: catching up with a backlog, it would
change most of what is kept."""

NOTE = b"note"
"""What the keys of notes begin with."""

_ID_BYTES = 8

Row = tuple[bytes, bytes | None]


class ChangeNotes:
    """The notes of one shard as its writer makes them."""

    def __init__(self) -> None:
        self._stored: deque[bytes] | None = None

    def rows(self, snapshot: Snapshot, changes: Changes, position: int) -> list[Row]:
        """The rows of META to write with the changes, which lead from the snapshot to the position; in no order."""
        if self._stored is None:
            notes = snapshot.scan(META, _key(0), _key((1 << 64) - 1), limit=2 * NOTES_KEPT)
            self._stored = deque(key for key, _ in notes)
        ids = _named(changes)
        if ids is None:
            rows: list[Row] = [(key, None) for key in self._stored]
            self._stored.clear()
            return rows
        self._stored.append(_key(position))
        rows = [(_key(position), b"".join((snapshot.checkpoint.position.to_bytes(_ID_BYTES, "big"), *sorted(ids))))]
        while len(self._stored) > NOTES_KEPT:
            rows.append((self._stored.popleft(), None))
        return rows


def changed_since(snapshot: Snapshot, position: int) -> list[int] | None:
    """The users and posts that commits after `position` up to the snapshot's changed; None where nobody noted it."""
    notes = snapshot.scan(META, _key(position + 1), _key(snapshot.checkpoint.position + 1), limit=NOTES_KEPT + 1)
    changed: list[int] = []
    for key, note in notes:
        before, *ids = struct.unpack(f">{len(note) // _ID_BYTES}Q", note)
        if before != position:
            return None
        changed += ids
        position = int.from_bytes(key[len(NOTE) :], "big")
    return changed if position == snapshot.checkpoint.position else None


def _key(position: int) -> bytes:
    return NOTE + position.to_bytes(_ID_BYTES, "big")


def _named(changes: Changes) -> set[bytes] | None:
    """The ids that the changes are of; None for too many."""
    ids: set[bytes] = set()
    for table in NOTED & changes.keys():
        if len(changes[table]) > ROWS_MAX:
            return None
        ids.update(key[:_ID_BYTES] for key, _ in changes[table])
    return ids if len(ids) <= IDS_MAX else None


def owner_of(key: bytes) -> int:
    """Of which user or post a row of a noted table is."""
    return int.from_bytes(key[:_ID_BYTES], "big")
