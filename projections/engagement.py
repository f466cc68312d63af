"""Likes and comments, and every counter. A counter is the size of its set, which is one look-up (see `pages`).

The post's author's shard decides; the shard of who likes or comments keeps what it can know, for it is that user's
activity: where the two differ, the row there is one that can never become valid, and the reader drops it.
"""

import hashlib
from dataclasses import dataclass
from itertools import starmap

import msgspec

from darkroom.events.codec import Codec, encode
from darkroom.events.facts import CommentAdded, CommentDeleted, PostLiked, PostUnliked
from darkroom.projections.activity import mentioned
from darkroom.projections.pages import id_key
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK, claim
from darkroom.projections.shard_state import ShardState
from darkroom.projections.social_graph import blocked
from darkroom.projections.tables import (
    COMMENT,
    COMMENTED,
    COMMENTS,
    FOLLOWERS,
    FOLLOWING,
    KEYS,
    LIKE,
    LIKED,
    LIKERS,
    RECEIVED,
    THREADS,
    TIMELINES,
    TOMBSTONES,
)
from darkroom.projections.views import View


class CommentRow(msgspec.Struct, array_like=True):
    """A comment; `event` is empty once it is deleted, and what is left is a tombstone."""

    post: int
    author: int
    user: int
    time_ms: int
    in_reply_to: int | None
    in_reply_to_user: int | None
    event: bytes


_decode_comment = msgspec.msgpack.Decoder(CommentRow).decode
_decode_event = Codec().decode

# Built by


def post_liked(state: ShardState, event: PostLiked) -> None:
    user, post, author = event.user, event.post, event.author
    of_author = state.serves(author)
    if not (of_author or state.serves(user)):
        return
    if user not in state.live or author not in state.live or not 0 < post < state.position:
        return
    if blocked(state, user, author):
        return
    if of_author:
        if state.packed[TIMELINES][author].get(post) is None:
            return
        if not state.packed[LIKERS][post].add(user, state.position):
            return
        if user != author:
            state.packed[RECEIVED][author].append(state.position, user, post, LIKE)
    # Elsewhere the first like is kept: it is valid, or no later one can be.
    state.packed[LIKED][user].add(claim(post, author), (post, author, state.position))


def post_unliked(state: ShardState, event: PostUnliked) -> None:
    user, post, author = event.user, event.post, event.author
    if user not in state.live or author not in state.live or not 0 < post < state.position:
        return
    if state.serves(author):
        if state.packed[TIMELINES][author].get(post) is not None:
            _unlike(state, user, post, author)
    elif state.serves(user):
        state.packed[LIKED][user].pop(claim(post, author))


def _unlike(state: ShardState, user: int, post: int, author: int) -> None:
    position = state.packed[LIKERS][post].pop(user)
    if position is not None:
        state.packed[LIKED][user].pop(claim(post, author))
        state.packed[RECEIVED][author].pop(position)


def comment_added(state: ShardState, event: CommentAdded) -> None:
    user, post, author, comment = event.user, event.post, event.author, state.position
    if user not in state.live or author not in state.live or not 0 < post < comment:
        return
    if (event.in_reply_to is None) != (event.in_reply_to_user is None):
        return
    of_author = state.serves(author)
    if (of_author or state.serves(user)) and blocked(state, user, author):
        return
    if of_author and not _keep(state, event):
        return
    if of_author or state.serves(user):
        state.packed[COMMENTED][user].append(comment, post, author)
    named = {*event.mentions, event.in_reply_to_user} - {user, author, None}
    mentioned(state, {who for who in named if who is not None}, user, post, author)


def _keep(state: ShardState, event: CommentAdded) -> bool:
    """Decide and store, in the author's shard; whether the comment stands."""
    user, post, author, comment = event.user, event.post, event.author, state.position
    if state.packed[TIMELINES][author].get(post) is None:
        return False
    if event.in_reply_to is not None and event.in_reply_to_user != _writer(state, post, event.in_reply_to):
        return False
    if event.key is not None:
        key = comment_key(user, post, event.key)
        if state.rows[KEYS].get(key) is not None:
            return False
        state.rows[KEYS].set(key, id_key(comment))
    row = CommentRow(post, author, user, state.time_ms, event.in_reply_to, event.in_reply_to_user, encode(event))
    state.rows[COMMENTS].set(id_key(comment), msgspec.msgpack.encode(row))
    state.packed[THREADS][post].append(comment, user)
    if user != author:
        state.packed[RECEIVED][author].append(comment, user, post, COMMENT)
    return True


def _writer(state: ShardState, post: int, comment: int) -> int | None:
    """Who wrote the comment, deleted or not; None where it is not a comment of the post."""
    writer: int | None = state.packed[THREADS][post].get(comment) or state.packed[TOMBSTONES][post].get(comment)
    return writer


def comment_deleted(state: ShardState, event: CommentDeleted) -> None:
    if event.user not in state.live or event.author not in state.live or not state.serves(event.author):
        return
    if state.packed[TIMELINES][event.author].get(event.post) is None:
        return
    writer = state.packed[THREADS][event.post].get(event.comment)
    if writer is not None and event.user in (writer, event.author):
        _bury(state, event.comment, event.post, event.author, writer)


def _bury(state: ShardState, comment: int, post: int, author: int, writer: int) -> None:
    state.packed[THREADS][post].pop(comment)
    state.packed[TOMBSTONES][post].set(comment, writer)
    state.packed[COMMENTED][writer].pop(comment)
    state.packed[RECEIVED][author].pop(comment)
    data = state.rows[COMMENTS].get(id_key(comment))
    assert data is not None, f"comment {comment} has no row"
    row = _decode_comment(data)
    row.event = b""
    state.rows[COMMENTS].set(id_key(comment), msgspec.msgpack.encode(row))


def forget_engagement(state: ShardState, author: int, post: int) -> None:
    """The post is gone, and with it its likes and comments."""
    for liker, _ in state.packed[LIKERS][post].items():
        _unlike(state, liker, post, author)
    for comment, writer in state.packed[THREADS][post].items():
        state.packed[COMMENTED][writer].pop(comment)
        state.packed[RECEIVED][author].pop(comment)
        state.rows[COMMENTS].delete(id_key(comment))
    for comment, _ in state.packed[TOMBSTONES][post].items():
        state.rows[COMMENTS].delete(id_key(comment))
    state.packed[THREADS][post].clear()
    state.packed[TOMBSTONES][post].clear()


def forget_deeds(state: ShardState, user: int) -> None:
    """The user is gone, and with them their likes and comments on everybody's posts."""
    for _, (post, author, _) in state.packed[LIKED][user].items():
        if state.serves(author):
            _unlike(state, user, post, author)
    for comment, (post, author) in state.packed[COMMENTED][user].items():
        if state.serves(author):
            _bury(state, comment, post, author, user)
    state.packed[LIKED][user].clear()
    state.packed[COMMENTED][user].clear()


def comment_key(user: int, post: int, key: str) -> bytes:
    return b"c" + id_key(user) + id_key(post) + hashlib.blake2b(key.encode(), digest_size=16).digest()


# Read by


class PostCounters(msgspec.Struct, array_like=True, frozen=True, gc=False):
    likes: int
    comments: int


class UserCounters(msgspec.Struct, array_like=True, frozen=True, gc=False):
    followers: int
    following: int
    posts: int


@dataclass(frozen=True)
class ThreadEntry:
    """A comment as its thread shows it: `event` is None where only a tombstone is left."""

    comment: int
    row: CommentRow
    event: CommentAdded | None


def post_counters(view: View, post: int) -> PostCounters:
    """Of a live post, asked of its author's shard."""
    return counters_of_posts(view, [post])[post]


def user_counters(view: View, user: int) -> UserCounters:
    """Of a live user, asked of the user's shard."""
    return counters_of_users(view, [user])[user]


def counters_of_posts(view: View, posts: list[int]) -> dict[int, PostCounters]:
    """`post_counters` of many, asked at once."""
    return dict(zip(posts, starmap(PostCounters, view.sizes((LIKERS, THREADS), posts)), strict=True))


def engagement_of_posts(view: View, posts: list[int], viewer: int) -> tuple[dict[int, PostCounters], set[int]]:
    """As `counters_of_posts`, with those of the posts that the viewer likes."""
    likes, threads = view.counted(LIKERS, posts, viewer), view.sizes((THREADS,), posts)
    each = list(zip(posts, likes, threads, strict=True))
    counters = {post: PostCounters(likers, comments) for post, (likers, _), (comments,) in each}
    return counters, {post for post, (_, liked), _ in each if liked}


def liked(view: View, posts: list[int], viewer: int | None) -> list[bool]:
    """Whether the viewer, if there is one, likes each of the posts, asked of their authors' shard."""
    if viewer is None:
        return [False] * len(posts)
    return [likes for _, likes in view.counted(LIKERS, posts, viewer)]


def counters_of_users(view: View, users: list[int]) -> dict[int, UserCounters]:
    """`user_counters` of many, asked at once."""
    sizes = view.sizes((FOLLOWERS, FOLLOWING, TIMELINES), users)
    return dict(zip(users, starmap(UserCounters, sizes), strict=True))


def likers(view: View, post: int, *, after: int = 0, below: int = ID_MASK + 1, limit: int) -> list[int]:
    """Who likes the post with after < id < below, by id ascending; asked of its author's shard."""
    return [entry[0] for entry in view.oldest(LIKERS, post, above=after, below=below, limit=limit)]


def likers_downwards(view: View, post: int, *, below: int = ID_MASK + 1, above: int = 0, limit: int) -> list[int]:
    """Who likes the post with above < id < below, by id descending; asked of its author's shard."""
    return [entry[0] for entry in view.newest(LIKERS, post, below=below, above=above, limit=limit)]


def comments(view: View, post: int, *, after: int = 0, limit: int) -> list[int]:
    """The post's live comments, oldest first, above `after`; asked of its author's shard."""
    return [entry[0] for entry in view.oldest(THREADS, post, above=after, limit=limit)]


def find_comment(reading: Reading, comment: int) -> CommentRow | None:
    """A comment's row, buried ones included, whoever the post's author: every shard may have to be asked."""
    if not 0 < comment <= ID_MASK:
        return None
    for shard in range(reading.shards):
        data = reading.shard(shard).row(COMMENTS, id_key(comment))
        if data is not None:
            return _decode_comment(data)
    return None


def comment_event(row: CommentRow) -> CommentAdded | None:
    """The comment itself, None where it was deleted."""
    if not row.event:
        return None
    event = _decode_event(row.event)
    assert isinstance(event, CommentAdded)
    return event


def thread(view: View, post: int, *, after: int = 0, limit: int = ID_MASK) -> list[ThreadEntry]:
    """The post's live comments above `after`, oldest first, among all from which they descend.

    A deleted comment from which a live one descends is there as a tombstone. At most `limit` live ones are looked at.
    """
    wanted = comments(view, post, after=after, limit=limit)
    rows: dict[int, CommentRow] = {}
    while wanted:
        found = zip(wanted, view.rows(COMMENTS, [id_key(comment) for comment in wanted]), strict=True)
        added = {comment: _decode_comment(data) for comment, data in found if data is not None}
        rows |= added
        parents = {row.in_reply_to for row in added.values() if row.in_reply_to is not None}
        wanted = sorted(parents - rows.keys())
    return [ThreadEntry(comment, rows[comment], comment_event(rows[comment])) for comment in sorted(rows)]


def commented_posts(
    reading: Reading, author: int, commenter: int, *, below: int = ID_MASK + 1, limit: int | None = None
) -> list[int]:
    """Live posts of `author` below the id with a live comment by `commenter`, newest first; all unless limited."""
    _, posts, authors = reading.of(author).columns(COMMENTED, commenter)
    found = set(posts[authors == author].tolist())
    return sorted((post for post in found if post < below), reverse=True)[:limit]


def comment_of_key(reading: Reading, user: int, post: int, author: int, key: str) -> int | None:
    """The first comment that the user wrote on the post under the key, live or deleted."""
    data = reading.of(author).row(KEYS, comment_key(user, post, key))
    return None if data is None else int.from_bytes(data, "big")


def find_comment_of_key(reading: Reading, user: int, post: int, key: str) -> int | None:
    """As `comment_of_key`, whoever the post's author is or was: every shard may have to be asked."""
    row_key = comment_key(user, post, key)
    for shard in range(reading.shards):
        data = reading.shard(shard).row(KEYS, row_key)
        if data is not None:
            return int.from_bytes(data, "big")
    return None
