"""What a shard's worker opens, by name of adapter: the part of the composition root that runs where the shard runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from darkroom.actors.runtime import ShardParts, ShardSpec
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.generations import shard_path
from darkroom.projections.stores.lmdb import LmdbShardStore


@dataclass(frozen=True)
class EmbeddedShards:
    """Log and stores in one data directory; views are read from the stores."""

    log: Path

    @contextmanager
    def open(self, spec: ShardSpec) -> Iterator[ShardParts]:
        with ExitStack() as stack:
            log = LmdbEventLog(self.log, create=False)
            stack.callback(log.close)
            store = LmdbShardStore(shard_path(spec.generations, spec.generation, spec.shard))
            stack.callback(store.close)
            yield ShardParts(log, store)
