"""The composition root: the one place that names concrete adapters and wires them. Nothing happens at import."""

from collections.abc import Callable
from contextlib import ExitStack

from msgspec.structs import replace

from darkroom.actors.runtime import Runtime
from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.supervisor import Supervisor
from darkroom.actors.worker import faults_of
from darkroom.events.data_directory import DataDirectory, DirectoryPaths
from darkroom.events.log import EventLog
from darkroom.events.originals_adapters.folder import FolderOriginals
from darkroom.gateway.commands.console import notice
from darkroom.gateway.credentials import Credentials, CredentialStore
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.grant_cache import GrantCache
from darkroom.gateway.log_identity import LogIdentity, foreseen_identity, identity_of, named
from darkroom.gateway.media import MediaLibrary
from darkroom.gateway.ownership import OtherLog, check_directory, check_keyspace, check_owner, claim, noted_log
from darkroom.gateway.published_generations import (
    AccompaniedGenerations,
    Companion,
    GraphCompanion,
    PublishedGenerations,
    SnapshotCompanion,
)
from darkroom.gateway.readers import Readers
from darkroom.gateway.servers import (
    Servers,
    check_addresses,
    check_bucket,
    check_cache,
    is_remote,
    object_store_address,
    open_log,
    redis_address,
)
from darkroom.gateway.settings import Settings
from darkroom.gateway.shard_wiring import ShardsOf, snapshot_store
from darkroom.gateway.uploads import Uploads
from darkroom.gateway.uploads_sqlite import SqliteUploads
from darkroom.gateway.writes import Writer
from darkroom.projections.feed_cache import FeedCache, LruFeedCache, NoFeedCache
from darkroom.projections.generations import FolderGenerations, Generations
from darkroom.projections.graph import Graph
from darkroom.projections.graph_adapters.embedded import EmbeddedGraph
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import FoldSettings


class Darkroom:
    """One data directory, opened: its log and its readers. Use as a context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        create: bool = False,
        waits_for_lagging: bool = True,
        tell: Callable[[str], None] = notice,
    ) -> None:
        """With `create` the directory is made if need be, and `tell` is told which servers are waited for.

        `waits_for_lagging` False is for a server, whose reads leave out shards that lag for too long.
        """
        self.settings = settings
        with ExitStack() as stack:
            if not create:
                data_directory(settings, create=False)
            self.servers = _checked_servers(settings, tell, stack)
            may_make = _may_make_log(settings, directory_paths(settings), self.servers, tell, create=create)
            self.directory = data_directory(settings, create=create)
            wait_s = settings.service_wait_s
            self.log = open_log(settings, self.directory.log, create=may_make, tell=tell, wait_s=wait_s)
            stack.callback(self.log.close)
            identity = _identity(settings, self.directory, self.servers, self.log, tell)
            if identity is not None:
                # What is noted in a cache may be dropped at any time, so each log has keys of its own there.
                settings = self.settings = replace(settings, redis_prefix=f"{settings.redis_prefix}:{identity.name}")
            self.generations = _generations(settings, self.directory, self.servers, self.log, identity)
            self.readers = Readers(
                self.generations,
                self.log,
                wait_ms=settings.read_wait_ms,
                max_lag_ms=None if waits_for_lagging else settings.max_read_lag_ms,
                cache=_feed_cache(settings, stack),
                remote=is_remote(settings),
                deadline_s=settings.service_deadline_ms / 1000,
                graph=_graph(self.servers),
            )
            stack.callback(self.readers.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Darkroom":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def supervisor(self, runtime: Runtime) -> Supervisor:
        """The supervisor of this directory; only the holder of its work lock may start it."""
        settings = self.settings
        return Supervisor(
            self.directory,
            self.log,
            runtime,
            ShardsOf(settings, self.directory.log),
            self.generations,
            FoldSettings(settings.celebrity_threshold, settings.feed_rows, settings.feed_ttl_days),
            batch_events=settings.batch_events,
            shards=settings.shards,
        )


class Gateway:
    """What HTTP needs beside a `Darkroom`: writes, credentials, media and uploads."""

    def __init__(self, darkroom: Darkroom) -> None:
        settings, directory = darkroom.settings, darkroom.directory
        self.settings = settings
        self.log = darkroom.log
        self.readers = darkroom.readers
        self._generations = darkroom.generations
        self._folder = directory.generations
        with ExitStack() as stack:
            self.writer = Writer(darkroom.log, darkroom.readers, wait_ms=settings.write_wait_ms)
            stack.callback(self.writer.close)
            self.credentials = Credentials(_credential_store(directory, darkroom.servers))
            stack.callback(self.credentials.close)
            self.media = _media(settings, directory, stack)
            stack.callback(self.media.close)
            self.uploads = _uploads(directory, darkroom.servers)
            stack.callback(self.uploads.close)
            self._stack = stack.pop_all()

    def faults(self) -> dict[int, str]:
        """Shard → why it stands still, as this node knows, of those that do."""
        return faults_of(self._folder, self._generations.pointer().generation)

    def close(self) -> None:
        self._stack.close()


def make_runtime(name: str, settings: Settings) -> Runtime:
    """The runtime called `ray` or `inline`; RuntimeFailed where it does not start."""
    if name == "inline":
        return InlineRuntime()
    from darkroom.actors.runtimes.ray import RayRuntime  # Ray takes a second to import, and most commands need none

    # A log or views in files are on this node only.
    here = settings.kafka is None or settings.cassandra is None
    return RayRuntime(settings.ray_address, here=here)


def directory_paths(settings: Settings) -> DirectoryPaths:
    """What lies where in the directory that the settings name, whether or not it is there."""
    return DirectoryPaths(settings.data, state=settings.state, keeps_log=settings.kafka is None)


def data_directory(settings: Settings, *, create: bool) -> DataDirectory:
    """The directory that the settings name. DirectoryUnusable."""
    return DataDirectory(settings.data, create=create, state=settings.state, keeps_log=settings.kafka is None)


def _checked_servers(settings: Settings, tell: Callable[[str], None], stack: ExitStack) -> Servers:
    """All that the settings name, and nothing is written yet, for what is refused last was then not asked for."""
    wait_s = settings.service_wait_s
    check_addresses(settings)
    check_cache(settings, tell)
    check_bucket(settings, tell, wait_s=wait_s)
    servers = Servers(settings, tell, wait_s=wait_s, make=False)
    stack.callback(servers.close)
    return servers


def _may_make_log(
    settings: Settings, directory: DirectoryPaths, servers: Servers, tell: Callable[[str], None], *, create: bool
) -> bool:
    """Whether a log may be made where there is none: only where the keyspace is nobody's yet.

    Whatever can be refused is refused here: before the directory, the topic and the keyspace are made. Whether a
    keyspace may be made is told by nothing but making it, so where a log is to be made too, it comes first.
    """
    check_directory(settings, directory)
    check_keyspace(servers, directory.generations)
    noted = noted_log(servers)
    if noted is not None and settings.kafka is None and not (directory.log / "data.mdb").exists():
        raise OtherLog(
            f"cassandra_keyspace: {settings.cassandra_keyspace} belongs to {noted.told}, and {directory.path} has no"
            " log yet. Name that log, or another keyspace"
        )
    create = create and noted is None
    foreseen = foreseen_identity(settings, directory.log, create=create, tell=tell) if is_remote(settings) else None
    if foreseen is not None:
        check_owner(servers, directory.generations, foreseen)
        if create:
            servers.make_keyspace(tell)
    return create


def _identity(
    settings: Settings, directory: DataDirectory, servers: Servers, log: EventLog, tell: Callable[[str], None]
) -> LogIdentity | None:
    """The log's, noted on the servers that keep something of it; None where there are none."""
    if not is_remote(settings):
        return None
    identity = identity_of(settings, directory.log, log)
    check_owner(servers, directory.generations, identity)
    identity = named(identity, directory.log)
    servers.make_keyspace(tell)
    claim(servers, directory.generations, identity, tell)
    return identity


def _generations(
    settings: Settings, directory: DataDirectory, servers: Servers, log: EventLog, identity: LogIdentity | None
) -> Generations:
    generations = readable_generations(directory, servers)
    companions: list[Companion] = []
    if servers.neo4j is not None:
        assert identity is not None
        companions.append(GraphCompanion(servers.neo4j, identity))
    snapshots = snapshot_store(settings, log)
    if snapshots is not None:
        companions.append(SnapshotCompanion(snapshots))
    return AccompaniedGenerations(generations, companions) if companions else generations


def readable_generations(directory: DataDirectory, servers: Servers) -> Generations:
    """For who makes and drops none."""
    if servers.cassandra is not None:
        return PublishedGenerations(servers.cassandra, directory.generations)
    return FolderGenerations(directory.generations)


def _graph(servers: Servers) -> Callable[[Reading], Graph]:
    neo4j = servers.neo4j
    if neo4j is None:
        return EmbeddedGraph
    from darkroom.projections.graph_adapters.neo4j import Neo4jGraph

    def graph(reading: Reading) -> Graph:
        """At or above the lowest position that the reading accepts."""
        return Neo4jGraph(
            neo4j, reading.generation, reading.shards, min_position=reading.min_position, lagging=reading.is_lagging
        )

    return graph


def _credential_store(directory: DataDirectory, servers: Servers) -> CredentialStore:
    if servers.cassandra is None:
        return GrantCache(SqliteCredentialStore(directory.path))
    from darkroom.gateway.credentials_cassandra import CassandraCredentialStore

    return GrantCache(CassandraCredentialStore(servers.cassandra))


def _uploads(directory: DataDirectory, servers: Servers) -> Uploads:
    if servers.cassandra is None:
        return SqliteUploads(directory.path)
    from darkroom.gateway.uploads_cassandra import CassandraUploads

    return CassandraUploads(servers.cassandra)


def _media(settings: Settings, directory: DataDirectory, stack: ExitStack) -> MediaLibrary:
    address = object_store_address(settings)
    if address is None:
        return MediaLibrary(FolderOriginals(directory.originals), directory.renditions)
    from darkroom.events.originals_adapters.s3 import S3Originals
    from darkroom.gateway.media_renditions_s3 import S3Renditions

    originals = S3Originals(address.below("originals"))
    stack.callback(originals.close)
    return MediaLibrary(originals, S3Renditions(address.below("renditions")))


def _feed_cache(settings: Settings, stack: ExitStack) -> FeedCache:
    address = redis_address(settings)
    if address is not None:
        from darkroom.projections.feed_cache_redis import RedisFeedCache

        cache = RedisFeedCache(address)
        stack.callback(cache.close)
        return cache
    if settings.cassandra is not None:
        return NoFeedCache()  # to compare versions is to read what would be cached
    return LruFeedCache(settings.feed_cache_entries) if settings.feed_cache_entries else NoFeedCache()
