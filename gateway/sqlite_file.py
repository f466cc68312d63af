"""One SQLite file: write-ahead log, every commit synced, deleted bytes overwritten, readable to its owner only.

One connection writes and one reads, each behind a lock, so that reads go on while a commit waits for the disk. Any
number of processes may share the file. Another program's file, or one of another schema, is refused and left alone.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from darkroom.gateway.turns import TooBusy

WRITE_LOCK_TIMEOUT_S = 10.0


class Schema(NamedTuple):
    """What a file must be: whose (SQLite's application id), in which version, and the statements that make it."""

    application: int
    version: int
    statements: Sequence[str]


class Failures(NamedTuple):
    """What failures are called by whoever keeps the file: it cannot be used, and it has no room."""

    unusable: type[Exception]
    full: type[Exception]


class SqliteFile:
    """Made with its folder if it is missing. Any number of threads may call; TooBusy beside the failures."""

    def __init__(self, path: Path, schema: Schema, failures: Failures) -> None:
        self._path = path
        self._schema = schema
        self._failures = failures
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors_named():
            # SQLite gives its side files the mode of the file, so that none is ever another's to read.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.writer, self.reader = self._connect(), self._connect()
            try:
                self._check_schema()
                self.reader.execute("PRAGMA query_only = ON")
            except BaseException:
                self.close()
                raise

    def read(self, query: str, *parameters: object) -> list[Any]:
        with self._read_lock, self._errors_named():
            return self.reader.execute(query, parameters).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, committed at the end unless something is raised."""
        with self._write_lock, self._errors_named():
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self.writer.execute("COMMIT")
            finally:
                if self.writer.in_transaction:
                    self.writer.execute("ROLLBACK")

    def forget_deleted(self) -> None:
        """What was deleted is still in the write-ahead log, until that has been copied and cut: do so."""
        with self._write_lock, self._errors_named():
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self.reader.close()
            self.writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=WRITE_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _check_schema(self) -> None:
        """Make the tables in a file that is still empty, which no other process can be doing at the same time."""
        with self.write() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone() and _identity(connection) == (0, 0):
                for statement in self._schema.statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {self._schema.application}")
                connection.execute(f"PRAGMA user_version = {self._schema.version}")
            application, version = _identity(connection)
        if application != self._schema.application:
            raise self._failures.unusable(f"{self._path} is another program's database")
        if version != self._schema.version:
            raise self._failures.unusable(
                f"{self._path} has schema {version}; this version knows {self._schema.version}"
            )

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                message = f"{self._path}: another process has held the write lock for over {WRITE_LOCK_TIMEOUT_S:g} s"
                raise TooBusy(message) from error
            if code == sqlite3.SQLITE_FULL:
                raise self._failures.full(f"no room in {self._path}: {error}") from error
            raise self._failures.unusable(f"{self._path}: {error}") from error


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    """Whose database it is, and which schema of theirs; both are 0 in one that is new."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version
