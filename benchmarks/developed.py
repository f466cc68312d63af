"""What a shard's store holds, as plain dictionaries, so that a floor or a peer can be found to hold the same.

It reads the tables as they are stored, by no code that answers readers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkroom.projections import pages, timelines
from darkroom.projections.routing import ROUTE_BITS, shard_of
from darkroom.projections.store import ShardStore, Snapshot
from darkroom.projections.tables import (
    FEED_HEADS,
    FEEDS,
    FOLLOWERS,
    FOLLOWING,
    LIKED,
    LIKERS,
    POSTS,
    RECEIVED,
    TIMELINES,
)

EVERYTHING = 1 << 30
HEAD_HEADER_BYTES = 16

World = dict[str, dict[int, Any]]
"""Table → owner → entries, as `plain_world` keeps them."""


def feed_words(snapshot: Snapshot, user: int) -> list[int]:
    """The words of a feed's rows, oldest first: sealed pages as they are, then the head behind its header."""
    sealed = snapshot.scan(FEEDS, pages.page_key(user, 0), pages.page_key(user + 1, 0), limit=EVERYTHING)
    head = snapshot.get(FEED_HEADS, pages.id_key(user)) or bytes(HEAD_HEADER_BYTES)
    data = b"".join([*(page for _, page in sealed), head[HEAD_HEADER_BYTES:]])
    words: list[int] = np.frombuffer(data, dtype="<u8").tolist()
    return words


def developed(stores: Sequence[ShardStore], users: Sequence[int]) -> World:
    """Everything that the shards hold of these users and their posts."""
    world: World = {
        name: {} for name in ("following", "followers", "timelines", "liked", "received", "feeds", "likers")
    }
    for user in users:
        with stores[shard_of(user, len(stores))].snapshot() as snapshot:
            _add_user(world, snapshot, user)
    return {name: {owner: held for owner, held in table.items() if held} for name, table in world.items()}


def _add_user(world: World, snapshot: Snapshot, user: int) -> None:
    def entries(table: str, owner: int) -> list[list[int]]:
        found: list[list[int]] = pages.columns(snapshot, table, owner).T.tolist()
        return found

    world["following"][user] = entries(FOLLOWING, user)
    world["followers"][user] = sorted(follower for (follower,) in entries(FOLLOWERS, user))
    world["received"][user] = entries(RECEIVED, user)
    world["liked"][user] = sorted([post, author, position] for _, post, author, position in entries(LIKED, user))
    world["feeds"][user] = [word >> ROUTE_BITS for word in feed_words(snapshot, user)]
    posts = [post for (post,) in entries(TIMELINES, user)]
    world["timelines"][user] = [[post, _caption(snapshot, post)] for post in posts]
    for post in posts:
        world["likers"][post] = entries(LIKERS, post)


def _caption(snapshot: Snapshot, post: int) -> str:
    row = snapshot.get(POSTS, pages.page_key(post, 0)[:8])
    assert row is not None, f"post {post} of a timeline is not stored"
    return timelines.decode_row(row)[1].caption.text
