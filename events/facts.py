"""The facts that the log holds: past tense, frozen, small, each naming everyone whom it concerns.

Ids are positions in the log. Nothing here decides whether a fact takes effect; that is the fold's work.
The order of a type's fields is its wire format: add only by a new schema version (see `codec`).
"""

from typing import Any, ClassVar

import msgspec


class Personal(msgspec.Struct, frozen=True, array_like=True):
    """Text about a person, kept apart on the wire so that it can be sealed under a person's key one day.

    `scheme` 0 is plain UTF-8. A reader that does not know a scheme shows no text rather than wrong text.
    """

    scheme: int
    data: bytes

    @property
    def text(self) -> str:
        """The text; empty where the scheme is unknown or the bytes are no UTF-8, for folds must be total."""
        try:
            return self.data.decode() if self.scheme == 0 else ""
        except UnicodeDecodeError:
            return ""


def personal(text: str) -> Personal:
    """Plain personal text; raises UnicodeEncodeError for lone surrogates, which UTF-8 cannot hold."""
    return Personal(0, text.encode())


class Medium(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One photo of a post: the original's content hash (hex SHA-256), its upright size in pixels, its blurhash."""

    hash: str
    width: int
    height: int
    placeholder: str
    description: Personal | None = None


class Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a photo was taken: a name, and degrees (WGS 84)."""

    name: Personal
    latitude: float
    longitude: float


class Fact(msgspec.Struct, frozen=True, array_like=True, kw_only=True, forbid_unknown_fields=True):
    """What every fact carries: its schema version, and fields of a newer writer, kept by name (`carried`)."""

    schema: int = 1
    carried: dict[str, Any] | None = None

    SCHEMA: ClassVar[int] = 1


class UserRegistered(Fact, tag=1, frozen=True, kw_only=True):
    username: Personal
    display_name: Personal
    claim: str | None = None


class ProfileChanged(Fact, tag=2, frozen=True, kw_only=True):
    user: int
    display_name: Personal | None = None
    bio: Personal | None = None
    avatar: str | None = None


class UserDeleted(Fact, tag=3, frozen=True, kw_only=True):
    user: int


class PostPublished(Fact, tag=4, frozen=True, kw_only=True):
    author: int
    caption: Personal
    media: tuple[Medium, ...] = ()
    tags: tuple[str, ...] = ()
    mentions: tuple[int, ...] = ()
    place: Place | None = None
    key: str | None = None


class PostDeleted(Fact, tag=5, frozen=True, kw_only=True):
    author: int
    post: int


class PostLiked(Fact, tag=6, frozen=True, kw_only=True):
    user: int
    post: int
    author: int


class PostUnliked(Fact, tag=7, frozen=True, kw_only=True):
    user: int
    post: int
    author: int


class CommentAdded(Fact, tag=8, frozen=True, kw_only=True):
    user: int
    post: int
    author: int
    text: Personal
    mentions: tuple[int, ...] = ()
    in_reply_to: int | None = None
    in_reply_to_user: int | None = None
    key: str | None = None


class CommentDeleted(Fact, tag=9, frozen=True, kw_only=True):
    user: int
    comment: int
    post: int
    author: int


class UserFollowed(Fact, tag=10, frozen=True, kw_only=True):
    follower: int
    followee: int


class UserUnfollowed(Fact, tag=11, frozen=True, kw_only=True):
    follower: int
    followee: int


class UserBlocked(Fact, tag=12, frozen=True, kw_only=True):
    user: int
    target: int


class UserUnblocked(Fact, tag=13, frozen=True, kw_only=True):
    user: int
    target: int


class UserMuted(Fact, tag=14, frozen=True, kw_only=True):
    user: int
    target: int


class UserUnmuted(Fact, tag=15, frozen=True, kw_only=True):
    user: int
    target: int


class FeedViewed(Fact, tag=16, frozen=True, kw_only=True):
    user: int
    newest: int


class RecordParked(Fact, tag=17, frozen=True, kw_only=True):
    position: int
    reason: str


Event = (
    UserRegistered
    | ProfileChanged
    | UserDeleted
    | PostPublished
    | PostDeleted
    | PostLiked
    | PostUnliked
    | CommentAdded
    | CommentDeleted
    | UserFollowed
    | UserUnfollowed
    | UserBlocked
    | UserUnblocked
    | UserMuted
    | UserUnmuted
    | FeedViewed
    | RecordParked
)

EVENT_TYPES: tuple[type[Event], ...] = Event.__args__


class Recorded(msgspec.Struct, frozen=True):
    """A fact with the place and time the log gave it: `position` from 1 without gaps, `time_ms` since the epoch."""

    position: int
    time_ms: int
    event: Event
