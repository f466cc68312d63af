"""What a user did, and what was done to them: the source of notifications. Newest first.

A row stands while the like, comment, follow or mention that it tells of stands. What the user did is not stored twice:
it is read from the user's own posts, likes, comments and follows. What was done to them is kept in the order it came;
a mention may be in another shard's post, so it is a candidate that the reader checks there.
"""

from dataclasses import dataclass

import numpy as np

from darkroom.projections import pages
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK
from darkroom.projections.shard_state import ShardState
from darkroom.projections.store import Snapshot
from darkroom.projections.tables import (
    BLOCKS,
    COMMENTED,
    FOLLOWING,
    LIKED,
    LIKERS,
    MENTIONS,
    MUTES,
    RECEIVED,
    THREADS,
    TIMELINES,
)

LIKE, COMMENT, FOLLOW = 1, 2, 3
KINDS = {LIKE: "like", COMMENT: "comment", FOLLOW: "follow"}


@dataclass(frozen=True)
class Activity:
    """At `position`, `actor` did `kind` ("post", "like", "comment", "follow", "mention").

    `object` is the post concerned, or the user followed; `owner` is the post's author, or the user followed.
    """

    position: int
    kind: str
    actor: int
    object: int
    owner: int


# Built by


def mentioned(state: ShardState, users: set[int], actor: int, post: int, author: int) -> None:
    """The record at hand names these users; those who are live and served here are told."""
    for user in users:
        if state.serves(user) and user in state.live:
            state.packed[MENTIONS][user].set(state.position, (actor, post, author))


def forget_activity(state: ShardState, user: int) -> None:
    state.packed[RECEIVED][user].clear()
    state.packed[MENTIONS][user].clear()


# Read by


def done_by(reading: Reading, user: int, *, below: int = ID_MASK, limit: int) -> list[Activity]:
    """What the user did that still stands, newest first."""
    found: list[Activity] = []
    own = reading.of(user)
    for candidate in _done_candidates(own, user, below):
        if _stands(reading, candidate):
            found.append(candidate)
            if len(found) >= limit:
                # Looking may have touched a shard that is further behind; what lies above it gives way to older rows.
                found = _not_above(reading.position, found)
                if len(found) >= limit:
                    break
    return _not_above(reading.position, found)


def received_by(reading: Reading, user: int, *, below: int = ID_MASK, limit: int) -> list[Activity]:
    """What others did to the user that still stands, less those whom a block or the user's mute hides."""
    own = reading.of(user)
    found: list[Activity] = []
    while len(found) < limit:
        batch = _received_candidates(own, user, below, limit)
        found += [
            activity
            for activity in batch
            if not _hidden(own, user, activity.actor) and (activity.kind != "mention" or _stands(reading, activity))
        ]
        found = _not_above(reading.position, found)
        if len(batch) < limit:
            break
        below = batch[-1].position
    return found[:limit]


def _not_above(position: int, rows: list[Activity]) -> list[Activity]:
    return [row for row in rows if row.position <= position]


def _done_candidates(own: Snapshot, user: int, below: int) -> list[Activity]:
    """Everything that the user's shard knows, newest first. Likes and follows lie by whom they concern, not by time."""
    posts = pages.columns(own, TIMELINES, user)[0].tolist()
    comments = pages.columns(own, COMMENTED, user)
    likes = pages.columns(own, LIKED, user)
    follows = pages.columns(own, FOLLOWING, user)
    done = [Activity(post, "post", user, post, user) for post in posts]
    done += [Activity(*comment, user, *of) for comment, *of in _rows(comments, "comment")]
    liked = np.array([likes[3], likes[1], likes[2]])
    done += [Activity(*like, user, *of) for like, *of in _rows(liked, "like")]
    followed = np.array([follows[1], follows[0], follows[0]])
    done += [Activity(*follow, user, *of) for follow, *of in _rows(followed, "follow")]
    done = [activity for activity in done if activity.position < below]
    done.sort(key=lambda activity: -activity.position)
    return done


def _rows(
    columns: np.ndarray[tuple[int, ...], np.dtype[np.uint64]], kind: str
) -> list[tuple[tuple[int, str], int, int]]:
    return [((position, kind), item, owner) for position, item, owner in columns.T.tolist()]


def _received_candidates(own: Snapshot, user: int, below: int, limit: int) -> list[Activity]:
    received = pages.newest(own, RECEIVED, user, below=below, limit=limit)
    mentions = pages.newest(own, MENTIONS, user, below=below, limit=limit)
    both = [Activity(p, KINDS[kind], actor, post or user, user) for p, actor, post, kind in received]
    both += [Activity(p, "mention", actor, post, author) for p, actor, post, author in mentions]
    both.sort(key=lambda activity: -activity.position)
    return both[:limit]


def _stands(reading: Reading, activity: Activity) -> bool:
    """Whether the shard that knows holds it: the post's author's."""
    if activity.kind in ("post", "follow"):
        return True
    shard = reading.of(activity.owner)
    if activity.kind == "like":
        return pages.find(shard, LIKERS, activity.object, activity.actor) == (activity.position,)
    if activity.position == activity.object:
        return pages.find(shard, TIMELINES, activity.owner, activity.object) is not None
    return pages.find(shard, THREADS, activity.object, activity.position) == (activity.actor,)


def _hidden(own: Snapshot, user: int, actor: int) -> bool:
    return (
        pages.find(own, BLOCKS, user, actor) is not None
        or pages.find(own, BLOCKS, actor, user) is not None
        or pages.find(own, MUTES, user, actor) is not None
    )
