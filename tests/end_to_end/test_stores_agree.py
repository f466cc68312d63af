"""Memory, LMDB, Cassandra and Neo4j driven together, in any order and with crashes: at one position all agree."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from cassandra_generation import cassandra
from graph_world import SETTINGS, GraphWorld, connected, emptied, neo4j_address, own_generation
from histories import History, histories
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from publishing import Landing, OpenViews, PublishingWorld
from services.services import Services
from world import World

from darkroom.projections.digests import GRAPH_PROJECTIONS, digest, digest_graph
from darkroom.projections.graph import Graph
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, ShardStore
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

pytestmark = pytest.mark.services

SHARDS = 3
EVENTS = 120
LIMITS = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


class Stores:
    """Where worlds are made, each in an empty place of its own."""

    def __init__(self, service: Services, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._numbers = count()
        self._open_views: OpenViews = stack.enter_context(cassandra(service))
        self._neo4j: Neo4j = stack.enter_context(connected(neo4j_address(service("neo4j"))))
        self._generation = stack.enter_context(own_generation(self._neo4j, SHARDS))

    def worlds(self, history: History, shards: int, seed: int) -> tuple[World, World, PublishingWorld, GraphWorld]:
        number = next(self._numbers)
        emptied(self._neo4j, self._generation)
        return (
            World(history, shards, SETTINGS),
            World(history, SHARDS, FoldSettings(2, feed_rows=5), self._lmdb(number)),
            PublishingWorld(history, SHARDS, FoldSettings(4, feed_rows=9), self._places(number), seed=seed),
            GraphWorld(history, SHARDS, self._neo4j, self._generation),
        )

    def _lmdb(self, number: int) -> Callable[[Identity], ShardStore]:
        def make(identity: Identity) -> ShardStore:
            path = self._folder / f"{number}" / f"{identity.shard}"
            return LmdbShardStore(path, Identity(FORMAT, 1, identity.shard, identity.shards))

        return make

    def _places(self, number: int) -> OpenViews:
        return lambda shard: self._open_views(number * SHARDS + shard)


class Agreement(RuleBasedStateMachine):
    """Each store's shards go as far as has happened, in batches of their own."""

    stores: Stores

    def __init__(self) -> None:
        super().__init__()
        self.happened = 0
        self.worlds: tuple[World, ...] = ()

    @initialize(history=histories(EVENTS), shards=st.integers(1, 4), seed=st.integers(0, 2**32))
    def begin(self, history: History, shards: int, seed: int) -> None:
        self.worlds = self.memory, self.lmdb, self.cassandra, self.neo4j = self.stores.worlds(history, shards, seed)

    @rule(events=st.integers(1, EVENTS))
    def happens(self, events: int) -> None:
        self.happened = min(self.happened + events, len(self.memory.records))

    @rule(place=st.integers(0, 3), shard=st.integers(0, SHARDS - 1), batch=st.integers(1, 30))
    def folds(self, place: int, shard: int, batch: int) -> None:
        world = self.worlds[place]
        shard %= len(world.shards)
        if left := self.left(world, shard):
            world.step(shard, min(batch, left))

    @rule(place=st.integers(0, 3), shard=st.integers(0, SHARDS - 1))
    def restarts(self, place: int, shard: int) -> None:
        world = self.worlds[place]
        world.restart(shard % len(world.shards))

    @rule(shard=st.integers(0, SHARDS - 1), batch=st.integers(1, 30), landing=st.sampled_from(Landing))
    def is_interrupted(self, shard: int, batch: int, landing: Landing) -> None:
        if left := self.left(self.cassandra, shard):
            self.cassandra.try_step(shard, min(batch, left), landing)
        if left := self.left(self.neo4j, shard):
            self.neo4j.crash(shard, min(batch, left))

    @precondition(lambda self: self.happened)
    @rule()
    def agrees(self) -> None:
        for world in self.worlds:
            for shard in range(len(world.shards)):
                while left := self.left(world, shard):
                    world.step(shard, left)
        expected = digest(self.memory.views, range_ids=8)
        assert digest(self.lmdb.views, range_ids=8).differences(expected) == []
        assert digest(self.cassandra.views, range_ids=8).differences(expected) == []
        found = digest_graph(self.graph, self.memory.views, expected.scope)
        assert found.differences(expected, GRAPH_PROJECTIONS) == []

    def left(self, world: World, shard: int) -> int:
        """How much has happened that the shard has not folded in."""
        return self.happened - world.shards[shard].position

    @contextmanager
    def graph(self) -> Iterator[Graph]:
        yield self.neo4j.graph()

    def teardown(self) -> None:
        try:
            if self.worlds and self.memory.records:
                self.happened = len(self.memory.records)
                self.agrees()
        finally:
            for world in self.worlds:
                world.close()


def test_whatever_order_and_crashes_there_were_all_stores_agree(service: Services, tmp_path: Path) -> None:
    with ExitStack() as stack:
        stores = Stores(service, tmp_path, stack)

        class OnStores(Agreement):
            pass

        OnStores.stores = stores
        run_state_machine_as_test(OnStores, settings=LIMITS)
