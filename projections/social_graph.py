"""Who follows, blocks and mutes whom.

An edge lies in the shards of both its ends, each of which decides it by itself: both know who is live, and both know
the blocks between the two. A follow is kept with its position, which is also the edge's `since` (see `home_feed`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from darkroom.events.facts import (
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
)
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK
from darkroom.projections.shard_state import ShardState
from darkroom.projections.tables import BLOCKS, FOLLOW, FOLLOWERS, FOLLOWING, MUTES, RECEIVED
from darkroom.projections.views import View

Follow = tuple[int, int, int]
"""Follower, followee and position."""

# Built by


def blocked(state: ShardState, one: int, other: int) -> bool:
    """Whether a block stands between the two; known in the shards of both."""
    blockers = state.blockers
    return bool(
        (one in blockers and state.packed[BLOCKS][one].get(other))
        or (other in blockers and state.packed[BLOCKS][other].get(one))
    )


def user_followed(state: ShardState, event: UserFollowed) -> None:
    follower, followee = event.follower, event.followee
    of_followee = state.serves(followee)
    if not (of_followee or state.serves(follower)):
        return
    live = state.live
    if follower == followee or follower not in live or followee not in live:
        return
    if blocked(state, follower, followee) or not state.packed[FOLLOWING][follower].add(followee, state.position):
        return
    state.packed[FOLLOWERS][followee].add(follower)
    state.audience_changed(followee)
    if of_followee:
        state.packed[RECEIVED][followee].append(state.position, follower, 0, FOLLOW)


def users_followed(state: ShardState, follows: list[Follow]) -> None:
    """`user_followed` for a run of follows, owner by owner, for what lies together is reached sooner.

    To the same effect: what a follow changes, none other looks at but one by the same follower of the same followee.
    """
    assert state.effects is None, "effects are told one by one"
    edges = _possible(state, follows)
    repeated = {position for _, _, position in state.packed[FOLLOWING].add_all(edges)}
    if repeated:
        edges = [edge for edge in edges if edge[2] not in repeated]
    state.packed[FOLLOWERS].add_all([(followee, follower, True) for follower, followee, _ in edges])
    for followee, group in groupby(sorted(edges, key=itemgetter(1)), itemgetter(1)):
        state.audience_changed(followee)
        if state.serves(followee):
            received = state.packed[RECEIVED][followee]
            for follower, _, position in group:
                received.append(position, follower, 0, FOLLOW)


def _possible(state: ShardState, follows: list[Follow]) -> list[Follow]:
    """Those that concern this shard and break no rule, unless they repeat another; each person is asked about once."""
    people = {user for follow in follows for user in follow[:2]}
    live = {user for user in people if user in state.live}
    served = {user for user in live if state.serves(user)}
    blockers = {user for user in live if user in state.blockers}
    return [
        (follower, followee, position)
        for follower, followee, position in follows
        if (follower in served or followee in served)
        and (follower != followee and follower in live and followee in live)
        and not ((follower in blockers or followee in blockers) and blocked(state, follower, followee))
    ]


def user_unfollowed(state: ShardState, event: UserUnfollowed) -> None:
    follower, followee = event.follower, event.followee
    if follower not in state.live or followee not in state.live:
        return
    if state.serves(follower) or state.serves(followee):
        _remove_follow(state, follower, followee)


def user_blocked(state: ShardState, event: UserBlocked) -> None:
    user, target = event.user, event.target
    if user == target or user not in state.live or target not in state.live:
        return
    if state.serves(user) or state.serves(target):
        state.packed[BLOCKS][user].set(target)
        state.blockers.add(user)
        _remove_follow(state, user, target)
        _remove_follow(state, target, user)


def user_unblocked(state: ShardState, event: UserUnblocked) -> None:
    if event.user in state.live and event.target in state.live and event.user in state.blockers:
        state.packed[BLOCKS][event.user].pop(event.target)


def user_muted(state: ShardState, event: UserMuted) -> None:
    user, target = event.user, event.target
    if user != target and state.serves(user) and user in state.live and target in state.live:
        state.packed[MUTES][user].set(target)


def user_unmuted(state: ShardState, event: UserUnmuted) -> None:
    if state.serves(event.user) and event.user in state.live and event.target in state.live:
        state.packed[MUTES][event.user].pop(event.target)


def forget_edges(state: ShardState, user: int) -> None:
    """The user is gone: so are their follows in both directions and what they blocked and muted.

    Blocks and mutes *of* them stay as garbage: an id is never given again, and readers ask who is live.
    """
    for followee, _ in state.packed[FOLLOWING][user].items():
        _remove_follow(state, user, followee)
    for follower, _ in state.packed[FOLLOWERS][user].items():
        _remove_follow(state, follower, user)
    state.packed[BLOCKS][user].clear()
    state.packed[MUTES][user].clear()


def _remove_follow(state: ShardState, follower: int, followee: int) -> None:
    position = state.packed[FOLLOWING][follower].pop(followee)
    if position is None:
        return
    state.packed[FOLLOWERS][followee].pop(follower)
    state.audience_changed(followee)
    if state.serves(followee):
        state.packed[RECEIVED][followee].pop(position)


# Read by


@dataclass(frozen=True)
class Relationship:
    """What stands between `user` and `other`, as `user` may know it."""

    following: bool
    followed_by: bool
    blocking: bool
    blocked_by: bool
    muting: bool


def followers(reading: Reading, user: int, *, after: int = 0, below: int = ID_MASK + 1, limit: int) -> list[int]:
    """Followers with after < id < below, by id ascending."""
    return _ids(reading.of(user).oldest(FOLLOWERS, user, above=after, below=below, limit=limit))


def following(reading: Reading, user: int, *, after: int = 0, below: int = ID_MASK + 1, limit: int) -> list[int]:
    """The followed with after < id < below, by id ascending."""
    return _ids(reading.of(user).oldest(FOLLOWING, user, above=after, below=below, limit=limit))


def followers_downwards(
    reading: Reading, user: int, *, below: int = ID_MASK + 1, above: int = 0, limit: int
) -> list[int]:
    """Followers with above < id < below, by id descending."""
    return _ids(reading.of(user).newest(FOLLOWERS, user, below=below, above=above, limit=limit))


def following_downwards(
    reading: Reading, user: int, *, below: int = ID_MASK + 1, above: int = 0, limit: int
) -> list[int]:
    """The followed with above < id < below, by id descending."""
    return _ids(reading.of(user).newest(FOLLOWING, user, below=below, above=above, limit=limit))


def relationship(reading: Reading, user: int, other: int) -> Relationship:
    """All answered by the user's shard, which has every edge that concerns the user."""
    view, both = reading.of(user), [(user, other), (other, user)]
    blocking, blocked_by = view.find(BLOCKS, both)
    return Relationship(
        following=view.find(FOLLOWING, both[:1]) != [None],
        followed_by=view.find(FOLLOWERS, both[:1]) != [None],
        blocking=blocking is not None,
        blocked_by=blocked_by is not None,
        muting=view.find(MUTES, both[:1]) != [None],
    )


def kept_apart(view: View, user: int, others: Collection[int]) -> set[int]:
    """Those of the others with whom a block stands, whoever set it; asked of the user's shard."""
    pairs = [pair for other in others for pair in ((user, other), (other, user))]
    found = view.find(BLOCKS, pairs)
    return {other for index, other in enumerate(others) if found[2 * index : 2 * index + 2] != [None, None]}


def muted_among(view: View, user: int, others: Collection[int]) -> set[int]:
    """Those of the others whom the user mutes; asked of the user's shard."""
    found = view.find(MUTES, [(user, other) for other in others])
    return {other for other, mute in zip(others, found, strict=True) if mute is not None}


def _ids(entries: list[tuple[int, ...]]) -> list[int]:
    return [entry[0] for entry in entries]
