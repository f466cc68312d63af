"""Histories of every type of event: mostly plausible, sometimes wrong, drawn by hypothesis or from a seed.

A history is a list of small steps, each resolved against what the steps before it made: `which`, `who` and `whom` are
indexes into what exists, never positions, so that leaving a step out leaves the others meaningful: failures shrink.
"""

import random
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec
from hypothesis import strategies as st

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    FeedViewed,
    Medium,
    Personal,
    Place,
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

History = list[tuple[int, Event]]

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000

NAMES = (
    *("ann", "Bob", "cy_3", "ANN", "bOB", "Ann", "_", "7up", "x" * 30),
    *("007", "", "no way", "x" * 31, "ann\n", "\u212aay", "kay", "\u0661\u0662", "ann.b", "zoë"),
)
"""The first few are good, some differ only in case, the rest break the pattern (but for `kay`, which the Kelvin sign is
not)."""

KEYS = ("k", "l", "")
TAGS = ("sun", "Sun", "fog")
TEXTS = ("", "hi", "so long\nand thanks", "\U0001f41f")
AVATAR = "ab" * 32
MEDIUM = Medium("cd" * 32, 1200, 800, "LEHV6nWB2yk8", personal("a boat"))
PLACE = Place(personal("Oslo"), 59.91, 10.75)
HUGE_IDS = (2**63 - 1, -(2**63), 2**64 - 1, 2**32)

JUMPS_MS = (1, 0, 1000, HOUR_MS, 72 * HOUR_MS, -1, -HOUR_MS, -240 * HOUR_MS)
"""How far a record's time is from the one before it; not always forward, for an appender's clock may be wrong."""

KINDS: dict[type[Event], int] = {
    PostPublished: 12,
    UserFollowed: 11,
    PostLiked: 8,
    CommentAdded: 9,
    UserUnfollowed: 4,
    PostUnliked: 3,
    CommentDeleted: 3,
    PostDeleted: 3,
    UserBlocked: 2,
    UserUnblocked: 2,
    UserMuted: 2,
    UserUnmuted: 2,
    UserRegistered: 2,
    ProfileChanged: 1,
    UserDeleted: 1,
    FeedViewed: 1,
    RecordParked: 1,
}
"""How often each type is drawn, against the others."""

KNOWN_MAX = 600
"""How many of each thing a history remembers, so that a long one is made in linear time."""

_DECK = tuple(kind for kind, weight in KINDS.items() for _ in range(weight))
_WRONGS = 13
_ODDITIES = (
    *((0, JUMPS_MS[0]),) * (6 * _WRONGS),
    *((wrong, JUMPS_MS[0]) for wrong in range(1, _WRONGS + 1)),
    *((0, jump_ms) for jump_ms in JUMPS_MS * 3),
)
"""Which reference is wrong, and how far the time jumps: neither, as a rule."""

Item = TypeVar("Item")


class Step(NamedTuple):
    """One event to be made: small numbers only, of which 0 is the plainest."""

    kind: type[Event]
    who: int = 0
    whom: int = 0
    which: int = 0
    extra: int = 0
    wrong: int = 0
    jump_ms: int = JUMPS_MS[0]


def histories(max_size: int = 60) -> st.SearchStrategy[History]:
    """Histories of at most `max_size` events; two or more users come first, as a rule."""
    step = st.builds(
        _step,
        kind=st.sampled_from(_DECK),
        pair=st.integers(0, 16 * 16 - 1),
        detail=st.integers(0, 64 * 256 - 1),
        oddity=st.sampled_from(_ODDITIES),
    )
    # A list alone would be five long on average. The branches differ only in the least size: all shrink to the first.
    sizes = [size for size in (0, max_size // 4, max_size // 2, max_size * 3 // 4) if size == 0 or max_size > 10]
    steps = st.one_of([st.lists(step, min_size=size, max_size=max_size) for size in sizes])
    users = st.sampled_from((2, 3, 4, 5, 6, 1, 0))
    return st.builds(_history, users, steps, st.just(max_size))


def seeded_history(seed: int, size: int, users: int = 5) -> History:
    """The same mix, `size` events long, from a seed; starts with `users` registrations, and more follow."""
    return _history(users, _seeded_steps(random.Random(seed)), size)


def recorded(history: Iterable[tuple[int, Event]]) -> list[Recorded]:
    """The history as a log gives it back: positions from 1."""
    return [Recorded(position, time_ms, event) for position, (time_ms, event) in enumerate(history, 1)]


def _step(kind: type[Event], pair: int, detail: int, oddity: tuple[int, int]) -> Step:
    """A step from four draws: hypothesis deletes at most five at once, and a list draws one for each element itself."""
    wrong, jump_ms = oddity
    return Step(kind, pair % 16, pair // 16, detail % 64, detail // 64, wrong, jump_ms)


def _history(users: int, steps: Iterable[Step], size: int) -> History:
    resolver = _Resolver()
    first = (Step(UserRegistered, which=index, extra=index) for index in range(users))
    made = [resolver.resolve(step) for step in islice(first, size)]
    made += [resolver.resolve(step) for step in islice(steps, size - len(made))]
    return made


def _seeded_steps(source: random.Random) -> Iterable[Step]:
    draw = source.random
    while True:
        reach = 64 if draw() < 0.5 else 2**30
        wrong, jump_ms = _ODDITIES[int(draw() * len(_ODDITIES))]
        yield Step(
            kind=_DECK[int(draw() * len(_DECK))],
            who=int(draw() * reach),
            whom=int(draw() * reach),
            which=int(draw() * reach),
            extra=int(draw() * 256),
            wrong=wrong,
            jump_ms=jump_ms,
        )


class _PostMade(NamedTuple):
    id: int
    author: int


class _CommentMade(NamedTuple):
    id: int
    post: _PostMade
    user: int


class _Resolver:
    """Knows roughly what exists: enough for plausible references, and no judgement of what took effect."""

    def __init__(self) -> None:
        self._position = 0
        self._time_ms = START_MS
        self._users: list[int] = []
        self._posts: list[_PostMade] = []
        self._comments: list[_CommentMade] = []
        self._likes: list[tuple[int, _PostMade]] = []
        self._follows: list[tuple[int, int]] = []
        self._blocks: list[tuple[int, int]] = []
        self._mutes: list[tuple[int, int]] = []
        self._dead_users: list[int] = []
        self._dead_posts: list[_PostMade] = []
        self._dead_comments: list[_CommentMade] = []
        self._post_keys: set[tuple[int, str]] = set()

    def resolve(self, step: Step) -> tuple[int, Event]:
        self._position += 1
        self._time_ms = max(0, self._time_ms + step.jump_ms)
        event = _MAKERS[self._kind(step)](self, step)
        if step.wrong:
            event = self._spoil(event, step)
        self._note(event)
        return self._time_ms, event

    def _kind(self, step: Step) -> type[Event]:
        """The step's type; where there is nothing yet for it to work on, mostly what makes such a thing."""
        first = _NEEDS.get(step.kind)
        if first is None or step.extra % 8 == 7:
            return step.kind
        needed, kind = first
        return step.kind if getattr(self, needed) else kind

    # References: to what exists, now and then to what was deleted, and to 1 where there is nothing yet.

    def _user(self, index: int) -> int:
        users = self._dead_users if index % 16 == 15 and self._dead_users else self._users
        return users[index % len(users)] if users else 1

    def _pair(self, step: Step) -> tuple[int, int]:
        """Two users, seldom the same; every third time the second is the hub, whom all know."""
        one, other = self._user(step.who), self._user(step.whom // 3 if step.whom % 3 else 0)
        return one, (self._user(step.who + 1) if other == one else other)

    def _post(self, step: Step) -> _PostMade:
        """One of the newest as a rule, else the oldest, which many have seen."""
        if step.which % 16 == 15 and self._dead_posts:
            return self._dead_posts[-1 - step.which // 16 % len(self._dead_posts)]
        hot = self._posts[0] if self._posts and step.whom % 6 == 5 else None
        return hot or _newest(self._posts, step.which) or _PostMade(1, self._user(0))

    def _comment(self, step: Step) -> _CommentMade:
        dead = _newest(self._dead_comments, step.which // 16) if step.which % 16 == 15 else None
        newest = dead or _newest(self._comments, step.which)
        return newest or _CommentMade(1, self._post(step), self._user(0))

    def _replied_to(self, step: Step) -> _CommentMade | None:
        if step.whom % 2 == 0:
            return None
        dead = _newest(self._dead_comments, step.which) if step.whom % 8 == 7 else None
        return dead or _newest(self._comments, step.which)

    def _liked(self, step: Step) -> tuple[int, _PostMade]:
        return _newest(self._likes, step.which) or (self._user(step.who), self._post(step))

    def _followed(self, step: Step) -> tuple[int, int]:
        return _newest(self._follows, step.which) or self._pair(step)

    def _mentions(self, step: Step) -> tuple[int, ...]:
        """None as a rule; else a user, perhaps twice, or somebody who is not there yet."""
        choice = step.extra // 4 % 8
        one, other = self._user(step.whom), self._user(step.extra // 32)
        return {4: (one,), 5: (one, other), 6: (other, other, one), 7: (self._position + 1, HUGE_IDS[2], -1, one)}.get(
            choice, ()
        )

    # One maker a type.

    def _user_registered(self, step: Step) -> Event:
        name = personal(NAMES[step.which % len(NAMES)])
        if step.extra == 255:
            name = Personal(1, name.data)
        claim = "ef" * 32 if step.extra % 2 else None
        return UserRegistered(username=name, display_name=_words(step), claim=claim)

    def _profile_changed(self, step: Step) -> Event:
        return ProfileChanged(
            user=self._user(step.who),
            display_name=_words(step) if step.which % 2 else None,
            bio=_words(step) if step.which // 2 % 2 else None,
            avatar=AVATAR if step.which // 4 % 2 else None,
        )

    def _user_deleted(self, step: Step) -> Event:
        return UserDeleted(user=self._user(step.who))

    def _post_published(self, step: Step) -> Event:
        return PostPublished(
            author=self._user(0) if step.whom % 4 == 3 else self._user(step.who),
            caption=_words(step),
            media=(MEDIUM,) * (step.which % 3),
            tags=TAGS[: step.which // 3 % 4],
            mentions=self._mentions(step),
            place=PLACE if step.which % 8 == 7 else None,
            key=_key(step),
        )

    def _post_deleted(self, step: Step) -> Event:
        post = self._post(step)
        return PostDeleted(author=post.author, post=post.id)

    def _post_liked(self, step: Step) -> Event:
        post = self._post(step)
        return PostLiked(user=self._user(step.who), post=post.id, author=post.author)

    def _post_unliked(self, step: Step) -> Event:
        user, post = self._liked(step)
        return PostUnliked(user=user, post=post.id, author=post.author)

    def _comment_added(self, step: Step) -> Event:
        replied_to = self._replied_to(step)
        post = replied_to.post if replied_to else self._post(step)
        return CommentAdded(
            user=self._user(step.who),
            post=post.id,
            author=post.author,
            text=_words(step),
            mentions=self._mentions(step),
            in_reply_to=replied_to.id if replied_to else None,
            in_reply_to_user=replied_to.user if replied_to else None,
            key=_key(step),
        )

    def _comment_deleted(self, step: Step) -> Event:
        comment = self._comment(step)
        user = (comment.user, comment.post.author, comment.user, self._user(step.who))[step.whom % 4]
        return CommentDeleted(user=user, comment=comment.id, post=comment.post.id, author=comment.post.author)

    def _user_followed(self, step: Step) -> Event:
        block = _newest(self._blocks, step.which) if step.extra % 8 == 1 else None
        follower, followee = block or self._pair(step)
        return UserFollowed(follower=follower, followee=followee)

    def _user_unfollowed(self, step: Step) -> Event:
        follower, followee = self._followed(step)
        return UserUnfollowed(follower=follower, followee=followee)

    def _user_blocked(self, step: Step) -> Event:
        pair = self._followed(step) if step.extra % 2 else self._pair(step)
        user, target = pair if step.extra // 2 % 2 else (pair[1], pair[0])
        return UserBlocked(user=user, target=target)

    def _user_unblocked(self, step: Step) -> Event:
        user, target = _newest(self._blocks, step.which) or self._pair(step)
        return UserUnblocked(user=user, target=target)

    def _user_muted(self, step: Step) -> Event:
        user, target = self._followed(step) if step.extra % 2 else self._pair(step)
        return UserMuted(user=user, target=target)

    def _user_unmuted(self, step: Step) -> Event:
        user, target = _newest(self._mutes, step.which) or self._pair(step)
        return UserUnmuted(user=user, target=target)

    def _feed_viewed(self, step: Step) -> Event:
        return FeedViewed(user=self._user(step.who), newest=self._post(step).id)

    def _record_parked(self, step: Step) -> Event:
        return RecordParked(position=step.which % self._position, reason="tried")

    # Wrong references.

    def _spoil(self, event: Event, step: Step) -> Event:
        """The event with one of its references replaced by one that is of the wrong kind, gone, unknown or absurd."""
        fields = _REFERENCES[type(event)]
        if not fields:
            return event
        name = fields[step.extra % len(fields)]
        return msgspec.structs.replace(event, **{name: self._wrong_reference(fields, name, event, step)})

    def _wrong_reference(self, fields: tuple[str, ...], name: str, event: Event, step: Step) -> int | None:
        post, comment = self._post(step), self._comment(step)
        wrongs: tuple[int | None, ...] = (
            self._user(step.whom),
            post.id,
            comment.id,
            _newest(self._dead_users, step.which) or 0,
            getattr(event, fields[0]),
            None if name.startswith("in_reply_to") else comment.user,
            1 + step.which % self._position,
            self._position,
            self._position + 1 + step.which % 4,
            0,
            -1,
            -self._user(step.whom),
            HUGE_IDS[step.which % len(HUGE_IDS)],
        )
        return wrongs[(step.wrong - 1) % len(wrongs)]

    # What there is afterwards, as far as one can see without the rules.

    def _note(self, event: Event) -> None:
        match event:
            case UserRegistered():
                _keep(self._users, self._position)
            case PostPublished():
                self._note_post(event)
            case PostLiked(user=user, post=post, author=author):
                _keep(self._likes, (user, _PostMade(post, author)))
            case PostUnliked(user=user, post=post, author=author):
                _drop(self._likes, (user, _PostMade(post, author)))
            case CommentAdded():
                self._note_comment(event)
            case UserDeleted() | PostDeleted() | CommentDeleted():
                self._note_deletion(event)
            case _:
                self._note_pair(event)

    def _note_post(self, event: PostPublished) -> None:
        """One that is void to the eye is like a dead one: worth a reference now and then."""
        key = None if event.key is None else (event.author, event.key)
        void = event.author not in self._users or key in self._post_keys
        _keep(self._dead_posts if void else self._posts, _PostMade(self._position, event.author))
        if key is not None:
            self._post_keys.add(key)

    def _note_comment(self, event: CommentAdded) -> None:
        made = _CommentMade(self._position, _PostMade(event.post, event.author), event.user)
        blocks = {(event.user, event.author), (event.author, event.user)} & set(self._blocks)
        void = event.user not in self._users or made.post not in self._posts or blocks
        _keep(self._dead_comments if void else self._comments, made)

    def _note_pair(self, event: Event) -> None:
        match event:
            case UserFollowed(follower=one, followee=other):
                _keep(self._follows, (one, other))
            case UserUnfollowed(follower=one, followee=other):
                _drop(self._follows, (one, other))
            case UserBlocked(user=one, target=other):
                _keep(self._blocks, (one, other))
                _drop(self._follows, (one, other))
                _drop(self._follows, (other, one))
            case UserUnblocked(user=one, target=other):
                _drop(self._blocks, (one, other))
            case UserMuted(user=one, target=other):
                _keep(self._mutes, (one, other))
            case UserUnmuted(user=one, target=other):
                _drop(self._mutes, (one, other))

    def _note_deletion(self, event: UserDeleted | PostDeleted | CommentDeleted) -> None:
        match event:
            case UserDeleted(user=user):
                self._note_user_deleted(user)
            case PostDeleted(post=post):
                _move(self._posts, self._dead_posts, lambda made: made.id == post)
                self._forget_dead_posts()
            case CommentDeleted(comment=comment):
                _move(self._comments, self._dead_comments, lambda made: made.id == comment)

    def _note_user_deleted(self, user: int) -> None:
        _move(self._users, self._dead_users, lambda made: made == user)
        _move(self._posts, self._dead_posts, lambda made: made.author == user)
        self._forget_dead_posts()
        _move(self._comments, self._dead_comments, lambda made: made.user == user)
        self._likes = [like for like in self._likes if like[0] != user]
        for pairs in (self._follows, self._blocks, self._mutes):
            pairs[:] = [pair for pair in pairs if user not in pair]

    def _forget_dead_posts(self) -> None:
        """What hangs on dead posts is seldom worth trying, but for a little."""
        dead = set(self._dead_posts)
        self._likes = [like for like in self._likes if like[1] not in dead]
        self._comments = [comment for comment in self._comments if comment.post not in dead]
        self._dead_comments = [comment for comment in self._dead_comments if comment.post not in dead]


def _keep(items: list[Item], item: Item) -> None:
    """The item is now the newest. Over a limit every second is forgotten: the oldest stays, and the newer the more."""
    if item in items:
        return
    items.append(item)
    if len(items) > KNOWN_MAX:
        del items[1::2]


def _drop(items: list[Item], item: Item) -> None:
    if item in items:
        items.remove(item)


def _move(items: list[Item], dead: list[Item], chosen: Callable[[Item], bool]) -> None:
    dead += [item for item in items if chosen(item)]
    items[:] = [item for item in items if not chosen(item)]
    del dead[:-16]


def _newest(items: list[Item], index: int) -> Item | None:
    """The index-th newest, counted round."""
    return items[-1 - index % len(items)] if items else None


def _words(step: Step) -> Personal:
    return personal(TEXTS[step.extra % len(TEXTS)])


def _key(step: Step) -> str | None:
    """None as a rule, else one of very few."""
    choice = step.extra // 4 % 8
    return KEYS[choice - 1] if 1 <= choice <= len(KEYS) else None


_MAKERS: dict[type[Event], Callable[[_Resolver, Step], Event]] = {
    UserRegistered: _Resolver._user_registered,
    ProfileChanged: _Resolver._profile_changed,
    UserDeleted: _Resolver._user_deleted,
    PostPublished: _Resolver._post_published,
    PostDeleted: _Resolver._post_deleted,
    PostLiked: _Resolver._post_liked,
    PostUnliked: _Resolver._post_unliked,
    CommentAdded: _Resolver._comment_added,
    CommentDeleted: _Resolver._comment_deleted,
    UserFollowed: _Resolver._user_followed,
    UserUnfollowed: _Resolver._user_unfollowed,
    UserBlocked: _Resolver._user_blocked,
    UserUnblocked: _Resolver._user_unblocked,
    UserMuted: _Resolver._user_muted,
    UserUnmuted: _Resolver._user_unmuted,
    FeedViewed: _Resolver._feed_viewed,
    RecordParked: _Resolver._record_parked,
}

_NEEDS: dict[type[Event], tuple[str, type[Event]]] = {
    PostDeleted: ("_posts", PostPublished),
    PostLiked: ("_posts", PostPublished),
    PostUnliked: ("_likes", PostLiked),
    CommentAdded: ("_posts", PostPublished),
    CommentDeleted: ("_comments", CommentAdded),
    UserUnfollowed: ("_follows", UserFollowed),
    UserUnblocked: ("_blocks", UserBlocked),
    UserUnmuted: ("_mutes", UserMuted),
}

_REFERENCE_FIELDS = (
    *("user", "author", "follower", "followee", "target", "post", "comment"),
    *("in_reply_to", "in_reply_to_user", "newest", "position"),
)
_REFERENCES = {kind: tuple(name for name in _REFERENCE_FIELDS if name in kind.__struct_fields__) for kind in _MAKERS}
