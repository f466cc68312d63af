"""A shard: a deterministic state machine over the log. It pulls records, folds them, and commits state and position.

Nothing that matters reaches it in a call. Only its own commits move it, and each begins by comparing the stored
position with the expected one, so that of two live incarnations the one that is behind stops.
"""

import gc

from darkroom.events.codec import UndecodableEvent
from darkroom.events.facts import Recorded
from darkroom.events.log import EventLog, LogError
from darkroom.projections.fold import fold
from darkroom.projections.shard_state import FoldSettings, ShardState
from darkroom.projections.store import ShardStore

READ_RECORDS = 5_000


class LogRewound(Exception):
    """The log's head is below a position that this shard has committed: it is not the log that was folded."""


class Shard:
    """One shard over one store. `step` is all it does."""

    def __init__(self, log: EventLog, store: ShardStore, settings: FoldSettings) -> None:
        identity = store.identity
        self._log = log
        self._store = store
        self._state = ShardState(identity.shard, identity.shards, settings)
        self.position = store.checkpoint().position

    def step(self, batch_events: int) -> int:
        """Fold in at most `batch_events` records in one commit; how many they were, 0 at the log's head.

        A faulty record raises what the log raises, after everything before it is committed. After any error the
        shard must be opened anew, for its working state may be ahead of its store.
        """
        records = self._log.read(self.position, min(batch_events, READ_RECORDS))
        if not records:
            self._check_head()
            return 0
        state, folded = self._state, 0
        gc_was_enabled = gc.isenabled()
        gc.disable()  # the batch is millions of small objects without a cycle among them
        try:
            with self._store.snapshot() as snapshot:
                state.begin(snapshot)
                while records:
                    for recorded in records:
                        fold(state, recorded)
                    folded += len(records)
                    if folded >= batch_events or state.full or len(records) < READ_RECORDS:
                        break
                    records = self._read_on(batch_events - folded)
                changes, checkpoint = state.changes(), state.checkpoint()
            self._store.commit(self.position, checkpoint, changes)
        finally:
            if gc_was_enabled:
                gc.enable()
        state.committed()
        self.position = checkpoint.position
        return folded

    def _read_on(self, limit: int) -> list[Recorded]:
        """More of the same batch; a fault ends the batch, and is met again as the first record of the next."""
        try:
            return self._log.read(self._state.position, min(limit, READ_RECORDS))
        except (LogError, UndecodableEvent):
            return []

    def _check_head(self) -> None:
        head = self._log.head()
        if head < self.position:
            raise LogRewound(f"the log ends at {head}, but shard position {self.position} is committed")
