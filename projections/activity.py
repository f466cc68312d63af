"""What a user did, and what was done to them: the source of notifications. Newest first.

A row stands while the like, comment, follow or mention that it tells of stands. What the user did is not stored twice:
it is read from the user's own posts, likes, comments and follows. What was done to them is kept in the order it came;
a mention may be in another shard's post, so it is a candidate that the reader checks there.
"""

from dataclasses import dataclass

from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK, shard_of
from darkroom.projections.shard_state import ShardState
from darkroom.projections.social_graph import kept_apart, muted_among
from darkroom.projections.tables import (
    COMMENT,
    FOLLOW,
    LIKE,
    LIKERS,
    MENTIONS,
    POST,
    RECEIVED,
    THREADS,
    TIMELINES,
)
from darkroom.projections.views import View

KINDS = {POST: "post", LIKE: "like", COMMENT: "comment", FOLLOW: "follow"}


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
            state.packed[MENTIONS][user].append(state.position, actor, post, author)


def forget_activity(state: ShardState, user: int) -> None:
    state.packed[RECEIVED][user].clear()
    state.packed[MENTIONS][user].clear()


# Read by


def done_by(reading: Reading, user: int, *, below: int = ID_MASK, limit: int) -> list[Activity]:
    """What the user did that still stands, newest first."""
    found: list[Activity] = []
    own = reading.of(user)
    while len(found) < limit:
        deeds = own.deeds(user, below=below, limit=limit)
        candidates = [Activity(position, KINDS[kind], user, *of) for position, kind, *of in deeds]
        # Looking may touch a shard that is further behind; what lies above it gives way to older rows.
        found += _standing(reading, user, candidates)
        found = _not_above(reading.position, found)
        if len(deeds) < limit:
            break
        below = deeds[-1].position
    return found[:limit]


def received_by(reading: Reading, user: int, *, below: int = ID_MASK, limit: int) -> list[Activity]:
    """What others did to the user that still stands, less those whom a block or the user's mute hides."""
    own = reading.of(user)
    found: list[Activity] = []
    while len(found) < limit:
        batch = _received_candidates(own, user, below, limit)
        found += _standing(reading, user, _shown(own, user, batch))
        found = _not_above(reading.position, found)
        if len(batch) < limit:
            break
        below = batch[-1].position
    return found[:limit]


def _not_above(position: int, rows: list[Activity]) -> list[Activity]:
    return [row for row in rows if row.position <= position]


def _received_candidates(own: View, user: int, below: int, limit: int) -> list[Activity]:
    received = own.newest(RECEIVED, user, below=below, limit=limit)
    mentions = own.newest(MENTIONS, user, below=below, limit=limit)
    both = [Activity(p, KINDS[kind], actor, post or user, user) for p, actor, post, kind in received]
    both += [Activity(p, "mention", actor, post, author) for p, actor, post, author in mentions]
    both.sort(key=lambda activity: -activity.position)
    return both[:limit]


def _shown(own: View, user: int, activities: list[Activity]) -> list[Activity]:
    actors = list({activity.actor for activity in activities})
    hidden = kept_apart(own, user, actors) | muted_among(own, user, actors)
    return [activity for activity in activities if activity.actor not in hidden]


def _standing(reading: Reading, user: int, activities: list[Activity]) -> list[Activity]:
    """Those of the user's activities that the shard that knows holds: the post's author's, asked once a table."""
    asked: dict[tuple[int, str], list[tuple[int, tuple[int, int], tuple[int, ...]]]] = {}
    for index, activity in enumerate(activities):
        wanted = _evidence(activity)
        if wanted is not None and activity.owner != user:
            table, entry, words = wanted
            shard = shard_of(activity.owner, reading.shards)
            asked.setdefault((shard, table), []).append((index, entry, words))
    gone: set[int] = set()
    for (shard, table), entries in asked.items():
        found = reading.shard(shard).find(table, [entry for _, entry, _ in entries])
        gone |= {index for (index, _, words), there in zip(entries, found, strict=True) if there != words}
    return [activity for index, activity in enumerate(activities) if index not in gone]


def _evidence(activity: Activity) -> tuple[str, tuple[int, int], tuple[int, ...]] | None:
    """The entry of another shard without which the activity does not stand, or None where its own shard knows."""
    post, position = activity.object, activity.position
    if activity.kind == "like":
        return LIKERS, (post, activity.actor), (position,)
    if activity.kind in ("comment", "mention") and position != post:
        return THREADS, (post, position), (activity.actor,)
    if activity.kind == "mention":
        return TIMELINES, (activity.owner, post), ()
    return None
