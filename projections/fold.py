"""The fold: one record into a shard's state. Total: every record is legal, and one that breaks a rule changes nothing.

The log's order decides every race. Time in a rule is log time, never the wall clock.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    FeedViewed,
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
)
from darkroom.projections import activity, engagement, home_feed, people, social_graph, timelines
from darkroom.projections.shard_state import ShardState

RUN_MIN = 64
"""So many follows one after another are folded together."""


def fold(state: ShardState, recorded: Recorded) -> None:
    """Apply the next record. What it changes is in `state` until that is committed."""
    state.advance(recorded.position, recorded.time_ms)
    event = recorded.event
    _FOLDS[type(event)](state, event)


def fold_follows(state: ShardState, run: Sequence[Recorded]) -> None:
    """`fold` for each record of a run of follows, in half the time."""
    follows = []
    for recorded in run:
        state.advance(recorded.position, recorded.time_ms)
        event = recorded.event
        assert isinstance(event, UserFollowed)
        follows.append((event.follower, event.followee, recorded.position))
    social_graph.users_followed(state, follows)


def runs(records: Iterable[Recorded]) -> Iterator[tuple[bool, list[Recorded]]]:
    """The records, in order and in runs, each with whether it is one for `fold_follows`."""
    for follows, group in groupby(records, lambda recorded: type(recorded.event) is UserFollowed):
        run = list(group)
        yield follows and len(run) >= RUN_MIN, run


def _post_published(state: ShardState, event: PostPublished) -> None:
    if timelines.post_published(state, event):
        home_feed.deliver(state, event.author)


def _user_deleted(state: ShardState, event: UserDeleted) -> None:
    user = event.user
    if user not in state.live:
        return
    state.live.remove(user)
    social_graph.forget_edges(state, user)
    engagement.forget_deeds(state, user)
    timelines.forget_posts(state, user)
    activity.forget_activity(state, user)
    home_feed.forget_feed(state, user)
    people.forget_profile(state, user)


def _changes_nothing(state: ShardState, event: FeedViewed | RecordParked) -> None:
    """Stored as a fact; no projection tells of it yet."""


_FOLDS: dict[type[Event], Callable[[ShardState, Any], object]] = {
    UserRegistered: people.user_registered,
    ProfileChanged: people.profile_changed,
    UserDeleted: _user_deleted,
    PostPublished: _post_published,
    PostDeleted: timelines.post_deleted,
    PostLiked: engagement.post_liked,
    PostUnliked: engagement.post_unliked,
    CommentAdded: engagement.comment_added,
    CommentDeleted: engagement.comment_deleted,
    UserFollowed: social_graph.user_followed,
    UserUnfollowed: social_graph.user_unfollowed,
    UserBlocked: social_graph.user_blocked,
    UserUnblocked: social_graph.user_unblocked,
    UserMuted: social_graph.user_muted,
    UserUnmuted: social_graph.user_unmuted,
    FeedViewed: _changes_nothing,
    RecordParked: _changes_nothing,
}
