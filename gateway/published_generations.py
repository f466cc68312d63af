"""Generations whose views are on servers: tables, labels and the shards' own state, made and dropped together."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from darkroom.gateway.log_identity import LogIdentity
from darkroom.gateway.ownership import note_graph
from darkroom.projections.generations import Generations, OpenGeneration, Pointer, drop_others
from darkroom.projections.store import StoreRefused
from darkroom.projections.views import ShardViews

if TYPE_CHECKING:
    from darkroom.projections.cassandra_requests import Request
    from darkroom.projections.cassandra_session import CassandraSession
    from darkroom.projections.graph_adapters.neo4j_connection import Neo4j
    from darkroom.projections.state_snapshots import SnapshotStore

DROP_AFTER_S = 60.0
"""Gateways elsewhere may still read what no longer serves: no lock tells of them, and no read takes so long."""


class Companion(Protocol):
    """What there is of a generation beside what is read: made before it, and dropped after it."""

    def numbers(self) -> set[int]:
        """Of which generations there is something."""

    def create(self, number: int, shards: int) -> None:
        """Have a place for a new generation."""

    def drop(self, number: int) -> None:
        """Remove all of a generation; again is nothing."""


class AccompaniedGenerations:
    """See `Generations`: those of `generations`, each with its companions."""

    def __init__(self, generations: Generations, companions: Sequence[Companion]) -> None:
        self._generations = generations
        self._companions = companions

    def look(self) -> object:
        return self._generations.look()

    def pointer(self) -> Pointer:
        return self._generations.pointer()

    def allot(self) -> int:
        """Never the number of what is left of a time before the pointer was lost."""
        taken = set[int]().union(*(companion.numbers() for companion in self._companions))
        while (number := self._generations.allot()) in taken:
            pass
        return number

    def create(self, number: int, shards: int) -> OpenGeneration:
        for companion in self._companions:
            companion.create(number, shards)
        return self._generations.create(number, shards)

    def serve(self, pointer: Pointer) -> None:
        self._generations.serve(pointer)

    def open_serving(self) -> OpenGeneration | None:
        return self._generations.open_serving()

    def drop_others(self, keep: set[int]) -> list[int]:
        held = self._generations.drop_others(keep)
        for companion in self._companions:
            for number in companion.numbers() - keep - set(held):
                companion.drop(number)
        return held


class GraphCompanion:
    """A generation's graph on Neo4j, noted as the log's."""

    def __init__(self, neo4j: "Neo4j", log: LogIdentity) -> None:
        self._neo4j = neo4j
        self._log = log

    def numbers(self) -> set[int]:
        from darkroom.projections.graph_adapters.neo4j_schema import generations

        return set(generations(self._neo4j))

    def create(self, number: int, shards: int) -> None:
        from darkroom.projections.graph_adapters.neo4j_schema import create_generation

        if number in self.numbers():  # numbers are never given again, so somebody else was quicker than we
            address = self._neo4j.address
            raise StoreRefused(
                f"{address} has generation {number} of namespace {address.namespace} already, and it was never given"
                " here: another log's graph is there; name another namespace (neo4j_namespace), or remove it"
            )
        create_generation(self._neo4j, number, shards)
        note_graph(self._neo4j, self._log, number)

    def drop(self, number: int) -> None:
        from darkroom.projections.graph_adapters.neo4j_schema import drop_generation

        drop_generation(self._neo4j, number)


class SnapshotCompanion:
    """A generation's snapshots in the object store. They are listed once: only this supervisor makes generations."""

    def __init__(self, snapshots: "SnapshotStore") -> None:
        self._snapshots = snapshots
        self._numbers: set[int] | None = None

    def numbers(self) -> set[int]:
        """None where the store does not answer: what may be kept a while longer must not keep anything waiting."""
        from darkroom.events.object_store import ObjectStoreError

        if self._numbers is None:
            try:
                self._numbers = self._snapshots.generations()
            except ObjectStoreError:
                return set()
        return self._numbers

    def create(self, number: int, shards: int) -> None:  # noqa: ARG002
        if self._numbers is not None:
            self._numbers = self._numbers | {number}

    def drop(self, number: int) -> None:
        from darkroom.events.object_store import ObjectStoreError

        with suppress(ObjectStoreError):  # it is still listed, and dropped the next time
            self._snapshots.drop(number)
            self._numbers = self.numbers() - {number}


class PublishedGeneration:
    """See `OpenGeneration`. The session stays whoever's it is."""

    def __init__(self, session: "CassandraSession", number: int, shards: int) -> None:
        from darkroom.projections.view_adapters.cassandra import CassandraViews

        self.number = number
        views = [CassandraViews(session, number, shard) for shard in range(shards)]
        self.views: list[ShardViews] = [*views]
        self._session = session
        self._checkpoints: list[Request] = [(view.queries.checkpoint, (view.shard,)) for view in views]

    def positions(self) -> list[int]:
        """In one round, however many the shards are."""
        return [rows[0][0] if rows else 0 for rows in self._session.execute_all(self._checkpoints)]

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
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from darkroom.projections.pointer_cassandra import CassandraPointers

        self._session = session
        self._folder = folder
        self._clock = clock
        self._pointers = CassandraPointers(session)
        self._unwanted_since: dict[int, float] = {}

    def look(self) -> object:
        return self._pointers.read()

    def pointer(self) -> Pointer:
        return self._pointers.read()

    def allot(self) -> int:
        """Never the number of state that is left of a time before the keyspace was lost."""
        taken = {int(path.name) for path in self._folder.glob("[0-9]*")}
        while (number := self._pointers.allot()) in taken:
            pass
        return number

    def create(self, number: int, shards: int) -> OpenGeneration:
        from darkroom.projections.view_adapters.cassandra_tables import create_generation

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
        unwanted = set(generations(self._session)) - keep
        self._unwanted_since = {number: self._unwanted_since.get(number, now) for number in unwanted}
        due = {number for number, since in self._unwanted_since.items() if now - since >= DROP_AFTER_S}
        for number in sorted(due):
            drop_generation(self._session, number)
        held = sorted(unwanted - due)
        drop_others(self._folder, keep | set(held))
        return held
