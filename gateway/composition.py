"""The composition root: the one place that names concrete adapters and wires them. Nothing happens at import."""

from contextlib import ExitStack

from darkroom.actors.runtime import Runtime
from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.supervisor import Supervisor
from darkroom.events.data_directory import DataDirectory
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.events.originals_adapters.folder import FolderOriginals
from darkroom.gateway.credentials import Credentials
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.media import MediaLibrary
from darkroom.gateway.readers import Readers
from darkroom.gateway.settings import Settings
from darkroom.gateway.shard_wiring import EmbeddedShards
from darkroom.gateway.uploads_sqlite import SqliteUploads
from darkroom.gateway.writes import Writer
from darkroom.projections.feed_cache import FeedCache, LruFeedCache, NoFeedCache
from darkroom.projections.generations import FolderGenerations
from darkroom.projections.shard_state import FoldSettings


class Darkroom:
    """One data directory, opened: its log and its readers. Use as a context manager."""

    def __init__(self, settings: Settings, *, create: bool = False, waits_for_lagging: bool = True) -> None:
        """With `create` the directory is made if need be.

        `waits_for_lagging` False is for a server, whose reads leave out shards that lag for too long.
        """
        self.settings = settings
        with ExitStack() as stack:
            self.directory = DataDirectory(settings.data, create=create)
            self.log = LmdbEventLog(self.directory.log, create=create)
            stack.callback(self.log.close)
            self.generations = FolderGenerations(self.directory.generations)
            self.readers = Readers(
                self.generations,
                self.log,
                wait_ms=settings.read_wait_ms,
                max_lag_ms=None if waits_for_lagging else settings.max_read_lag_ms,
                cache=_feed_cache(settings),
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
            EmbeddedShards(self.directory.log),
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
        with ExitStack() as stack:
            self.writer = Writer(darkroom.log, darkroom.readers, wait_ms=settings.write_wait_ms)
            stack.callback(self.writer.close)
            self.credentials = Credentials(SqliteCredentialStore(directory.path))
            stack.callback(self.credentials.close)
            self.media = MediaLibrary(FolderOriginals(directory.originals), directory.renditions)
            stack.callback(self.media.close)
            self.uploads = SqliteUploads(directory.path)
            stack.callback(self.uploads.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()


def make_runtime(name: str) -> Runtime:
    """The runtime called `ray` or `inline`; RuntimeFailed where it does not start."""
    if name == "inline":
        return InlineRuntime()
    from darkroom.actors.runtimes.ray import RayRuntime  # Ray takes a second to import, and most commands need none

    return RayRuntime()


def _feed_cache(settings: Settings) -> FeedCache:
    return LruFeedCache(settings.feed_cache_entries) if settings.feed_cache_entries else NoFeedCache()
