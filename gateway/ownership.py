"""Whose a keyspace, a graph and a node's state are: each is noted as one log's, and refused to others before a write.

`check` only looks; `claim` notes, once everything has been looked at. A note without a record is claimed by name alone,
and completed as soon as the log has one.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.events.data_directory import DirectoryPaths
from darkroom.gateway.log_identity import LogIdentity
from darkroom.gateway.servers import Servers
from darkroom.gateway.settings import Settings
from darkroom.projections.store import StoreRefused

if TYPE_CHECKING:
    from darkroom.projections.cassandra_session import CassandraSession
    from darkroom.projections.graph_adapters.neo4j_connection import Neo4j

SCHEMA_VERSION = 1

_TABLE = "CREATE TABLE IF NOT EXISTS log_identity (place int PRIMARY KEY, name text, first text, told text)"
_SELECT = "SELECT name, first, told FROM log_identity WHERE place = 0"
_CLAIM = "INSERT INTO log_identity (place, name, first, told) VALUES (0, ?, ?, ?) IF NOT EXISTS"
_RENEW = "UPDATE log_identity SET name = ?, first = ?, told = ? WHERE place = 0 IF name = ? AND first = ?"
_TABLES = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"
_VERSIONS = "SELECT name, version FROM darkroom_schema"
_GENERATION = re.compile("views_g[0-9]+")

_NOTES = """
MATCH (g:DarkroomGeneration {namespace: $namespace}) RETURN g.number, g.log, g.log_first, g.log_told ORDER BY g.number
"""
_NOTE = """
MATCH (g:DarkroomGeneration {namespace: $namespace}) WHERE $number IS NULL OR g.number = $number
SET g.log = $name, g.log_first = $first, g.log_told = $told
"""


class OtherLog(StoreRefused):
    """What was named belongs to another log, or to nobody's. Nothing was written."""


def noted_log(servers: Servers) -> LogIdentity | None:
    """Whose the keyspace is; None where it is nobody's yet."""
    session = servers.cassandra
    if session is None or "log_identity" not in _tables(session):
        return None
    rows = session.execute(session.prepare(_SELECT, "SERIAL"))
    return LogIdentity(*rows[0]) if rows else None


def check_directory(settings: Settings, directory: DirectoryPaths) -> None:
    """Whether what lies on this node can be of a log, or of views, that are elsewhere. OtherLog."""
    if settings.kafka is not None and (directory.log / "data.mdb").exists():
        raise OtherLog(f"data: {directory.path} has a log of its own, and kafka names another. Name another directory")
    served = settings.kafka is not None or settings.cassandra is not None
    if served and _in_folder(directory.generations) and not _note(directory.generations).exists():
        raise OtherLog(
            f"data: {directory.generations} has state that was not made with these servers. Name another directory, or"
            " remove it and run catch-up"
        )


def check_keyspace(servers: Servers, generations: Path) -> None:
    """Whether the keyspace can be used by this program and this node, whatever the log. SchemaMismatch, OtherLog."""
    session = servers.cassandra
    tables = set() if session is None else _tables(session)
    if session is not None and tables and "darkroom_schema" not in tables:
        raise OtherLog(
            f"{_keyspace(session)} holds other tables: {', '.join(sorted(tables)[:5])}. Name a keyspace of Darkroom's"
            " own (cassandra_keyspace)"
        )
    if session is not None and tables:
        _check_versions(session)
    elif session is not None or servers.lacks_keyspace:
        _check_state(generations)


def check_owner(servers: Servers, generations: Path, log: LogIdentity) -> None:
    """Whether state, keyspace and graph are this log's, or nobody's. OtherLog, ForeignData."""
    if _note(generations).exists():
        noted_here = LogIdentity(**json.loads(_note(generations).read_text(encoding="utf-8")))
        _check_note(noted_here, log, f"the state in {generations}", "data")
    noted = noted_log(servers)
    if noted is not None and servers.cassandra is not None:
        _check_note(noted, log, _keyspace(servers.cassandra), "cassandra_keyspace")
    if servers.neo4j is not None:
        _check_graph(servers.neo4j, log, _highest(servers, generations))


def claim(servers: Servers, generations: Path, log: LogIdentity, tell: Callable[[str], None]) -> None:
    """Note whose they are. OtherLog where another log was quicker."""
    _claim_state(generations, log)
    if servers.cassandra is not None:
        _claim_keyspace(servers.cassandra, log, tell)
    if servers.neo4j is not None:
        _claim_graph(servers.neo4j, log)


def note_graph(neo4j: "Neo4j", log: LogIdentity, number: int | None) -> None:
    """Note whose one generation of the graph is, or all of the namespace."""
    namespace = neo4j.address.namespace
    fields: dict[str, Any] = {"name": log.name, "first": log.first, "told": log.told}
    neo4j.write(lambda transaction: transaction.run(_NOTE, namespace=namespace, number=number, **fields))


def _check_versions(session: "CassandraSession") -> None:
    """Every table of this program's version, before the first that is not there yet is made."""
    from darkroom.gateway import credentials_cassandra, uploads_cassandra
    from darkroom.projections import pointer_cassandra
    from darkroom.projections.cassandra_schema import SchemaMismatch
    from darkroom.projections.view_adapters import cassandra_tables

    known = {
        "log_identity": SCHEMA_VERSION,
        "generation_pointer": pointer_cassandra.SCHEMA_VERSION,
        "credentials": credentials_cassandra.SCHEMA,
        "uploads": uploads_cassandra.SCHEMA,
    }
    for name, version in session.execute(session.prepare(_VERSIONS)):
        wanted = cassandra_tables.SCHEMA_VERSION if _GENERATION.fullmatch(name) else known.get(name)
        if version != wanted:
            ours = f"are of version {wanted}" if wanted else "has none of that name"
            raise SchemaMismatch(
                f"{_keyspace(session)}: the tables of {name} are of version {version}, and this program's {ours}. Run"
                " the program that made them, or name another keyspace (cassandra_keyspace)"
            )


def _check_state(generations: Path) -> None:
    """A node that has published somewhere does not begin in an empty keyspace: its name is the likelier mistake."""
    state = _in_folder(generations)
    if state:
        raise OtherLog(
            f"cassandra_keyspace: nothing of Darkroom's is there, and this node has state of generation {max(state)}."
            f" Name the keyspace to which that was published; or, if there is none, remove {generations} and run"
            " catch-up"
        )


def _check_graph(neo4j: "Neo4j", log: LogIdentity, highest: int) -> None:
    where = f"{neo4j.address}, namespace {neo4j.address.namespace}"
    notes = neo4j.run(_NOTES, namespace=neo4j.address.namespace)
    for number, name, first, told in notes:
        if name is not None:
            _check_note(LogIdentity(name, first, told), log, f"{where}, generation {number}", "neo4j_namespace")
        elif number > highest:
            raise OtherLog(
                f"{where} has generation {number}, which was never given here: another log's graph is there. Name"
                " another namespace (neo4j_namespace), or remove it"
            )
    if not notes:
        from darkroom.projections.graph_adapters import neo4j_schema

        neo4j_schema.check_ours(neo4j)


def _check_note(noted: LogIdentity, log: LogIdentity, where: str, setting: str) -> None:
    if not noted.is_of(log):
        why = "begins with another record" if noted.first and log.first else "has another identity"
        raise OtherLog(
            f"{where} belongs to another log, {noted.told}: this one, {log.told}, {why}. Name that log, or another"
            f" place for this one ({setting})"
        )


def _claim_state(generations: Path, log: LogIdentity) -> None:
    path, text = _note(generations), json.dumps(asdict(log))
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    generations.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"log.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _note(generations: Path) -> Path:
    return generations / "log.json"


def _claim_keyspace(session: "CassandraSession", log: LogIdentity, tell: Callable[[str], None]) -> None:
    from darkroom.projections.cassandra_schema import ensure_schema

    ensure_schema(session, "log_identity", SCHEMA_VERSION, [_TABLE])
    ours = (log.name, log.first, log.told)
    rows = session.execute(session.prepare(_SELECT, "SERIAL"))
    if rows and rows[0] == ours:
        return
    if not rows:
        session.execute_if(session.prepare(_CLAIM), ours)
    else:
        noted = LogIdentity(*rows[0])
        _check_note(noted, log, _keyspace(session), "cassandra_keyspace")
        if noted.name != log.name:
            tell(f"{_keyspace(session)} was {noted.told}'s, and is {log.told}'s now: it begins with the same record")
        session.execute_if(session.prepare(_RENEW), (*ours, noted.name, noted.first))
    [settled] = session.execute(session.prepare(_SELECT, "SERIAL"))
    _check_note(LogIdentity(*settled), log, _keyspace(session), "cassandra_keyspace")


def _claim_graph(neo4j: "Neo4j", log: LogIdentity) -> None:
    """Every command comes here, and all but the first find it noted."""
    noted = neo4j.run(_NOTES, namespace=neo4j.address.namespace)
    if any(note != [log.name, log.first, log.told] for _, *note in noted):
        note_graph(neo4j, log, None)


def _highest(servers: Servers, generations: Path) -> int:
    """The highest number of a generation that was given, without making the table that says so."""
    session = servers.cassandra
    if session is None and not servers.lacks_keyspace:
        from darkroom.projections.generations import read_pointer

        return read_pointer(generations).highest
    if session is None or "generation_pointer" not in _tables(session):
        return 0
    from darkroom.projections.pointer_cassandra import CassandraPointers

    return CassandraPointers(session).read().highest


def _tables(session: "CassandraSession") -> set[str]:
    return {name for (name,) in session.execute(session.prepare(_TABLES), (session.address.keyspace,))}


def _keyspace(session: "CassandraSession") -> str:
    return f"{session.address}, keyspace {session.address.keyspace}"


def _in_folder(generations: Path) -> set[int]:
    """Of which generations this node has state."""
    paths: Iterable[Path] = generations.glob("[0-9]*")
    return {int(path.name) for path in paths}
