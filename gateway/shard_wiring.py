"""What a shard's worker opens, by name of adapter: the part of the composition root that runs where the shard runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.actors.runtime import ShardParts, ShardSpec
from darkroom.events.log import EventLog
from darkroom.gateway.servers import Servers, object_store_address, open_log, redis_address
from darkroom.gateway.settings import Settings
from darkroom.projections.effects import Publisher
from darkroom.projections.generations import drop_others, shard_path
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

if TYPE_CHECKING:
    from darkroom.projections.cassandra_session import CassandraSession
    from darkroom.projections.state_snapshots import SnapshotStore


@dataclass(frozen=True)
class ShardsOf:
    """Shards as the settings have them: log, views and snapshots on the servers that are named, and else in files.

    Their state is on their node. `log` is the data directory's.
    """

    settings: Settings
    log: Path

    @contextmanager
    def open(self, spec: ShardSpec) -> Iterator[ShardParts]:
        with ExitStack() as stack:
            # This node's copy of a log that is elsewhere lies beside the state, wherever the node keeps that.
            folder = spec.generations.parent / "log" if self.settings.kafka else self.log
            log = open_log(self.settings, folder, create=False, tell=_silent, wait_s=0)
            stack.callback(log.close)
            servers = Servers(self.settings, _silent, wait_s=0)  # a shard that cannot open tries again by itself
            stack.callback(servers.close)
            store, committed = self._state(spec, log, servers, stack)
            publishers = list(self._publishers(spec, servers))
            for publisher in publishers:
                stack.callback(publisher.close)
            yield ShardParts(log, store, publishers, committed)

    def _state(
        self, spec: ShardSpec, log: EventLog, servers: Servers, stack: ExitStack
    ) -> tuple[LmdbShardStore, Callable[[int], None] | None]:
        """The shard's state, as it is on this node, as its last snapshot has it, or empty."""
        path = shard_path(spec.generations, spec.generation, spec.shard)
        identity = Identity(FORMAT, spec.generation, spec.shard, spec.shards)
        if servers.cassandra is not None:
            _drop_former(servers.cassandra, spec)
        committed = _snapshots(self.settings, log, path, identity, stack)
        # Where views are read from the stores, the supervisor has made them; elsewhere each node makes its own.
        store = LmdbShardStore(path, identity if servers.cassandra is not None else None)
        stack.callback(store.close)
        return store, committed

    def _publishers(self, spec: ShardSpec, servers: Servers) -> Iterator[Publisher]:
        """In the order of publishing: rows, graph, then what is cached of rows is ended."""
        if servers.cassandra is not None:
            from darkroom.projections.view_adapters.cassandra_publisher import CassandraPublisher

            ttl_days = spec.settings.feed_ttl_days
            yield CassandraPublisher(servers.cassandra, spec.generation, spec.shard, feed_ttl_days=ttl_days)
        if servers.neo4j is not None:
            from darkroom.projections.graph_adapters.neo4j_publisher import Neo4jPublisher

            yield Neo4jPublisher(servers.neo4j, spec.generation, spec.shard, spec.shards)
        address = redis_address(self.settings)
        if address is not None:
            from darkroom.projections.feed_cache_redis import RedisPublisher

            yield RedisPublisher(address, spec.generation, spec.shard)


def _snapshots(
    settings: Settings, log: EventLog, path: Path, identity: Identity, stack: ExitStack
) -> Callable[[int], None] | None:
    """Restore where there is nothing yet, and save from now on; what to tell of each commit."""
    snapshots = snapshot_store(settings, log)
    if snapshots is None:
        return None
    from darkroom.projections.snapshot_schedule import SnapshotPolicy, SnapshotSchedule, SnapshotStatus, note_snapshot

    if not (path / "data.mdb").exists():
        position = snapshots.restore(path, identity)
        if position is not None:
            note_snapshot(path, SnapshotStatus(position))
    policy = SnapshotPolicy(every_s=60.0 * settings.snapshot_minutes)
    schedule = SnapshotSchedule(snapshots, path, identity, policy)
    stack.callback(schedule.close)
    return schedule.committed


def snapshot_store(settings: Settings, log: EventLog) -> "SnapshotStore | None":
    """Where the state of the log's shards is saved; None where it is not."""
    address = object_store_address(settings)
    if address is None:
        return None
    from darkroom.projections.state_snapshots import SnapshotStore

    return SnapshotStore(address.below("state"), log, _silent)


def _drop_former(session: "CassandraSession", spec: ShardSpec) -> None:
    """State of generations that no longer serve: the node that ran them may not have heard when they were dropped."""
    from darkroom.projections.pointer_cassandra import CassandraPointers

    serving = CassandraPointers(session).read().generation
    there = {int(path.name) for path in spec.generations.glob("[0-9]*")}
    drop_others(spec.generations, {spec.generation} | {number for number in there if number >= serving})


def _silent(text: str) -> None:
    """A worker has nobody to tell but its fault file, where what is raised goes."""
