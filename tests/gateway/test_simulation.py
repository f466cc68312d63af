"""Seeded traffic: the same from the same seed, of the size that was asked for, and legal by the rules of the fold."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from statistics import mean, median

import pytest
from oracle import Oracle

from darkroom.events.codec import encode
from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    FeedViewed,
    PostDeleted,
    PostLiked,
    PostPublished,
    PostUnliked,
    Recorded,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserMuted,
    UserRegistered,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
    personal,
)
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.gateway.simulated_world import POSTS_REMEMBERED_MAX, Bag, World
from darkroom.gateway.simulation import USERS_MAX, follower_counts, mix, simulate, simulated

UNDOS = (PostUnliked, UserUnfollowed, PostDeleted, CommentDeleted, UserUnblocked, UserUnmuted)
READ_MAX = 1_000_000


def told(done: int, total: int) -> None:
    assert 0 < done <= total


def run(log: MemoryEventLog, *, seed: int = 3, users: int = 40, events: int = 3000) -> list[Recorded]:
    """What one more simulation appended."""
    head = log.head()
    last = simulate(log, seed=seed, users=users, events=events, progress=told)
    assert last == log.head()
    return log.read(head, READ_MAX)


def encoded(records: Sequence[Recorded]) -> list[bytes]:
    return [encode(record.event) for record in records]


def effect(oracle: Oracle, event: Event) -> object:
    """What the event would change, as it is now: the same before and after for an event that changes nothing."""
    users, posts = oracle.users, oracle.posts
    match event:
        case PostLiked(user=user, post=post) | PostUnliked(user=user, post=post):
            return post in posts and user in posts[post].likes
        case UserFollowed(follower=user, followee=other) | UserUnfollowed(follower=user, followee=other):
            return other in users[user].following
        case UserBlocked(user=user, target=other) | UserUnblocked(user=user, target=other):
            return other in users[user].blocks
        case UserMuted(user=user, target=other) | UserUnmuted(user=user, target=other):
            return other in users[user].mutes
        case CommentDeleted(comment=comment):
            return oracle.live_comment(comment)
    return len(users), len(posts), len(oracle.comments_ever)


def void(records: Sequence[Recorded], since: int = 0) -> list[Recorded]:
    """Those above `since` that change nothing."""
    oracle, found = Oracle(), []
    for record in records:
        before = effect(oracle, record.event)
        oracle.apply(record)
        if record.position > since and effect(oracle, record.event) == before:
            found.append(record)
    return found


@cache
def standard() -> tuple[Event, ...]:
    return tuple(mix(1))


def test_the_same_seed_on_a_fresh_log_gives_the_same_events() -> None:
    one, other, third = (run(MemoryEventLog(), seed=seed) for seed in (3, 3, 4))
    assert encoded(one) == encoded(other)
    assert encoded(one) != encoded(third)


@pytest.mark.parametrize(("users", "events"), [(1, 0), (1, 100), (2, 100), (9, 1000), (40, 3000), (300, 20_000)])
def test_there_are_as_many_people_and_events_as_asked_for_and_each_changes_something(users: int, events: int) -> None:
    records = run(MemoryEventLog(), users=users, events=events)
    people = [record.event.username.text for record in records if isinstance(record.event, UserRegistered)]
    assert people == [f"s3_{number}" for number in range(1, users + 1)]
    assert events - users <= len(records) - users <= events  # of so few people nobody can follow forty
    assert not void(records)


def test_a_tenth_of_the_actions_are_undos() -> None:
    records = run(MemoryEventLog(), users=200, events=20_000)
    actions = records[200 + 200 * 26 :]  # after the people and the follows that they begin with
    assert 0.09 <= sum(isinstance(record.event, UNDOS) for record in actions) / len(actions) <= 0.11


def test_everything_that_people_do_is_in_it() -> None:
    kinds = {type(record.event) for record in run(MemoryEventLog())}
    dos = {UserRegistered, PostPublished, PostLiked, CommentAdded, UserFollowed, UserBlocked, UserMuted}
    assert kinds == {*dos, *UNDOS}


def test_comments_have_replies() -> None:
    comments = [r.event for r in run(MemoryEventLog()) if isinstance(r.event, CommentAdded)]
    replies = [comment for comment in comments if comment.in_reply_to is not None]
    assert 0.2 < len(replies) / len(comments) < 0.6


def test_a_second_run_goes_on_with_the_same_people_from_what_stands() -> None:
    log = MemoryEventLog()
    first = run(log)
    second = run(log)
    assert not [record for record in second if isinstance(record.event, UserRegistered)]
    assert len(second) == 3000
    assert encoded(second) != encoded(first[40:])
    assert not void([*first, *second], since=len(first))


def test_people_who_are_missing_join_and_strangers_are_left_alone() -> None:
    log = MemoryEventLog()
    log.append([_registered("ada"), _registered("S3_2"), _registered("s3_2"), PostPublished(author=1, caption=_TEXT)])
    log.append(
        [PostPublished(author=2, caption=_TEXT), FeedViewed(user=2, newest=5), PostLiked(user=1, post=5, author=2)]
    )
    records = run(log, users=5, events=500)
    names = [record.event.username.text for record in records if isinstance(record.event, UserRegistered)]
    assert names == ["s3_1", "s3_3", "s3_4", "s3_5"]
    authors = {record.event.author for record in records if isinstance(record.event, PostPublished)}
    assert authors == {2, 8, 9, 10, 11}
    assert not void(log.read(0, READ_MAX), since=7)


def test_the_deleted_are_not_heard_of_again() -> None:
    log = MemoryEventLog()
    run(log, users=5, events=300)
    log.append([UserDeleted(user=1)])
    head = log.head()
    records = run(log, users=5, events=300)
    assert 1 not in {getattr(record.event, "author", 0) for record in records}
    assert not void(log.read(0, READ_MAX), since=head)
    log.append([UserDeleted(user=user) for user in range(2, 6)])
    with pytest.raises(ValueError, match="all deleted"):
        run(log, users=5, events=300)


@pytest.mark.parametrize(
    ("seed", "users", "events"), [(-1, 1, 1), (2**31, 1, 1), (1, 0, 1), (1, USERS_MAX + 1, 1), (1, 1, -1)]
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_appended(seed: int, users: int, events: int) -> None:
    log = MemoryEventLog()
    with pytest.raises(ValueError, match="must be"):
        run(log, seed=seed, users=users, events=events)
    assert log.head() == 0


def test_the_generator_alone_gives_what_is_simulated() -> None:
    log = MemoryEventLog()
    records = run(log, users=10, events=200)
    traffic, head, events = simulated(3, 10, 200, {}), 0, list[Event]()
    group = next(traffic, None)
    while group:
        events += group
        head += len(group)
        try:
            group = traffic.send(range(head - len(group) + 1, head + 1))
        except StopIteration:
            break
    assert events == [record.event for record in records]


def test_whoever_is_known_is_not_registered_again() -> None:
    first = next(simulated(3, 3, 10, {"s3_1": 17, "s3_3": 4, "else": 1}))
    assert [event.username.text for event in first if isinstance(event, UserRegistered)] == ["s3_2"]


def test_the_mix_has_the_size_of_the_standard_workload() -> None:
    events = standard()
    kinds = Counter(type(event) for event in events)
    assert len(events) == 550_000
    assert (kinds[UserRegistered], kinds[PostPublished]) == (10_000, 20_000)
    assert kinds[PostLiked] + kinds[PostUnliked] == 100_000
    assert kinds[UserFollowed] + kinds[UserUnfollowed] == 420_000
    assert kinds[PostUnliked] + kinds[UserUnfollowed] == 14_000
    assert {type(event) for event in events[:10_000]} == {UserRegistered}
    assert {type(event) for event in events[10_000:410_000]} == {UserFollowed}


def test_the_mix_follows_by_a_power_law() -> None:
    follows = [event for event in standard()[10_000:410_000] if isinstance(event, UserFollowed)]
    followers = sorted(Counter(event.followee for event in follows).values(), reverse=True)
    following = Counter(event.follower for event in follows)
    assert len(followers) == len(following) == 10_000
    assert mean(followers) == 40
    assert 19 <= median(followers) <= 21
    assert 2500 <= followers[0] <= 2900
    assert 0.5 < followers[100] / (followers[10] * (107 / 17) ** -0.75) < 2


def test_the_mix_is_legal_on_a_fresh_log() -> None:
    events = list(mix(2, users=300, follows=6000, posts=500, likes=3000, changes=800))
    assert len(events) == 300 + 6000 + 500 + 3000 + 800
    assert not void([Recorded(position, 0, event) for position, event in enumerate(events, 1)])


def test_a_mix_of_one_thing_alone_can_be_had() -> None:
    assert Counter(type(event) for event in mix(1, users=20, follows=30, posts=0, likes=0, changes=0)) == {
        UserRegistered: 20,
        UserFollowed: 30,
    }


@pytest.mark.parametrize(("people", "follows"), [(1, 0), (2, 2), (10, 40), (100, 1300), (10_000, 400_000)])
def test_as_many_follow_as_were_asked_for_and_at_most_half_follow_anyone(people: int, follows: int) -> None:
    counts = follower_counts(people, follows)
    assert len(counts) == people
    assert sum(counts) == follows
    assert max(counts) <= max(1, people // 2)


def test_only_the_latest_posts_of_an_author_are_remembered() -> None:
    world = World()
    world.join("ada", 1)
    for post in range(2, 2 * POSTS_REMEMBERED_MAX):
        assert world.fold(PostPublished(author=1, caption=_TEXT), post)
    assert len(world.posts) == len(world.post) == len(world.latest[1]) == POSTS_REMEMBERED_MAX
    assert not world.fold(PostLiked(user=1, post=2, author=1))


def test_a_bag_is_a_set() -> None:
    bag = Bag[int]()
    assert [bag.add(item) for item in (5, 6, 7, 5)] == [True, True, True, False]
    assert [bag.remove(item) for item in (5, 5, 7, 9)] == [True, False, True, False]
    assert (list(bag), 6 in bag, len(bag)) == ([6], True, 1)


_TEXT = personal("low tide")


def _registered(name: str) -> Event:
    return UserRegistered(username=personal(name), display_name=personal(name))
