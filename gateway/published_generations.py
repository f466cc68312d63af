"""Generations whose views are on servers: tables, labels and the shards' own state, made and dropped together."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.gateway.log_identity import LogIdentity
from darkroom.gateway.ownership import note_graph
from darkroom.projections.generations import FolderGenerations, Generation, OpenGeneration, Pointer, drop_others
from darkroom.projections.store import StoreRefused
from darkroom.projections.views import ShardViews

if TYPE_CHECKING:
    from darkroom.projections.cassandra_session import CassandraSession
    from darkroom.projections.graph_adapters.neo4j_connection import Neo4j

DROP_AFTER_S = 60.0
"""Gateways elsewhere may still read what no longer serves: no lock tells of them, and no read takes so long."""


class GraphedGenerations(FolderGenerations):
    """Generations in a folder whose graph is on Neo4j too."""

    def __init__(self, folder: Path, neo4j: "Neo4j", log: LogIdentity) -> None:
        super().__init__(folder)
        self._neo4j = neo4j
        self._log = log

    def allot(self) -> int:
        return _fresh(super().allot, _in_graph(self._neo4j))

    def create(self, number: int, shards: int) -> Generation:
        _create_graph(self._neo4j, self._log, number, shards)
        return super().create(number, shards)

    def drop_others(self, keep: set[int]) -> list[int]:
        held = super().drop_others(keep)
        for number in _in_graph(self._neo4j) - keep - set(held):
            _drop_graph(self._neo4j, number)
        return held


class PublishedGeneration:
    """See `OpenGeneration`. The session stays whoever's it is."""

    def __init__(self, session: "CassandraSession", number: int, shards: int) -> None:
        from darkroom.projections.view_adapters.cassandra import CassandraViews

        self.number = number
        self.views: list[ShardViews] = [CassandraViews(session, number, shard) for shard in range(shards)]

    def positions(self) -> list[int]:
        return [view.checkpoint().position for view in self.views]

    def bytes_stored(self) -> list[int | None]:
        return [None] * len(self.views)

    def release_dead_readers(self) -> None:
        """A server does that by itself."""

    def close(self) -> None:
        """Nothing is held."""


class PublishedGenerations:
    """See `Generations`. `folder` has the state of the shards that run on this node."""

    def __init__(
        self,
        session: "CassandraSession",
        neo4j: "Neo4j | None",
        folder: Path,
        log: LogIdentity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from darkroom.projections.pointer_cassandra import CassandraPointers

        self._session = session
        self._neo4j = neo4j
        self._folder = folder
        self._log = log
        self._clock = clock
        self._pointers = CassandraPointers(session)
        self._unwanted_since: dict[int, float] = {}

    def look(self) -> object:
        return self._pointers.read()

    def pointer(self) -> Pointer:
        return self._pointers.read()

    def allot(self) -> int:
        """Never the number of what is left of a time before the keyspace was lost."""
        state = {int(path.name) for path in self._folder.glob("[0-9]*")}
        return _fresh(self._pointers.allot, state | _in_graph(self._neo4j))

    def create(self, number: int, shards: int) -> OpenGeneration:
        from darkroom.projections.view_adapters.cassandra_tables import create_generation

        if self._neo4j is not None:
            _create_graph(self._neo4j, self._log, number, shards)
        create_generation(self._session, number)
        return PublishedGeneration(self._session, number, shards)

    def serve(self, pointer: Pointer) -> None:
        self._pointers.write(pointer)

    def open_serving(self) -> OpenGeneration | None:
        pointer = self._pointers.read()
        return PublishedGeneration(self._session, pointer.generation, pointer.shards) if pointer.generation else None

    def drop_others(self, keep: set[int]) -> list[int]:
        """What has not been wanted for DROP_AFTER_S is dropped; until then it counts as read by somebody."""
        from darkroom.projections.view_adapters.cassandra_tables import drop_generation, generations

        now = self._clock()
        unwanted = (set(generations(self._session)) | _in_graph(self._neo4j)) - keep
        self._unwanted_since = {number: self._unwanted_since.get(number, now) for number in unwanted}
        due = {number for number, since in self._unwanted_since.items() if now - since >= DROP_AFTER_S}
        for number in sorted(due):
            if self._neo4j is not None:
                _drop_graph(self._neo4j, number)
            drop_generation(self._session, number)  # last, for what is listed here is tried again
        held = sorted(unwanted - due)
        drop_others(self._folder, keep | set(held))
        return held


def _fresh(allot: Callable[[], int], taken: set[int]) -> int:
    """The next number of which nothing is left anywhere."""
    while (number := allot()) in taken:
        pass
    return number


def _in_graph(neo4j: "Neo4j | None") -> set[int]:
    if neo4j is None:
        return set()
    from darkroom.projections.graph_adapters.neo4j_schema import generations

    return set(generations(neo4j))


def _create_graph(neo4j: "Neo4j", log: LogIdentity, number: int, shards: int) -> None:
    from darkroom.projections.graph_adapters.neo4j_schema import create_generation

    if number in _in_graph(neo4j):  # numbers are never given again, so somebody else was quicker than we
        raise StoreRefused(
            f"{neo4j.address} has generation {number} of namespace {neo4j.address.namespace} already, and it was never"
            " given here: another log's graph is there; name another namespace (neo4j_namespace), or remove it"
        )
    create_generation(neo4j, number, shards)
    note_graph(neo4j, log, number)


def _drop_graph(neo4j: "Neo4j", number: int) -> None:
    from darkroom.projections.graph_adapters.neo4j_schema import drop_generation

    drop_generation(neo4j, number)
