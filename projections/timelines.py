"""Posts, and each author's own, newest first. The author's shard alone decides whether a post is one."""

import hashlib
import struct
from collections.abc import Sequence

import numpy as np

from darkroom.events.codec import Codec, encode
from darkroom.events.facts import PostDeleted, PostPublished
from darkroom.projections.activity import mentioned
from darkroom.projections.engagement import forget_engagement
from darkroom.projections.pages import id_key
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK, Ids
from darkroom.projections.shard_state import ShardState
from darkroom.projections.tables import KEYS, POSTS, TIMELINES
from darkroom.projections.views import View

_HEADER = struct.Struct("<QQ")  # author, time_ms: what most readers want, without decoding the event
_NOBODY = bytes(8)
_decode = Codec().decode


# Built by


def post_published(state: ShardState, event: PostPublished) -> bool:
    """Whether the post may be delivered: a live author's, and not known here to repeat a key."""
    author, post = event.author, state.position
    if author not in state.live:
        return False
    if state.serves(author):
        if event.key is not None:
            key = post_key(author, event.key)
            if state.rows[KEYS].get(key) is not None:
                return False
            state.rows[KEYS].set(key, id_key(post))
        state.rows[POSTS].set(id_key(post), _HEADER.pack(author, state.time_ms) + encode(event))
        state.packed[TIMELINES][author].append(post)
    if event.mentions:
        mentioned(state, {*event.mentions} - {author}, author, post, author)
    return True


def post_deleted(state: ShardState, event: PostDeleted) -> None:
    if (
        event.author in state.live
        and state.serves(event.author)
        and state.packed[TIMELINES][event.author].get(event.post)
    ):
        _delete(state, event.author, event.post)


def forget_posts(state: ShardState, author: int) -> None:
    """The author is gone, and with them every post."""
    if state.serves(author):
        for post, _ in state.packed[TIMELINES][author].items():
            _delete(state, author, post)


def _delete(state: ShardState, author: int, post: int) -> None:
    state.packed[TIMELINES][author].pop(post)
    state.rows[POSTS].delete(id_key(post))
    forget_engagement(state, author, post)


def post_key(author: int, key: str) -> bytes:
    return b"p" + id_key(author) + hashlib.blake2b(key.encode(), digest_size=16).digest()


# Read by


def author_of(row: bytes) -> int:
    """Whose post a stored row is."""
    author: int = _HEADER.unpack_from(row)[0]
    return author


def authors_of(rows: Sequence[bytes | None]) -> Ids:
    """`author_of` many at once; 0, which is nobody, where there is no row."""
    return np.frombuffer(b"".join([row[:8] if row else _NOBODY for row in rows]), dtype="<u8")


def decode_row(row: bytes) -> tuple[int, PostPublished]:
    """(time_ms, the fact) of a stored row."""
    event = _decode(row[_HEADER.size :])
    assert isinstance(event, PostPublished)
    return _HEADER.unpack_from(row)[1], event


def rows(view: View, posts: list[int]) -> dict[int, bytes]:
    """The stored rows of those posts that are live and this shard's."""
    found = view.rows(POSTS, [id_key(post) for post in posts])
    return {post: row for post, row in zip(posts, found, strict=True) if row is not None}


def find_post(reading: Reading, post: int) -> bytes | None:
    """A live post's row, whoever the author: every shard may have to be asked."""
    if not 0 < post <= ID_MASK:
        return None
    for shard in range(reading.shards):
        row = reading.shard(shard).row(POSTS, id_key(post))
        if row is not None:
            return row
    return None


def timeline(reading: Reading, author: int, *, below: int = ID_MASK, above: int = 0, limit: int) -> list[int]:
    """The author's live posts with above < id < below, newest first."""
    entries = reading.of(author).newest(TIMELINES, author, below=below, above=above, limit=limit)
    return [post for (post,) in entries]


def timeline_upwards(reading: Reading, author: int, *, above: int, below: int = ID_MASK, limit: int) -> list[int]:
    """The author's live posts with above < id < below, oldest first."""
    entries = reading.of(author).oldest(TIMELINES, author, above=above, below=below, limit=limit)
    return [post for (post,) in entries]


def post_of_key(reading: Reading, author: int, key: str) -> int | None:
    """The first post that the author published under the key, live or deleted."""
    data = reading.of(author).row(KEYS, post_key(author, key))
    return None if data is None else int.from_bytes(data, "big")
