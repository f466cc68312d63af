"""Keyspaces of a test's own in the shared Cassandra, dropped at the end."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from services.services import Services

from darkroom.projections.cassandra_session import CassandraAddress, CassandraSession, open_session

_TABLES = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"


@contextmanager
def own_keyspace(service: Services) -> Iterator[CassandraSession]:
    """A session in a keyspace that is made for it, and dropped with it."""
    found = service("cassandra")
    address = CassandraAddress(
        ((found["host"], found["port"]),), f"test_{uuid.uuid4().hex}", found["user"], found["password"]
    )
    session = open_session(address, create=True, wait_s=60, tell=print)
    try:
        yield session
    finally:
        session.define(f"DROP KEYSPACE {address.keyspace}")
        session.close()


def empty_tables(session: CassandraSession) -> None:
    """Make every table of the keyspace as it was when it was made."""
    for (table,) in session.execute(session.prepare(_TABLES), (session.address.keyspace,)):
        if table != "darkroom_schema":
            session.execute(session.prepare(f"TRUNCATE {table}"))
