"""A generation's tables in Cassandra: which partition holds which row, and how tables are made, listed and dropped.

Everything leads with the shard that published it, so a shard's views are what that shard wrote and nothing else. A
partition is a *slot*: the rows of some owners together, since rows that share one cost a sixth of rows that do not. A
slot is bounded, and what one owner may have without bound is cut into *buckets* of keys. See docs/cassandra.md.
"""

import re
import zlib
from collections.abc import Callable

from darkroom.projections import effects
from darkroom.projections.cassandra_schema import drop_schema, ensure_schema
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.tables import (
    CELEBRITIES,
    CLAIMS,
    COMMENTS,
    FOLLOWERS,
    KEYS,
    LIKERS,
    LIVE,
    MENTIONS,
    META,
    NAMES,
    POSTS,
    PROFILES,
    RECEIVED,
    THREADS,
    TIMELINES,
    TOMBSTONES,
)

SCHEMA_VERSION = 1

USER_SLOTS = 256
"""With 250,000 users a shard, a partition holds what a thousand of them did, or a thousand head pages."""

BROAD_BUCKET_BITS = 26
"""Of tables that have no sizes; what one user does, or gets, in 2^26 records is some 10^5 rows."""

FEED_BUCKET_BITS = 32

DEEDS = "deeds"
"""Among the entries: user → position → kind, object, owner. See `views.Deed`."""

FEED_ENDS = "feed_ends"
"""Among the rows: day → up to which position feed rows were written that may be gone from that day on."""

_OF_A_POST = frozenset({LIKERS, THREADS, TOMBSTONES})
_COUNTED_AND_CUT = frozenset({FOLLOWERS, LIKERS, THREADS})
_BROADLY_CUT = frozenset({RECEIVED, MENTIONS, TOMBSTONES, DEEDS})
_POST_SLOT_BITS = 12

_SIGNED = 1 << 63
_GOLDEN, _WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1

_TABLES = {
    "entries": (
        "shard int, name text, slot bigint, bucket bigint, owner bigint, key bigint, w0 bigint, w1 bigint, w2 bigint,"
        " PRIMARY KEY ((shard, name, slot, bucket), owner, key)"
    ),
    "sizes": (
        "shard int, name text, slot bigint, owner bigint, bucket bigint, size bigint,"
        " PRIMARY KEY ((shard, name, slot), owner, bucket)"
    ),
    "table_rows": "shard int, name text, slot bigint, key blob, value blob, PRIMARY KEY ((shard, name, slot), key)",
    "feed_heads": "shard int, slot bigint, user bigint, page blob, PRIMARY KEY ((shard, slot), user)",
    "feed_pages": (
        "shard int, user bigint, bucket bigint, word bigint, rows blob, PRIMARY KEY ((shard, user, bucket), word)"
    ),
    "positions": "shard int PRIMARY KEY, position bigint, time_ms bigint",
}

# Time-window compaction sorts by write timestamps, and ours are positions: everything would be of January 1970.
_LEVELED = "{'class': 'LeveledCompactionStrategy'}"
_TIERED = "{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}"
_DAY_S = 86_400
_OPTIONS = {
    "entries": f"compaction = {_LEVELED}",
    "sizes": f"compaction = {_LEVELED}",
    "table_rows": f"compaction = {_LEVELED}",
    "feed_heads": f"compaction = {_LEVELED}",
    # Written once, deleted never: what lives for a time needs no grave, only time for hints to arrive.
    "feed_pages": f"compaction = {_TIERED} AND gc_grace_seconds = {_DAY_S}",
    "positions": f"compaction = {_LEVELED}",
}


def table_name(session: CassandraSession, table: str, generation: int) -> str:
    """With its keyspace, so that a prepared statement means one table whatever a session uses."""
    return f"{session.address.keyspace}.{table}_g{generation:06}"


def create_generation(session: CassandraSession, generation: int) -> None:
    """Make the generation's tables; again is nothing. SchemaMismatch where they are of another version."""
    statements = [
        f"CREATE TABLE IF NOT EXISTS {table_name(session, table, generation)} ({columns}) WITH {_OPTIONS[table]}"
        for table, columns in _TABLES.items()
    ]
    ensure_schema(session, _schema(generation), SCHEMA_VERSION, statements)


def drop_generation(session: CassandraSession, generation: int) -> None:
    """Drop whatever there is of the generation; again is nothing. The positions go first: they vouch for the rest."""
    statements = [f"DROP TABLE IF EXISTS {table_name(session, table, generation)}" for table in reversed(_TABLES)]
    drop_schema(session, _schema(generation), statements)


def generations(session: CassandraSession) -> list[int]:
    """The numbers of the generations of which there is any table."""
    query = session.prepare("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?")
    found = (_NAME.fullmatch(name) for (name,) in session.execute(query, (session.address.keyspace,)))
    return sorted({int(match[1]) for match in found if match})


_NAME = re.compile(f"(?:{'|'.join(_TABLES)})_g([0-9]{{6,}})")


def _schema(generation: int) -> str:
    return f"views_g{generation:06}"


# Where rows lie.


def user_slot(user: int) -> int:
    """Hashed by other bits than those that chose the shard."""
    return (user * _GOLDEN & _WORD) >> 24 & USER_SLOTS - 1


def entry_place(table: str, owner: int) -> tuple[int, int]:
    """(slot, owner within it) of an entry. Each timeline is a partition, so that many are asked in one statement."""
    if table == TIMELINES:
        return owner, 0
    return owner >> _POST_SLOT_BITS if table in _OF_A_POST else user_slot(owner), owner


def bucket_bits(table: str) -> int | None:
    """How wide the buckets of keys are into which an owner's entries are cut, as a power of two.

    None where they are not: what one person may do to others by their own hand lies together.
    """
    if table in _COUNTED_AND_CUT:
        return effects.BUCKET_BITS
    return BROAD_BUCKET_BITS if table in _BROADLY_CUT else None


def needs_directory(table: str) -> bool:
    """Whether its buckets are told of by rows without a size; those that are counted have theirs."""
    return table in _BROADLY_CUT


def row_slot(table: str) -> Callable[[bytes], int]:
    """From a row's key to its slot."""
    return _ROW_SLOTS[table]


def _by_id(bits: int) -> Callable[[bytes], int]:
    return lambda key: int.from_bytes(key, "big") >> bits


def _by_text(slots: int) -> Callable[[bytes], int]:
    return lambda key: zlib.crc32(key) % slots


_ROW_SLOTS: dict[str, Callable[[bytes], int]] = {
    POSTS: _by_id(_POST_SLOT_BITS),
    COMMENTS: _by_id(_POST_SLOT_BITS),
    PROFILES: _by_id(_POST_SLOT_BITS),
    LIVE: _by_id(8),  # 256 bitmaps of 512 bytes
    CELEBRITIES: _by_id(30),  # few, and every feed read asks for all that its reader follows
    NAMES: _by_text(256),
    CLAIMS: _by_text(256),
    KEYS: _by_text(4096),
    META: lambda _: 0,
    FEED_ENDS: lambda _: 0,
}


def signed_word(word: int) -> int:
    """A feed row's word as Cassandra's signed integers hold it, in the same order."""
    return word - _SIGNED


def feed_bucket(word: int) -> int:
    return word >> 16 + FEED_BUCKET_BITS
