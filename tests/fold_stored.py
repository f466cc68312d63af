"""Everything that shards store of a history, for comparing two ways of folding it byte for byte."""

from itertools import cycle

from histories import History

from darkroom.actors.shard import Shard
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.projections.change_notes import NOTE
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import META, TABLES

ALL = 1 << 30

Rows = dict[str, list[tuple[bytes, bytes]]]
"""A shard's rows by table, in key order."""


def stored(history: History, shards: int, batches: list[int], settings: FoldSettings) -> list[Rows]:
    """What each shard holds at the end, folded in batches of these sizes in turn, but for what it noted of these."""
    log = MemoryEventLog()
    log.append([event for _, event in history], [time_ms for time_ms, _ in history])
    found = []
    for number in range(shards):
        store = MemoryShardStore(Identity(1, 1, number, shards))
        shard, sizes = Shard(log, store, settings), cycle(batches)
        while shard.step(next(sizes)):
            pass
        with store.snapshot() as snapshot:
            rows = {name: snapshot.scan(name, b"", b"\xff" * 40, limit=ALL) for name in TABLES}
        rows[META] = [row for row in rows[META] if not row[0].startswith(NOTE)]
        found.append(rows)
    return found
