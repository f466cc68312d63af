"""Credentials in one SQLite file: write-ahead log, every commit synced, deleted bytes overwritten.

One connection writes and one reads, each behind a lock, so that a token is looked up while a commit waits for the
disk. Any number of processes may share the file.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.gateway.credentials import (
    PENDING_MAX,
    TOKENS_PER_USER_MAX,
    Account,
    AlreadyBound,
    CredentialsFull,
    CredentialsUnusable,
    Grant,
    Pending,
    StoredToken,
    TooManyPending,
    UnknownClaim,
    UnknownUser,
)
from darkroom.gateway.turns import TooBusy

FILE_NAME = "credentials.sqlite"
SCHEMA = 1
WRITE_LOCK_TIMEOUT_S = 10.0

_APPLICATION = 0x44524B52  # "DRKR": another program's database is not taken for ours
_TABLES = (
    """CREATE TABLE pending (
        claim TEXT PRIMARY KEY, username TEXT NOT NULL, password_hash TEXT NOT NULL, begun_ms INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE accounts (
        user INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE, claim TEXT NOT NULL UNIQUE, password_hash TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE tokens (
        hash BLOB PRIMARY KEY, user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE, scopes TEXT NOT NULL,
        created_ms INTEGER NOT NULL, expires_ms INTEGER, revoked INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX tokens_of_user ON tokens (user)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {SCHEMA}",
)
# The newest are those of the highest rowid; a clock that jumps back must not make a new token the oldest.
_FORGET_TOKENS = """DELETE FROM tokens WHERE rowid IN (
    SELECT rowid FROM tokens WHERE user = ? ORDER BY revoked OR ifnull(expires_ms <= ?, 0), rowid DESC LIMIT -1 OFFSET ?
)"""


class SqliteCredentialStore:
    """See `CredentialStore`. `folder` is made if it is missing; CredentialsUnusable for a file of another schema."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        with self._errors_named():
            # SQLite gives its side files the mode of the file, so that none is ever another's to read.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._writer, self._reader = self._connect(), self._connect()
            try:
                self._check_schema()
                self._reader.execute("PRAGMA query_only = ON")
            except BaseException:
                self.close()
                raise

    def add_pending(self, pending: Pending, password_hash: str) -> None:
        with self._write() as connection:
            (count,) = connection.execute("SELECT count(*) FROM pending").fetchone()
            if count >= PENDING_MAX:
                raise TooManyPending(f"{count} sign-ups are pending; the limit is {PENDING_MAX}")
            row = (pending.claim, pending.username, password_hash, pending.begun_ms)
            connection.execute("INSERT INTO pending VALUES (?, ?, ?, ?)", row)

    def pending(self) -> list[Pending]:
        rows = self._read("SELECT claim, username, begun_ms FROM pending ORDER BY begun_ms, rowid")
        return [Pending(*row) for row in rows]

    def bind(self, claim: str, user: int) -> None:
        with self._write() as connection:
            bound = connection.execute("SELECT user FROM accounts WHERE claim = ?", (claim,)).fetchone()
            if bound == (user,):
                return
            if bound is not None:
                raise AlreadyBound(f"claim {claim} is user {bound[0]}'s, not user {user}'s")
            copy = "INSERT INTO accounts SELECT ?, username, claim, password_hash FROM pending WHERE claim = ?"
            try:
                if not connection.execute(copy, (user, claim)).rowcount:
                    raise UnknownClaim(f"no sign-up of claim {claim} is pending")
            except sqlite3.IntegrityError as error:
                raise AlreadyBound(f"user {user}, or the name of claim {claim}, is bound already ({error})") from None
            connection.execute("DELETE FROM pending WHERE claim = ?", (claim,))

    def discard(self, claim: str) -> None:
        with self._write() as connection:
            connection.execute("DELETE FROM pending WHERE claim = ?", (claim,))

    def account(self, login: str | int) -> Account | None:
        column = "user" if isinstance(login, int) else "username"
        rows = self._read(f"SELECT user, password_hash FROM accounts WHERE {column} = ?", login)
        return Account(*rows[0]) if rows else None

    def add_token(self, token_hash: bytes, token: StoredToken) -> None:
        user, scopes = token.grant.user, " ".join(sorted(token.grant.scopes))
        row = (token_hash, user, scopes, token.created_ms, token.expires_ms, token.revoked)
        with self._write() as connection:
            try:
                connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise UnknownUser(f"no credential is bound to user {user}") from None
            connection.execute(_FORGET_TOKENS, (user, token.created_ms, TOKENS_PER_USER_MAX))

    def token(self, token_hash: bytes) -> StoredToken | None:
        rows = self._read("SELECT user, scopes, created_ms, expires_ms, revoked FROM tokens WHERE hash = ?", token_hash)
        if not rows:
            return None
        user, scopes, created_ms, expires_ms, revoked = rows[0]
        return StoredToken(Grant(user, frozenset(scopes.split())), created_ms, expires_ms, bool(revoked))

    def revoke(self, token_hash: bytes) -> None:
        with self._write() as connection:
            connection.execute("UPDATE tokens SET revoked = 1 WHERE hash = ?", (token_hash,))

    def drop(self, user: int) -> None:
        with self._write() as connection:
            connection.execute("DELETE FROM accounts WHERE user = ?", (user,))
        with self._write_lock, self._errors_named():
            # What was deleted is still in the write-ahead log, until that has been copied and cut.
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=WRITE_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _check_schema(self) -> None:
        """Make the tables in a file that is still empty, which no other process can be doing at the same time."""
        with self._write() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone() and _identity(connection) == (0, 0):
                for statement in _TABLES:
                    connection.execute(statement)
            application, schema = _identity(connection)
        if application != _APPLICATION:
            raise CredentialsUnusable(f"{self._path} is another program's database")
        if schema != SCHEMA:
            raise CredentialsUnusable(f"{self._path} has schema {schema}; this version knows {SCHEMA}")

    def _read(self, query: str, *parameters: object) -> list[Any]:
        with self._read_lock, self._errors_named():
            return self._reader.execute(query, parameters).fetchall()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock, self._errors_named():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

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
                raise CredentialsFull(f"no room in {self._path}: {error}") from error
            raise CredentialsUnusable(f"{self._path}: {error}") from error


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    """Whose database it is, and which schema of theirs; both are 0 in one that is new."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    return application, schema
