"""Every rule of the fold by hand, so that the oracle itself can be trusted."""

import pytest
from histories import recorded as as_recorded
from histories import seeded_history
from oracle import Did, Oracle, Profile, Received

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    FeedViewed,
    Personal,
    PostDeleted,
    PostLiked,
    PostPublished,
    PostUnliked,
    ProfileChanged,
    Recorded,
    RecordParked,
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

ANN, BOB, CY = 1, 2, 3
NOBODY = 99


class Story:
    """A log in the making with Ann, Bob and Cy as its first three records; each act returns its position."""

    def __init__(self, *names: str) -> None:
        self.oracle = Oracle()
        for name in names or ("ann", "bob", "cy"):
            self.register(name)

    def tell(self, event: Event) -> int:
        position = self.oracle.position + 1
        self.oracle.apply(Recorded(position, 1_700_000_000_000, event))
        return position

    def is_void(self, event: Event) -> bool:
        before = self.oracle.world()
        self.tell(event)
        return self.oracle.world() == before

    def register(self, name: str) -> int:
        return self.tell(UserRegistered(username=personal(name), display_name=personal(name.title())))

    def post(self, author: int, mentions: tuple[int, ...] = (), key: str | None = None) -> int:
        return self.tell(PostPublished(author=author, caption=personal(""), mentions=mentions, key=key))

    def like(self, user: int, post: int, author: int = ANN) -> int:
        return self.tell(PostLiked(user=user, post=post, author=author))

    def follow(self, follower: int, followee: int) -> int:
        return self.tell(UserFollowed(follower=follower, followee=followee))

    def comment(self, user: int, post: int, author: int = ANN, mentions: tuple[int, ...] = ()) -> int:
        return self.tell(comment(user, post, author, mentions=mentions))

    def reply(self, user: int, post: int, to: int, to_user: int) -> int:
        return self.tell(comment(user, post, in_reply_to=to, in_reply_to_user=to_user))

    def uncomment(self, user: int, comment: int, post: int, author: int = ANN) -> int:
        return self.tell(CommentDeleted(user=user, comment=comment, post=post, author=author))


def comment(
    user: int,
    post: int,
    author: int = ANN,
    mentions: tuple[int, ...] = (),
    in_reply_to: int | None = None,
    in_reply_to_user: int | None = None,
    key: str | None = None,
) -> CommentAdded:
    return CommentAdded(
        user=user,
        post=post,
        author=author,
        text=personal("hi"),
        mentions=mentions,
        in_reply_to=in_reply_to,
        in_reply_to_user=in_reply_to_user,
        key=key,
    )


@pytest.fixture
def story() -> Story:
    return Story()


# Registering and names.


def test_registering_makes_a_user_whose_id_is_the_position(story: Story) -> None:
    dora = story.register("Dora")
    assert dora == 4
    assert story.oracle.live(dora)
    assert story.oracle.username(dora) == "Dora"
    assert story.oracle.user_named("dORA") == dora
    assert story.oracle.profile(dora) == Profile("Dora", None, None)


def test_a_name_is_its_first_claimants_for_ever_and_a_later_one_is_a_user_without_a_name(story: Story) -> None:
    story.tell(UserDeleted(user=ANN))
    later = story.register("ANN")
    assert story.oracle.live(later)
    assert story.oracle.username(later) is None
    assert story.oracle.user_named("ann") == ANN
    assert not story.oracle.live(ANN)
    assert story.oracle.username(ANN) is None


@pytest.mark.parametrize(
    "name", ["", "007", "a b", "ann\n", "x" * 31, "zoë", "\u212aay", "\u0661\u0662", "a.b", "\u017fam"]
)
def test_a_name_that_breaks_the_pattern_claims_nothing(story: Story, name: str) -> None:
    user = story.register(name)
    assert story.oracle.live(user)
    assert story.oracle.username(user) is None
    assert story.oracle.user_named(name) is None
    assert story.oracle.user_named("kay") is None


@pytest.mark.parametrize("name", ["a", "_", "7up", "0_0", "x" * 30])
def test_a_name_that_keeps_the_pattern_is_claimed(story: Story, name: str) -> None:
    assert story.oracle.user_named(name.upper()) is None
    assert story.register(name) == story.oracle.user_named(name.upper())


@pytest.mark.parametrize("name", [Personal(1, b"dora"), Personal(0, b"dora\xff")])
def test_a_name_that_cannot_be_read_claims_nothing(story: Story, name: Personal) -> None:
    user = story.tell(UserRegistered(username=name, display_name=name))
    assert story.oracle.live(user)
    assert story.oracle.user_named("dora") is None
    assert story.oracle.profile(user) == Profile("", None, None)


def test_a_profile_changes_in_what_is_named_and_keeps_the_rest(story: Story) -> None:
    story.tell(ProfileChanged(user=ANN, bio=personal("b"), avatar="aa"))
    story.tell(ProfileChanged(user=ANN, display_name=personal("A."), bio=personal("")))
    assert story.oracle.profile(ANN) == Profile("A.", "", "aa")
    assert story.is_void(ProfileChanged(user=NOBODY, bio=personal("b")))


# Unknown, deleted and absurd references.


@pytest.mark.parametrize("who", [NOBODY, 0, -1, -ANN, 2**63 - 1, -(2**63), 2**64 - 1, "deleted", "a post", "itself"])
def test_an_event_by_or_to_somebody_unknown_or_deleted_changes_nothing(story: Story, who: int | str) -> None:
    post = story.post(ANN)
    said = story.comment(BOB, post)
    story.tell(UserDeleted(user=CY))
    known = {"deleted": CY, "a post": post, "itself": story.oracle.position + 1}
    other = known[who] if isinstance(who, str) else who
    events: list[Event] = [
        UserFollowed(follower=other, followee=ANN),
        UserFollowed(follower=ANN, followee=other),
        UserUnfollowed(follower=other, followee=ANN),
        UserUnfollowed(follower=ANN, followee=other),
        UserBlocked(user=other, target=ANN),
        UserBlocked(user=ANN, target=other),
        UserUnblocked(user=other, target=ANN),
        UserUnblocked(user=ANN, target=other),
        UserMuted(user=other, target=ANN),
        UserMuted(user=ANN, target=other),
        UserUnmuted(user=other, target=ANN),
        UserUnmuted(user=ANN, target=other),
        UserDeleted(user=other),
        ProfileChanged(user=other, bio=personal("b")),
        PostPublished(author=other, caption=personal(""), key="k"),
        PostDeleted(author=other, post=post),
        PostLiked(user=other, post=post, author=ANN),
        PostLiked(user=BOB, post=post, author=other),
        PostUnliked(user=other, post=post, author=ANN),
        PostUnliked(user=BOB, post=post, author=other),
        comment(other, post, key="k"),
        comment(BOB, post, other, key="k"),
        CommentDeleted(user=other, comment=said, post=post, author=ANN),
        CommentDeleted(user=BOB, comment=said, post=post, author=other),
    ]
    for event in events:
        if who == "itself":
            assert Story().is_void(event)
        else:
            assert story.is_void(event)


def test_one_is_nobody_before_one_is_registered() -> None:
    story = Story("ann")
    story.follow(ANN, 3)
    story.register("bob")
    assert story.oracle.following(ANN) == []


def test_mentions_of_nobody_do_not_void(story: Story) -> None:
    post = story.post(ANN, mentions=(NOBODY, -1, BOB))
    assert story.oracle.timeline(ANN) == [post]
    assert [row.position for row in story.oracle.received(BOB)] == [post]


# Follows.


def test_a_follow_stands_until_it_is_undone(story: Story) -> None:
    story.follow(BOB, ANN)
    first = story.follow(CY, ANN)
    assert story.oracle.followers(ANN) == [BOB, CY]
    assert story.oracle.following(CY) == [ANN]
    assert story.is_void(UserFollowed(follower=CY, followee=ANN))
    assert story.oracle.did(CY) == [Did(first, "follow", ANN, ANN)]
    story.tell(UserUnfollowed(follower=CY, followee=ANN))
    assert story.oracle.followers(ANN) == [BOB]
    assert story.is_void(UserUnfollowed(follower=CY, followee=ANN))
    again = story.follow(CY, ANN)
    assert story.oracle.did(CY) == [Did(again, "follow", ANN, ANN)]


@pytest.mark.parametrize(
    "event",
    [
        UserFollowed(follower=ANN, followee=ANN),
        UserUnfollowed(follower=ANN, followee=ANN),
        UserBlocked(user=ANN, target=ANN),
        UserMuted(user=ANN, target=ANN),
        UserUnblocked(user=ANN, target=BOB),
        UserUnmuted(user=ANN, target=BOB),
        FeedViewed(user=ANN, newest=4),
        RecordParked(position=1, reason="tried"),
    ],
)
def test_what_concerns_only_oneself_or_undoes_nothing_is_void(story: Story, event: Event) -> None:
    assert story.is_void(event)


# Posts and feeds.


def test_the_home_feed_holds_the_followed_and_oneself_newest_first(story: Story) -> None:
    theirs, own, others = story.post(ANN), story.post(BOB), story.post(CY)
    story.follow(BOB, ANN)
    assert story.oracle.home_feed(BOB) == [own, theirs]
    assert story.oracle.home_feed(CY) == [others]
    story.tell(UserUnfollowed(follower=BOB, followee=ANN))
    assert story.oracle.home_feed(BOB) == [own]


def test_a_post_is_deleted_by_its_author_only_and_likes_and_comments_go_with_it(story: Story) -> None:
    post = story.post(ANN)
    story.like(BOB, post)
    said = story.comment(BOB, post)
    assert story.is_void(PostDeleted(author=BOB, post=post))
    assert story.is_void(PostDeleted(author=ANN, post=said))
    assert story.is_void(PostDeleted(author=ANN, post=NOBODY))
    story.tell(PostDeleted(author=ANN, post=post))
    assert story.oracle.timeline(ANN) == []
    assert story.oracle.counters_post(post) == (0, 0)
    assert story.oracle.thread(post) == []
    assert story.oracle.did(BOB) == []
    assert story.oracle.received(ANN) == []
    assert story.is_void(PostDeleted(author=ANN, post=post))
    assert story.is_void(PostLiked(user=CY, post=post, author=ANN))
    assert story.is_void(PostUnliked(user=BOB, post=post, author=ANN))
    assert story.is_void(comment(CY, post))
    assert story.is_void(CommentDeleted(user=BOB, comment=said, post=post, author=ANN))


def test_a_repeated_post_key_voids_the_later_record_for_ever(story: Story) -> None:
    first = story.post(ANN, key="k")
    again = PostPublished(author=ANN, caption=personal(""), key="k")
    assert story.is_void(again)
    story.tell(PostDeleted(author=ANN, post=first))
    assert story.is_void(again)
    assert story.oracle.post_by_key(ANN, "k") == first
    assert story.post(BOB, key="k") == story.oracle.post_by_key(BOB, "k")
    assert story.oracle.post_by_key(CY, "k") is None


def test_the_empty_key_is_a_key(story: Story) -> None:
    first = story.post(ANN, key="")
    assert story.is_void(PostPublished(author=ANN, caption=personal(""), key=""))
    assert story.oracle.timeline(ANN) == [first]


# Likes.


def test_a_like_stands_until_it_is_undone(story: Story) -> None:
    post = story.post(ANN)
    first = story.like(BOB, post)
    assert story.is_void(PostLiked(user=BOB, post=post, author=ANN))
    assert story.oracle.did(BOB) == [Did(first, "like", post, ANN)]
    assert story.oracle.received(ANN) == [Received(first, "like", BOB, post)]
    story.tell(PostUnliked(user=BOB, post=post, author=ANN))
    assert story.oracle.likers(post) == []
    assert story.is_void(PostUnliked(user=BOB, post=post, author=ANN))
    again = story.like(BOB, post)
    assert story.oracle.did(BOB) == [Did(again, "like", post, ANN)]


def test_one_may_like_and_comment_on_ones_own_post_without_hearing_of_it(story: Story) -> None:
    post = story.post(ANN, mentions=(ANN,))
    story.like(ANN, post)
    story.comment(ANN, post, mentions=(ANN,))
    assert story.oracle.counters_post(post) == (1, 1)
    assert story.oracle.likers(post) == [ANN]
    assert story.oracle.received(ANN) == []


def test_liking_and_commenting_need_the_post_and_its_right_author(story: Story) -> None:
    post = story.post(ANN)
    said = story.comment(BOB, post)
    story.like(BOB, post)
    for target, author in ((post, BOB), (said, ANN), (said, BOB), (ANN, ANN), (0, ANN), (-post, ANN), (50, ANN)):
        assert story.is_void(PostLiked(user=CY, post=target, author=author))
        assert story.is_void(PostUnliked(user=BOB, post=target, author=author))
        assert story.is_void(comment(CY, target, author))


# Comments.


def test_comments_stand_oldest_first(story: Story) -> None:
    post = story.post(ANN)
    first, second = story.comment(BOB, post), story.comment(CY, post)
    assert story.oracle.comments(post) == [first, second]
    assert story.oracle.counters_post(post) == (0, 2)
    assert story.oracle.did(BOB) == [Did(first, "comment", post, ANN)]
    assert story.oracle.received(ANN) == [Received(second, "comment", CY, post), Received(first, "comment", BOB, post)]


def test_a_comment_is_deleted_by_its_writer_or_the_posts_author(story: Story) -> None:
    post = story.post(ANN)
    by_writer, by_author = story.comment(BOB, post), story.comment(BOB, post)
    assert story.is_void(CommentDeleted(user=CY, comment=by_writer, post=post, author=ANN))
    story.uncomment(BOB, by_writer, post)
    story.uncomment(ANN, by_author, post)
    assert story.oracle.comments(post) == []
    assert story.is_void(CommentDeleted(user=BOB, comment=by_writer, post=post, author=ANN))


def test_deleting_a_comment_must_name_the_right_post_and_author(story: Story) -> None:
    post, other, bobs = story.post(ANN), story.post(ANN), story.post(BOB)
    said = story.comment(BOB, post)
    for at, author in ((other, ANN), (bobs, BOB), (post, BOB), (said, ANN)):
        assert story.is_void(CommentDeleted(user=BOB, comment=said, post=at, author=author))
    assert story.is_void(CommentDeleted(user=BOB, comment=post, post=post, author=ANN))


def test_a_comment_key_counts_for_a_user_and_a_post(story: Story) -> None:
    post, other = story.post(ANN), story.post(ANN)
    first = story.tell(comment(BOB, post, key="k"))
    assert story.is_void(comment(BOB, post, key="k"))
    story.uncomment(BOB, first, post)
    assert story.is_void(comment(BOB, post, key="k"))
    assert story.oracle.comment_by_key(BOB, post, "k") == first
    assert story.tell(comment(BOB, other, key="k")) == story.oracle.comment_by_key(BOB, other, "k")
    assert story.tell(comment(CY, post, key="k")) == story.oracle.comment_by_key(CY, post, "k")
    assert story.oracle.comment_by_key(ANN, post, "k") is None


def test_a_void_record_claims_no_key(story: Story) -> None:
    post = story.post(ANN)
    story.tell(PostPublished(author=6, caption=personal(""), key="k"))
    assert story.register("dora") == 6
    story.tell(comment(6, post, BOB, key="k"))
    story.tell(comment(6, post, in_reply_to=post, in_reply_to_user=ANN, key="k"))
    assert story.tell(PostPublished(author=6, caption=personal(""), key="k")) in story.oracle.timeline(6)
    assert story.tell(comment(6, post, key="k")) in story.oracle.comments(post)


# Replies.


def test_a_reply_names_a_comment_of_the_same_post_and_its_writer(story: Story) -> None:
    post, other = story.post(ANN), story.post(ANN)
    said, elsewhere = story.comment(BOB, post), story.comment(BOB, other)
    assert story.reply(CY, post, said, BOB) in story.oracle.comments(post)
    wrong = ((said, None), (None, BOB), (said, CY), (said, ANN), (elsewhere, BOB), (post, ANN), (50, BOB), (0, 0))
    for to, to_user in wrong:
        assert story.is_void(comment(CY, post, in_reply_to=to, in_reply_to_user=to_user))
    itself = story.oracle.position + 1
    assert story.is_void(comment(CY, post, in_reply_to=itself, in_reply_to_user=CY))


def test_a_void_comment_cannot_be_replied_to(story: Story) -> None:
    post = story.post(ANN)
    void = story.comment(BOB, post, author=CY)
    assert story.is_void(comment(CY, post, in_reply_to=void, in_reply_to_user=BOB))


def test_a_deleted_comment_and_a_deleted_writers_can_be_replied_to(story: Story) -> None:
    post = story.post(ANN)
    said, gone = story.comment(BOB, post), story.comment(CY, post)
    story.uncomment(BOB, said, post)
    story.tell(UserDeleted(user=CY))
    first, second = story.reply(ANN, post, said, BOB), story.reply(ANN, post, gone, CY)
    assert story.oracle.comments(post) == [first, second]
    assert story.oracle.thread(post) == [said, gone, first, second]


def test_a_deleted_comment_is_a_tombstone_while_a_live_one_descends_from_it(story: Story) -> None:
    post = story.post(ANN)
    root, lone = story.comment(BOB, post), story.comment(BOB, post)
    middle = story.reply(CY, post, root, BOB)
    leaf = story.reply(BOB, post, middle, CY)
    for gone in (root, middle, lone):
        story.uncomment(ANN, gone, post)
    assert story.oracle.thread(post) == [root, middle, leaf]
    assert story.oracle.comments(post) == [leaf]
    assert story.oracle.counters_post(post) == (0, 1)
    story.uncomment(ANN, leaf, post)
    assert story.oracle.thread(post) == []


# Blocks and mutes.


def test_a_block_removes_follows_both_ways_and_lifting_it_restores_nothing(story: Story) -> None:
    story.follow(ANN, BOB)
    story.follow(BOB, ANN)
    story.tell(UserBlocked(user=ANN, target=BOB))
    assert story.oracle.counters_user(ANN) == (0, 0, 0)
    assert story.oracle.counters_user(BOB) == (0, 0, 0)
    assert story.is_void(UserBlocked(user=ANN, target=BOB))
    assert story.is_void(UserFollowed(follower=ANN, followee=BOB))
    assert story.is_void(UserFollowed(follower=BOB, followee=ANN))
    assert story.is_void(UserUnblocked(user=BOB, target=ANN))
    story.tell(UserUnblocked(user=ANN, target=BOB))
    assert story.oracle.following(ANN) == []
    story.follow(BOB, ANN)
    assert story.oracle.followers(ANN) == [BOB]


@pytest.mark.parametrize(("blocker", "blocked"), [(ANN, BOB), (BOB, ANN)])
def test_a_block_prevents_likes_and_comments_but_not_their_undoing(story: Story, blocker: int, blocked: int) -> None:
    post, second = story.post(ANN), story.post(ANN)
    story.like(BOB, post)
    said = story.comment(BOB, post)
    story.tell(UserBlocked(user=blocker, target=blocked))
    assert story.oracle.counters_post(post) == (1, 1)
    assert story.is_void(PostLiked(user=BOB, post=second, author=ANN))
    assert story.is_void(comment(BOB, second))
    story.tell(PostUnliked(user=BOB, post=post, author=ANN))
    story.uncomment(BOB, said, post)
    assert story.oracle.counters_post(post) == (0, 0)


def test_a_block_between_others_on_a_third_ones_post_prevents_nothing(story: Story) -> None:
    post = story.post(ANN)
    said = story.comment(BOB, post)
    story.tell(UserBlocked(user=BOB, target=CY))
    assert story.reply(CY, post, said, BOB) in story.oracle.comments(post)


def test_two_may_block_each_other_and_each_lifts_their_own(story: Story) -> None:
    story.tell(UserBlocked(user=ANN, target=BOB))
    story.tell(UserBlocked(user=BOB, target=ANN))
    story.tell(UserUnblocked(user=ANN, target=BOB))
    assert story.is_void(UserFollowed(follower=ANN, followee=BOB))
    assert story.oracle.blocks(ANN) == []
    assert story.oracle.blocks(BOB) == [ANN]


def test_a_mute_hides_the_targets_posts_while_it_stands(story: Story) -> None:
    post = story.post(ANN)
    story.follow(BOB, ANN)
    story.tell(UserMuted(user=BOB, target=ANN))
    assert story.oracle.home_feed(BOB) == []
    assert story.oracle.timeline(ANN) == [post]
    assert story.oracle.mutes(BOB) == [ANN]
    assert story.is_void(UserMuted(user=BOB, target=ANN))
    story.tell(UserUnmuted(user=BOB, target=ANN))
    assert story.oracle.home_feed(BOB) == [post]


def test_a_relationship_is_seen_from_both_sides(story: Story) -> None:
    none = dict.fromkeys(("following", "followed_by", "blocking", "blocked_by", "muting"), False)
    story.follow(ANN, BOB)
    story.tell(UserMuted(user=ANN, target=BOB))
    assert story.oracle.relationship(ANN, BOB) == none | {"following": True, "muting": True}
    assert story.oracle.relationship(BOB, ANN) == none | {"followed_by": True}
    story.tell(UserBlocked(user=BOB, target=ANN))
    assert story.oracle.relationship(ANN, BOB) == none | {"blocked_by": True, "muting": True}
    assert story.oracle.relationship(BOB, ANN) == none | {"blocking": True}
    assert story.oracle.relationship(ANN, NOBODY) == none


# What is received.


def test_everything_standing_is_received_newest_first_at_its_own_position(story: Story) -> None:
    followed = story.follow(BOB, ANN)
    post = story.post(ANN)
    liked = story.like(BOB, post)
    said = story.comment(CY, post)
    mentioned = story.post(BOB, mentions=(ANN, ANN))
    assert story.oracle.received(ANN) == [
        Received(mentioned, "mention", BOB, mentioned),
        Received(said, "comment", CY, post),
        Received(liked, "like", BOB, post),
        Received(followed, "follow", BOB, ANN),
    ]


def test_a_reply_mentions_whom_it_answers_once_and_the_posts_author_gets_only_the_comment(story: Story) -> None:
    post = story.post(ANN)
    said = story.comment(BOB, post)
    reply = story.tell(comment(CY, post, mentions=(ANN, BOB, CY), in_reply_to=said, in_reply_to_user=BOB))
    assert story.oracle.received(BOB) == [Received(reply, "mention", CY, post)]
    assert story.oracle.received(CY) == []
    assert story.oracle.received(ANN) == [Received(reply, "comment", CY, post), Received(said, "comment", BOB, post)]
    story.uncomment(CY, reply, post)
    assert story.oracle.received(BOB) == []


def test_a_reply_alone_and_a_mention_alone_are_each_received(story: Story) -> None:
    post = story.post(ANN)
    said = story.comment(BOB, post, mentions=(CY,))
    assert story.oracle.received(CY) == [Received(said, "mention", BOB, post)]
    reply = story.reply(CY, post, said, BOB)
    assert story.oracle.received(BOB) == [Received(reply, "mention", CY, post)]
    story.tell(PostDeleted(author=ANN, post=post))
    assert story.oracle.received(BOB) == []
    assert story.oracle.received(CY) == []


def test_a_mention_goes_with_the_post_or_comment_that_holds_it(story: Story) -> None:
    post = story.post(ANN, mentions=(BOB,))
    assert story.oracle.received(BOB) == [Received(post, "mention", ANN, post)]
    said = story.comment(CY, post, mentions=(BOB,))
    assert story.oracle.live_post(post)
    assert story.oracle.live_comment(said)
    story.uncomment(CY, said, post)
    assert story.oracle.received(BOB) == [Received(post, "mention", ANN, post)]
    story.tell(PostDeleted(author=ANN, post=post))
    assert story.oracle.received(BOB) == []
    assert not story.oracle.live_post(post)
    assert not story.oracle.live_comment(said)
    assert not story.oracle.live_comment(NOBODY)


def test_a_mention_in_a_void_comment_or_from_before_registering_is_not_received(story: Story) -> None:
    post = story.post(ANN, mentions=(6,))
    story.comment(BOB, post, author=BOB, mentions=(CY,))
    assert story.register("dora") == 6
    assert story.oracle.received(6) == []
    assert story.oracle.received(CY) == []


@pytest.mark.parametrize(
    ("hide", "show"),
    [
        (UserBlocked(user=ANN, target=BOB), UserUnblocked(user=ANN, target=BOB)),
        (UserBlocked(user=BOB, target=ANN), UserUnblocked(user=BOB, target=ANN)),
        (UserMuted(user=ANN, target=BOB), UserUnmuted(user=ANN, target=BOB)),
    ],
)
def test_what_a_blocked_or_muted_one_did_is_hidden_while_that_stands(story: Story, hide: Event, show: Event) -> None:
    post = story.post(ANN)
    story.like(BOB, post)
    story.comment(BOB, post)
    story.post(BOB, mentions=(ANN,))
    others = story.like(CY, post)
    before = story.oracle.received(ANN)
    assert len(before) == 4
    story.tell(hide)
    assert story.oracle.received(ANN) == [Received(others, "like", CY, post)]
    story.tell(show)
    assert story.oracle.received(ANN) == before


def test_muting_somebody_hides_nothing_from_them(story: Story) -> None:
    post = story.post(ANN)
    liked = story.like(BOB, post)
    story.tell(UserMuted(user=BOB, target=ANN))
    assert story.oracle.received(ANN) == [Received(liked, "like", BOB, post)]


# What is done, and the rest.


def test_what_one_did_is_told_newest_first(story: Story) -> None:
    followed = story.follow(BOB, ANN)
    post, own = story.post(ANN), story.post(BOB)
    liked, said = story.like(BOB, post), story.comment(BOB, post)
    assert story.oracle.did(BOB) == [
        Did(said, "comment", post, ANN),
        Did(liked, "like", post, ANN),
        Did(own, "post", own, BOB),
        Did(followed, "follow", ANN, ANN),
    ]


def test_commented_are_the_authors_posts_with_a_live_comment_by_the_commenter(story: Story) -> None:
    first, second, third, bobs = story.post(ANN), story.post(ANN), story.post(ANN), story.post(BOB)
    said = story.comment(CY, first)
    for post in (second, second):
        story.comment(CY, post)
    story.comment(BOB, third)
    story.comment(CY, bobs, author=BOB)
    assert story.oracle.commented(ANN, CY) == [second, first]
    story.uncomment(CY, said, first)
    assert story.oracle.commented(ANN, CY) == [second]


def test_counters_are_the_sizes_of_their_sets(story: Story) -> None:
    story.follow(BOB, ANN)
    story.follow(CY, ANN)
    story.follow(ANN, BOB)
    post = story.post(ANN)
    story.tell(PostDeleted(author=ANN, post=story.post(ANN)))
    story.like(BOB, post)
    story.comment(BOB, post)
    story.comment(BOB, post)
    assert story.oracle.counters_user(ANN) == (2, 1, 1)
    assert story.oracle.counters_post(post) == (1, 2)


def test_deleting_a_user_deletes_all_that_was_theirs(story: Story) -> None:
    post, anns = story.post(BOB), story.post(ANN)
    story.like(ANN, post, author=BOB)
    story.comment(CY, post, author=BOB)
    story.like(BOB, anns)
    said = story.comment(BOB, anns)
    reply = story.reply(CY, anns, said, BOB)
    story.follow(BOB, ANN)
    story.follow(CY, BOB)
    story.tell(UserMuted(user=ANN, target=BOB))
    story.tell(UserBlocked(user=ANN, target=BOB))
    story.tell(UserDeleted(user=BOB))
    oracle = story.oracle
    assert not oracle.live(BOB)
    assert oracle.profile(BOB) is None
    assert [oracle.home_feed(BOB), oracle.timeline(BOB), oracle.did(BOB), oracle.received(BOB)] == [[], [], [], []]
    assert oracle.counters_post(post) == (0, 0)
    assert oracle.counters_post(anns) == (0, 1)
    assert oracle.thread(anns) == [said, reply]
    assert (oracle.blocks(ANN), oracle.mutes(ANN), oracle.followers(ANN), oracle.following(CY)) == ([], [], [], [])
    assert [row.position for row in oracle.received(ANN)] == [reply]
    assert [row.position for row in oracle.did(CY)] == [reply]
    assert story.is_void(UserDeleted(user=BOB))


def test_a_parked_record_is_void_wherever_its_parking_stands() -> None:
    oracle = Oracle(parked={2})
    for position, name in enumerate(("ann", "bob"), 1):
        oracle.apply(Recorded(position, 0, UserRegistered(username=personal(name), display_name=personal(name))))
    assert oracle.live(1)
    assert not oracle.live(2)
    assert oracle.user_named("bob") is None


# The oracle against itself, on long histories.


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_twice_agrees(seed: int) -> None:
    oracle = Oracle()
    for record in as_recorded(seeded_history(seed, 1_000)):
        oracle.apply(record)
    users, posts = oracle.users, oracle.posts
    assert {(a, b) for a in users for b in oracle.following(a)} == {(a, b) for b in users for a in oracle.followers(b)}
    assert {(u, p) for u in users for p in users[u].likes} == {(u, p) for p in posts for u in oracle.likers(p)}
    assert {c for u in users for c in users[u].comments} == {c for p in posts for c in oracle.comments(p)}
    assert {p for u in users for p in oracle.timeline(u)} == set(posts)
    assert not [(a, b) for a in users for b in oracle.blocks(a) if oracle.relationship(a, b)["following"]]


def test_a_seeded_history_is_the_same_every_time_and_has_every_type() -> None:
    history = seeded_history(7, 2_000)
    assert len(history) == 2_000
    assert history == seeded_history(7, 2_000)
    assert history != seeded_history(8, 2_000)
    assert len({type(event) for _, event in history}) == 17
