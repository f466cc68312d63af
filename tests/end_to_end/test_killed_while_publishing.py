"""A shard that publishes to Cassandra, Neo4j and Redis is killed between these and its commit, again and again.

Whatever the next incarnation publishes once more, and whatever was read meanwhile, all end as an embedded fold.
"""

import os
import pickle
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from forking import run_forked
from graph_world import connected, neo4j_address, own_generation
from histories import History, seeded_history
from publishing_task import PublishingTask
from quarrels import quarrel
from services.keyspaces import own_keyspace
from services.redis_addresses import redis_address
from services.services import Services
from world import World

from darkroom.projections import home_feed, people
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.digests import GRAPH_PROJECTIONS, digest, digest_graph
from darkroom.projections.feed_cache import FeedCache, NoFeedCache
from darkroom.projections.feed_cache_redis import RedisFeedCache
from darkroom.projections.graph import Graph
from darkroom.projections.graph_adapters.neo4j import Neo4jGraph
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.view_adapters.cassandra import CassandraViews
from darkroom.projections.view_adapters.cassandra_tables import create_generation
from darkroom.projections.views import ShardViews

pytestmark = pytest.mark.services

CHILD = Path(__file__).parent / "children" / "publish_to_all_and_die.py"
CHILD_S = 120
RECORDS = 90
MOMENTS_OF_A_BATCH = 7
"""After each of three publishers has published, after each has told its readers, and before the commit."""


class Site:
    """The servers, with a generation of the test's own in each, and what is read of it."""

    def __init__(self, service: Services, history: History, folder: Path, stack: ExitStack) -> None:
        self.history = history
        session: CassandraSession = stack.enter_context(own_keyspace(service))
        address = neo4j_address(service("neo4j"))
        self.neo4j: Neo4j = stack.enter_context(connected(address))
        create_generation(session, 1)
        graph = stack.enter_context(own_generation(self.neo4j, 1))
        redis = redis_address(service)
        self.task = PublishingTask(history, folder / "shard", session.address, address, redis, 1, graph)
        LmdbShardStore(self.task.path, Identity(FORMAT, 1, 0, 1)).close()
        self.views: list[ShardViews] = [CassandraViews(session, 1, 0)]
        self.cache = RedisFeedCache(redis)
        stack.callback(self.cache.close)

    def publish(self, batch_events: int, moments: int = 0) -> int:
        """The child's exit status."""
        told = pickle.dumps(replace(self.task, batch_events=batch_events, moments=moments))
        # The child unpickles a task of the tests' own.
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": paths}
        return run_forked([CHILD], stdin=told, environment=environment, timeout_s=CHILD_S).returncode

    def committed(self) -> int:
        store = LmdbShardStore(self.task.path)
        try:
            return store.checkpoint().position
        finally:
            store.close()

    @contextmanager
    def graph(self) -> Iterator[Graph]:
        yield Neo4jGraph(self.neo4j, self.task.graph, 1)

    def check(self) -> None:
        """All three against a fold in memory."""
        world = World(self.history, 1, FoldSettings())
        world.catch_up()
        expected = digest(world.views, range_ids=8)
        assert digest(self.views, range_ids=8).differences(expected) == []
        assert digest_graph(self.graph, world.views, expected.scope).differences(expected, GRAPH_PROJECTIONS) == []
        for _ in range(2):  # what lies there, and what was filled just now
            assert feeds(self.views, self.cache) == feeds(world.views, NoFeedCache())
        assert self.cache.counts.hits
        world.close()


def feeds(views: list[ShardViews], cache: FeedCache) -> dict[int, list[int]]:
    """The home feeds of all who are live."""
    with Reading(views, generation=1) as reading:
        live = [user for user in range(1, reading.of(1).checkpoint.position + 1) if people.is_live(reading, user)]
        return {user: [entry.post for entry in home_feed.page(reading, user, limit=50, cache=cache)] for user in live}


def killed_and_at_the_end_all_is_as_folded(
    service: Services, history: History, folder: Path, seed: int, kills: int = 5
) -> None:
    source = random.Random(seed)
    with ExitStack() as stack:
        site = Site(service, history, folder, stack)
        for _ in range(kills):
            status = site.publish(source.randint(1, 6), source.randint(1, 2 * MOMENTS_OF_A_BATCH))
            assert status == -signal.SIGKILL
            assert site.views[0].checkpoint().position >= site.committed(), "what is committed was published before"
            feeds(site.views, site.cache)  # so that Redis has what the next incarnation changes
        uncommitted = site.views[0].checkpoint().position - site.committed()
        assert site.publish(source.randint(1, 6)) == 0
        assert site.committed() == len(history)
        site.check()
    print(f"seed {seed}: killed {kills} times, {uncommitted} records published and not committed at the last")


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 3), *(pytest.param(seed, 5, marks=pytest.mark.soak) for seed in range(1, 10))]
)
def test_a_shard_killed_between_its_publishers_and_its_commit_ends_a_quarrel_as_the_log_says(
    service: Services, tmp_path: Path, seed: int, kills: int
) -> None:
    history = quarrel(random.Random(seed), RECORDS)
    killed_and_at_the_end_all_is_as_folded(service, history, tmp_path, seed, kills)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_a_shard_killed_between_its_publishers_and_its_commit_ends_any_history_as_the_log_says(
    service: Services, tmp_path: Path, seed: int
) -> None:
    killed_and_at_the_end_all_is_as_folded(service, seeded_history(seed, RECORDS), tmp_path, seed)
