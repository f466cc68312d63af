"""Floors of the durable append: the least that anybody has to do who says of an event that it is stored."""

import os
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from darkroom.events.codec import encode
from darkroom.events.facts import Event

ZEROS = bytes(1 << 20)
_FRAME = struct.Struct("<II")  # length, checksum


class FileLog:
    """Length, checksum and body of each event, one write and one fdatasync a group.

    The file may be filled with zeros ahead, so that a sync has no new blocks to note. Whoever does so cannot tell a log
    that was cut off from one that ends there.
    """

    def __init__(self, path: Path, *, ahead_mib: int = 0) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        self._end = 0
        for _ in range(ahead_mib):
            os.write(self._descriptor, ZEROS)
        os.fsync(self._descriptor)

    def append(self, events: Sequence[Event]) -> None:
        crc32, pack = zlib.crc32, _FRAME.pack
        data = b"".join([pack(len(body), crc32(body)) + body for body in map(encode, events)])
        written = os.pwrite(self._descriptor, data, self._end)
        assert written == len(data), "a short write"
        os.fdatasync(self._descriptor)
        self._end += written

    def bodies(self) -> list[bytes]:
        """Everything stored, in order."""
        data = os.pread(self._descriptor, self._end, 0)
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
