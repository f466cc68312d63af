"""Credentials in one SQLite file. A user's name, id and claim are unique by its constraints."""

import sqlite3
from pathlib import Path

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
from darkroom.gateway.sqlite_file import Failures, Schema, SqliteFile

FILE_NAME = "credentials.sqlite"

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
)
_SCHEMA = Schema(_APPLICATION, 1, _TABLES)
# The newest are those of the highest rowid; a clock that jumps back must not make a new token the oldest.
_FORGET_TOKENS = """DELETE FROM tokens WHERE rowid IN (
    SELECT rowid FROM tokens WHERE user = ? ORDER BY revoked OR ifnull(expires_ms <= ?, 0), rowid DESC LIMIT -1 OFFSET ?
)"""


class SqliteCredentialStore:
    """See `CredentialStore`. `folder` is made if it is missing; CredentialsUnusable for a file of another schema."""

    def __init__(self, folder: Path) -> None:
        self._file = SqliteFile(folder / FILE_NAME, _SCHEMA, Failures(CredentialsUnusable, CredentialsFull))

    def add_pending(self, pending: Pending, password_hash: str) -> None:
        with self._file.write() as connection:
            (count,) = connection.execute("SELECT count(*) FROM pending").fetchone()
            if count >= PENDING_MAX:
                raise TooManyPending(f"{count} sign-ups are pending; the limit is {PENDING_MAX}")
            row = (pending.claim, pending.username, password_hash, pending.begun_ms)
            connection.execute("INSERT INTO pending VALUES (?, ?, ?, ?)", row)

    def pending(self) -> list[Pending]:
        rows = self._file.read("SELECT claim, username, begun_ms FROM pending ORDER BY begun_ms, rowid")
        return [Pending(*row) for row in rows]

    def bind(self, claim: str, user: int) -> None:
        with self._file.write() as connection:
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
        with self._file.write() as connection:
            connection.execute("DELETE FROM pending WHERE claim = ?", (claim,))

    def account(self, login: str | int) -> Account | None:
        column = "user" if isinstance(login, int) else "username"
        rows = self._file.read(f"SELECT user, password_hash FROM accounts WHERE {column} = ?", login)
        return Account(*rows[0]) if rows else None

    def add_token(self, token_hash: bytes, token: StoredToken) -> None:
        user, scopes = token.grant.user, " ".join(sorted(token.grant.scopes))
        row = (token_hash, user, scopes, token.created_ms, token.expires_ms, token.revoked)
        with self._file.write() as connection:
            try:
                connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise UnknownUser(f"no credential is bound to user {user}") from None
            connection.execute(_FORGET_TOKENS, (user, token.created_ms, TOKENS_PER_USER_MAX))

    def token(self, token_hash: bytes) -> StoredToken | None:
        rows = self._file.read(
            "SELECT user, scopes, created_ms, expires_ms, revoked FROM tokens WHERE hash = ?", token_hash
        )
        if not rows:
            return None
        user, scopes, created_ms, expires_ms, revoked = rows[0]
        return StoredToken(Grant(user, frozenset(scopes.split())), created_ms, expires_ms, bool(revoked))

    def remembered(self, token_hash: bytes) -> None:  # noqa: ARG002
        return None

    def revoke(self, token_hash: bytes) -> None:
        with self._file.write() as connection:
            connection.execute("UPDATE tokens SET revoked = 1 WHERE hash = ?", (token_hash,))

    def drop(self, user: int) -> None:
        with self._file.write() as connection:
            connection.execute("DELETE FROM accounts WHERE user = ?", (user,))
        self._file.forget_deleted()

    def close(self) -> None:
        self._file.close()
