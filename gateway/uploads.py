"""Photos that were uploaded and may be posted: whose they are, and what was said of them. One SQLite file.

Nothing here is a fact: a photo becomes one when it is posted, and the post carries all of it. So an upload is forgotten
after a day, and a user's oldest go first above a limit; being posted does not use it up, for a post may be sent twice.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from darkroom.events.clock import Clock, system_clock
from darkroom.gateway.media import Photo

FILE_NAME = "uploads.sqlite"
UPLOADS_PER_USER_MAX = 100
KEPT_MS = 24 * 60 * 60 * 1000
WRITE_LOCK_TIMEOUT_S = 10.0

_SCHEMA = 1
_COLUMNS = "id, user, hash, width, height, placeholder, description"
_TABLES = (
    """CREATE TABLE IF NOT EXISTS uploads (
        id INTEGER PRIMARY KEY, user INTEGER NOT NULL, hash TEXT NOT NULL, width INTEGER NOT NULL,
        height INTEGER NOT NULL, placeholder TEXT NOT NULL, description TEXT, uploaded_ms INTEGER NOT NULL,
        number INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS uploads_of_user ON uploads (user, number)",
    "CREATE INDEX IF NOT EXISTS uploads_by_time ON uploads (uploaded_ms)",
    f"PRAGMA user_version = {_SCHEMA}",
)


class UploadsUnusable(Exception):
    """The file cannot be opened, read or written; the message names it."""


class UploadsFull(UploadsUnusable):
    """No room: nothing was stored."""


class Upload(msgspec.Struct, frozen=True):
    """One photo that its user may post. Ids lie above every log position's, so none is taken for another."""

    id: int
    user: int
    photo: Photo
    description: str | None


class Uploads:
    """Any number of threads and processes may call. UploadsUnusable or UploadsFull from whatever fails."""

    def __init__(self, folder: Path, clock: Clock = system_clock) -> None:
        self._path = folder / FILE_NAME
        self._clock = clock
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        with self._errors_named():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._writer, self._reader = self._connect(), self._connect()
            (schema,) = self._writer.execute("PRAGMA user_version").fetchone()
            if schema > _SCHEMA:
                self.close()
                raise UploadsUnusable(f"{self._path} has schema {schema}; this version knows {_SCHEMA}")
            for statement in _TABLES:
                self._writer.execute(statement)

    def add(self, user: int, photo: Photo, description: str | None) -> Upload:
        """Remember it, durably; what is too old or too many is forgotten."""
        upload = Upload(1 << 62 | secrets.randbits(62), user, photo, description)
        now_ms = self._clock()
        row = (upload.id, user, photo.hash, photo.width, photo.height, photo.placeholder, description, now_ms)
        with self._write() as connection:
            (number,) = connection.execute("SELECT ifnull(max(number), 0) + 1 FROM uploads WHERE user = ?", (user,))
            connection.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *number))
            connection.execute("DELETE FROM uploads WHERE uploaded_ms <= ?", (now_ms - KEPT_MS,))
            last_kept = number[0] - UPLOADS_PER_USER_MAX
            connection.execute("DELETE FROM uploads WHERE user = ? AND number <= ?", (user, last_kept))
        return upload

    def find(self, user: int, upload_ids: list[int]) -> list[Upload]:
        """Those of the uploads that are the user's, in the order asked for."""
        marks = ", ".join("?" * len(upload_ids))
        query = f"SELECT {_COLUMNS} FROM uploads WHERE id IN ({marks}) AND user = ? AND uploaded_ms > ?"
        with self._read_lock, self._errors_named():
            rows = self._reader.execute(query, (*upload_ids, user, self._clock() - KEPT_MS)).fetchall()
        found = {row[0]: _upload(row) for row in rows}
        return [found[upload_id] for upload_id in upload_ids if upload_id in found]

    def describe(self, user: int, upload_id: int, description: str | None) -> Upload | None:
        """Replace the description; None where it is not the user's upload."""
        with self._write() as connection:
            connection.execute(
                "UPDATE uploads SET description = ? WHERE id = ? AND user = ?", (description, upload_id, user)
            )
        return next(iter(self.find(user, [upload_id])), None)

    def forget(self, user: int) -> None:
        """The user is gone, and with them what they have not posted."""
        with self._write() as connection:
            connection.execute("DELETE FROM uploads WHERE user = ?", (user,))

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=WRITE_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

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
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            raise (UploadsFull if full else UploadsUnusable)(f"{self._path}: {error}") from error


def _upload(row: tuple[Any, ...]) -> Upload:
    upload_id, user, *photo, description = row
    return Upload(upload_id, user, Photo(*photo), description)
