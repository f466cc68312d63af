"""Given what was folded before, when these records come, then the views say this.

The "when" is folded three times: its commit is lost, then it is stored but said to be lost, then it is found there.
Every example is also compared with the oracle, in full.
"""

from collections.abc import Callable, Sequence

import pytest
from faults import CommitLost, Fate, UnreliableStore
from histories import START_MS
from world import World, check_everything

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    PostDeleted,
    PostLiked,
    PostPublished,
    PostUnliked,
    ProfileChanged,
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
from darkroom.projections import activity, engagement, home_feed, people, social_graph, timelines
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.memory import MemoryShardStore

NAMES = ("ann", "bob", "cyn", "dan", "eve")
ANN, BOB, CYN, DAN, EVE = range(1, 6)
"""Their ids are the positions of their registrations, so the first record of an example is at 6."""

MANY = 100


def follow(follower: int, followee: int) -> Event:
    return UserFollowed(follower=follower, followee=followee)


def unfollow(follower: int, followee: int) -> Event:
    return UserUnfollowed(follower=follower, followee=followee)


def block(user: int, target: int) -> Event:
    return UserBlocked(user=user, target=target)


def mute(user: int, target: int) -> Event:
    return UserMuted(user=user, target=target)


def post(author: int, key: str | None = None, mentions: tuple[int, ...] = ()) -> Event:
    return PostPublished(author=author, caption=personal("a caption"), key=key, mentions=mentions)


def like(user: int, post: int, author: int) -> Event:
    return PostLiked(user=user, post=post, author=author)


def comment(user: int, post: int, author: int, reply: tuple[int, int] | None = None, key: str | None = None) -> Event:
    to, to_user = reply or (None, None)
    return CommentAdded(
        user=user, post=post, author=author, text=personal("hi"), in_reply_to=to, in_reply_to_user=to_user, key=key
    )


def uncomment(user: int, comment: int, post: int, author: int) -> Event:
    return CommentDeleted(user=user, comment=comment, post=post, author=author)


Play = Callable[..., World]


@pytest.fixture(params=[1, 3], ids="{} shards".format)
def play(request: pytest.FixtureRequest) -> Play:
    """Fold `given` and then `when`, which fails twice; the world afterwards."""
    shards: int = request.param

    def play(
        given: Sequence[Event] = (), when: Sequence[Event] = (), *, threshold: int | None = None, rows: int = 1000
    ) -> World:
        first: list[Event] = [UserRegistered(username=personal(n), display_name=personal(n)) for n in NAMES]
        events = [*first, *given, *when]
        history = [(START_MS + 1000 * index, event) for index, event in enumerate(events)]
        # The share of a threshold that falls to each shard: every shard decides by its own followers.
        settings = FoldSettings(threshold and threshold * shards, feed_rows=rows)
        stores: list[UnreliableStore] = []

        def make_store(identity: Identity) -> UnreliableStore:
            stores.append(UnreliableStore(MemoryShardStore(identity)))
            return stores[-1]

        world = World(history, shards, settings, make_store)
        for shard, store in enumerate(stores):
            world.step(shard, len(first) + len(given))
            fates = iter([Fate.FAILS_BEFORE, Fate.FAILS_AFTER] if when else [])
            store.next_fate = fates.__next__
            for _ in range(2 if when else 0):
                with pytest.raises(CommitLost):
                    world.step(shard, MANY)
                world.restart(shard)
            assert world.step(shard, MANY) == 0
        check_everything(world)
        return world

    return play


def feed(world: World, user: int, limit: int = MANY) -> list[int]:
    with Reading(world.views) as reading:
        return [entry.post for entry in home_feed.page(reading, user, limit=limit)]


def ids(world: World, query: Callable[..., list[int]], user: int) -> list[int]:
    with Reading(world.views) as reading:
        return query(reading, user, limit=MANY)


def received(world: World, user: int) -> list[tuple[int, str, int]]:
    with Reading(world.views) as reading:
        return [(row.position, row.kind, row.actor) for row in activity.received_by(reading, user, limit=MANY)]


def done(world: World, user: int) -> list[tuple[int, str, int]]:
    with Reading(world.views) as reading:
        return [(row.position, row.kind, row.object) for row in activity.done_by(reading, user, limit=MANY)]


def counters(world: World, user: int) -> tuple[int, int, int]:
    """Followers, following, posts."""
    with Reading(world.views) as reading:
        found = engagement.user_counters(reading.of(user), user)
        return found.followers, found.following, found.posts


def post_counters(world: World, post: int, author: int) -> tuple[int, int]:
    """Likes, comments."""
    with Reading(world.views) as reading:
        found = engagement.post_counters(reading.of(author), post)
        return found.likes, found.comments


def thread(world: World, post: int, author: int) -> list[tuple[int, bool]]:
    """(comment, whether it is more than a tombstone), oldest first."""
    with Reading(world.views) as reading:
        entries = engagement.thread(reading.of(author), post)
        return [(entry.comment, entry.event is not None) for entry in entries]


# ---- the social graph


def test_a_follow_is_an_edge_with_two_ends(play: Play) -> None:
    world = play(when=[follow(ANN, BOB), follow(CYN, BOB), follow(BOB, ANN)])
    assert ids(world, social_graph.followers, BOB) == [ANN, CYN]
    assert ids(world, social_graph.following, BOB) == [ANN]
    assert counters(world, BOB) == (2, 1, 0)


def test_following_twice_oneself_or_nobody_changes_nothing(play: Play) -> None:
    world = play([follow(ANN, BOB)], [follow(ANN, BOB), follow(ANN, ANN), follow(ANN, 99), follow(99, ANN)])
    assert ids(world, social_graph.following, ANN) == [BOB]
    assert ids(world, social_graph.followers, ANN) == []


def test_an_unfollow_removes_the_edge_from_both_ends(play: Play) -> None:
    world = play([follow(ANN, BOB), follow(CYN, BOB)], [unfollow(ANN, BOB), unfollow(DAN, BOB)])
    assert ids(world, social_graph.followers, BOB) == [CYN]
    assert counters(world, ANN) == (0, 0, 0)


def test_a_block_removes_follows_both_ways_and_voids_new_ones_while_it_stands(play: Play) -> None:
    world = play([follow(ANN, BOB), follow(BOB, ANN)], [block(ANN, BOB), follow(BOB, ANN), follow(ANN, BOB)])
    assert ids(world, social_graph.followers, ANN) == ids(world, social_graph.followers, BOB) == []
    with Reading(world.views) as reading:
        assert social_graph.relationship(reading, ANN, BOB).blocking
        assert social_graph.relationship(reading, BOB, ANN).blocked_by


def test_lifting_a_block_restores_nothing_and_voids_nothing_from_then_on(play: Play) -> None:
    world = play([follow(ANN, BOB), block(ANN, BOB)], [UserUnblocked(user=ANN, target=BOB), follow(BOB, ANN)])
    assert ids(world, social_graph.followers, BOB) == []
    assert ids(world, social_graph.followers, ANN) == [BOB]


def test_who_is_deleted_has_no_edges_and_gets_none(play: Play) -> None:
    given = [follow(ANN, BOB), follow(BOB, CYN)]
    world = play(given, [UserDeleted(user=BOB), follow(ANN, BOB), follow(BOB, ANN)])
    assert counters(world, ANN) == counters(world, CYN) == (0, 0, 0)


# ---- timelines


def test_a_timeline_is_the_authors_live_posts_newest_first(play: Play) -> None:
    world = play([post(ANN), post(BOB), post(ANN)], [post(ANN), PostDeleted(author=ANN, post=6)])
    assert ids(world, timelines.timeline, ANN) == [9, 8]
    assert counters(world, ANN) == (0, 0, 2)


def test_only_its_author_deletes_a_post(play: Play) -> None:
    world = play([post(ANN)], [PostDeleted(author=BOB, post=6), PostDeleted(author=ANN, post=7)])
    assert ids(world, timelines.timeline, ANN) == [6]


def test_a_key_is_taken_once_even_after_its_post_was_deleted(play: Play) -> None:
    given = [post(ANN, key="k"), PostDeleted(author=ANN, post=6)]
    world = play(given, [post(ANN, key="k"), post(ANN, key="l"), post(BOB, key="k")])
    assert ids(world, timelines.timeline, ANN) == [9]
    assert ids(world, timelines.timeline, BOB) == [10]
    with Reading(world.views) as reading:
        assert timelines.post_of_key(reading, ANN, "k") == 6


def test_a_deleted_post_takes_its_likes_and_comments_along(play: Play) -> None:
    given = [post(ANN), like(BOB, 6, ANN), comment(CYN, 6, ANN), comment(DAN, 6, ANN, reply=(8, CYN))]
    world = play(given, [PostDeleted(author=ANN, post=6), like(DAN, 6, ANN)])
    with Reading(world.views) as reading:
        assert timelines.find_post(reading, 6) is None
    assert (done(world, BOB), done(world, CYN), done(world, DAN), received(world, ANN)) == ([], [], [], [])


# ---- the home feed


def test_the_feed_holds_ones_own_and_the_followeds_posts_newest_first(play: Play) -> None:
    world = play([follow(ANN, BOB)], [post(ANN), post(BOB), post(CYN), post(BOB)])
    assert feed(world, ANN) == [10, 8, 7]
    assert feed(world, ANN, limit=2) == [10, 8]
    assert feed(world, CYN) == [9]


@pytest.mark.parametrize("threshold", [None, 0, 1])
def test_a_follow_brings_older_posts_and_an_unfollow_takes_all(play: Play, threshold: int | None) -> None:
    given = [post(BOB), post(BOB)]
    assert feed(play(given, [follow(ANN, BOB), post(BOB)], threshold=threshold), ANN) == [9, 7, 6]
    given = [*given, follow(ANN, BOB), post(BOB), post(ANN)]
    assert feed(play(given, [unfollow(ANN, BOB), post(BOB)], threshold=threshold), ANN) == [10]


@pytest.mark.parametrize("threshold", [None, 0, 1])
def test_after_following_again_posts_from_before_between_and_after_are_there(play: Play, threshold: int | None) -> None:
    given = [post(BOB), follow(ANN, BOB), post(BOB), unfollow(ANN, BOB), post(BOB)]
    assert feed(play(given, [follow(ANN, BOB), post(BOB)], threshold=threshold), ANN) == [12, 10, 8, 6]


def test_an_author_who_becomes_a_celebrity_and_stops_being_one_misses_nobody(play: Play) -> None:
    # Two followers in a shard make a celebrity, and back below one of them: 9 is pushed, 12 is pulled, 15 pushed.
    crowd = [follow(user, BOB) for user in (CYN, DAN, EVE)]
    leave = [unfollow(user, BOB) for user in (CYN, DAN, EVE)]
    rise = [follow(ANN, BOB), post(BOB), *crowd, post(BOB)]
    for number in range(1, len(rise) + 1):
        world = play(rise[:number], rise[number:], threshold=2)
        assert feed(world, ANN) == [11, 7]
    fall = [*leave, post(BOB), *crowd, post(BOB), *leave, post(BOB)]
    for number in range(1, len(fall) + 1, 2):
        world = play([*rise, *fall[:number]], fall[number:], threshold=2)
        assert feed(world, ANN) == [23, 19, 15, 11, 7]


def test_under_the_horizon_nothing_is_missing_and_an_unfollow_leaves_no_hole(play: Play) -> None:
    given = [follow(ANN, BOB), follow(ANN, CYN), post(CYN), post(CYN)]
    # Three rows are kept: Bob's posts push Cyn's out of the rows, then Bob is unfollowed.
    world = play([*given, *[post(BOB)] * 3], [post(BOB)], rows=3)
    assert feed(world, ANN) == [13, 12, 11, 10, 9, 8]
    world = play([*given, *[post(BOB)] * 4], [unfollow(ANN, BOB)], rows=3)
    assert feed(world, ANN) == [9, 8]
    assert feed(world, ANN, limit=1) == [9]


def test_a_mute_hides_and_its_lifting_shows_again(play: Play) -> None:
    given = [follow(ANN, BOB), follow(ANN, CYN), post(BOB), post(CYN)]
    muted = play(given, [mute(ANN, BOB), post(BOB), post(CYN)])
    assert feed(muted, ANN) == [12, 9]
    assert feed(muted, ANN, limit=2) == [12, 9]
    with Reading(muted.views) as reading:
        assert social_graph.relationship(reading, ANN, BOB).muting
    shown = play([*given, mute(ANN, BOB), post(BOB)], [UserUnmuted(user=ANN, target=BOB)])
    assert feed(shown, ANN) == [11, 9, 8]


def test_deleted_posts_and_authors_are_gone_from_feeds(play: Play) -> None:
    given = [follow(ANN, BOB), follow(ANN, CYN), post(BOB), post(CYN), post(BOB)]
    world = play(given, [PostDeleted(author=BOB, post=10), UserDeleted(user=CYN)])
    assert feed(world, ANN) == [8]


def test_a_repeated_key_is_in_no_feed(play: Play) -> None:
    world = play([follow(ANN, BOB), post(BOB, key="k")], [post(BOB, key="k"), post(BOB)])
    assert feed(world, ANN) == [9, 7]


# ---- engagement


def test_likes_count_once_a_person_and_unlikes_undo(play: Play) -> None:
    world = play([post(ANN), like(BOB, 6, ANN)], [like(BOB, 6, ANN), like(CYN, 6, ANN), like(ANN, 6, ANN)])
    assert post_counters(world, 6, ANN) == (3, 0)
    unlikes = [PostUnliked(user=BOB, post=6, author=ANN)] * 2
    world = play([post(ANN), like(BOB, 6, ANN), like(CYN, 6, ANN)], unlikes)
    assert post_counters(world, 6, ANN) == (1, 0)
    assert done(world, BOB) == []


def test_a_like_or_comment_that_names_the_wrong_author_changes_nothing(play: Play) -> None:
    world = play([post(ANN)], [like(CYN, 6, BOB), comment(CYN, 6, BOB), like(CYN, 7, ANN)])
    assert post_counters(world, 6, ANN) == (0, 0)
    assert done(world, CYN) == received(world, ANN) == received(world, BOB) == []


def test_a_block_voids_likes_and_comments_either_way(play: Play) -> None:
    given = [post(ANN), post(BOB), block(ANN, BOB)]
    world = play(given, [like(BOB, 6, ANN), like(ANN, 7, BOB), comment(BOB, 6, ANN), comment(ANN, 7, BOB)])
    assert post_counters(world, 6, ANN) == post_counters(world, 7, BOB) == (0, 0)


def test_a_deleted_comment_with_replies_leaves_a_tombstone(play: Play) -> None:
    given = [post(ANN), comment(BOB, 6, ANN), comment(CYN, 6, ANN, reply=(7, BOB))]
    world = play(given, [uncomment(BOB, 7, 6, ANN)])
    assert thread(world, 6, ANN) == [(7, False), (8, True)]
    assert post_counters(world, 6, ANN) == (0, 1)
    # One may still reply to what is left of it; when the last reply goes, so does it.
    world = play([*given, uncomment(BOB, 7, 6, ANN)], [comment(DAN, 6, ANN, reply=(7, BOB)), uncomment(CYN, 8, 6, ANN)])
    assert thread(world, 6, ANN) == [(7, False), (10, True)]
    world = play([*given, uncomment(BOB, 7, 6, ANN)], [uncomment(ANN, 8, 6, ANN)])
    assert thread(world, 6, ANN) == []


def test_a_reply_needs_a_comment_of_the_post_and_its_writer(play: Play) -> None:
    given = [post(ANN), post(ANN), comment(BOB, 6, ANN)]
    wrong = [comment(CYN, 6, ANN, reply=(8, CYN)), comment(CYN, 7, ANN, reply=(8, BOB)), comment(CYN, 6, ANN, (6, ANN))]
    assert thread(play(given, wrong), 6, ANN) == [(8, True)]


def test_a_comment_is_deleted_by_its_writer_or_the_posts_author(play: Play) -> None:
    given = [post(ANN), comment(BOB, 6, ANN)]
    assert thread(play(given, [uncomment(CYN, 7, 6, ANN)]), 6, ANN) == [(7, True)]
    for user in (ANN, BOB):
        assert thread(play(given, [uncomment(user, 7, 6, ANN)]), 6, ANN) == []


def test_a_comments_key_is_taken_once_a_post_and_person(play: Play) -> None:
    given = [post(ANN), post(ANN), comment(BOB, 6, ANN, key="k")]
    when = [comment(user, about, ANN, key="k") for user, about in ((BOB, 6), (BOB, 7), (CYN, 6))]
    world = play(given, when)
    assert [thread(world, 6, ANN), thread(world, 7, ANN)] == [[(8, True), (11, True)], [(10, True)]]


def test_the_posts_of_one_on_which_another_has_commented_are_found(play: Play) -> None:
    given = [post(ANN), post(ANN), post(BOB), comment(CYN, 6, ANN), comment(CYN, 7, ANN), comment(CYN, 8, BOB)]
    world = play(given, [uncomment(CYN, 9, 6, ANN)])
    with Reading(world.views) as reading:
        assert engagement.commented_posts(reading, ANN, CYN) == [7]
        assert engagement.commented_posts(reading, BOB, CYN) == [8]


# ---- activity


def test_one_is_told_of_likes_comments_follows_and_mentions(play: Play) -> None:
    when = [like(BOB, 6, ANN), comment(CYN, 6, ANN), follow(DAN, ANN), post(EVE, mentions=(ANN, EVE))]
    world = play([post(ANN)], when)
    told = [(10, "mention", EVE), (9, "follow", DAN), (8, "comment", CYN), (7, "like", BOB)]
    assert received(world, ANN) == told
    assert received(world, EVE) == []


def test_what_no_longer_stands_is_no_longer_told(play: Play) -> None:
    given = [post(ANN), like(BOB, 6, ANN), comment(CYN, 6, ANN), follow(DAN, ANN), post(EVE, mentions=(ANN,))]
    undo = [
        PostUnliked(user=BOB, post=6, author=ANN),
        uncomment(CYN, 8, 6, ANN),
        unfollow(DAN, ANN),
        PostDeleted(author=EVE, post=10),
    ]
    for number in range(1, 5):
        assert len(received(play(given, undo[:number]), ANN)) == 4 - number


def test_ones_own_deeds_are_told_to_nobody_and_stand_in_ones_own_list(play: Play) -> None:
    world = play(when=[post(ANN, mentions=(ANN,)), like(ANN, 6, ANN), comment(ANN, 6, ANN), follow(ANN, BOB)])
    assert received(world, ANN) == []
    assert done(world, ANN) == [(9, "follow", BOB), (8, "comment", 6), (7, "like", 6), (6, "post", 6)]


@pytest.mark.parametrize("hide", [block(ANN, BOB), block(BOB, ANN), mute(ANN, BOB)])
def test_blocks_and_mutes_hide_what_they_should(play: Play, hide: Event) -> None:
    world = play([post(ANN), like(BOB, 6, ANN), like(CYN, 6, ANN)], [hide])
    assert received(world, ANN) == [(8, "like", CYN)]


def test_who_replies_tells_the_one_replied_to(play: Play) -> None:
    given = [post(ANN), comment(BOB, 6, ANN)]
    world = play(given, [comment(CYN, 6, ANN, reply=(7, BOB))])
    assert received(world, BOB) == [(8, "mention", CYN)]
    assert received(world, ANN) == [(8, "comment", CYN), (7, "comment", BOB)]


# ---- people


def test_a_name_is_the_first_claimants_for_ever(play: Play) -> None:
    again = UserRegistered(username=personal("ANN"), display_name=personal("another"), claim="c" * 64)
    world = play(when=[again, UserDeleted(user=ANN), again])
    with Reading(world.views) as reading:
        assert people.holder_of_name(reading, "Ann") == ANN
        assert people.user_named(reading, "ann") is None
        assert people.profiles(reading, [6, 8, ANN]).keys() == {6, 8}
        assert people.profiles(reading, [6])[6].username == ""
        assert people.user_of_claim(reading, "c" * 64) == 6


def test_a_profile_keeps_what_a_change_leaves_out(play: Play) -> None:
    given: list[Event] = [ProfileChanged(user=ANN, bio=personal("old"), avatar="ab" * 32)]
    when: list[Event] = [ProfileChanged(user=ANN, display_name=personal("Ann")), ProfileChanged(user=99)]
    world = play(given, when)
    with Reading(world.views) as reading:
        profile = people.profiles(reading, [ANN])[ANN]
    assert (profile.username, profile.display_name, profile.bio, profile.avatar) == ("ann", "Ann", "old", "ab" * 32)
    assert profile.registered_ms == START_MS


def test_deleting_a_user_deletes_all_they_did(play: Play) -> None:
    given = [post(ANN), post(BOB), like(BOB, 6, ANN), comment(BOB, 6, ANN), follow(BOB, ANN), comment(ANN, 7, BOB)]
    world = play([*given, comment(CYN, 6, ANN, reply=(9, BOB))], [UserDeleted(user=BOB), post(BOB)])
    assert post_counters(world, 6, ANN) == (0, 1)
    assert thread(world, 6, ANN) == [(9, False), (12, True)]
    assert received(world, ANN) == [(12, "comment", CYN)]
    assert done(world, ANN) == [(6, "post", 6)]
    with Reading(world.views) as reading:
        assert not people.is_live(reading, BOB)
        assert timelines.find_post(reading, 7) is None
        assert timelines.find_post(reading, 14) is None


def test_a_like_that_names_another_author_of_the_same_route_does_not_hide_the_valid_one() -> None:
    author, post, stranger = 2, 46371, 46370  # the routes of 2 and 46370 are the same
    history: list[tuple[int, Event]] = [
        (START_MS, UserRegistered(username=personal(""), display_name=personal(""))) for _ in range(post - 1)
    ]
    history.append((START_MS, PostPublished(author=author, caption=personal(""))))
    history += [(START_MS, PostLiked(user=1, post=post, author=claimed)) for claimed in (stranger, author)]
    for shards in (1, 2, 3):
        world = World(history, shards, FoldSettings())
        world.catch_up(100_000)
        with Reading(world.views) as reading:
            assert [row.kind for row in activity.done_by(reading, 1, limit=MANY)] == ["like"]
