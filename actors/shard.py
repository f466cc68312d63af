"""A shard: a deterministic state machine over the log. It pulls records, folds them, publishes what that changes in
views that are kept elsewhere, and only then commits state and position: what a crash leaves published is published
again.

Nothing that matters reaches it in a call. Only its own commits move it, and each begins by comparing the stored
position with the expected one, so that of two live incarnations the one that is behind stops.
"""

import gc
import time
from collections.abc import Sequence

import msgspec

from darkroom.events.codec import UndecodableEvent
from darkroom.events.facts import Recorded
from darkroom.events.log import EventLog, LogError
from darkroom.projections.effects import Publisher
from darkroom.projections.fold import fold, fold_follows, runs
from darkroom.projections.shard_state import SETTINGS_KEY, FoldSettings, ShardState
from darkroom.projections.store import Checkpoint, ShardStore, Snapshot, StoreError, Superseded
from darkroom.projections.tables import META

READ_RECORDS = 5_000
RUN_RECORDS = 50_000
"""Of follows, which are small, so many are read at once: the more, the closer together lies what they touch."""

FOLD_S_MAX = 10.0
"""A batch that takes longer to fold in ends early, well before its snapshot expires."""


class LogRewound(Exception):
    """The log's head is below a position that this shard has committed: it is not the log that was folded."""


class FoldFailed(Exception):
    """A record from `position` to `last` was read but could not be folded in; nothing of its batch is committed.

    It is one record, but for follows that are folded together: a batch of fewer than `fold.RUN_MIN` tells which.
    """

    def __init__(self, position: int, last: int, reason: Exception) -> None:
        where = f"position {position}" if position == last else f"positions {position} to {last}"
        super().__init__(f"{where}: {type(reason).__name__}: {reason}")
        self.position, self.last = position, last


class Shard:
    """One shard over one store. `step` is all it does."""

    def __init__(
        self, log: EventLog, store: ShardStore, settings: FoldSettings, publishers: Sequence[Publisher] = ()
    ) -> None:
        """Opens the publishers, in whose order effects are published; whoever made them closes them. ViewsLost.

        What an earlier run published and did not commit was folded by its settings, so where there are publishers
        other ones hold only above the log's present head; until then the shard goes on with the former.
        """
        identity = store.identity
        self._log = log
        self.store = store
        self._publishers = publishers
        self._state = ShardState(identity.shard, identity.shards, settings, publishes=bool(publishers))
        self.position = store.checkpoint().position
        self._coming: FoldSettings | None = None
        self._coming_above = 0
        for publisher in publishers:
            publisher.open(self.position)
        if publishers:
            self._settle(settings)

    def _settle(self, settings: FoldSettings) -> None:
        with self.store.snapshot() as snapshot:
            stored = snapshot.get(META, SETTINGS_KEY)
        if stored is None:
            self._commit_settings(settings)
            return
        former = msgspec.msgpack.decode(stored, type=FoldSettings)
        if former != settings:
            self._state.use(former)
            self._coming, self._coming_above = settings, self._log.head()

    def _commit_settings(self, settings: FoldSettings) -> None:
        """By themselves, for what is folded by them may be published before it is committed."""
        encoded = msgspec.msgpack.encode(settings)
        self.store.commit(self.position, self.store.checkpoint(), {META: [(SETTINGS_KEY, encoded)]})

    def _limit(self, batch_events: int) -> int:
        """How many records may be folded by the present settings; coming ones are taken when it is their turn."""
        if self._coming is None:
            return batch_events
        if self.position < self._coming_above:
            return min(batch_events, self._coming_above - self.position)
        self._commit_settings(self._coming)
        self._state.use(self._coming)
        self._coming = None
        return batch_events

    def step(self, batch_events: int) -> int:
        """Fold in at most `batch_events` records in one commit; how many they were, 0 at the log's head.

        A record that cannot be read raises what the log raises, after everything before it is committed; one that
        cannot be folded in is FoldFailed. After any error the shard must be opened anew, for its working state may be
        ahead of its store.
        """
        batch_events = self._limit(batch_events)
        records = self._log.read(self.position, min(batch_events, READ_RECORDS))
        if not records:
            self._check_head()
            return 0
        state, folded, ends_at = self._state, 0, time.monotonic() + FOLD_S_MAX
        gc_was_enabled = gc.isenabled()
        gc.disable()  # the batch is millions of small objects without a cycle among them
        try:
            with self.store.snapshot() as snapshot:
                self._check_alone(snapshot)
                state.begin(snapshot)
                while records:
                    in_run = self._fold(records)
                    folded += len(records)
                    if folded >= batch_events or len(records) < READ_RECORDS:
                        break
                    if state.full or time.monotonic() > ends_at:
                        break
                    records = self._read_on(min(batch_events - folded, RUN_RECORDS if in_run else READ_RECORDS))
                changes, checkpoint = state.changes(), state.checkpoint()
            self._publish(checkpoint)
            self.store.commit(self.position, checkpoint, changes)
        finally:
            if gc_was_enabled:
                gc.enable()
        state.committed()
        self.position = checkpoint.position
        return folded

    def _publish(self, checkpoint: Checkpoint) -> None:
        if not self._publishers:
            return
        effects = self._state.take_effects()
        for publisher in self._publishers:
            publisher.publish(effects, self.position, checkpoint)
        for publisher in self._publishers:
            publisher.reached(checkpoint)

    def _check_alone(self, snapshot: Snapshot) -> None:
        """The state at hand is of this incarnation's last commit, and fits no other."""
        found = snapshot.checkpoint.position
        if found != self.position:
            raise Superseded(f"expected position {self.position}, found {found}")

    def _fold(self, records: list[Recorded]) -> bool:
        """Whether they end in a run of follows, which may go on."""
        state, first, last, in_run = self._state, 0, 0, False
        try:
            for follows, run in runs(records):
                in_run = follows and not self._publishers  # effects are told in the order of the log
                if in_run:
                    first, last = run[0].position, run[-1].position
                    fold_follows(state, run)
                    continue
                for recorded in run:
                    first = last = recorded.position
                    fold(state, recorded)
        except StoreError:
            raise
        except Exception as error:
            raise FoldFailed(first, last, error) from error
        return in_run

    def _read_on(self, limit: int) -> list[Recorded]:
        """More of the same batch; a fault ends the batch, and is met again as the first record of the next."""
        try:
            return self._log.read(self._state.position, limit)
        except (LogError, UndecodableEvent):
            return []

    def _check_head(self) -> None:
        head = self._log.head()
        if head < self.position:
            raise LogRewound(f"the log ends at {head}, but shard position {self.position} is committed")
