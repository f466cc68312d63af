"""Uploads in one SQLite file, numbered in each user's order; those of a day ago are deleted when the next is added."""

from pathlib import Path
from typing import Any

from darkroom.events.clock import Clock, system_clock
from darkroom.gateway.media import Photo
from darkroom.gateway.sqlite_file import Failures, Schema, SqliteFile
from darkroom.gateway.uploads import KEPT_MS, UPLOADS_PER_USER_MAX, Upload, UploadsFull, UploadsUnusable, new_upload

FILE_NAME = "uploads.sqlite"

_COLUMNS = "id, user, hash, width, height, placeholder, description"
_TABLES = (
    """CREATE TABLE uploads (
        id INTEGER PRIMARY KEY, user INTEGER NOT NULL, hash TEXT NOT NULL, width INTEGER NOT NULL,
        height INTEGER NOT NULL, placeholder TEXT NOT NULL, description TEXT, uploaded_ms INTEGER NOT NULL,
        number INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX uploads_of_user ON uploads (user, number)",
    "CREATE INDEX uploads_by_time ON uploads (uploaded_ms)",
)
_SCHEMA = Schema(0, 1, _TABLES)


class SqliteUploads:
    """See `Uploads`. `folder` is made if it is missing."""

    def __init__(self, folder: Path, clock: Clock = system_clock) -> None:
        self._file = SqliteFile(folder / FILE_NAME, _SCHEMA, Failures(UploadsUnusable, UploadsFull))
        self._clock = clock

    def add(self, user: int, photo: Photo, description: str | None) -> Upload:
        upload = new_upload(user, photo, description)
        now_ms = self._clock()
        row = (upload.id, user, photo.hash, photo.width, photo.height, photo.placeholder, description, now_ms)
        with self._file.write() as connection:
            (number,) = connection.execute("SELECT ifnull(max(number), 0) + 1 FROM uploads WHERE user = ?", (user,))
            connection.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *number))
            connection.execute("DELETE FROM uploads WHERE uploaded_ms <= ?", (now_ms - KEPT_MS,))
            last_kept = number[0] - UPLOADS_PER_USER_MAX
            connection.execute("DELETE FROM uploads WHERE user = ? AND number <= ?", (user, last_kept))
        return upload

    def find(self, user: int, upload_ids: list[int]) -> list[Upload]:
        marks = ", ".join("?" * len(upload_ids))
        query = f"SELECT {_COLUMNS} FROM uploads WHERE id IN ({marks}) AND user = ? AND uploaded_ms > ?"
        rows = self._file.read(query, *upload_ids, user, self._clock() - KEPT_MS)
        found = {row[0]: _upload(row) for row in rows}
        return [found[upload_id] for upload_id in upload_ids if upload_id in found]

    def describe(self, user: int, upload_id: int, description: str | None) -> Upload | None:
        with self._file.write() as connection:
            connection.execute(
                "UPDATE uploads SET description = ? WHERE id = ? AND user = ?", (description, upload_id, user)
            )
        return next(iter(self.find(user, [upload_id])), None)

    def forget(self, user: int) -> None:
        with self._file.write() as connection:
            connection.execute("DELETE FROM uploads WHERE user = ?", (user,))

    def close(self) -> None:
        self._file.close()


def _upload(row: tuple[Any, ...]) -> Upload:
    upload_id, user, *photo, description = row
    return Upload(upload_id, user, Photo(*photo), description)
