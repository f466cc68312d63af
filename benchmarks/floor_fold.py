"""Floors of the fold: decode each record and apply it to plain dictionaries, in one process, nothing durable."""

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.measure import collector_off
from benchmarks.peers.plain_world import PlainWorld
from darkroom.events.codec import Codec, encode
from darkroom.events.facts import (
    Event,
    PostLiked,
    PostPublished,
    PostUnliked,
    UserFollowed,
    UserRegistered,
    UserUnfollowed,
)

Apply = Callable[[PlainWorld, int, Any], None]

APPLY: dict[type[Event], Apply] = {
    UserRegistered: lambda world, at, event: world.registered(at, event.username.text, event.display_name.text),
    UserFollowed: lambda world, at, event: world.followed(at, event.follower, event.followee),
    UserUnfollowed: lambda world, at, event: world.unfollowed(at, event.follower, event.followee),
    PostPublished: lambda world, at, event: world.posted(at, event.author, event.caption.text, event.mentions),
    PostLiked: lambda world, at, event: world.liked_by(at, event.user, event.post, event.author),
    PostUnliked: lambda world, at, event: world.unliked_by(at, event.user, event.post, event.author),
}


def apply(world: PlainWorld, first: int, events: Iterable[Event]) -> None:
    """Events that stand at `first` and after it."""
    for position, event in enumerate(events, first):
        APPLY[type(event)](world, position, event)


def decode_and_apply(bodies: list[bytes], *, after: int = 0, world: PlainWorld | None = None) -> PlainWorld:
    """The world of a whole log, or of what comes `after` so many events that it holds already."""
    world, decode, methods = world or PlainWorld(), Codec().decode, APPLY
    with collector_off():
        for position, body in enumerate(bodies[after:], after + 1):
            event = decode(body)
            methods[type(event)](world, position, event)
    return world


def as_call(event: Event) -> list[Any]:
    """The event for peers, who have none of our types: the method of `PlainWorld`, and its arguments."""
    match event:
        case UserRegistered():
            return ["registered", event.username.text, event.display_name.text]
        case UserFollowed():
            return ["followed", event.follower, event.followee]
        case UserUnfollowed():
            return ["unfollowed", event.follower, event.followee]
        case PostPublished():
            return ["posted", event.author, event.caption.text, event.mentions]
        case PostLiked():
            return ["liked_by", event.user, event.post, event.author]
        case PostUnliked():
            return ["unliked_by", event.user, event.post, event.author]
    raise ValueError(f"the plain world knows no {type(event).__name__}")


def bodies_of(events: Iterable[Event]) -> list[bytes]:
    return [encode(event) for event in events]
