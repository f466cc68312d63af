"""Posts that are shown again as they were sent are what would be made of them now."""

import random
from collections.abc import Sequence
from unittest.mock import Mock

import pytest
from histories import HUGE_IDS, START_MS, History, seeded_history
from world import World

from darkroom.events.facts import (
    Event,
    PostLiked,
    PostPublished,
    ProfileChanged,
    UserDeleted,
    UserFollowed,
    UserRegistered,
    personal,
)
from darkroom.gateway.http import hydration
from darkroom.projections import change_notes, kept_rows
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store_views import StoreViews
from darkroom.projections.views import ShardViews

ORIGINS = ("http://one.test", "https://two.test")
Shown = list[tuple[int, bytes]]


def shown(views: Sequence[ShardViews], holders: dict[str, int], viewer: int | None, origin: str) -> Shown:
    """Everybody's newest posts, as the viewer sees them."""
    wanted = []
    with Reading(views, holders=holders) as reading:
        for shard in range(reading.shards):
            view = reading.shard(shard)
            for author in range(1, view.checkpoint.position + 1):
                if reading.of(author) is view:
                    wanted += [(post, author, None) for (post,) in view.newest("timelines", author, limit=3)]
        return [(post, bytes(raw)) for post, raw in hydration.statuses(reading, viewer, origin, wanted)]


class Beside:
    """A world with readers who keep, beside readers who never did."""

    def __init__(self, history: History, shards: int = 2) -> None:
        self.world = World(history, shards, FoldSettings())
        self.holders: dict[str, int] = {}

    def check(self, viewer: int | None, origin: str = ORIGINS[0]) -> Shown:
        fresh = [StoreViews(store) for store in self.world.stores]
        found = shown(self.world.views, self.holders, viewer, origin)
        assert found == shown(fresh, {}, viewer, origin)
        return found


@pytest.mark.parametrize("seed", range(30))
def test_posts_are_shown_as_if_nothing_were_kept(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(change_notes, "IDS_MAX", chance.choice((3, 1024)))
    monkeypatch.setattr(kept_rows, "KEPT_MAX", chance.choice((4, 1000)))
    monkeypatch.setattr(kept_rows, "KEPT_MIN", 4)
    both = Beside(seeded_history(seed, 250, users=5), shards=chance.choice((1, 2, 3)))
    shards = len(both.world.shards)
    for _ in range(25):
        both.world.step(chance.randrange(shards), chance.choice((1, 3, 20)))
        both.check(chance.choice((None, 1, 2, 3)), chance.choice(ORIGINS))
    both.world.catch_up()
    both.check(None)


ANN, BOB, POST = 1, 2, 3


def history(*then: Event) -> History:
    """Ann, Bob and a post of Ann's, and what happens then."""
    people = [UserRegistered(username=personal(name), display_name=personal(name)) for name in ("ann", "bob")]
    return [(START_MS, event) for event in (*people, PostPublished(author=ANN, caption=personal("fog")), *then)]


def step(both: Beside) -> None:
    for shard in range(len(both.world.shards)):
        both.world.step(shard, 1)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (PostLiked(user=BOB, post=POST, author=ANN), b'"favourited":false', b'"favourited":true'),
        (PostLiked(user=ANN, post=POST, author=ANN), b'"favourites_count":0', b'"favourites_count":1'),
        (UserFollowed(follower=BOB, followee=ANN), b'"followers_count":0', b'"followers_count":1'),
        (UserFollowed(follower=ANN, followee=BOB), b'"following_count":0', b'"following_count":1'),
        (ProfileChanged(user=ANN, display_name=personal("Ada")), b'"display_name":"ann"', b'"display_name":"Ada"'),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else None,
)
def test_what_changes_a_post_is_seen_at_once(change: Event, before: bytes, after: bytes, shards: int) -> None:
    both = Beside(history(change), shards)
    for _ in range(3):
        step(both)
    for _ in range(2):
        [(_, encoded)] = both.check(BOB)
        assert before in encoded
        assert after not in encoded
    step(both)
    [(_, encoded)] = both.check(BOB)
    assert after in encoded


def test_whoever_is_deleted_takes_their_posts_along() -> None:
    both = Beside(history(UserDeleted(user=ANN)))
    for _ in range(3):
        step(both)
    assert len(both.check(BOB)) == 1
    step(both)
    assert both.check(BOB) == []


def test_whoever_is_mentioned_and_leaves_is_no_longer_linked() -> None:
    for shards in (1, 2, 3):
        both = Beside(history(mention(ANN, BOB), UserDeleted(user=BOB)), shards)
        for _ in range(4):
            step(both)
        for _ in range(2):
            assert b'"username":"bob"' in dict(both.check(ANN))[POST + 1]
        step(both)
        assert b'"username":"bob"' not in dict(both.check(ANN))[POST + 1]


@pytest.mark.parametrize("nobody", [0, -1, BOB + 100, *HUGE_IDS])
def test_a_post_may_mention_what_can_be_nobody(nobody: int) -> None:
    both = Beside(history(mention(ANN, nobody)))
    both.world.catch_up()
    for _ in range(2):
        assert b'"mentions":[]' in dict(both.check(BOB))[POST + 1]


def mention(author: int, user: int) -> PostPublished:
    return PostPublished(author=author, caption=personal("with @bob"), mentions=(user,))


def test_a_second_time_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Beside(history(PostLiked(user=BOB, post=POST, author=ANN), mention(ANN, BOB)))
    both.world.catch_up()
    first = [both.check(viewer) for viewer in (ANN, BOB)]
    assert first[0] != first[1]
    monkeypatch.setattr(hydration, "status", Mock(side_effect=AssertionError("made anew")))
    for viewer, before in zip((ANN, BOB), first, strict=True):
        assert shown(both.world.views, both.holders, viewer, ORIGINS[0]) == before
