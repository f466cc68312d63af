"""A read answers at the lowest position of the shards that it touched."""

from collections.abc import Callable

import pytest

from darkroom.projections.reading import Behind, Reading
from darkroom.projections.routing import ID_MASK, shard_of, shard_of_text
from darkroom.projections.store import Checkpoint, Identity, ShardStore
from darkroom.projections.store_views import StoreViews
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import POSTS

POSITIONS = (30, 10, 20, 5)


def stores_at(*positions: int) -> list[ShardStore]:
    stores: list[ShardStore] = [MemoryShardStore(Identity(1, 1, s, len(positions))) for s in range(len(positions))]
    for store, position in zip(stores, positions, strict=True):
        store.commit(0, Checkpoint(position), {POSTS: [(b"shard", b"%d" % store.identity.shard)]})
    return stores


def views_of(stores: list[ShardStore]) -> list[StoreViews]:
    return [StoreViews(store) for store in stores]


def views_at(*positions: int) -> list[StoreViews]:
    return views_of(stores_at(*positions))


def slow(*shards: int) -> Callable[[int, int], bool]:
    return lambda shard, position: shard in shards  # noqa: ARG005


def test_the_position_is_the_lowest_of_the_shards_touched_and_can_only_fall() -> None:
    with Reading(views_at(*POSITIONS)) as reading:
        assert reading.position == ID_MASK
        for shard, lowest in ((0, 30), (2, 20), (0, 20), (1, 10), (2, 10), (3, 5)):
            reading.shard(shard)
            assert reading.position == lowest
    assert reading.lagging == set()


def test_a_shard_is_seen_at_one_moment_however_often_it_is_touched() -> None:
    stores = stores_at(*POSITIONS)
    with Reading(views_of(stores)) as reading:
        before = reading.shard(1)
        stores[1].commit(10, Checkpoint(11), {POSTS: [(b"shard", b"changed")]})
        stores[0].commit(30, Checkpoint(31), {})
        assert reading.shard(1) is before
        assert before.row(POSTS, b"shard") == b"1"
        # A shard that is touched later is seen later, and does not raise the position.
        assert reading.shard(0).checkpoint.position == 31
        assert reading.position == 10


def test_users_and_names_are_asked_of_their_own_shards() -> None:
    stores = stores_at(*POSITIONS)
    with Reading(views_of(stores)) as reading:
        assert reading.shards == 4
        for user in range(1, 50):
            assert reading.of(user).row(POSTS, b"shard") == b"%d" % shard_of(user, 4)
        for text in ("ann", "bob", "zoë"):
            assert reading.of_text(text).row(POSTS, b"shard") == b"%d" % shard_of_text(text, 4)
        groups = [(snapshot.row(POSTS, b"shard"), users) for snapshot, users in reading.grouped(range(1, 50))]
    assert len(groups) == 4
    for shard, users in groups:
        assert users == [user for user in range(1, 50) if b"%d" % shard_of(user, 4) == shard]


def test_a_lagging_shard_is_named_and_holds_nobody_back() -> None:
    with Reading(views_at(*POSITIONS), lagging=slow(1, 3)) as reading:
        for shard in (0, 1, 2, 3):
            reading.shard(shard)
        assert reading.position == 20
        assert reading.lagging == {1, 3}


def test_whether_a_shard_lags_is_asked_with_its_position_and_once() -> None:
    asked: list[tuple[int, int]] = []

    def lagging(shard: int, position: int) -> bool:
        asked.append((shard, position))
        return False

    with Reading(views_at(*POSITIONS), lagging=lagging) as reading:
        for shard in (2, 1, 2, 1):
            reading.shard(shard)
    assert asked == [(2, 20), (1, 10)]


def test_where_only_lagging_shards_were_touched_they_are_the_position() -> None:
    with Reading(views_at(*POSITIONS), lagging=slow(0, 1)) as reading:
        reading.shard(0)
        assert reading.position == 30
        reading.shard(1)
        assert reading.position == 10
        # One that keeps up speaks for itself.
        reading.shard(2)
        assert reading.position == 20


def test_a_shard_below_the_position_asked_for_is_behind() -> None:
    with Reading(views_at(*POSITIONS), min_position=20) as reading:
        reading.shard(0)
        reading.shard(2)
        for _ in range(2):
            with pytest.raises(Behind, match="shard 1 is at position 10, 20 was asked for") as behind:
                reading.shard(1)
        assert (behind.value.shard, behind.value.position, behind.value.wanted) == (1, 10, 20)
        assert reading.position == 20


def test_where_a_position_is_asked_for_nothing_is_left_out() -> None:
    with Reading(views_at(*POSITIONS), min_position=5, lagging=slow(0, 1, 2, 3)) as reading:
        for shard in range(4):
            reading.shard(shard)
        assert reading.lagging == set()
        assert reading.position == 5
