"""Published views and the shard's own store, asked the same of everything there is: they answer alike.

Alike means the same, with what the port leaves open allowed: pages of feeds that the store has dropped may still be
there, and reads of several owners at once may stop at another depth.
"""

import random
from collections.abc import Iterable

import numpy as np
from publishing import PublishingWorld

from darkroom.projections.effects import COUNTED_TABLES, ENTRY_TABLES
from darkroom.projections.feed_rows import newest_id, words_of
from darkroom.projections.pages import KEY_MAX, id_key
from darkroom.projections.routing import ID_MASK, ROUTE_BITS
from darkroom.projections.store import Snapshot
from darkroom.projections.store_views import SnapshotView
from darkroom.projections.tables import (
    CELEBRITIES,
    CLAIMS,
    COMMENTS,
    FOLLOWERS,
    FOLLOWING,
    KEYS,
    LIKERS,
    NAMES,
    POSTS,
    PROFILES,
    TIMELINES,
)
from darkroom.projections.views import View

ROW_TABLES = (POSTS, COMMENTS, PROFILES, NAMES, CLAIMS, KEYS, CELEBRITIES)
NOBODY = (-1, 0, 2**63 - 1, 2**63, KEY_MAX, KEY_MAX + 1)


def check_agreement(world: PublishingWorld, shard: int, source: random.Random) -> None:
    """Both must be at the same position."""
    with world.stores[shard].snapshot() as snapshot, world.views[shard].view() as view:
        own = SnapshotView(snapshot)
        assert view.checkpoint == own.checkpoint
        everybody = range(1, own.checkpoint.position + 2)
        served = [user for user in everybody if world.serves(shard, user)]
        _check_entries(view, own, everybody, served, source)
        _check_rows(view, own, snapshot, everybody)
        who = [*everybody, *NOBODY]
        assert view.live(who) == own.live(who)
        users = np.array(everybody, dtype=np.uint64)
        assert view.celebrities(users).tolist() == own.celebrities(users).tolist()
        for user in served:
            _check_deeds(view, own, user)
            _check_feed(view, own, user)
        assert view.expired() == own.expired()


def _check_entries(view: View, own: View, everybody: range, served: list[int], source: random.Random) -> None:
    for table in ENTRY_TABLES:
        # These two lie in the shards of both ends, and are asked of the owner's alone.
        owners = served if table in (FOLLOWING, FOLLOWERS) else list(everybody)
        if table in COUNTED_TABLES:
            sizes = own.sizes((table, LIKERS), owners)
            assert view.sizes((table, LIKERS), owners) == sizes, table
            for key in (source.choice(everybody), source.choice(NOBODY)):
                words = own.find(table, [(owner, key) for owner in owners])
                counted = [(size, found is not None) for (size, _), found in zip(sizes, words, strict=True)]
                assert view.counted(table, owners, key) == own.counted(table, owners, key) == counted, table
        held = {owner: own.columns(table, owner) for owner in owners}
        for owner, entries in held.items():
            found = view.columns(table, owner)
            assert found.dtype == np.uint64
            assert found.tolist() == entries.tolist(), (table, owner)
        keys = [(owner, key) for owner, entries in held.items() for key in entries[0].tolist()]
        keys += [(source.choice(everybody), key) for key in (*everybody, *NOBODY)]
        keys = [(owner, key) for owner, key in keys if owner in held]
        source.shuffle(keys)
        assert view.find(table, keys) == own.find(table, keys), table
        filled = [owner for owner, entries in held.items() if entries.shape[1]]
        for owner in [*filled, *source.sample(owners, min(2, len(owners)))]:
            _check_ranges(view, own, table, owner, source)
        if table == TIMELINES:
            _check_several(view, own, filled, source)


def _bounds(source: random.Random, highest: int) -> tuple[int, int]:
    above, below = (source.choice([0, 0, source.randint(0, highest)]) for _ in range(2))
    return above, below or source.choice([KEY_MAX, ID_MASK, ID_MASK + 1])


def _check_ranges(view: View, own: View, table: str, owner: int, source: random.Random) -> None:
    for _ in range(3):
        above, below = _bounds(source, own.checkpoint.position + 2)
        limit = source.choice([1, 2, 5, 1000])
        what = (table, owner, above, below, limit)
        found = view.newest(table, owner, below=below, above=above, limit=limit)
        assert found == own.newest(table, owner, below=below, above=above, limit=limit), what
        found = view.oldest(table, owner, above=above, below=below, limit=limit)
        assert found == own.oldest(table, owner, above=above, below=below, limit=limit), what


def _check_several(view: View, own: View, owners: list[int], source: random.Random) -> None:
    """Complete down, or up, to the key that comes with them, and only as far as there is reason to stop."""
    for _ in range(4):
        chosen = source.sample(owners, source.randint(0, len(owners)))
        bounds = [(owner, _bounds(source, own.checkpoint.position + 2)[1]) for owner in chosen]
        above, limit = source.choice([0, source.randint(0, own.checkpoint.position)]), source.choice([1, 2, 5, 1000])
        held = [
            (key, owner)
            for owner, below in bounds
            for key in own.columns(TIMELINES, owner)[0].tolist()
            if above < key < below
        ]
        found, low = view.newest_among(TIMELINES, bounds, above=above, limit=limit)
        assert sorted(found) == sorted(entry for entry in held if entry[0] > low), (bounds, above, limit)
        assert low == above or (low > above and len(found) >= limit), (bounds, above, limit)
        found, high = view.oldest_among(TIMELINES, bounds, above=above, limit=limit)
        assert sorted(found) == sorted(entry for entry in held if entry[0] <= high), (bounds, above, limit)
        assert high >= ID_MASK or len(found) >= limit, (bounds, above, limit)


def _check_rows(view: View, own: View, snapshot: Snapshot, everybody: range) -> None:
    for table in ROW_TABLES:
        keys = [key for key, _ in snapshot.scan(table, b"", b"\xff" * 300, limit=1_000_000)]
        keys += [id_key(number) for number in everybody]
        assert view.rows(table, keys) == own.rows(table, keys), table
        assert view.rows(table, []) == []
        for key in keys[:: max(1, len(keys) // 3)]:
            assert view.row(table, key) == own.row(table, key), (table, key)


def _check_deeds(view: View, own: View, user: int) -> None:
    everything = own.deeds(user, below=ID_MASK, limit=1_000_000)
    assert view.deeds(user, below=ID_MASK, limit=1_000_000) == everything, user
    for deed in everything[::2]:
        assert view.deeds(user, below=deed.position, limit=2) == own.deeds(user, below=deed.position, limit=2), user


def _check_feed(view: View, own: View, user: int) -> None:
    assert view.feed_head(user) == own.feed_head(user), user
    if own.live([user]) == [False]:
        return  # nobody reads what may be left of their pages
    floor = max(own.feed_head(user).horizon, own.expired())
    firsts = [int(words_of(page)[0]) for page in own.sealed_from(user, 0)]
    for word in [1, *firsts, *(first + 1 for first in firsts), own.checkpoint.position << ROUTE_BITS]:
        below, own_below = list(view.sealed_below(user, word)), list(own.sealed_below(user, word))
        assert _answering(below, floor) == _answering(own_below, floor), (user, word)
        from_, own_from = list(view.sealed_from(user, word)), list(own.sealed_from(user, word))
        assert _answering(from_, floor, word) == _answering(own_from, floor, word), (user, word)


def _answering(pages: Iterable[bytes], floor: int, word: int = 0) -> list[bytes]:
    """The pages that hold more than what rows do not answer for any more, from the word on."""
    return [page for page in pages if newest_id(page) > floor and int(words_of(page)[-1]) >= word]
