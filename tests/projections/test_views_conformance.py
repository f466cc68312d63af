"""What every store of published views does, whatever it is built on: it answers as the shard's own store does, after
any history of batches that were repeated, cut anew, published in part or late.

A new adapter costs a line or two in ADAPTERS. Pages and buckets are made small here, so an adapter must read
`effects.BUCKET_BITS` when it uses it.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import NamedTuple

import pytest
from cassandra_generation import cassandra
from histories import START_MS, History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publishing import Landing, OpenViews, Published, PublishingWorld, check_readers
from quarrels import simulate_a_quarrel
from services.services import Services
from views_agree import check_agreement
from world import check_everything, memory_store

from darkroom.events.facts import (
    CommentAdded,
    Event,
    PostLiked,
    PostPublished,
    PostUnliked,
    UserDeleted,
    UserFollowed,
    UserRegistered,
    UserUnfollowed,
    personal,
)
from darkroom.projections import effects, feed_rows, pages
from darkroom.projections.effects import Effects, ViewsLost
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Checkpoint
from darkroom.projections.view_adapters.memory import MemoryViews


class Adapter(NamedTuple):
    """How to open it, and how much of it time allows: examples of each kind, and events in each."""

    serve: Callable[[Services], AbstractContextManager[OpenViews]]
    examples: int
    events: int
    server: bool = False
    may_land_in_part: bool = True


@contextmanager
def memory(service: Services) -> Iterator[OpenViews]:  # noqa: ARG001
    places: dict[int, MemoryViews] = {}

    def open_views(number: int) -> Published:
        views = places.setdefault(number, MemoryViews())
        return Published(views, views)

    yield open_views


ADAPTERS = {
    "memory": Adapter(memory, examples=100, events=80),
    "cassandra": Adapter(cassandra, examples=5, events=40, server=True),
}
SERVER = {name: [pytest.mark.services] for name, adapter in ADAPTERS.items() if adapter.server}

Place = Callable[[], OpenViews]
"""Makes the shards of another world: places with numbers from 0 that nobody has used."""


@pytest.fixture(scope="module", params=[pytest.param(name, marks=SERVER.get(name, [])) for name in ADAPTERS])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return ADAPTERS[request.param]


@pytest.fixture(scope="module")
def place(adapter: Adapter, service: Services) -> Iterator[Place]:
    worlds = count()
    with adapter.serve(service) as open_views:

        def place() -> OpenViews:
            first = next(worlds) * SHARDS_MAX
            return lambda shard: open_views(first + shard)

        yield place


@pytest.fixture(autouse=True, scope="module")
def small_pages() -> Iterator[None]:
    """So small that a handful of entries splits them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_BYTES_MAX", 64)
        patch.setattr(feed_rows, "SEALED_ROWS", 2)
        patch.setattr(feed_rows, "HEAD_ROWS_MAX", 4)
        patch.setattr(effects, "BUCKET_BITS", 3)
        yield


SHARDS_MAX = 3
SHARDS = st.integers(1, SHARDS_MAX)
FOLD_SETTINGS = st.builds(
    FoldSettings,
    celebrity_threshold=st.sampled_from([2, 0, 1, 4, None]),
    feed_rows=st.sampled_from([1000, 1, 3, 5, 9]),
    feed_ttl_days=st.sampled_from([None, None, 1, 2]),
)
CUTS = st.lists(st.integers(1, 25), min_size=1, max_size=6)


def examples(adapter: Adapter) -> settings:
    hurry = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=adapter.examples, deadline=None, suppress_health_check=hurry)


def agree(world: PublishingWorld, seed: int = 0) -> None:
    for shard in range(len(world.shards)):
        check_agreement(world, shard, random.Random(seed))


# ---- each method


def test_every_method_answers_as_the_shards_own_store_does(adapter: Adapter, place: Place) -> None:
    @examples(adapter)
    @given(histories(adapter.events), SHARDS, FOLD_SETTINGS, CUTS, st.integers(0, 2**32))
    def holds(history: History, shards: int, fold_settings: FoldSettings, cuts: list[int], seed: int) -> None:
        world = PublishingWorld(history, shards, fold_settings, place())
        for shard, cut in enumerate(cuts):
            world.step(shard % shards, cut)
        agree(world, seed)
        world.catch_up()
        agree(world, seed)
        world.close()

    holds()


def test_nothing_is_known_of_what_never_was(place: Place) -> None:
    world = PublishingWorld([], 1, FoldSettings(), place())
    agree(world)
    assert world.views[0].checkpoint() == Checkpoint(0, 0)
    world.close()


def test_owners_with_many_entries_are_read_whole_and_in_part(place: Place) -> None:
    crowd, star = range(2, 42), 1
    events: list[Event] = [UserRegistered(username=personal(f"user{n}"), display_name=personal("")) for n in range(41)]
    events += [UserFollowed(follower=user, followee=star) for user in crowd]
    events += [PostPublished(author=star, caption=personal("a caption")) for _ in range(30)]
    post = len(events)
    events += [PostLiked(user=user, post=post, author=star) for user in crowd]
    events += [CommentAdded(user=user, post=post, author=star, text=personal("hi")) for user in crowd]
    events += [UserUnfollowed(follower=user, followee=star) for user in crowd[::3]]
    events += [PostUnliked(user=user, post=post, author=star) for user in crowd[::4]]
    events += [UserDeleted(user=user) for user in crowd[::7]]
    world = PublishingWorld(timed(events), 2, FoldSettings(feed_rows=20), place())
    world.catch_up(60)
    agree(world)
    world.close()


def timed(events: list[Event]) -> History:
    return [(START_MS + index, event) for index, event in enumerate(events)]


# ---- positions


def test_views_that_hold_less_than_is_committed_are_refused(place: Place) -> None:
    publisher, views = place()(0)
    publisher.open(0)
    with pytest.raises(ViewsLost):
        publisher.open(1)
    for checkpoint in (Checkpoint(7, 70), Checkpoint(9, 90)):
        publisher.publish(no_effects(), 0, checkpoint)
        publisher.reached(checkpoint)
        assert views.checkpoint() == checkpoint
    for position in (0, 7, 9):
        publisher.open(position)
    with pytest.raises(ViewsLost):
        publisher.open(10)
    publisher.close()


def test_the_checkpoint_never_falls_and_tells_what_readers_may_see(place: Place) -> None:
    open_views = place()
    publisher, views = open_views(0)
    publisher.open(0)
    publisher.publish(no_effects(), 0, Checkpoint(9, 90))
    assert views.checkpoint() == Checkpoint(0, 0), "nobody has said that readers may be told"
    publisher.reached(Checkpoint(9, 90))
    # It was not committed, and the next incarnation cuts another batch.
    again, other_views = open_views(0)
    again.open(0)
    again.publish(no_effects(), 0, Checkpoint(4, 40))
    again.reached(Checkpoint(4, 40))
    for one in (views, other_views):
        assert one.checkpoint() == Checkpoint(9, 90)
        with one.view() as view:
            assert view.checkpoint == Checkpoint(9, 90)
    publisher.close()
    again.close()


def no_effects() -> Effects:
    return Effects(lambda user: True, effects.BucketSizes())  # noqa: ARG005


# ---- batches that are repeated, cut anew, published in part, late


class Turn(NamedTuple):
    shard: int
    batch: int
    landings: list[Landing]
    thaws: bool


TURNS = st.lists(
    st.builds(
        Turn,
        st.integers(0, SHARDS_MAX - 1),
        st.integers(1, 25),
        st.lists(st.sampled_from(Landing), min_size=1, max_size=3),
        st.booleans(),
    ),
    min_size=3,
    max_size=12,
)


def test_whatever_landed_of_interrupted_batches_going_on_ends_in_the_same_answers(
    adapter: Adapter, place: Place
) -> None:
    @examples(adapter)
    @given(histories(adapter.events), SHARDS, FOLD_SETTINGS, TURNS, st.integers(0, 2**32))
    def holds(history: History, shards: int, fold_settings: FoldSettings, turns: list[Turn], seed: int) -> None:
        world = PublishingWorld(history, shards, fold_settings, place(), seed=seed)
        for turn in turns:
            take(world, turn, adapter)
            check_readers(world, limits=(2,))
        world.settle(7)
        agree(world, seed)
        if not adapter.server:
            check_everything(world)
        world.close()

    holds()


def take(world: PublishingWorld, turn: Turn, adapter: Adapter) -> None:
    shard, before = turn.shard % len(world.shards), world.views[turn.shard % len(world.shards)].checkpoint()
    for number, landing in enumerate(turn.landings):
        if landing is Landing.PART and not adapter.may_land_in_part:
            landing = Landing.UNTOLD
        world.try_step(shard, turn.batch + 3 * number, landing)
    if turn.thaws and world.late:
        world.thaw(turn.batch)
    assert world.views[shard].checkpoint().position >= before.position


def test_what_a_stale_incarnation_publishes_late_changes_nothing(adapter: Adapter, place: Place) -> None:
    @examples(adapter)
    @given(histories(adapter.events), SHARDS, FOLD_SETTINGS, CUTS)
    def holds(history: History, shards: int, fold_settings: FoldSettings, cuts: list[int]) -> None:
        world = PublishingWorld(history, shards, fold_settings, place())
        for shard in range(shards):
            for cut in cuts:
                world.try_step(shard, cut, Landing.NOTHING)
                world.step(shard, cut)
        world.catch_up()
        for index in range(len(world.late)):
            world.thaw(index)
        agree(world)
        world.close()

    holds()


def test_a_state_that_was_lost_is_folded_again_and_no_reader_notices(adapter: Adapter, place: Place) -> None:
    @examples(adapter)
    @given(histories(adapter.events), SHARDS, FOLD_SETTINGS, CUTS, st.integers(0, 2**32))
    def holds(history: History, shards: int, fold_settings: FoldSettings, cuts: list[int], seed: int) -> None:
        world = PublishingWorld(history, shards, fold_settings, place(), seed=seed)
        world.catch_up(30)
        shard = seed % shards
        world.stores[shard] = memory_store(world.stores[shard].identity)
        world.restart(shard)
        for cut in cuts:
            world.try_step(shard, cut, Landing.PART if adapter.may_land_in_part else Landing.WHOLE)
            world.step(shard, cut)
            # Readers were told of everything before, so what they are shown is exact.
            check_readers(world, limits=(3,))
        world.catch_up(30)
        agree(world)
        world.close()

    holds()


# ---- deciding by a state of one's own


def test_likes_and_blocks_end_as_the_log_says_whatever_was_published_before_a_crash(
    adapter: Adapter, place: Place
) -> None:
    for seed in range(5 * adapter.examples):
        simulate_a_quarrel(seed, place(), may_land_in_part=adapter.may_land_in_part)


@pytest.mark.soak
def test_twenty_thousand_quarrels_end_as_the_log_says(adapter: Adapter, place: Place) -> None:
    for seed in range(100_000, 100_000 + 200 * adapter.examples):
        simulate_a_quarrel(seed, place(), may_land_in_part=adapter.may_land_in_part)


def test_a_long_history_is_answered_alike(adapter: Adapter, place: Place) -> None:
    history = seeded_history(11, 10 * adapter.events, users=9)
    world = PublishingWorld(history, 3, FoldSettings(6, feed_rows=12, feed_ttl_days=2), place())
    world.catch_up(adapter.events)
    agree(world)
    check_readers(world, limits=(7,))
    world.close()
