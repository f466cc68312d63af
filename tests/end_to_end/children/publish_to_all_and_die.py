"""Publishes a history to Cassandra, Neo4j and Redis, a few records a batch, and is killed between them and the commit.

The task comes by standard input. The process ends by itself, with status 0, only if there are not so many moments.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable

from darkroom.actors.shard import Shard
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.projections.cassandra_session import open_session
from darkroom.projections.effects import Effects, Publisher
from darkroom.projections.feed_cache_redis import RedisPublisher
from darkroom.projections.graph_adapters.neo4j_connection import open_neo4j
from darkroom.projections.graph_adapters.neo4j_publisher import Neo4jPublisher
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Changes, Checkpoint
from darkroom.projections.stores.lmdb import LmdbShardStore
from darkroom.projections.view_adapters.cassandra_publisher import CassandraPublisher

WAIT_S = 60


class Watched:
    """A publisher; `moment` is called after each of its calls that belongs to a batch."""

    def __init__(self, publisher: Publisher, moment: Callable[[], None]) -> None:
        self._publisher = publisher
        self._moment = moment

    def open(self, position: int) -> None:
        self._publisher.open(position)

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        self._publisher.publish(effects, expected, checkpoint)
        self._moment()

    def reached(self, checkpoint: Checkpoint) -> None:
        self._publisher.reached(checkpoint)
        self._moment()

    def close(self) -> None:
        self._publisher.close()


class WatchedStore(LmdbShardStore):
    """`moment` is called once all is published, before the commit of a batch."""

    moment: Callable[[], None]

    def commit(self, expected: int, checkpoint: Checkpoint, changes: Changes) -> None:
        if checkpoint.position > expected:  # or else it is that of the settings
            self.moment()
        super().commit(expected, checkpoint, changes)


def main() -> None:
    task = pickle.load(sys.stdin.buffer)
    moment = dying_at(task.moments)
    log = MemoryEventLog()
    log.append([event for _, event in task.history], [time_ms for time_ms, _ in task.history])
    store = WatchedStore(task.path)
    store.moment = moment
    session = open_session(task.cassandra, create=False, wait_s=WAIT_S, tell=print)
    neo4j = open_neo4j(task.neo4j, wait_s=WAIT_S, tell=print)
    publishers: list[Publisher] = [
        CassandraPublisher(session, task.generation, 0),
        Neo4jPublisher(neo4j, task.graph, 0, 1),
        RedisPublisher(task.redis, task.generation, 0),
    ]
    shard = Shard(log, store, FoldSettings(), [Watched(publisher, moment) for publisher in publishers])
    while shard.step(task.batch_events):
        pass
    for publisher in publishers:
        publisher.close()
    store.close()
    neo4j.close()
    session.close()


def dying_at(moments: int) -> Callable[[], None]:
    left = moments

    def moment() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return moment


main()
