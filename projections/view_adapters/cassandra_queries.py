"""The statements by which views are read from a generation's tables in Cassandra, prepared once a session."""

from typing import Any, Literal

from darkroom.projections.cassandra_requests import Statement
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.view_adapters.cassandra_tables import table_name

Order = Literal["ASC", "DESC"]

_WORDS = ("", ", w0", ", w0, w1", ", w0, w1, w2")


class Queries:
    """Each answers one question of a view; those with lists of partitions answer for many owners at once."""

    def __init__(self, session: CassandraSession, generation: int) -> None:
        self._session = session
        self._generation = generation
        self.checkpoint = self._prepared("SELECT position, time_ms FROM {positions} WHERE shard = ?")
        self.sizes = self._prepared(
            "SELECT slot, owner, sum(size) FROM {sizes} WHERE shard = ? AND name = ? AND slot IN ? AND owner IN ?"
            " GROUP BY shard, name, slot, owner"
        )
        self.directory: dict[Order, Statement] = {
            order: self._prepared(
                "SELECT bucket, size FROM {sizes} WHERE shard = ? AND name = ? AND slot = ? AND owner = ?"
                f" AND bucket >= ? AND bucket <= ? ORDER BY owner {order}, bucket {order} LIMIT ?"
            )
            for order in _ORDERS
        }
        self.find = [
            self._prepared(
                f"SELECT slot, owner, key{words} FROM {{entries}}"
                " WHERE shard = ? AND name = ? AND slot IN ? AND bucket IN ? AND owner IN ? AND key IN ?"
            )
            for words in _WORDS
        ]
        self.everything = [
            self._prepared(
                f"SELECT key{words} FROM {{entries}}"
                " WHERE shard = ? AND name = ? AND slot = ? AND bucket = 0 AND owner = ?"
            )
            for words in _WORDS
        ]
        self.entries: dict[Order, list[Statement]] = {
            order: [
                self._unpaged(
                    f"SELECT key{words} FROM {{entries}} WHERE shard = ? AND name = ? AND slot = ? AND bucket IN ?"
                    f" AND owner = ? AND key > ? AND key < ? ORDER BY owner {order}, key {order} LIMIT ?"
                )
                for words in _WORDS
            ]
            for order in _ORDERS
        }
        self.among: dict[Order, Statement] = {
            order: self._unpaged(
                "SELECT slot, key FROM {entries} WHERE shard = ? AND name = ? AND slot IN ? AND bucket = 0"
                f" AND owner = 0 AND key > ? AND key < ? ORDER BY owner {order}, key {order} PER PARTITION LIMIT ?"
            )
            for order in _ORDERS
        }
        self.rows = self._prepared(
            "SELECT key, value FROM {table_rows} WHERE shard = ? AND name = ? AND slot IN ? AND key IN ?"
        )
        self.all_rows = self._prepared("SELECT key, value FROM {table_rows} WHERE shard = ? AND name = ? AND slot = 0")
        self.head = self._prepared("SELECT page FROM {feed_heads} WHERE shard = ? AND slot = ? AND user = ?")
        self.pages: dict[Order, Statement] = {
            order: self._unpaged(
                "SELECT word, rows FROM {feed_pages} WHERE shard = ? AND user = ? AND bucket IN ?"
                f" AND word > ? AND word < ? ORDER BY word {order} LIMIT ?"
            )
            for order in _ORDERS
        }

    def _prepared(self, cql: str) -> Statement:
        tables = ("entries", "sizes", "table_rows", "feed_heads", "feed_pages", "positions")
        return self._session.prepare(
            cql.format_map({name: table_name(self._session, name, self._generation) for name in tables})
        )

    def _unpaged(self, cql: str) -> Statement:
        """Several partitions in one order come as one page, or not at all; each of these has a limit."""
        statement: Any = self._prepared(cql)
        statement.fetch_size = None
        return statement


_ORDERS: tuple[Order, Order] = ("ASC", "DESC")
