"""Pages that are given again as they were made are what would be made of the views now."""

import random
from collections.abc import Callable, Sequence
from typing import Any, cast
from unittest.mock import Mock

import pytest
from histories import START_MS, History, seeded_history
from world import World

from darkroom.events.facts import (
    Event,
    PostPublished,
    ProfileChanged,
    UserFollowed,
    UserMuted,
    UserRegistered,
    personal,
)
from darkroom.gateway.http.hydration import settled, statuses
from darkroom.projections import change_notes, home_feed, kept_answers, kept_rows, people
from darkroom.projections.feed_cache import FeedCache, FeedKey, Lease, LruFeedCache, NoFeedCache
from darkroom.projections.kept_answers import KeptAnswers
from darkroom.projections.kept_rows import KeptRows
from darkroom.projections.pages import id_key
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store_views import StoreViews
from darkroom.projections.tables import BLOCKS, LIKED, NAMES, PROFILES, RECEIVED
from darkroom.projections.view_adapters.memory import MemoryViews
from darkroom.projections.views import FeedHead, ShardViews, View

ORIGIN = "http://darkroom.test"
Shown = tuple[int, list[tuple[int, bytes]]]
"""The position, and the page."""


class Reader:
    """Who reads home pages as the gateway does."""

    def __init__(self, views: Sequence[ShardViews], cache: FeedCache | None = None) -> None:
        self.views = views
        self.cache = cache or NoFeedCache()
        self.holders: dict[str, int] = {}
        self.answers = KeptAnswers()
        self.made = 0

    def home(self, user: int, *, below: int = ID_MASK + 1, above: int = 0, upwards: bool = False) -> Shown | None:
        with Reading(self.views, holders=self.holders, answers=self.answers) as reading:
            if not people.is_live(reading, user):
                return None

            def choose() -> list[tuple[int, Any]]:
                self.made += 1
                if upwards:
                    page = home_feed.page_upwards(reading, user, above=above, below=below, limit=3)
                else:
                    page = home_feed.page(reading, user, above=above, below=below, limit=3, cache=self.cache)
                return statuses(reading, user, ORIGIN, [(entry.post, entry.author, entry.row) for entry in page])

            page = reading.answer((user, below, above, upwards), lambda: settled(reading, choose))
            return reading.position, [(post, bytes(cast(Any, raw))) for post, raw in page]


def check(reader: Reader, world: World, user: int, **window: Any) -> Shown | None:
    """What is read is what somebody reads for whom nothing was kept but names, which say which shards are asked."""
    fresh = Reader([StoreViews(store) for store in world.stores])
    fresh.holders |= reader.holders
    found = reader.home(user, **window)
    assert found == fresh.home(user, **window), (user, window)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_pages_are_as_if_nothing_were_kept(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(change_notes, "IDS_MAX", chance.choice((3, 20, 1024)))
    monkeypatch.setattr(change_notes, "NOTES_KEPT", chance.choice((1, 64)))
    monkeypatch.setattr(kept_rows, "KEPT_MAX", chance.choice((4, 1000)))
    monkeypatch.setattr(kept_rows, "KEPT_MIN", 4)
    monkeypatch.setattr(kept_answers, "KEPT_MAX", chance.choice((2, 4096)))
    settings = FoldSettings(chance.choice((None, 0, 2, 4)), chance.choice((2, 1000)), chance.choice((None, 1)))
    world = World(seeded_history(seed, 300, users=5), chance.choice((1, 2, 3)), settings)
    reader = Reader(world.views, chance.choice((None, LruFeedCache(3))))
    together = chance.random() < 0.5
    for _ in range(40):
        for shard in range(len(world.shards)):
            if together or chance.random() < 0.5:
                world.step(shard, 2 if together else chance.choice((1, 1, 5)))
        for user in range(1, 6):
            check(reader, world, user)
        check(reader, world, chance.randrange(1, 6), below=chance.randrange(1, 300), above=chance.choice((0, 40)))
        check(reader, world, chance.randrange(1, 6), above=chance.randrange(1, 300), upwards=True)


ANN, BOB, CID, POST = 1, 2, 3, 4


def world_of(*then: Event, shards: int = 2, settings: FoldSettings | None = None) -> World:
    """Ann, Bob, Cid and a post by Ann, whom Bob follows; and what happens then."""
    registered = [
        UserRegistered(username=personal(name), display_name=personal(name)) for name in ("ann", "bob", "cid")
    ]
    events = (*registered, post_by(ANN), UserFollowed(follower=BOB, followee=ANN), *then)
    world = World([(START_MS, event) for event in events], shards, settings or FoldSettings())
    step(world, 5)
    return world


def post_by(author: int) -> Event:
    return PostPublished(author=author, caption=personal("fog"))


def step(world: World, records: int = 1) -> None:
    for shard in range(len(world.shards)):
        world.step(shard, records)


def twice(reader: Reader, world: World, user: int) -> None:
    """So that names are known, and then all that is asked for."""
    for _ in range(2):
        check(reader, world, user)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_what_happens_to_others_leaves_a_page_as_it_was(shards: int) -> None:
    world = world_of(post_by(CID), UserFollowed(follower=CID, followee=CID + 100), post_by(ANN), shards=shards)
    reader = Reader(world.views)
    twice(reader, world, BOB)
    made = reader.made
    for _ in range(2):
        step(world)
        check(reader, world, BOB)
    assert reader.made == made
    step(world)
    page = check(reader, world, BOB)
    assert page is not None
    assert [post for post, _ in page[1]] == [POST + 4, POST]
    assert reader.made == made + 1


@pytest.mark.parametrize(
    "change",
    [
        UserFollowed(follower=CID, followee=ANN),
        ProfileChanged(user=ANN, display_name=personal("Ada")),
        UserMuted(user=BOB, target=ANN),
        UserFollowed(follower=BOB, followee=CID),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_concerns_the_page_has_it_made_anew(change: Event) -> None:
    world = world_of(change)
    reader = Reader(world.views)
    twice(reader, world, BOB)
    made = reader.made
    step(world)
    check(reader, world, BOB)
    assert reader.made == made + 1


def test_a_page_of_shards_at_different_positions_is_not_kept() -> None:
    world = world_of(post_by(CID), UserFollowed(follower=BOB, followee=CID), post_by(ANN), post_by(CID))
    reader = Reader(world.views)
    for shard, records in ((0, 1), (1, 4), (0, 2), (0, 1)):
        world.step(shard, records)
        twice(reader, world, BOB)


def test_an_answer_that_asks_for_what_no_commit_tells_is_made_each_time() -> None:
    world, make = world_of(), Mock(return_value=1)
    asked: list[Callable[[View], object]] = [
        lambda view: view.find(BLOCKS, [(ANN, BOB)]),
        lambda view: view.row(NAMES, b"dot"),
        lambda view: view.rows(NAMES, [b"ann", b"eve"]),
        lambda view: view.columns(LIKED, ANN),
        lambda view: view.newest(RECEIVED, ANN, limit=1),
        lambda view: view.oldest(RECEIVED, ANN, limit=1),
        lambda view: view.sizes((RECEIVED,), [ANN]),
        lambda view: view.counted(BLOCKS, [ANN], BOB),
        lambda view: view.deeds(ANN, below=100, limit=1),
    ]
    for at, ask in enumerate(asked):
        answers = KeptAnswers()
        for _ in range(2):
            with Reading(world.views, answers=answers) as reading:
                view = reading.shard(0)
                reading.answer("key", lambda: (ask(view), make()))  # noqa: B023
        assert make.call_count == 2 * (at + 1)


def test_rows_of_which_no_commit_tells_are_compared() -> None:
    world = world_of(UserRegistered(username=personal("dot"), display_name=personal("Dot")), shards=1)
    answers, make = KeptAnswers(), Mock(return_value=1)

    def answer() -> tuple[object, ...]:
        with Reading(world.views, answers=answers) as reading:
            view = reading.shard(0)
            return reading.answer("key", lambda: (view.live([6]), view.row(PROFILES, id_key(6)), make()))

    assert answer() == answer() == ([False], None, 1)
    assert make.call_count == 1
    step(world)
    assert answer()[0] == [True]
    assert make.call_count == 2


@pytest.mark.parametrize("threshold", [None, 2], ids=["pushed", "pulled since it was posted"])
@pytest.mark.parametrize("shards", [1, 2])
def test_a_post_by_somebody_of_whom_the_page_had_nothing_is_on_it(threshold: int | None, shards: int) -> None:
    """A full page asks nothing of whoever posted before it: that the feed, or who is a celebrity, changed tells it."""
    world = world_of(
        UserFollowed(follower=BOB, followee=CID),
        *[post_by(ANN)] * 6,
        UserRegistered(username=personal("dot"), display_name=personal("Dot")),
        UserFollowed(follower=13, followee=CID),
        post_by(CID),
        shards=shards,
        settings=FoldSettings(celebrity_threshold=threshold and threshold * shards),
    )
    reader = Reader(world.views)
    step(world, 8)
    twice(reader, world, BOB)
    made = reader.made
    step(world)
    check(reader, world, BOB)
    assert reader.made == made
    step(world)
    page = check(reader, world, BOB)
    assert page is not None
    assert page[1][0][0] == len(world.records)


class ToldCache(NoFeedCache):
    """Gives what it was told, and asks the view for nothing."""

    def get(self, key: FeedKey, version: Callable[[], int], position: int) -> FeedHead | Lease:  # noqa: ARG002
        return FeedHead()


def test_a_page_for_which_a_cache_was_asked_and_not_the_view_is_not_kept() -> None:
    world = world_of()
    reader = Reader(world.views, ToldCache())
    for made in range(1, 4):
        reader.home(BOB)
        assert reader.made == made


def test_of_views_that_cannot_tell_what_changed_nothing_is_kept() -> None:
    answers, make = KeptAnswers(), Mock(return_value=1)
    for _ in range(2):
        with Reading([MemoryViews()], answers=answers) as reading:
            reading.answer("key", lambda: (reading.shard(0).checkpoint, make()))
    assert make.call_count == 2


def test_what_fails_is_not_kept() -> None:
    world, answers = world_of(), KeptAnswers()
    for _ in range(2):
        with Reading(world.views, answers=answers) as reading, pytest.raises(ZeroDivisionError):
            reading.answer("key", lambda: 1 // len(reading.shard(0).live([])))


def test_an_answer_made_of_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of()
    for limit, times in ((6, 1), (5, 2)):
        monkeypatch.setattr(kept_answers, "IDS_MAX", limit)
        answers, make = KeptAnswers(), Mock(return_value=1)
        for _ in range(2):
            with Reading(world.views, answers=answers) as reading:
                view = reading.shard(0)
                reading.answer("key", lambda: (view.sizes(("timelines",), range(6)), make()))  # noqa: B023
        assert make.call_count == times


def test_over_the_limit_an_eighth_goes_of_what_was_made_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "KEPT_MAX", 8)
    world, answers = world_of(), KeptAnswers()

    def answer(key: int) -> Mock:
        make = Mock(return_value=key)
        with Reading(world.views, answers=answers) as reading:
            view = reading.shard(0)
            reading.answer(key, lambda: (view.live([ANN]), make()))
        return make

    for key in range(9):
        assert answer(key).called
    assert [answer(key).called for key in (*range(2, 9), 0)] == [False] * 7 + [True]


def test_changes_are_remembered_as_far_back_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "KEPT_MAX", 8)
    monkeypatch.setattr(kept_rows, "KEPT_MIN", 1)
    history: History = [
        (START_MS, UserRegistered(username=personal(f"u{user}"), display_name=personal("who"))) for user in range(20)
    ]
    world, kept = World(history, 1, FoldSettings()), KeptRows()
    for position in range(1, 21):
        step(world)
        with world.stores[0].snapshot() as snapshot:
            stand = [since for since in range(21) if kept.unchanged(snapshot, {100}, since)]
            changed = [since for since in range(21) if kept.unchanged(snapshot, {position}, since)]
        # Of the first commit nothing joins up with what was before; then of the last eight, or of seven.
        assert stand[0] == (1 if position < 10 else position - 7 - (position - 10) % 2)
        assert stand == list(range(stand[0], 21))
        assert changed == list(range(position, 21))
