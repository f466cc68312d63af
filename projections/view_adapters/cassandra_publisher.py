"""What a shard publishes in Cassandra: every row written, and every row removed, at the position that caused it.

The position is the write's timestamp, so of two writes to a row the later record's stays, in whatever order they arrive
and however often. The shard's own position is written last, when everything up to it has been acknowledged.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from darkroom.projections.cassandra_requests import Request
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.effects import Change, Effects, ViewsLost
from darkroom.projections.feed_rows import newest_id
from darkroom.projections.pages import id_key
from darkroom.projections.shard_state import DAY_MS
from darkroom.projections.store import Checkpoint, StoreRefused, StoreUnavailable
from darkroom.projections.tables import WORDS
from darkroom.projections.view_adapters.cassandra_tables import (
    DEEDS,
    FEED_ENDS,
    bucket_bits,
    entry_place,
    feed_bucket,
    generations,
    needs_directory,
    row_slot,
    signed_word,
    table_name,
    user_slot,
)
from darkroom.projections.views import Deed

TRIES = 2
TTL_SLACK_DAYS = 2
"""Rows outlive the feeds' time to live by this; half of it is for clocks that differ, see `CassandraView.expired`."""

TTL_DAYS_MAX = 20 * 365 - TTL_SLACK_DAYS  # Cassandra's own limit
BUCKETS_KEPT_MAX = 200_000

Bucket = tuple[str, int, int]
"""(table, owner, bucket)."""


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class CassandraPublisher:
    """See `Publisher`; for the one thread of one shard. The session stays whoever's it is."""

    def __init__(
        self,
        session: CassandraSession,
        generation: int,
        shard: int,
        *,
        feed_ttl_days: int | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        if feed_ttl_days is not None and not 0 < feed_ttl_days <= TTL_DAYS_MAX:
            raise ValueError(f"feed_ttl_days is {feed_ttl_days}; in Cassandra it must be 1 to {TTL_DAYS_MAX}, or none")
        self._session = session
        self._generation = generation
        self._shard = shard
        self._ttl_days = feed_ttl_days
        self._ttl_s = 0 if feed_ttl_days is None else (feed_ttl_days + TTL_SLACK_DAYS) * DAY_MS // 1000
        self._now_ms = now_ms
        self._told: set[Bucket] = set()
        self._statements: _Statements

    def open(self, position: int) -> None:
        """ViewsLost where less is published than is committed."""
        self._check_kept(position)

    def _check_kept(self, position: int) -> None:
        found = self._published()
        if found < position:
            raise ViewsLost(
                f"{self._where()}: published up to position {found}, and {position} is committed: something was lost"
                " there. Rebuild the views"
            )

    def _published(self) -> int:
        try:
            self._statements = _Statements(self._session, self._generation)
            rows = self._session.execute(self._statements.position, (self._shard,))
        except StoreRefused as error:
            if self._generation in generations(self._session):
                raise
            raise ViewsLost(f"{self._where()}: its tables are not there ({error}). Rebuild the views") from None
        return rows[0][0] if rows else 0

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        # A store that was emptied meanwhile would take in the rest, and then look as if it had all.
        self._check_kept(expected)
        buckets = _buckets_to_tell(effects)
        self._write(lambda: self._all_but_feeds(effects, buckets, checkpoint))
        # A head says that what is not in it lies in a page, so the pages are there before it.
        self._write(lambda: self._feed_pages(effects.feed_pages))
        self._write(lambda: self._feed_heads(effects.feed_heads))
        self._told |= buckets.keys()
        if len(self._told) > BUCKETS_KEPT_MAX:
            self._told = set(buckets)

    def reached(self, checkpoint: Checkpoint) -> None:
        row = (self._shard, checkpoint.position, checkpoint.time_ms, checkpoint.position)
        self._write(lambda: [[(self._statements.reached, row)]])

    def close(self) -> None:
        """Nothing is held."""

    def _all_but_feeds(
        self, effects: Effects, buckets: dict[Bucket, int], checkpoint: Checkpoint
    ) -> Iterator[list[Request]]:
        """A table at a time, so that one is on its way while the next is made."""
        if self._ttl_days is not None and (effects.feed_pages or effects.feed_heads):
            yield from self._feed_end(self._ttl_days, checkpoint)
        for table, entries in effects.entries.items():
            yield from self._entries(table, entries)
        yield from self._entries(DEEDS, {who: _as_entry(change) for who, change in effects.deeds.items()})
        for table, sizes in effects.sizes.items():
            yield from self._sizes(table, sizes)
        for table, rows in effects.rows.items():
            yield from self._rows(table, rows)
        for table, owner, bucket in buckets.keys() - self._told:
            yield from self._sizes(table, {(owner, bucket): Change(buckets[table, owner, bucket], 1)})

    def _entries(self, table: str, entries: dict[tuple[int, int], Change]) -> Iterable[list[Request]]:
        bits, shard, delete = bucket_bits(table), self._shard, self._statements.delete_entry
        insert = self._statements.insert_entry[WORDS.get(table, 3)]
        groups: defaultdict[tuple[int, int], list[Request]] = defaultdict(list)
        for (owner, key), (position, words) in entries.items():
            slot, owner_there = entry_place(table, owner)
            bucket = 0 if bits is None else key >> bits
            place = (shard, table, slot, bucket, owner_there, key)
            write = (delete, (position, *place)) if words is None else (insert, (*place, *words, position))
            groups[slot, bucket].append(write)
        return groups.values()

    def _sizes(self, table: str, sizes: dict[tuple[int, int], Change]) -> Iterable[list[Request]]:
        shard, insert, delete = self._shard, self._statements.insert_size, self._statements.delete_size
        groups: defaultdict[int, list[Request]] = defaultdict(list)
        for (owner, bucket), (position, size) in sizes.items():
            slot, owner_there = entry_place(table, owner)
            place = (shard, table, slot, owner_there, bucket)
            groups[slot].append((insert, (*place, size, position)) if size else (delete, (position, *place)))
        return groups.values()

    def _rows(self, table: str, rows: dict[bytes, Change]) -> Iterable[list[Request]]:
        shard, insert, delete = self._shard, self._statements.insert_row, self._statements.delete_row
        slot_of = row_slot(table)
        groups: defaultdict[int, list[Request]] = defaultdict(list)
        for key, (position, value) in rows.items():
            slot = slot_of(key)
            place = (shard, table, slot, key)
            groups[slot].append((delete, (position, *place)) if value is None else (insert, (*place, value, position)))
        return groups.values()

    def _feed_end(self, ttl_days: int, checkpoint: Checkpoint) -> Iterable[list[Request]]:
        """Note, before any feed row is written, from which day on those of this batch may be gone."""
        day = self._now_ms() // DAY_MS + ttl_days + TTL_SLACK_DAYS // 2
        end = Change(checkpoint.position, id_key(checkpoint.position))
        return self._rows(FEED_ENDS, {id_key(day): end})

    def _feed_pages(self, pages: Sequence[tuple[int, int, bytes]]) -> Iterable[list[Request]]:
        groups: defaultdict[tuple[int, int], list[Request]] = defaultdict(list)
        for user, word, rows in pages:
            bucket = feed_bucket(word)
            place = (self._shard, user, bucket, signed_word(word))
            write = (self._statements.insert_page, (*place, rows, newest_id(rows), self._ttl_s))
            groups[user, bucket].append(write)
        return groups.values()

    def _feed_heads(self, heads: dict[int, Change]) -> Iterable[list[Request]]:
        shard, ttl_s, statements = self._shard, self._ttl_s, self._statements
        groups: defaultdict[int, list[Request]] = defaultdict(list)
        for user, (position, page) in heads.items():
            slot = user_slot(user)
            if page is None:
                groups[slot].append((statements.delete_head, (position, shard, slot, user)))
            else:
                groups[slot].append((statements.insert_head, (shard, slot, user, page, position, ttl_s)))
        return groups.values()

    def _write(self, groups: Callable[[], Iterable[list[Request]]]) -> None:
        """Every write may be made again, for it carries its position."""
        for tries_left in reversed(range(TRIES)):
            try:
                self._session.write_batches(groups())
                return
            except StoreUnavailable:
                if not tries_left:
                    raise

    def _where(self) -> str:
        return f"{self._session.address}, generation {self._generation}, shard {self._shard}"


def _buckets_to_tell(effects: Effects) -> dict[Bucket, int]:
    """Buckets that something was put into and whose sizes nobody counts, and one of the records that did."""
    told: dict[Bucket, int] = {}
    for table, changes in (*effects.entries.items(), (DEEDS, effects.deeds)):
        bits = bucket_bits(table)
        if bits is not None and needs_directory(table):
            for (owner, key), (position, value) in changes.items():
                if value is not None:
                    told[table, owner, key >> bits] = position
    return told


def _as_entry(change: Change) -> Change:
    deed: Deed | None = change.value
    return change if deed is None else Change(change.position, deed[1:])


class _Statements:
    """Everything that is ever written, and what is read to begin with."""

    def __init__(self, session: CassandraSession, generation: int) -> None:
        def prepared(cql: str, table: str) -> object:
            return session.prepare(cql.format(table_name(session, table, generation)))

        words = ["".join(f", w{index}" for index in range(number)) for number in range(4)]
        self.insert_entry = [
            prepared(
                f"INSERT INTO {{}} (shard, name, slot, bucket, owner, key{columns})"
                f" VALUES (?, ?, ?, ?, ?, ?{', ?' * number}) USING TIMESTAMP ?",
                "entries",
            )
            for number, columns in enumerate(words)
        ]
        self.delete_entry = prepared(
            "DELETE FROM {} USING TIMESTAMP ?"
            " WHERE shard = ? AND name = ? AND slot = ? AND bucket = ? AND owner = ? AND key = ?",
            "entries",
        )
        self.insert_size = prepared(
            "INSERT INTO {} (shard, name, slot, owner, bucket, size) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            "sizes",
        )
        self.delete_size = prepared(
            "DELETE FROM {} USING TIMESTAMP ? WHERE shard = ? AND name = ? AND slot = ? AND owner = ? AND bucket = ?",
            "sizes",
        )
        self.insert_row = prepared(
            "INSERT INTO {} (shard, name, slot, key, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?", "table_rows"
        )
        self.delete_row = prepared(
            "DELETE FROM {} USING TIMESTAMP ? WHERE shard = ? AND name = ? AND slot = ? AND key = ?", "table_rows"
        )
        self.insert_page = prepared(
            "INSERT INTO {} (shard, user, bucket, word, rows) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            "feed_pages",
        )
        self.insert_head = prepared(
            "INSERT INTO {} (shard, slot, user, page) VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?", "feed_heads"
        )
        self.delete_head = prepared(
            "DELETE FROM {} USING TIMESTAMP ? WHERE shard = ? AND slot = ? AND user = ?", "feed_heads"
        )
        self.position = prepared("SELECT position FROM {} WHERE shard = ?", "positions")
        self.reached = prepared(
            "INSERT INTO {} (shard, position, time_ms) VALUES (?, ?, ?) USING TIMESTAMP ?", "positions"
        )
