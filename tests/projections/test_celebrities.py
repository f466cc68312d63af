"""What a reader keeps of a shard's celebrities is what the snapshot at hand says of them."""

import numpy as np
import pytest

from darkroom.projections import celebrities
from darkroom.projections.celebrities import INFINITY, LAST_CHANGE
from darkroom.projections.pages import id_key
from darkroom.projections.store import Checkpoint, Identity
from darkroom.projections.store_views import StoreViews
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import CELEBRITIES

ANN, BOB, CYN = 3, 5, 9
USERS = np.array([1, ANN, BOB, CYN, 1 << 47], dtype=np.uint64)


def since(views: StoreViews) -> list[int]:
    with views.view() as view:
        return [int(since) for since in view.celebrities(USERS)]


def change(store: MemoryShardStore, position: int, author: int, value: int | None) -> None:
    rows = [(LAST_CHANGE, id_key(position)), (id_key(author), None if value is None else id_key(value))]
    store.commit(store.checkpoint().position, Checkpoint(position), {CELEBRITIES: rows})


@pytest.mark.parametrize("kept_max", [celebrities.KEPT_MAX, 1, 0])
def test_each_change_is_seen_by_the_next_view(monkeypatch: pytest.MonkeyPatch, kept_max: int) -> None:
    monkeypatch.setattr(celebrities, "KEPT_MAX", kept_max)
    store = MemoryShardStore(Identity(1, 1, 0, 1))
    views = StoreViews(store)
    assert since(views) == [0, 0, 0, 0, 0]
    change(store, 10, BOB, INFINITY)
    assert since(views) == [0, 0, INFINITY, 0, 0]
    change(store, 11, ANN, INFINITY)
    change(store, 12, BOB, 12)
    assert since(views) == [0, INFINITY, 12, 0, 0]
    change(store, 13, ANN, None)
    assert since(views) == since(views) == [0, 0, 12, 0, 0]


def test_an_older_view_is_told_what_was_so_then_and_does_not_spoil_what_later_ones_are_told() -> None:
    store = MemoryShardStore(Identity(1, 1, 0, 1))
    views = StoreViews(store)
    change(store, 10, BOB, INFINITY)
    with views.view() as older:
        change(store, 20, CYN, INFINITY)
        assert since(views) == [0, 0, INFINITY, INFINITY, 0]
        assert older.celebrities(USERS).tolist() == [0, 0, INFINITY, 0, 0]
        assert since(views) == [0, 0, INFINITY, INFINITY, 0]


def test_nobody_is_asked_about_nobody() -> None:
    with StoreViews(MemoryShardStore(Identity(1, 1, 0, 1))).view() as view:
        assert view.celebrities(USERS[:0]).tolist() == []
