"""What a shard decides with, and what it is about to write: its tables, as changed since the last commit.

The fold works on this alone. It reads through to a snapshot of the last commit and never writes to a store.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np

from darkroom.projections.bitmaps import Bitmap
from darkroom.projections.change_notes import ChangeNotes
from darkroom.projections.effects import BucketSizes, Effects
from darkroom.projections.feed_rows import FeedRows
from darkroom.projections.packed import PackedTable
from darkroom.projections.pages import id_key
from darkroom.projections.recipients import Recipients
from darkroom.projections.routing import Ids, routes, serving, shard_of_text
from darkroom.projections.rows import RowTable
from darkroom.projections.store import Changes, Checkpoint, Snapshot
from darkroom.projections.tables import (
    BLOCKERS,
    FEED_HEADS,
    FEEDS,
    FOLLOWERS,
    LIVE,
    META,
    ROWS,
    WORDS,
)

DAY_MS = 86_400_000
DAYS_MAX = 36_600
ENTRIES_KEPT_MAX = 4_000_000  # of some 24 bytes each
DAYS_KEY = b"days"
HORIZON_KEY = b"horizon"
SETTINGS_KEY = b"settings"


@dataclass(frozen=True)
class FoldSettings:
    """What may change between runs without a rebuild; it holds from the next position on.

    `celebrity_threshold` None is "never": everything is pushed.
    """

    celebrity_threshold: int | None = 10_000
    feed_rows: int = 1000
    feed_ttl_days: int | None = None


class Days(msgspec.Struct, array_like=True):
    """The first position of each day of log time, and the newest id that has outlived the feeds' time to live."""

    horizon: int = 0
    firsts: list[tuple[int, int]] = []


class ShardState:
    """The working state of shard `shard` of `shards`. Call `begin` before a batch and `changes` after it."""

    def __init__(self, shard: int, shards: int, settings: FoldSettings, *, publishes: bool = False) -> None:
        """`publishes` where the effects are wanted too, for views that are kept elsewhere."""
        self.shard = shard
        self.shards = shards
        self.serves = serving(shard, shards)
        """Whether this shard serves the user."""
        self.settings = settings
        self.position = 0
        self.time_ms = 0
        self.live = Bitmap(LIVE)
        self.blockers = Bitmap(BLOCKERS)
        self.packed = {name: PackedTable(name) for name in WORDS}
        self.rows = {name: RowTable(name) for name in ROWS}
        self.feeds = FeedRows()
        self.feeds.rows_max = settings.feed_rows
        self._days: Days | None = None
        self._days_changed = False
        self._next_day_ms = 0
        self.recipients = Recipients()
        self._bucket_sizes = BucketSizes()
        self._notes = None if publishes else ChangeNotes()  # readers of who publishes keep nothing
        self.effects: Effects | None = None
        if publishes:
            self.effects = Effects(self.serves, self._bucket_sizes)
            self._tell_effects()

    def use(self, settings: FoldSettings) -> None:
        """These settings from the next position on."""
        self.settings = settings
        self.feeds.rows_max = settings.feed_rows
        self.recipients.clear()
        self._expire()

    def _tell_effects(self) -> None:
        for table in self.packed.values():
            table.changing = partial(self._entry_changed, table.name)
        for rows in self.rows.values():
            rows.changing = partial(self._row_changed, rows.name)
        self.live.changing = partial(self._row_changed, LIVE)

    def _entry_changed(self, table: str, owner: int, key: int, new: Any, old: Any) -> None:
        assert self.effects is not None
        self.effects.entry_changed(table, owner, key, new, old)

    def _row_changed(self, table: str, key: bytes, value: bytes | None) -> None:
        assert self.effects is not None
        self.effects.row_changed(table, key, value)

    def take_effects(self) -> Effects:
        """The effects of what `changes` has just told, and none left."""
        effects, self.effects = self.effects, Effects(self.serves, self._bucket_sizes)
        assert effects is not None
        return effects

    def begin(self, snapshot: Snapshot) -> None:
        """Read through `snapshot`, which must be of the last commit."""
        for table in self._tables():
            table.source = snapshot
        self.feeds.source = snapshot
        self._bucket_sizes.source = snapshot
        self.position, self.time_ms = snapshot.checkpoint.position, snapshot.checkpoint.time_ms
        if self._days is None:
            data = snapshot.get(META, DAYS_KEY)
            self._days = Days() if data is None else msgspec.msgpack.decode(data, type=Days)
            self._next_day_ms = (self._days.firsts[-1][0] + 1) * DAY_MS if self._days.firsts else 0
            self.feeds.expire(0, self._days.horizon)
            if self.effects is not None:
                self.effects.position = self.position + 1  # what new settings change is told with the first record
            self._expire()

    def _tables(self) -> list[Bitmap | PackedTable | RowTable]:
        return [self.live, self.blockers, *self.packed.values(), *self.rows.values()]

    def advance(self, position: int, time_ms: int) -> None:
        """The next record's place; log time is the running maximum of the records' times."""
        assert position == self.position + 1, f"position {position} after {self.position}"
        self.position = position
        if self.effects is not None:
            self.effects.position = position
        if time_ms > self.time_ms:
            self.time_ms = time_ms
        if self.time_ms >= self._next_day_ms:
            self._new_day()

    def _new_day(self) -> None:
        assert self._days is not None
        day = self.time_ms // DAY_MS
        self._days.firsts.append((day, self.position))
        del self._days.firsts[:-DAYS_MAX]
        self._days_changed = True
        self._next_day_ms = (day + 1) * DAY_MS
        self._expire()

    def _expire(self) -> None:
        """Raise the horizon over the days that have outlived the time to live. It never falls."""
        days, ttl = self._days, self.settings.feed_ttl_days
        if days is None or ttl is None or not days.firsts:
            return
        oldest_day = days.firsts[-1][0] - ttl
        horizon = next(first for day, first in days.firsts if day >= oldest_day) - 1
        if horizon > days.horizon:
            days.horizon = horizon
            self._days_changed = True
            self.feeds.expire(self.position, horizon)
            if self.effects is not None:
                self.effects.row_changed(META, HORIZON_KEY, id_key(horizon))

    def keeps_text(self, text: str) -> bool:
        """Whether this shard keeps the name or claim."""
        return shard_of_text(text, self.shards) == self.shard

    def audience(self, author: int) -> Ids:
        """This shard's followers of the author, as they are at this moment; not to be changed."""
        audience = self.packed[FOLLOWERS].keys(author)
        # The author's own shard holds followers of every shard, for it counts them.
        if self.shards > 1 and self.serves(author):
            audience = audience[routes(audience) % np.uint64(self.shards) == np.uint64(self.shard)]
        return audience

    def audience_changed(self, author: int) -> None:
        self.recipients.forget(author)

    @property
    def full(self) -> bool:
        """Whether so much is held that the batch should be committed before more is folded in."""
        return sum(table.loaded for table in self.packed.values()) > ENTRIES_KEPT_MAX

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.position, self.time_ms)

    def changes(self) -> Changes:
        """Everything to write since `begin`, and a clean slate; to be committed with `checkpoint`."""
        changes = {table.name: table.flush() for table in self._tables()}
        changes |= self.feeds.flush()
        meta = self._bucket_sizes.flush()
        if self._days_changed:
            assert self._days is not None
            # The horizon once more by itself: every feed read asks for it, and needs no list of days.
            meta += [(DAYS_KEY, msgspec.msgpack.encode(self._days)), (HORIZON_KEY, id_key(self._days.horizon))]
            self._days_changed = False
        if self._notes is not None:
            meta += self._notes.rows(self.live.source, changes, self.position)
        changes[META] = sorted(meta)
        if self.effects is not None:
            self.effects.feeds_changed(changes[FEED_HEADS], changes[FEEDS])
        return {name: rows for name, rows in changes.items() if rows}

    def committed(self) -> None:
        """The changes are stored: keep what is worth keeping."""
        if self.full:
            for table in self.packed.values():
                table.forget()
