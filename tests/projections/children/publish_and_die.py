"""Publishes a history to Cassandra, a few records a batch, and is killed as it sends one of its requests.

The task comes by standard input. The process ends by itself, with status 0, only if there are not so many.
"""

import os
import pickle
import signal
import sys
from typing import Any

from darkroom.actors.shard import Shard
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.projections.cassandra_session import open_session
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.stores.lmdb import LmdbShardStore
from darkroom.projections.view_adapters.cassandra_publisher import CassandraPublisher


def main() -> None:
    address, generation, path, history, batch_events, requests = pickle.load(sys.stdin.buffer)
    log = MemoryEventLog()
    log.append([event for _, event in history], [time_ms for time_ms, _ in history])
    store = LmdbShardStore(path)
    session = open_session(address, create=False, wait_s=60, tell=print)
    shard = Shard(log, store, FoldSettings(feed_rows=8), [CassandraPublisher(session, generation, 0)])
    die_at(session.driver, requests)
    while shard.step(batch_events):
        pass
    store.close()
    session.close()


def die_at(driver: Any, requests: int) -> None:
    """Some of those before it are done, some are on the wire."""
    send, left = driver.execute_async, requests

    def counted(*request: Any, **how: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return send(*request, **how)

    driver.execute_async = counted


main()
