"""What readers keep of a shard from view to view is what the view at hand says, whatever was committed in between."""

import random
import time
from collections.abc import Sequence
from itertools import product

import pytest
from histories import START_MS, History, seeded_history

from darkroom.actors.shard import Shard
from darkroom.events.facts import UserRegistered, personal
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.projections import change_notes, kept_rows, pages
from darkroom.projections.change_notes import changed_since
from darkroom.projections.kept_rows import KeptRows
from darkroom.projections.pages import KEY_MAX, id_key
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, Snapshot
from darkroom.projections.store_views import SnapshotView, StoreViews
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import FOLLOWERS, FOLLOWING, LIKERS, META, POSTS, PROFILES, THREADS, TIMELINES
from darkroom.projections.views import View

USERS = 6
MOMENTS = 60


class Folded:
    """A history and one shard of two that folds it, in batches of any size."""

    def __init__(self, history: History) -> None:
        self.log = MemoryEventLog()
        self.log.append([event for _, event in history], [time_ms for time_ms, _ in history])
        self.store = MemoryShardStore(Identity(1, 1, 0, 2))
        self.views = StoreViews(self.store)
        self.restart()

    def restart(self) -> None:
        self.shard = Shard(self.log, self.store, FoldSettings())

    @property
    def ids(self) -> range:
        return range(1, self.log.head() + 1)


def said(view: View, ids: list[int]) -> list[object]:
    """All that pages ask of posts and users, however little of it there is."""
    keys = [id_key(each) for each in ids]
    return [
        view.rows(POSTS, keys),
        view.rows(PROFILES, keys),
        view.sizes((FOLLOWERS, FOLLOWING, TIMELINES), ids),
        view.sizes((THREADS,), ids),
        *(view.counted(LIKERS, ids, user) for user in range(1, USERS + 1)),
    ]


def check(folded: Folded, view: View, ids: list[int]) -> None:
    """`view` keeps; the other one asks."""
    with folded.store.snapshot() as snapshot:
        assert snapshot.checkpoint == view.checkpoint
        assert said(view, ids) == said(SnapshotView(snapshot), ids)
        check_timelines(view, snapshot, ids)


def check_timelines(view: View, snapshot: Snapshot, ids: list[int]) -> None:
    """However the last page of a timeline is asked for, and what is before it."""
    for below, above, limit in product((ids[0], KEY_MAX), (0, ids[-1], KEY_MAX), (1, 3, 20)):
        bounds = {"below": below, "above": above, "limit": limit}
        each = [pages.newest(snapshot, TIMELINES, user, **bounds) for user in range(1, USERS + 1)]
        assert [view.newest(TIMELINES, user, **bounds) for user in range(1, USERS + 1)] == each, bounds
        asked = [(user, below) for user in range(1, USERS + 1)]
        found, low = view.newest_among(TIMELINES, asked, above=above, limit=limit)
        held = {(post, user) for user, posts in enumerate(each, 1) for (post,) in posts}
        assert set(found) == {entry for entry in held if entry[0] > low}, bounds
        assert low == above or len(found) >= limit, bounds


@pytest.mark.parametrize("seed", range(40))
def test_what_is_kept_is_what_would_be_asked(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(change_notes, "NOTES_KEPT", chance.choice((1, 3, 64)))
    monkeypatch.setattr(change_notes, "IDS_MAX", chance.choice((0, 4, 20, 1024)))
    monkeypatch.setattr(kept_rows, "KEPT_MAX", chance.choice((1, 10, 1000)))
    monkeypatch.setattr(kept_rows, "KEPT_MIN", 1)
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", chance.choice((32, 64, 1024)))
    folded = Folded(seeded_history(seed, 400, users=USERS))
    for _ in range(MOMENTS):
        for _ in range(chance.choice((0, 1, 1, 2, 5))):
            folded.shard.step(chance.choice((1, 1, 2, 5, 30)))
        if chance.random() < 0.1:
            folded.restart()
        with folded.views.view() as view:
            check(folded, view, chance.sample(folded.ids, chance.choice((1, 10, 100))))


def test_of_a_moment_that_is_past_nothing_is_kept_and_nothing_spoilt() -> None:
    folded = Folded(seeded_history(1, 400, users=USERS))
    folded.shard.step(200)
    ids = list(folded.ids)
    with folded.store.snapshot() as snapshot, folded.views.view() as older:
        folded.shard.step(200)
        with folded.views.view() as newer:
            check(folded, newer, ids)
        assert said(older, ids) == said(SnapshotView(snapshot), ids)
        with folded.views.view() as newer:
            check(folded, newer, ids)


def test_what_stands_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = Folded(registrations(50))
    folded.shard.step(40)
    asked: list[int] = []
    ask = SnapshotView._rows_of

    def noted(view: SnapshotView, table: str, ids: Sequence[int]) -> list[bytes | None]:
        asked.extend(ids)
        return ask(view, table, ids)

    monkeypatch.setattr(SnapshotView, "_rows_of", noted)
    keys = [id_key(user) for user in range(1, 41) if user in served(folded)]
    for _ in range(2):
        with folded.views.view() as view:
            assert None not in view.rows(PROFILES, keys)
        assert len(asked) == len(keys)
        folded.shard.step(5)


def test_over_the_limit_an_eighth_is_dropped_of_what_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "KEPT_MAX", 80)
    monkeypatch.setattr(kept_rows, "KEPT_MIN", 1)
    folded = Folded(registrations(1))
    folded.shard.step(1)
    with folded.store.snapshot() as snapshot:
        kept = KeptRows()
        assert kept.recall(snapshot, "kind", [0]) == [None]
        for each in range(80):
            kept.keep(snapshot, "kind", [(each, str(each))])
        assert kept.recall(snapshot, "kind", range(80)) == [str(each) for each in range(80)]
        kept.keep(snapshot, "kind", [(80, "80")])
        assert kept.recall(snapshot, "kind", range(81)) == [None] * 11 + [str(each) for each in range(11, 81)]
        kept.keep(snapshot, "kind", [(each, str(each)) for each in range(200)])
        assert kept.recall(snapshot, "kind", range(200)) == [None] * 130 + [str(each) for each in range(130, 200)]


def test_keeping_beyond_the_limit_takes_no_longer_than_keeping() -> None:
    folded = Folded(registrations(1))
    folded.shard.step(1)
    many = kept_rows.KEPT_MAX
    with folded.store.snapshot() as snapshot:
        kept = KeptRows()
        kept.recall(snapshot, "kind", [0])
        took = []
        for turn in range(3):
            began = time.process_time()
            for each in range(turn * many, (turn + 1) * many):
                kept.keep(snapshot, "kind", [(each, each)])
            took.append(time.process_time() - began)
    assert min(took[1:]) < 4 * took[0], "one after another it was twenty times as long"


def registrations(users: int) -> History:
    names = (personal(f"u{user}") for user in range(users))
    return [(START_MS, UserRegistered(username=name, display_name=name)) for name in names]


def served(folded: Folded) -> set[int]:
    with folded.store.snapshot() as snapshot:
        return {int.from_bytes(key, "big") for key, _ in snapshot.scan(PROFILES, b"", b"\xff" * 9, limit=1000)}


def test_a_commit_of_too_many_changes_is_not_noted_and_those_before_are_forgotten() -> None:
    folded = Folded(registrations(4 * change_notes.IDS_MAX))
    for records in (1, 1, 1):
        folded.shard.step(records)
    with folded.store.snapshot() as snapshot:
        assert changed_since(snapshot, 0) is not None
        assert changed_since(snapshot, 3) == []
    folded.shard.step(4 * change_notes.IDS_MAX)
    with folded.store.snapshot() as snapshot:
        assert changed_since(snapshot, 3) is None
        assert not snapshot.scan(META, b"note", b"notf", limit=10)


def test_so_many_notes_are_stored_and_no_more() -> None:
    folded = Folded(registrations(200))
    for _ in range(100):
        folded.shard.step(1)
    folded.restart()
    for _ in range(10):
        folded.shard.step(1)
    with folded.store.snapshot() as snapshot:
        assert len(snapshot.scan(META, b"note", b"notf", limit=1000)) == change_notes.NOTES_KEPT
        assert changed_since(snapshot, 110 - change_notes.NOTES_KEPT) is not None
        assert changed_since(snapshot, 109 - change_notes.NOTES_KEPT) is None
