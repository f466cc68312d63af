"""Uploads in Cassandra, one partition a user, for gateways on several nodes: each finds what another took in.

Uploads are numbered in each user's order, and whose turn it is to number one is decided by lightweight transaction.
The rows expire by themselves after a day.
"""

from typing import NamedTuple

from darkroom.events.clock import Clock, system_clock
from darkroom.gateway.cassandra_tables import CassandraTables
from darkroom.gateway.media import Photo
from darkroom.gateway.turns import TooBusy
from darkroom.gateway.uploads import KEPT_MS, UPLOADS_PER_USER_MAX, Upload, UploadsUnusable, new_upload
from darkroom.projections.cassandra_session import CassandraSession

SCHEMA = 1
ATTEMPTS_MAX = 50

_KEPT_S = KEPT_MS // 1000
_TABLES = (
    """CREATE TABLE IF NOT EXISTS uploads (
        user bigint, number bigint, id bigint, hash text, width int, height int, placeholder text, description text,
        uploaded_ms bigint, last_number bigint STATIC, PRIMARY KEY (user, number)
    )""",
)
_LAST_NUMBER = "SELECT last_number FROM uploads WHERE user = ? LIMIT 1"
_NUMBER = f"UPDATE uploads USING TTL {_KEPT_S} SET last_number = ? WHERE user = ? IF last_number = ?"
_ADD = f"""INSERT INTO uploads (user, number, id, hash, width, height, placeholder, description, uploaded_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL {_KEPT_S}"""
_DROP_OLDEST = "DELETE FROM uploads WHERE user = ? AND number <= ?"
_UPLOADS = """SELECT number, id, hash, width, height, placeholder, description, uploaded_ms, ttl(id)
    FROM uploads WHERE user = ? AND number > 0"""
_DESCRIBE = "UPDATE uploads USING TTL ? SET description = ? WHERE user = ? AND number = ? IF id = ?"
_FORGET_NUMBER = "DELETE last_number FROM uploads WHERE user = ? IF last_number != null"
_FORGET_ALL = "DELETE FROM uploads WHERE user = ? AND number > 0"


class _Row(NamedTuple):
    """`ttl_s` is None in the second in which the row expires."""

    number: int
    id: int
    hash: str
    width: int
    height: int
    placeholder: str
    description: str | None
    uploaded_ms: int
    ttl_s: int | None


class CassandraUploads:
    """See `Uploads`. The tables are made if need be; SchemaMismatch where they are of another version."""

    def __init__(self, session: CassandraSession, clock: Clock = system_clock) -> None:
        self._tables = CassandraTables(session, "uploads", SCHEMA, _TABLES, UploadsUnusable)
        self._clock = clock

    def add(self, user: int, photo: Photo, description: str | None) -> Upload:
        upload = new_upload(user, photo, description)
        row = (upload.id, photo.hash, photo.width, photo.height, photo.placeholder, description, self._clock())
        for _ in range(ATTEMPTS_MAX):
            if self._numbered(user, row):
                return upload
        raise TooBusy(f"user {user} uploads too much at once; try again later")

    def find(self, user: int, upload_ids: list[int]) -> list[Upload]:
        found = {row.id: _upload(user, row) for row in self._rows(user)}
        return [found[upload_id] for upload_id in upload_ids if upload_id in found]

    def describe(self, user: int, upload_id: int, description: str | None) -> Upload | None:
        for row in self._rows(user):
            if row.id == upload_id:
                # It must not outlive its row, whose seconds are counted down as we speak.
                ttl_s = max(1, (row.ttl_s or 0) - 1)
                if self._tables.decide(_DESCRIBE, ttl_s, description, user, row.number, upload_id) is None:
                    return _upload(user, row._replace(description=description))
        return None

    def forget(self, user: int) -> None:
        self._tables.decide_all((_FORGET_NUMBER, (user,)), (_FORGET_ALL, (user,)))

    def close(self) -> None:
        """Nothing is held: the session is closed by whoever opened it."""

    def _numbered(self, user: int, row: tuple[object, ...]) -> bool:
        """Whether it was stored, under the next number; if not, another was at the same time."""
        last = next((number for (number,) in self._tables.read_serially(_LAST_NUMBER, user)), None)
        number = (last or 0) + 1
        found = self._tables.decide_all(
            (_NUMBER, (number, user, last)),
            (_ADD, (user, number, *row)),
            (_DROP_OLDEST, (user, number - UPLOADS_PER_USER_MAX)),
        )
        return found is None or any(kept.id == row[0] for kept in self._rows(user))

    def _rows(self, user: int) -> list[_Row]:
        rows = [_Row(*row) for row in self._tables.read(_UPLOADS, user)]
        oldest_ms = self._clock() - KEPT_MS
        return [row for row in rows if row.id is not None and row.uploaded_ms > oldest_ms]


def _upload(user: int, row: _Row) -> Upload:
    return Upload(row.id, user, Photo(row.hash, row.width, row.height, row.placeholder), row.description)
