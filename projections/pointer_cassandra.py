"""The pointer to the serving generation, in Cassandra: replaced in one step, read by every request.

It changes by lightweight transactions alone, on the condition that it is as it was read, so the highest number given
never falls, and no number is given twice, however many ask at once and whatever answer is lost.
"""

import uuid
from typing import NamedTuple

from darkroom.projections.cassandra_schema import ensure_schema
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.generations import Pointer, PointerDamaged
from darkroom.projections.routing import SHARDS_MAX
from darkroom.projections.store import StoreUnavailable

SCHEMA_VERSION = 1
TRIES = 20

_TABLE = (
    "CREATE TABLE IF NOT EXISTS {}.generation_pointer"
    " (place int PRIMARY KEY, generation int, shards int, highest int, writer uuid)"
)
_SELECT = "SELECT generation, shards, highest, writer FROM {}.generation_pointer WHERE place = 0"
_FIRST = (
    "INSERT INTO {}.generation_pointer (place, generation, shards, highest, writer)"
    " VALUES (0, 0, 0, 0, ?) IF NOT EXISTS"
)
_REPLACE = (
    "UPDATE {}.generation_pointer SET generation = ?, shards = ?, highest = ?, writer = ? WHERE place = 0 IF writer = ?"
)


class _Written(NamedTuple):
    """The pointer, and by whose write: no two writes have the same."""

    pointer: Pointer
    writer: uuid.UUID


class CassandraPointers:
    """What `read_pointer`, `write_pointer` and `allot` of `generations` do, in a keyspace."""

    def __init__(self, session: CassandraSession) -> None:
        """Makes the table if need be. SchemaMismatch."""
        self._session = session
        keyspace = session.address.keyspace
        ensure_schema(session, "generation_pointer", SCHEMA_VERSION, [_TABLE.format(keyspace)])
        self._select = session.prepare(_SELECT.format(keyspace))
        self._select_settled = session.prepare(_SELECT.format(keyspace), "SERIAL")
        self._first = session.prepare(_FIRST.format(keyspace))
        self._replace = session.prepare(_REPLACE.format(keyspace))

    def read(self) -> Pointer:
        """The pointer; `Pointer()` where there is none. PointerDamaged where it makes no sense."""
        rows = self._session.execute(self._select)
        return self._checked(rows[0][:3]) if rows else Pointer()

    def write(self, pointer: Pointer) -> None:
        """Replace the pointer, durably. Whatever number was given meanwhile stays given."""
        for _ in range(TRIES):
            written = self._settled()
            highest = max(pointer.highest, written.pointer.highest)
            if self._replaced(written, Pointer(pointer.generation, pointer.shards, highest)):
                return
        raise self._contended()

    def allot(self) -> int:
        """A new generation's number, noted before it is used."""
        for _ in range(TRIES):
            written = self._settled()
            pointer = written.pointer
            number = pointer.highest + 1
            if self._replaced(written, Pointer(pointer.generation, pointer.shards, number)):
                return number
        raise self._contended()

    def _settled(self) -> _Written:
        """As it is after every transaction that was begun, whether its answer arrived or not."""
        rows = self._session.execute(self._select_settled)
        if not rows:
            self._session.execute_if(self._first, (uuid.uuid4(),))
            rows = self._session.execute(self._select_settled)
        return _Written(self._checked(rows[0][:3]), rows[0][3])

    def _replaced(self, written: _Written, pointer: Pointer) -> bool:
        """Whether it was replaced by this call, on the condition that nobody else had done so."""
        writer = uuid.uuid4()
        values = (pointer.generation, pointer.shards, pointer.highest, writer)
        found = self._session.execute_if(self._replace, (*values, written.writer))
        return found is None or found["writer"] == writer

    def _checked(self, row: tuple[int, int, int]) -> Pointer:
        pointer = Pointer(*row)
        if not 0 <= pointer.generation <= pointer.highest or not 0 <= pointer.shards <= SHARDS_MAX:
            raise PointerDamaged(
                f"{self._session.address}, keyspace {self._session.address.keyspace} names what cannot be: {pointer}"
            )
        return pointer

    def _contended(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._session.address}: others replace the pointer all the time; ask again")
