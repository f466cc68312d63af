"""A shard's views, read from the tables that its publisher keeps in Cassandra.

The checkpoint is read before anything else, so whatever was published up to it is there; what came after it may be
there too. Whatever is asked of many owners or keys is asked in one round of few statements.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import numpy as np

from darkroom.projections.bitmaps import row_holds, row_key
from darkroom.projections.cassandra_requests import Request, Row
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.celebrities import since_of
from darkroom.projections.feed_rows import read_head
from darkroom.projections.pages import KEY_MAX, id_key
from darkroom.projections.routing import ID_MASK, ROUTE_BITS, Ids
from darkroom.projections.shard_state import DAY_MS, HORIZON_KEY
from darkroom.projections.store import Checkpoint
from darkroom.projections.tables import CELEBRITIES, FOLLOWING, LIVE, META, MUTES, WORDS
from darkroom.projections.view_adapters.cassandra_among import among
from darkroom.projections.view_adapters.cassandra_publisher import wall_clock_ms
from darkroom.projections.view_adapters.cassandra_queries import Order, Queries
from darkroom.projections.view_adapters.cassandra_tables import (
    DEEDS,
    FEED_ENDS,
    bucket_bits,
    entry_place,
    feed_bucket,
    row_slot,
    signed_word,
    user_slot,
)
from darkroom.projections.views import Deed, Entry, FeedHead, KeepsNothing, View

PROBED_BUCKETS_MAX = 8
"""So many buckets are read whether there is anything in them or not; above that they are looked up first."""

READ_BUCKETS_MAX = 32
DIRECTORY_ROWS = 1000
OWNERS_MAX = 32
KEYS_MAX = 64
KEYS_OF_A_SLOT_MAX = 1000
READ_ENTRIES = 5000
FIRST_PAGES, FURTHER_PAGES = 2, 16

_BIGINT_MAX = (1 << 63) - 1


class CassandraViews:
    """See `ShardViews`. Any number of threads may read; the session stays whoever's it is."""

    def __init__(
        self,
        session: CassandraSession,
        generation: int,
        shard: int,
        *,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.session = session
        self.shard = shard
        self.queries = Queries(session, generation)
        self._now_ms = now_ms
        self._gone = (-1, 0)

    @contextmanager
    def view(self) -> Iterator[View]:
        yield CassandraView(self, self.checkpoint())

    def checkpoint(self) -> Checkpoint:
        rows = self.session.execute(self.queries.checkpoint, (self.shard,))
        return Checkpoint(*rows[0]) if rows else Checkpoint()

    def feed_rows_gone(self) -> int:
        """Up to which id feed rows may be gone because they were written so long ago, whatever log time says.

        What is told of a day that has begun does not change any more, so it is asked once a day.
        """
        today, (day, gone) = self._now_ms() // DAY_MS, self._gone
        if day != today:
            ends = self.session.execute(self.queries.all_rows, (self.shard, FEED_ENDS))
            gone = max(
                (int.from_bytes(end, "big") for day, end in ends if int.from_bytes(day, "big") <= today), default=0
            )
            self._gone = (today, gone)  # two threads may, and find the same
        return gone


class CassandraView(KeepsNothing):
    """See `View`. For one thread."""

    def __init__(self, views: CassandraViews, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._views = views
        self._session = views.session
        self._queries = views.queries
        self._shard = views.shard
        self._columns: dict[tuple[str, int], Ids] = {}
        self._horizon: int | None = None

    # Packed tables.

    def sizes(self, tables: Sequence[str], owners: Sequence[int]) -> list[tuple[int, ...]]:
        requests: list[Request] = [
            (self._queries.sizes, (self._shard, table, *_distinct_columns(group)))
            for table in tables
            for group in _few_at_a_time(sorted({entry_place(table, owner) for owner in owners}))
        ]
        found = {
            (asked[1], slot, owner): size
            for (_, asked), rows in zip(requests, self._session.execute_all(requests), strict=True)
            for slot, owner, size in rows
        }
        return [tuple(found.get((table, *entry_place(table, owner)), 0) for table in tables) for owner in owners]

    def counted(self, table: str, owners: Sequence[int], key: int) -> list[tuple[int, bool]]:
        sizes = self.sizes((table,), owners)
        asked = [(owner, key) for owner, (size,) in zip(owners, sizes, strict=True) if size]
        holders = {owner for (owner, _), found in zip(asked, self.find(table, asked), strict=True) if found is not None}
        return [(size, owner in holders) for owner, (size,) in zip(owners, sizes, strict=True)]

    def find(self, table: str, entries: Sequence[tuple[int, int]]) -> list[tuple[int, ...] | None]:
        bits, query = bucket_bits(table), self._queries.find[_words(table)]
        requests: list[Request] = []
        for group in _by_owner_or_key(entries):
            slots, owners = _distinct_columns([entry_place(table, owner) for owner, _ in group])
            keys = sorted({key for _, key in group})
            buckets = [0] if bits is None else sorted({key >> bits for key in keys})
            requests.append((query, (self._shard, table, slots, buckets, owners, keys)))
        found = {
            (slot, owner, key): tuple(words)
            for rows in self._session.execute_all(requests)
            for slot, owner, key, *words in rows
        }
        return [found.get((*entry_place(table, owner), key)) for owner, key in entries]

    def columns(self, table: str, owner: int) -> Ids:
        known = self._columns.get((table, owner))
        if known is not None:
            return known
        if bucket_bits(table) is None:
            return _as_columns(table, self._session.execute(*self._everything(table, owner)))
        return _as_columns(table, self.oldest(table, owner, limit=KEY_MAX))

    def newest(self, table: str, owner: int, *, below: int = KEY_MAX, above: int = 0, limit: int) -> list[Entry]:
        return self._entries(table, owner, "DESC", above, below, limit)

    def oldest(self, table: str, owner: int, *, above: int = 0, below: int = KEY_MAX, limit: int) -> list[Entry]:
        return self._entries(table, owner, "ASC", above, below, limit)

    def newest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        return among(self._session, self._queries, self._shard, table, bounds, above=above, limit=limit, order="DESC")

    def oldest_among(
        self, table: str, bounds: Sequence[tuple[int, int]], *, above: int, limit: int
    ) -> tuple[list[tuple[int, int]], int]:
        return among(self._session, self._queries, self._shard, table, bounds, above=above, limit=limit, order="ASC")

    def _everything(self, table: str, owner: int) -> Request:
        return self._queries.everything[_words(table)], (self._shard, table, *entry_place(table, owner))

    def _entries(self, table: str, owner: int, order: Order, above: int, below: int, limit: int) -> list[Entry]:
        found: list[Entry] = []
        below = min(below, _BIGINT_MAX)
        if above + 1 >= below or limit <= 0:
            return found
        for buckets in self._buckets(table, owner, order, above + 1, below - 1, limit):
            while wanted := min(limit - len(found), READ_ENTRIES):
                slot, owner_there = entry_place(table, owner)
                place = (self._shard, table, slot, buckets, owner_there, above, below)
                rows = self._session.execute(self._queries.entries[order][_words(table)], (*place, wanted))
                found += rows
                if len(rows) < wanted:
                    break
                above, below = (above, rows[-1][0]) if order == "DESC" else (rows[-1][0], below)
            if len(found) >= limit:
                break
        return found

    def _buckets(
        self, table: str, owner: int, order: Order, lowest: int, highest: int, limit: int
    ) -> Iterator[list[int]]:
        """The buckets that hold what there is of the keys, in groups that are read at once."""
        bits = bucket_bits(table)
        if bits is None:
            yield [0]
            return
        low, high = lowest >> bits, min(highest, self.checkpoint.position) >> bits
        if high - low < PROBED_BUCKETS_MAX:
            if low <= high:
                yield list(range(low, high + 1))
            return
        group, entries = [], 0
        for bucket, size in self._directory(table, owner, order, low, high):
            group.append(bucket)
            entries += size
            if entries >= limit or len(group) == READ_BUCKETS_MAX:
                yield group
                group, entries = [], 0
        if group:
            yield group

    def _directory(self, table: str, owner: int, order: Order, low: int, high: int) -> Iterator[Row]:
        """(bucket, entries) of those buckets that are not empty; entries that are not counted are at least one."""
        while low <= high:
            place = (self._shard, table, *entry_place(table, owner))
            rows = self._session.execute(self._queries.directory[order], (*place, low, high, DIRECTORY_ROWS))
            yield from rows
            if len(rows) < DIRECTORY_ROWS:
                return
            low, high = (low, rows[-1][0] - 1) if order == "DESC" else (rows[-1][0] + 1, high)

    # Rows.

    def row(self, table: str, key: bytes) -> bytes | None:
        return self.rows(table, [key])[0]

    def rows(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        requests = (self._rows_request(table, slots, part) for slots, part in _by_slot(table, keys))
        found: dict[bytes, bytes] = dict(row for rows in self._session.execute_all(requests) for row in rows)
        return [found.get(key) for key in keys]

    def _rows_request(self, table: str, slots: list[int], keys: Sequence[bytes]) -> Request:
        return self._queries.rows, (self._shard, table, slots, keys)

    def live(self, users: Sequence[int]) -> list[bool]:
        keys = [row_key(user) for user in users]
        wanted = sorted({key for key in keys if key is not None})
        rows = dict(zip(wanted, self.rows(LIVE, wanted), strict=True))
        return [key is not None and row_holds(rows[key], user) for user, key in zip(users, keys, strict=True)]

    def celebrities(self, users: Ids) -> Ids:
        return since_of(self.rows(CELEBRITIES, [id_key(user) for user in users.tolist()]))

    def deeds(self, user: int, *, below: int, limit: int) -> list[Deed]:
        return [Deed(*entry) for entry in self._entries(DEEDS, user, "DESC", 0, below, limit)]

    # Feeds.

    def feed_head(self, user: int) -> FeedHead:
        """Fetches what a reader of the feed asks for next in the same round."""
        head, horizon, following, mutes = self._session.execute_all(
            [
                (self._queries.head, (self._shard, user_slot(user), user)),
                self._rows_request(META, [0], [HORIZON_KEY]),
                self._everything(FOLLOWING, user),
                self._everything(MUTES, user),
            ]
        )
        self._columns[FOLLOWING, user] = _as_columns(FOLLOWING, following)
        self._columns[MUTES, user] = _as_columns(MUTES, mutes)
        self._horizon = _horizon(horizon[0][1] if horizon else None)
        return read_head(head[0][0]) if head else FeedHead()

    def sealed_below(self, user: int, word: int) -> Iterator[bytes]:
        return (rows for _, rows in self._pages(user, "DESC", -1, word))

    def sealed_from(self, user: int, word: int) -> Iterator[bytes]:
        covering = next(self._pages(user, "DESC", -1, word + 1), None)
        if covering is not None:
            yield covering[1]
        start = word if covering is None else covering[0]
        yield from (rows for _, rows in self._pages(user, "ASC", start, (ID_MASK << ROUTE_BITS) + 1))

    def _pages(self, user: int, order: Order, above: int, below: int) -> Iterator[tuple[int, bytes]]:
        """(first word, rows) of the sealed pages with above < word < below; the first few, then more at a time."""
        top = self.checkpoint.position << ROUTE_BITS | 0xFFFF
        buckets = list(range(feed_bucket(max(above, 0)), feed_bucket(min(max(below - 1, 0), top)) + 1))
        steps = iter(buckets if order == "ASC" else reversed(buckets))
        limit, low, high = FIRST_PAGES, signed_word(above), signed_word(below)
        while group := list(islice(steps, READ_BUCKETS_MAX if limit == FURTHER_PAGES else 1)):
            while True:
                rows = self._session.execute(
                    self._queries.pages[order], (self._shard, user, group, max(low, -1 << 63), high, limit)
                )
                for word, page in rows:
                    yield word - signed_word(0), page
                if len(rows) < limit:
                    break
                low, high = (low, rows[-1][0]) if order == "DESC" else (rows[-1][0], high)
                limit = FURTHER_PAGES
            limit = FURTHER_PAGES

    def expired(self) -> int:
        if self._horizon is None:
            self._horizon = _horizon(self.row(META, HORIZON_KEY))
        return max(self._horizon, self._views.feed_rows_gone())


def _words(table: str) -> int:
    return WORDS.get(table, 3)


def _horizon(row: bytes | None) -> int:
    return int.from_bytes(row or b"", "big")


def _as_columns(table: str, rows: Sequence[Row]) -> Ids:
    return np.array(rows, dtype=np.uint64).reshape(-1, 1 + _words(table)).T


def _distinct_columns(places: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The slots and the owners of the places, each once."""
    return sorted({slot for slot, _ in places}), sorted({owner for _, owner in places})


def _by_owner_or_key(entries: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Entries that one statement can find without asking for more: all of one owner, or all of one key."""
    wanted = {entry for entry in entries if 0 <= entry[1] <= _BIGINT_MAX and abs(entry[0]) <= _BIGINT_MAX}
    keys_of = Counter(owner for owner, _ in wanted)
    groups: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for owner, key in wanted:
        groups.setdefault(("owner", owner) if keys_of[owner] > 1 else ("key", key), []).append((owner, key))
    for group in groups.values():
        yield from _few_at_a_time(group)


def _few_at_a_time(pairs: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(pairs), OWNERS_MAX):
        yield pairs[start : start + OWNERS_MAX]


def _by_slot(table: str, keys: Sequence[bytes]) -> Iterator[tuple[list[int], list[bytes]]]:
    """(slots, keys) a statement. Each slot is asked for each key, so few are put together; of one slot, many."""
    slot_of = row_slot(table)
    slots: dict[int, list[bytes]] = {}
    for key in set(keys):
        slots.setdefault(slot_of(key), []).append(key)
    few: list[int] = []
    together: list[bytes] = []
    for slot, members in sorted(slots.items()):
        if len(members) > KEYS_MAX:
            for start in range(0, len(members), KEYS_OF_A_SLOT_MAX):
                yield [slot], members[start : start + KEYS_OF_A_SLOT_MAX]
            continue
        if together and len(together) + len(members) > KEYS_MAX:
            yield few, together
            few, together = [], []
        few.append(slot)
        together += members
    if together:
        yield few, together
