"""The shapes that clients know: Mastodon's entities, built from what `hydration` has gathered. No store is asked here.

Personal text is escaped once, here, on its way into `content` and `note`, which are HTML by contract.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Raw

from darkroom.events.facts import CommentAdded, Medium, PostPublished
from darkroom.gateway.media import Photo
from darkroom.gateway.uploads import Upload
from darkroom.projections.engagement import PostCounters, UserCounters
from darkroom.projections.people import ProfileRow
from darkroom.projections.routing import ID_MASK
from darkroom.projections.social_graph import Relationship

Json = dict[str, Any]

MENTION = re.compile(r"(?<![\w@/])@([A-Za-z0-9_]{1,30})(?![\w@])")
TAG = re.compile(r"(?<![\w#/&])#(\w{1,100})(?!\w)")
_MARKED = re.compile(rf"{MENTION.pattern}|{TAG.pattern}|https?://[^\s<>\"]{{1,2000}}")

_EPOCH = datetime(1970, 1, 1)

FEED_PX_MAX = 1080  # of the rendition of that name (see `media_decoding`, which imports Pillow and we need not)
DESCRIBED_MAX, SAID_MAX = 4096, 4
"""Accounts that are kept encoded, and in how many forms an entry: making them took most of a page."""

NO_COUNTERS = UserCounters(0, 0, 0)
_NUMBER, _WORD = Raw(b"\0d"), Raw(b"\0b")  # places in a template; JSON has no zero bytes
NOBODY = ProfileRow("", "Deleted", 0)


class _Said(NamedTuple):
    """What of an entry was encoded, by whom it names and where."""

    profile: ProfileRow
    mentioned: tuple[tuple[str, int], ...]
    origin: str
    template: bytes


@dataclass(slots=True)
class Entry:
    """A post or a comment to be shown. `event` is None for what a deleted comment leaves; then `user` is 0.

    `said` keeps what of it was encoded and never changes; entries of posts are kept for it.
    """

    id: int
    user: int
    time_ms: int
    event: PostPublished | CommentAdded | None
    parent: tuple[int, int] | None = None
    said: list["_Said"] = field(default_factory=list, init=False, compare=False)
    is_post: bool = field(init=False)
    mentions: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.is_post = isinstance(self.event, PostPublished)
        named = () if self.event is None else self.event.mentions
        self.mentions = tuple([user for user in named if 0 < user <= ID_MASK])  # a fact may name anything

    @property
    def text(self) -> str:
        if self.event is None:
            return ""
        return self.event.caption.text if isinstance(self.event, PostPublished) else self.event.text.text


@dataclass
class Gathered:
    """All that a page of entries needs, by id; what is not there is not shown."""

    origin: str
    profiles: dict[int, ProfileRow] = field(default_factory=dict)
    user_counters: dict[int, UserCounters] = field(default_factory=dict)
    post_counters: dict[int, PostCounters] = field(default_factory=dict)
    replies: dict[int, int] = field(default_factory=dict)
    favourited: set[int] = field(default_factory=set)


def timestamp(time_ms: int) -> str:
    """ISO 8601 with milliseconds, as every client parses it."""
    return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds") + "Z"


def name_of(user: int, profile: ProfileRow) -> str:
    """The name in lower case; for whoever has none the id, which is no name (names are never all digits)."""
    return profile.username.lower() or str(user)


def account(user: int, gathered: Gathered) -> Json:
    """A live user; a placeholder for one who is not."""
    profile = gathered.profiles.get(user, NOBODY)
    counters = gathered.user_counters.get(user, NO_COUNTERS)
    return _described(user, _shown_name(user, profile), profile, gathered.origin) | {
        "followers_count": counters.followers,
        "following_count": counters.following,
        "statuses_count": counters.posts,
    }


def _shown_name(user: int, profile: ProfileRow) -> str:
    return name_of(user, profile) if profile is not NOBODY else "deleted"


@lru_cache(DESCRIBED_MAX)
def _described(user: int, name: str, profile: ProfileRow, origin: str) -> Json:
    """What of an account changes only with the profile, with places for its counters; not to be changed."""
    avatar = _rendition(origin, profile.avatar, "thumbnail") if profile.avatar else f"{origin}/web/avatar.svg"
    return {
        "id": str(user),
        "username": name,
        "acct": name,
        "display_name": profile.display_name,
        "locked": False,
        "bot": False,
        "discoverable": True,
        "group": False,
        "created_at": timestamp(profile.registered_ms),
        "note": html_of(profile.bio, origin, {}),
        "url": f"{origin}/@{name}",
        "uri": f"{origin}/@{name}",
        "avatar": avatar,
        "avatar_static": avatar,
        "header": avatar,
        "header_static": avatar,
        "followers_count": _NUMBER,
        "following_count": _NUMBER,
        "statuses_count": _NUMBER,
        "last_status_at": None,
        "emojis": [],
        "fields": [],
    }


def own_account(user: int, gathered: Gathered) -> Json:
    """The account as its owner sees it, with what they typed."""
    profile = gathered.profiles.get(user, NOBODY)
    source = {"note": profile.bio, "fields": [], "privacy": "public", "sensitive": False, "language": None}
    source["follow_requests_count"] = 0
    return account(user, gathered) | {"source": source}


def status(entry: Entry, gathered: Gathered) -> Raw:
    """A post or a comment: a comment is a status that replies. What does not change was encoded before."""
    profiles = gathered.profiles
    names: tuple[tuple[str, int], ...] = ()
    profile = profiles.get(entry.user, NOBODY)
    if entry.mentions:
        names = tuple([(name_of(user, profiles[user]), user) for user in entry.mentions if user in profiles])
    template = _template_of(entry, profile, names, gathered.origin)
    of_entry = gathered.post_counters.get(entry.id) or PostCounters(0, gathered.replies.get(entry.id, 0))
    of_user = gathered.user_counters.get(entry.user, NO_COUNTERS)
    liked = b"true" if entry.id in gathered.favourited else b"false"
    counted = (of_entry.comments, of_entry.likes, liked, of_user.followers, of_user.following, of_user.posts)
    return Raw(template % counted)


def _template_of(entry: Entry, profile: ProfileRow, mentioned: tuple[tuple[str, int], ...], origin: str) -> bytes:
    """As `_template`, once for each form in which it is asked for again. Profiles that did not change are the same."""
    for said in entry.said:
        if said.profile is profile and said.origin == origin and said.mentioned == mentioned:
            return said.template
    template = _template(entry, profile, mentioned, origin)
    entry.said.append(_Said(profile, mentioned, origin, template))
    del entry.said[:-SAID_MAX]
    return template


def _template(entry: Entry, profile: ProfileRow, mentioned: tuple[tuple[str, int], ...], origin: str) -> bytes:
    """The status, encoded, with places for what changes: replies, likes, whether it is liked, the writer's counters."""
    name = _shown_name(entry.user, profile)
    changing = {
        "replies_count": _NUMBER,
        "favourites_count": _NUMBER,
        "favourited": _WORD,
        "account": _described(entry.user, name, profile, origin),
    }
    encoded = msgspec.json.encode(_said(entry, name, mentioned, origin) | changing)
    return encoded.replace(b"%", b"%%").replace(b"\0", b"%")


def _said(entry: Entry, acct: str, mentioned: tuple[tuple[str, int], ...], origin: str) -> Json:
    """What of a post or a comment never changes once it is said."""
    event, names = entry.event, dict(mentioned)
    url = f"{origin}/@{acct}/{entry.id}"
    post = event if isinstance(event, PostPublished) else None
    tags = post.tags if post is not None else tags_of(entry.text)
    return {
        "id": str(entry.id),
        "created_at": timestamp(entry.time_ms),
        "in_reply_to_id": str(entry.parent[0]) if entry.parent else None,
        "in_reply_to_account_id": str(entry.parent[1]) if entry.parent else None,
        "sensitive": False,
        "spoiler_text": "",
        "visibility": "public",
        "language": None,
        "uri": url,
        "url": url,
        "reblogs_count": 0,
        "edited_at": None,
        "reblogged": False,
        "muted": False,
        "bookmarked": False,
        "content": html_of(entry.text, origin, names),
        "content_text": entry.text,
        "deleted": event is None,
        "filtered": [],
        "reblog": None,
        "application": None,
        "media_attachments": _attachments(entry.id, post.media, origin) if post is not None else [],
        "mentions": [_mention(user, name, origin) for name, user in names.items()],
        "tags": [{"name": tag, "url": f"{origin}/tags/{quote(tag, safe='')}"} for tag in tags],
        "emojis": [],
        "card": None,
        "poll": None,
    }


def html_of(text: str, origin: str, names: Mapping[str, int]) -> str:
    """Escaped text in paragraphs, with links for the mentions in `names`, for tags and for web addresses."""
    if not text:
        return ""
    paragraphs = (_marked(part, origin, names).replace("\n", "<br />") for part in re.split(r"\n{2,}", text))
    return "".join(f"<p>{part}</p>" for part in paragraphs)


def _marked(text: str, origin: str, names: Mapping[str, int]) -> str:
    parts, start = [], 0
    for match in _MARKED.finditer(text):
        parts.append(html.escape(text[start : match.start()]))
        parts.append(_link(match, origin, names))
        start = match.end()
    return "".join((*parts, html.escape(text[start:])))


def _link(match: re.Match[str], origin: str, names: Mapping[str, int]) -> str:
    name, tag, shown = match[1], match[2], html.escape(match[0])
    if name is not None:
        if name.lower() not in names:
            return shown
        url = html.escape(f"{origin}/@{name.lower()}")
        return f'<a href="{url}" class="u-url mention">@<span>{html.escape(name)}</span></a>'
    if tag is not None:
        url = html.escape(f"{origin}/tags/{quote(tag.lower(), safe='')}")
        return f'<a href="{url}" class="mention hashtag" rel="tag">#<span>{html.escape(tag)}</span></a>'
    return f'<a href="{shown}" rel="nofollow noopener noreferrer" target="_blank">{shown}</a>'


def tags_of(text: str) -> list[str]:
    """The tags in the text, in lower case, each once; a number alone is none."""
    return list(dict.fromkeys(tag.lower() for tag in TAG.findall(text) if not tag.isdecimal()))


def _mention(user: int, name: str, origin: str) -> Json:
    return {"id": str(user), "username": name, "acct": name, "url": f"{origin}/@{name}"}


def _attachments(post: int, media: tuple[Medium, ...], origin: str) -> list[Json]:
    # An upload's id is forgotten with it, so a posted photo's is made of where it stands: 32 is over any post's limit.
    return [
        _attachment(post * 32 + index, medium, None if medium.description is None else medium.description.text, origin)
        for index, medium in enumerate(media)
    ]


def attachment_of_upload(upload: Upload, origin: str) -> Json:
    """A photo that may be posted."""
    return _attachment(upload.id, upload.photo, upload.description, origin)


def _attachment(attachment_id: int, photo: Photo | Medium, description: str | None, origin: str) -> Json:
    return {
        "id": str(attachment_id),
        "type": "image",
        "url": _rendition(origin, photo.hash, "full"),
        "preview_url": _rendition(origin, photo.hash, "feed"),
        "remote_url": None,
        "preview_remote_url": None,
        "text_url": None,
        "meta": {
            "original": _size(photo.width, photo.height),
            "small": _size(*_fitted(photo.width, photo.height)),
        },
        "description": description,
        "blurhash": photo.placeholder or None,
    }


def _fitted(width: int, height: int) -> tuple[int, int]:
    """The size of the `feed` rendition."""
    longest = max(width, height, FEED_PX_MAX)
    return max(1, round(width * FEED_PX_MAX / longest)), max(1, round(height * FEED_PX_MAX / longest))


def _size(width: int, height: int) -> Json:
    return {"width": width, "height": height, "size": f"{width}x{height}", "aspect": width / max(height, 1)}


def _rendition(origin: str, content_hash: str, kind: str) -> str:
    # An imported post may name anything as its hash.
    name = content_hash if content_hash.isascii() and content_hash.isalnum() else quote(content_hash, safe="")
    return f"{origin}/media/{name}/{kind}.jpg"


def relationship(other: int, found: Relationship) -> Json:
    return {
        "id": str(other),
        "following": found.following,
        "showing_reblogs": found.following,
        "notifying": False,
        "languages": None,
        "followed_by": found.followed_by,
        "blocking": found.blocking,
        "blocked_by": found.blocked_by,
        "muting": found.muting,
        "muting_notifications": found.muting,
        "requested": False,
        "requested_by": False,
        "domain_blocking": False,
        "endorsed": False,
        "note": "",
    }
