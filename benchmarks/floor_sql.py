"""Everything in one SQLite file, events and what is read in one transaction: what one would write without an event log.

With `feeds` a post is pushed into its followers' feeds by one INSERT … SELECT; without, home feeds are a join.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from darkroom.events.codec import encode
from darkroom.events.facts import (
    Event,
    PostLiked,
    PostPublished,
    PostUnliked,
    UserFollowed,
    UserRegistered,
    UserUnfollowed,
)

SCHEMA = """
CREATE TABLE events (position INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, display_name TEXT NOT NULL, registered_ms INTEGER);
CREATE TABLE follows (follower INTEGER, followee INTEGER, position INTEGER, PRIMARY KEY (follower, followee))
    WITHOUT ROWID;
CREATE INDEX followers ON follows (followee, follower);
CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER NOT NULL, time_ms INTEGER NOT NULL, caption TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX timelines ON posts (author, id);
CREATE TABLE likes (post INTEGER, user INTEGER, position INTEGER, PRIMARY KEY (post, user)) WITHOUT ROWID;
CREATE INDEX liked ON likes (user, post);
CREATE TABLE feeds (owner INTEGER, post INTEGER, PRIMARY KEY (owner, post)) WITHOUT ROWID;
"""
TABLES = {
    "following": "SELECT follower, followee, position FROM follows ORDER BY 1, 2",
    "followers": "SELECT followee, follower FROM follows ORDER BY 1, 2",
    "timelines": "SELECT author, id, caption FROM posts ORDER BY 1, 2",
    "likers": "SELECT post, user, position FROM likes ORDER BY 1, 2",
    "feeds": "SELECT owner, post FROM feeds ORDER BY 1, 2",
}


class SqlWorld:
    """Write-ahead log, every commit synced."""

    def __init__(self, path: Path, *, feeds: bool = True) -> None:
        self._feeds = feeds
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute("PRAGMA cache_size=-500000")
        self.connection.executescript(SCHEMA)

    def append(self, first: int, events: Sequence[Event], times_ms: Sequence[int]) -> None:
        """Store the events and all that follows from them, in one durable transaction."""
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        rows = [(position, encode(event)) for position, event in enumerate(events, first)]
        self.connection.executemany("INSERT INTO events VALUES (?, ?)", rows)
        for (position, body), event, time_ms in zip(rows, events, times_ms, strict=True):
            self._apply(position, event, body, time_ms)
        execute("COMMIT")

    def _apply(self, position: int, event: Event, body: bytes, time_ms: int) -> None:
        execute = self.connection.execute
        match event:
            case UserRegistered():
                names = event.username.text, event.display_name.text
                execute("INSERT INTO users VALUES (?, ?, ?, ?)", (position, *names, time_ms))
            case UserFollowed():
                edge = event.follower, event.followee, position
                execute("INSERT OR IGNORE INTO follows VALUES (?, ?, ?)", edge)
            case UserUnfollowed():
                pair = event.follower, event.followee
                execute("DELETE FROM follows WHERE follower = ? AND followee = ?", pair)
            case PostPublished():
                row = position, event.author, time_ms, event.caption.text, body
                execute("INSERT INTO posts VALUES (?, ?, ?, ?, ?)", row)
                if self._feeds:
                    push = "INSERT INTO feeds SELECT follower, ? FROM follows WHERE followee = ?"
                    execute(push, (position, event.author))
                    execute("INSERT INTO feeds VALUES (?, ?)", (event.author, position))
            case PostLiked():
                execute("INSERT OR IGNORE INTO likes VALUES (?, ?, ?)", (event.post, event.user, position))
            case PostUnliked():
                execute("DELETE FROM likes WHERE post = ? AND user = ?", (event.post, event.user))
            case _:
                raise ValueError(f"the SQL world knows no {type(event).__name__}")

    def count(self) -> int:
        """How many events are stored."""
        return int(self.connection.execute("SELECT count(*) FROM events").fetchone()[0])

    def tables(self) -> dict[str, dict[int, Any]]:
        """As `PlainWorld.tables` gives them, of those that are tables here."""
        found: dict[str, dict[int, Any]] = {}
        for name, query in TABLES.items():
            table = found.setdefault(name, {})
            for owner, *row in self.connection.execute(query):
                table.setdefault(owner, []).append(row[0] if len(row) == 1 else row)
        return found

    def close(self) -> None:
        self.connection.close()
