"""The statements by which views are read from a generation's tables in Cassandra, prepared once a session."""

from typing import Any, Literal

from darkroom.projections.cassandra_requests import Statement
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.view_adapters.cassandra_tables import table_name

Order = Literal["ASC", "DESC"]

_ORDERS: tuple[Order, Order] = ("ASC", "DESC")
_WORDS = ("", ", w0", ", w0, w1", ", w0, w1, w2")
_TABLES = ("entries", "sizes", "table_rows", "feed_heads", "feed_pages", "positions")

_CHECKPOINT = "SELECT position, time_ms FROM {positions} WHERE shard = ?"

# How many there are.
_SIZES = """
SELECT slot, owner, sum(size) FROM {sizes} WHERE shard = ? AND name = ? AND slot IN ? AND owner IN ?
GROUP BY shard, name, slot, owner
"""
_DIRECTORY = """
SELECT bucket, size FROM {sizes} WHERE shard = ? AND name = ? AND slot = ? AND owner = ?
AND bucket >= ? AND bucket <= ? ORDER BY owner {order}, bucket {order} LIMIT ?
"""

# Entries by owner and key.
_FIND = """
SELECT slot, owner, key{words} FROM {entries}
WHERE shard = ? AND name = ? AND slot IN ? AND bucket IN ? AND owner IN ? AND key IN ?
"""
_EVERYTHING = """
SELECT key{words} FROM {entries} WHERE shard = ? AND name = ? AND slot = ? AND bucket = 0 AND owner = ?
"""
_ENTRIES = """
SELECT key{words} FROM {entries} WHERE shard = ? AND name = ? AND slot = ? AND bucket IN ?
AND owner = ? AND key > ? AND key < ? ORDER BY owner {order}, key {order} LIMIT ?
"""
_AMONG = """
SELECT slot, key FROM {entries} WHERE shard = ? AND name = ? AND slot IN ? AND bucket = 0
AND owner = 0 AND key > ? AND key < ? ORDER BY owner {order}, key {order} PER PARTITION LIMIT ?
"""

# Rows, and the pages of feeds.
_ROWS = "SELECT key, value FROM {table_rows} WHERE shard = ? AND name = ? AND slot IN ? AND key IN ?"
_ALL_ROWS = "SELECT key, value FROM {table_rows} WHERE shard = ? AND name = ? AND slot = 0"
_HEAD = "SELECT page FROM {feed_heads} WHERE shard = ? AND slot = ? AND user = ?"
_PAGES = """
SELECT word, rows FROM {feed_pages} WHERE shard = ? AND user = ? AND bucket IN ?
AND word > ? AND word < ? ORDER BY word {order} LIMIT ?
"""


class Queries:
    """Each answers one question of a view; those with lists of partitions answer for many owners at once."""

    def __init__(self, session: CassandraSession, generation: int) -> None:
        self._session = session
        self._tables = {name: table_name(session, name, generation) for name in _TABLES}
        self.checkpoint = self._prepared(_CHECKPOINT)
        self.sizes = self._prepared(_SIZES)
        self.directory = {order: self._prepared(_DIRECTORY, order=order) for order in _ORDERS}
        self.find = [self._prepared(_FIND, words=words) for words in _WORDS]
        self.everything = [self._prepared(_EVERYTHING, words=words) for words in _WORDS]
        self.entries = {
            order: [self._unpaged(_ENTRIES, order=order, words=words) for words in _WORDS] for order in _ORDERS
        }
        self.among = {order: self._unpaged(_AMONG, order=order) for order in _ORDERS}
        self.rows = self._prepared(_ROWS)
        self.all_rows = self._prepared(_ALL_ROWS)
        self.head = self._prepared(_HEAD)
        self.pages = {order: self._unpaged(_PAGES, order=order) for order in _ORDERS}

    def _prepared(self, cql: str, **parts: str) -> Statement:
        return self._session.prepare(cql.format(**self._tables, **parts))

    def _unpaged(self, cql: str, **parts: str) -> Statement:
        """Several partitions in one order come as one page, or not at all; each of these has a limit."""
        statement: Any = self._prepared(cql, **parts)
        statement.fetch_size = None
        return statement
