"""Pages that are given again as they were made are what would be made of the views now."""

import random
from collections.abc import Callable, Sequence
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
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
from darkroom.projections.reading import Behind, Reading
from darkroom.projections.routing import ID_MASK, shard_of
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store_views import StoreViews
from darkroom.projections.traces import Trace
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

    def home(
        self, user: int, *, below: int = ID_MASK + 1, above: int = 0, upwards: bool = False, min_position: int = 0
    ) -> Shown | None:
        with Reading(self.views, holders=self.holders, answers=self.answers, min_position=min_position) as reading:
            if not people.is_live(reading, user):
                return None

            def choose() -> list[tuple[int, Any]]:
                self.made += 1
                if upwards:
                    page = home_feed.page_upwards(reading, user, above=above, below=below, limit=3)
                else:
                    page = home_feed.page(reading, user, above=above, below=below, limit=3, cache=self.cache)
                return statuses(reading, user, ORIGIN, [(entry.post, entry.author, entry.row) for entry in page])

            page = reading.answer(user, (below, above, upwards), lambda: settled(reading, choose), len)
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
    monkeypatch.setattr(kept_answers, "BYTES_MAX", chance.choice((12_000, 1_000_000)))
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
    world = world_of(post_by(ANN))
    reader, other = Reader(world.views), shard_of(ANN, 2)
    assert other != shard_of(BOB, 2)
    twice(reader, world, BOB)
    assert reader.made == 2, "the first time it asks whose names they are"
    for shard, made in ((other, 4), (1 - other, 5)):
        world.step(shard, 1)
        twice(reader, world, BOB)
        assert reader.made == made


def test_a_reader_who_accepts_no_earlier_position_waits_for_the_shards_that_the_page_is_of() -> None:
    world = world_of(post_by(CID))
    reader, others = Reader(world.views), shard_of(ANN, 2)
    assert others != shard_of(BOB, 2)
    twice(reader, world, BOB)
    world.step(1 - others, 1)
    assert check(reader, world, BOB) == reader.home(BOB)
    with pytest.raises(Behind) as behind:
        reader.home(BOB, min_position=6)
    assert behind.value.shard == others


ASKED: dict[str, Callable[[View], object]] = {
    "sizes": lambda view: view.sizes(("likers", "threads"), [POST]),
    "counted": lambda view: view.counted("likers", [POST], BOB),
    "find": lambda view: view.find("mutes", [(BOB, ANN)]),
    "columns": lambda view: view.columns("following", BOB),
    "newest": lambda view: view.newest("timelines", ANN, limit=1),
    "oldest": lambda view: view.oldest("timelines", ANN, limit=1),
    "newest_among": lambda view: view.newest_among("timelines", [(ANN, POST)], above=0, limit=1),
    "oldest_among": lambda view: view.oldest_among("timelines", [(ANN, POST)], above=0, limit=1),
    "row": lambda view: view.row("posts", id_key(POST)),
    "rows": lambda view: view.rows("profiles", [id_key(ANN)]),
    "recall": lambda view: view.recall("edges", [BOB]),
    "celebrities": lambda view: view.celebrities(np.array([ANN], dtype=np.uint64)),
    "feed_head": lambda view: view.feed_head(BOB),
    "sealed_below": lambda view: list(view.sealed_below(BOB, 1 << 63)),
    "sealed_from": lambda view: list(view.sealed_from(BOB, 0)),
    "expired": lambda view: view.expired(),
}
UNTOLD: dict[str, Callable[[View], object]] = {
    "sizes": lambda view: view.sizes(("likers", "received"), [ANN]),
    "counted": lambda view: view.counted("blocks", [ANN], BOB),
    "find": lambda view: view.find("blocks", [(ANN, BOB)]),
    "columns": lambda view: view.columns("liked", ANN),
    "newest": lambda view: view.newest("received", ANN, limit=1),
    "oldest": lambda view: view.oldest("received", ANN, limit=1),
    "row": lambda view: view.row("names", b"dot"),
    "rows": lambda view: view.rows("names", [b"ann", b"eve"]),
    "live": lambda view: view.live([ANN]),
    "deeds": lambda view: view.deeds(ANN, below=100, limit=1),
}


def trace_of(ask: Callable[[View], object]) -> Trace:
    with world_of(shards=1).views[0].view() as view:
        trace = Trace(0)
        view.note_in(trace)
        ask(view)
        view.note_in(None)
        before = set(trace.ids), dict(trace.rows)
        view.sizes(("likers",), [CID])
        assert (trace.ids, trace.rows) == before
    return trace


@pytest.mark.parametrize("name", ASKED)
def test_what_a_view_is_asked_is_noted(name: str) -> None:
    trace = trace_of(ASKED[name])
    assert trace.whole
    assert bool(trace.ids) != bool(trace.rows)
    assert trace.ids <= {ANN, BOB, POST}


@pytest.mark.parametrize("name", UNTOLD)
def test_of_what_neither_can_be_told_nor_compared_a_trace_is_not_whole(name: str) -> None:
    assert not trace_of(UNTOLD[name]).whole


def test_each_method_of_a_view_is_among_those() -> None:
    methods = {name for name in vars(View) if not name.startswith("_")}
    assert ASKED.keys() | UNTOLD.keys() == methods - {"checkpoint", "keep", "note_in", "stands"}


def test_an_answer_that_is_not_all_told_is_made_each_time() -> None:
    world, answers, make = world_of(), KeptAnswers(), Mock(return_value=1)
    for told, made in ((True, 1), (True, 1), (False, 2), (False, 3), (True, 4), (True, 4)):
        with Reading(world.views, answers=answers) as reading:
            view = reading.shard(0)
            asked = ASKED if told else UNTOLD
            reading.answer("who", told, lambda: (asked["find"](view), make()), len)  # noqa: B023
        assert make.call_count == made


def test_answers_are_not_made_from_answers() -> None:
    with Reading(world_of().views) as reading, pytest.raises(AssertionError, match="not from answers"):
        reading.answer("who", 1, lambda: reading.answer("who", 2, lambda: (), len), len)


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
            reading.answer("who", 1, lambda: (reading.shard(0).checkpoint, make()), len)
    assert make.call_count == 2


def test_what_fails_is_not_kept() -> None:
    world, answers = world_of(), KeptAnswers()
    with Reading(world.views, answers=answers) as reading:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                reading.answer("who", 1, lambda: [1 // len(reading.shard(0).sizes((), []))], len)
    assert answers.find("who", 1) is None


def test_an_answer_made_of_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of()
    for limit, times in ((6, 1), (5, 2)):
        monkeypatch.setattr(kept_answers, "IDS_MAX", limit)
        answers, make = KeptAnswers(), Mock(return_value=1)
        for _ in range(2):
            with Reading(world.views, answers=answers) as reading:
                view = reading.shard(0)
                reading.answer("who", 1, lambda: (view.sizes(("timelines",), range(6)), make()), len)  # noqa: B023
        assert make.call_count == times


def test_over_the_limit_an_eighth_goes_of_what_was_answered_first(monkeypatch: pytest.MonkeyPatch) -> None:
    each = 1000 + kept_answers.TRACE_BYTES + kept_answers.ID_BYTES
    monkeypatch.setattr(kept_answers, "BYTES_MAX", 16 * each)
    answers = KeptAnswers()

    def keep(asker: int, question: int = 1, size: int = 1000) -> None:
        trace = Trace(5)
        trace.ids.add(asker)
        answers.keep(asker, question, "answer", size, {0: trace})

    def kept() -> list[int]:
        return [asker for asker in range(30) if answers.find(asker, 1)]

    for asker in range(16):
        for question in (2, 1):
            keep(asker, question)
    assert kept() == list(range(16))
    assert not answers.find(3, 2), "of each asker the last is kept"
    keep(16)
    assert kept() == list(range(3, 17))
    keep(17, size=20 * each)
    assert kept() == []
    keep(18)
    assert kept() == [18]


def test_changes_are_remembered_as_far_back_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "KEPT_MAX", 8)
    monkeypatch.setattr(kept_rows, "KEPT_MIN", 1)
    history: History = [
        (START_MS, UserRegistered(username=personal(f"u{user}"), display_name=personal("who"))) for user in range(20)
    ]
    world, kept = World(history, 1, FoldSettings()), KeptRows()
    told_from, remembered = 1, list[int]()  # of the first commit nothing joins up with what was before
    for position in range(1, 21):
        step(world)
        if position > 1:
            remembered.append(position)
        if len(remembered) > 8:
            told_from, remembered = remembered[1], remembered[2:]
        with world.stores[0].snapshot() as snapshot:
            stand = [since for since in range(25) if kept.unchanged(snapshot, {100}, since)]
            changed = [since for since in range(25) if kept.unchanged(snapshot, {position}, since)]
        assert stand == list(range(told_from, position + 1))
        assert changed == [position]
