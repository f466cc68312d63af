"""Floors of the durable append: the least that anybody has to do who says of an event that it is stored."""

import os
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path

from darkroom.events.codec import encode
from darkroom.events.facts import Event


class FileLog:
    """Length, checksum and body of each event, one write and one fdatasync a group."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND)

    def append(self, events: Sequence[Event]) -> None:
        parts = []
        for event in events:
            body = encode(event)
            parts += [len(body).to_bytes(4, "little"), zlib.crc32(body).to_bytes(4, "little"), body]
        data = b"".join(parts)
        written = os.write(self._descriptor, data)
        assert written == len(data), "a short write"
        os.fdatasync(self._descriptor)

    def bodies(self) -> list[bytes]:
        """Everything stored, in order."""
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        found, start = [], 0
        while start < len(data):
            stop = start + 8 + int.from_bytes(data[start : start + 4], "little")
            assert zlib.crc32(data[start + 8 : stop]) == int.from_bytes(data[start + 4 : start + 8], "little")
            found.append(data[start + 8 : stop])
            start = stop
        return found

    def close(self) -> None:
        os.close(self._descriptor)


class SqliteLog:
    """One table, one transaction a group, write-ahead log, every commit synced."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    def append(self, events: Sequence[Event]) -> None:
        rows = [(encode(event),) for event in events]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO events (body) VALUES (?)", rows)
        self._connection.execute("COMMIT")

    def bodies(self) -> list[bytes]:
        """Everything stored, in order."""
        return [body for (body,) in self._connection.execute("SELECT body FROM events ORDER BY position")]

    def close(self) -> None:
        self._connection.close()
