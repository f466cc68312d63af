"""Tables in Cassandra, made once: whoever starts first makes them, the others wait, and another version is refused.

Each schema has a row that says which version it is of and whether it is complete. The row is claimed by lightweight
transaction before the first table is made, and where it names another version nothing at all is written.
"""

import time
import uuid
from collections.abc import Sequence

from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.store import StoreRefused, StoreUnavailable

LEASE_S = 60
_POLL_S = 0.1

_REGISTRY = (
    "CREATE TABLE IF NOT EXISTS darkroom_schema (name text PRIMARY KEY, version int, complete boolean, maker uuid)"
)
_CLAIM = "INSERT INTO darkroom_schema (name, version, complete) VALUES (?, ?, false) IF NOT EXISTS"
_LEASE = f"UPDATE darkroom_schema USING TTL {LEASE_S} SET maker = ? WHERE name = ? IF complete = false AND maker = null"
_RELEASE = "UPDATE darkroom_schema SET maker = null, complete = ? WHERE name = ? IF maker = ?"
_FORGET = "DELETE FROM darkroom_schema WHERE name = ? IF EXISTS"


class SchemaMismatch(StoreRefused):
    """The tables are of another version than this program's. Nothing was written."""


def ensure_schema(session: CassandraSession, name: str, version: int, statements: Sequence[str]) -> None:
    """Make the tables of the schema `name`, once. Statements must be repeatable (IF NOT EXISTS): a crash repeats them.

    SchemaMismatch; StoreUnavailable also where another process that makes them does not get it done.
    """
    if not _registered(session):
        session.define(_REGISTRY)
    maker, until = uuid.uuid4(), time.monotonic() + 2 * LEASE_S
    while not _complete(session, name, version):
        if _leased(session, name, maker):
            _make(session, name, maker, statements)
            return
        if time.monotonic() > until:
            raise StoreUnavailable(
                f"{session.address}: another process is making the tables of {name}, and does not end"
            )
        time.sleep(_POLL_S)


def _make(session: CassandraSession, name: str, maker: uuid.UUID, statements: Sequence[str]) -> None:
    complete = False
    try:
        for statement in statements:
            session.define(statement)
        complete = True
    finally:
        session.execute_if(session.prepare(_RELEASE), (complete, name, maker))


def drop_schema(session: CassandraSession, name: str, statements: Sequence[str]) -> None:
    """Drop what `ensure_schema` made, by statements that are repeatable (IF EXISTS); again is nothing."""
    for statement in statements:
        session.define(statement)
    if _registered(session):
        session.execute_if(session.prepare(_FORGET), (name,))


def _registered(session: CassandraSession) -> bool:
    """Whether there is a registry to ask. The system's own tables tell of it a moment before it can be used."""
    try:
        session.prepare(_CLAIM)
    except StoreRefused:
        return False
    return True


def _complete(session: CassandraSession, name: str, version: int) -> bool:
    """Whether the tables are made; if they are not, they are this version's to make."""
    found = session.execute_if(session.prepare(_CLAIM), (name, version))
    if found and found["version"] != version:
        raise SchemaMismatch(
            f"{session.address}, keyspace {session.address.keyspace}: the tables of {name} are of version"
            f" {found['version']}, and this program's are of version {version}. Run the program that made them, or name"
            f" another keyspace"
        )
    return bool(found and found["complete"])


def _leased(session: CassandraSession, name: str, maker: uuid.UUID) -> bool:
    """Whether it is this maker's turn. Turns end by themselves, for a maker that dies says nothing."""
    found = session.execute_if(session.prepare(_LEASE), (maker, name))
    return found is None or found["maker"] == maker
