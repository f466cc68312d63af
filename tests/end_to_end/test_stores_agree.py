"""Memory, LMDB, Cassandra, Neo4j and Redis driven together, in any order and with crashes: at one position all agree.

Redis keeps what is first read of the feeds on Cassandra, and is told of changes by the same shards.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from cassandra_generation import cassandra
from graph_world import SETTINGS, GraphWorld, connected, emptied, neo4j_address, own_generation
from histories import History, histories
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from publishing import Landing, OpenViews, Published, PublishingWorld
from services.redis_addresses import redis_address
from services.services import Services
from world import World

from darkroom.projections import home_feed
from darkroom.projections.digests import GRAPH_PROJECTIONS, digest, digest_graph
from darkroom.projections.effects import Effects, Publisher
from darkroom.projections.feed_cache import FeedCache, NoFeedCache
from darkroom.projections.feed_cache_redis import RedisFeedCache, RedisPublisher
from darkroom.projections.graph import Graph
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j
from darkroom.projections.reading import Reading
from darkroom.projections.redis_link import RedisAddress
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Checkpoint, Identity, ShardStore
from darkroom.projections.stores.lmdb import LmdbShardStore

pytestmark = pytest.mark.services

SHARDS = 3
EVENTS = 120
GENERATION = 1
PAGES = (1, 4, 50)
LIMITS = settings(max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class InTurn:
    """Publishers of one shard, told one after the other, as a shard tells those that it has."""

    publishers: tuple[Publisher, ...]

    def open(self, position: int) -> None:
        for publisher in self.publishers:
            publisher.open(position)

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        for publisher in self.publishers:
            publisher.publish(effects, expected, checkpoint)

    def reached(self, checkpoint: Checkpoint) -> None:
        for publisher in self.publishers:
            publisher.reached(checkpoint)

    def close(self) -> None:
        for publisher in self.publishers:
            publisher.close()


class Stores:
    """Where worlds are made, each in an empty place of its own."""

    def __init__(self, service: Services, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._numbers = count()
        self._open_views: OpenViews = stack.enter_context(cassandra(service))
        self._neo4j: Neo4j = stack.enter_context(connected(neo4j_address(service("neo4j"))))
        self._generation = stack.enter_context(own_generation(self._neo4j, SHARDS))
        self._redis = redis_address(service)
        self._stack = stack
        self.caches: list[RedisFeedCache] = []

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
            return LmdbShardStore(path, identity)

        return make

    def _places(self, number: int) -> OpenViews:
        address = self._cache_address(number)

        def open_views(shard: int) -> Published:
            rows, views = self._open_views(number * SHARDS + shard)
            return Published(InTurn((rows, RedisPublisher(address, GENERATION, shard))), views)

        self.caches.append(RedisFeedCache(address))
        self._stack.callback(self.caches[-1].close)
        return open_views

    def _cache_address(self, number: int) -> RedisAddress:
        return replace(self._redis, prefix=f"{self._redis.prefix}:{number}")


def feeds(world: World, cache: FeedCache) -> dict[int, list[list[int]]]:
    """First pages of the home feeds of all who are live, of several sizes."""
    found: dict[int, list[list[int]]] = {}
    for user in filter(lambda user: world.knower(user).live(user), world.people()):
        with Reading(world.views, generation=GENERATION) as reading:
            pages = [home_feed.page(reading, user, limit=limit, cache=cache) for limit in PAGES]
            found[user] = [[entry.post for entry in page] for page in pages]
    return found


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
        self.redis = self.stores.caches[-1]

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

    @rule()
    def feeds_are_read(self) -> None:
        """So that Redis has what the next batches change."""
        feeds(self.cassandra, self.redis)

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
        for cache in (self.redis, self.redis, NoFeedCache()):  # what lies there, what was filled just now, and neither
            assert feeds(self.cassandra, cache) == feeds(self.memory, NoFeedCache())
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
        assert sum(cache.counts.hits for cache in stores.caches)
        assert not sum(cache.counts.failures for cache in stores.caches)
