"""The fold: one record into a shard's state. Total: every record is legal, and one that breaks a rule changes nothing.

The log's order decides every race. Time in a rule is log time, never the wall clock.
"""

from collections.abc import Callable
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


def fold(state: ShardState, recorded: Recorded) -> None:
    """Apply the next record. What it changes is in `state` until that is committed."""
    state.advance(recorded.position, recorded.time_ms)
    event = recorded.event
    _FOLDS[type(event)](state, event)


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
