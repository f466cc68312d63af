"""What this server says of itself: to clients that look for its limits, and to whoever watches its health."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Json
from darkroom.gateway.http.errors import not_found
from darkroom.gateway.http.media import DESCRIPTION_CHARACTERS_MAX
from darkroom.gateway.http.messages import Response
from darkroom.gateway.media_protocol import PIXELS_MAX

TITLE = "Darkroom"
DESCRIPTION = "Photos, in the order in which they were taken out of the bath."
COMPATIBLE_WITH = "4.3.0"
MIME_TYPES = ["image/jpeg", "image/png", "image/webp", "image/gif"]


async def first(call: Call) -> Response:
    """GET /api/v1/instance, which older clients ask first."""
    return call.json(
        {
            "uri": call.origin.partition("//")[2],
            "title": TITLE,
            "short_description": DESCRIPTION,
            "description": DESCRIPTION,
            "email": "",
            "version": _version(),
            "urls": {},
            "thumbnail": None,
            "languages": ["en"],
            "registrations": True,
            "approval_required": False,
            "invites_enabled": False,
            "configuration": _configuration(call),
            "contact_account": None,
            "rules": [],
        }
    )


async def second(call: Call) -> Response:
    """GET /api/v2/instance."""
    return call.json(
        {
            "domain": call.origin.partition("//")[2],
            "title": TITLE,
            "version": _version(),
            "source_url": "",
            "description": DESCRIPTION,
            "usage": {"users": {}},
            "thumbnail": {"url": f"{call.origin}/web/avatar.svg"},
            "icon": [],
            "languages": ["en"],
            "configuration": _configuration(call) | {"urls": {}, "translation": {"enabled": False}},
            "registrations": {"enabled": True, "approval_required": False, "message": None},
            "api_versions": {"mastodon": 1},
            "contact": {"email": "", "account": None},
            "rules": [],
        }
    )


def _version() -> str:
    """Numeric and at least 4 at its start, or clients fall back to routes of long ago."""
    try:
        own = version("darkroom")
    except PackageNotFoundError:
        own = "0"
    return f"{COMPATIBLE_WITH} (compatible; Darkroom {own})"


def _configuration(call: Call) -> dict[str, Any]:
    settings = call.settings
    return {
        "statuses": {
            "max_characters": settings.caption_chars,
            "max_media_attachments": settings.photos_per_post,
            "characters_reserved_per_url": 23,
        },
        "media_attachments": {
            "supported_mime_types": MIME_TYPES,
            "description_limit": DESCRIPTION_CHARACTERS_MAX,
            "image_size_limit": settings.upload_bytes,
            "image_matrix_limit": PIXELS_MAX,
            "video_size_limit": 0,
            "video_frame_rate_limit": 0,
            "video_matrix_limit": 0,
        },
        "accounts": {"max_featured_tags": 0, "max_pinned_statuses": 0},
        "polls": {"max_options": 0, "max_characters_per_option": 0, "min_expiration": 0, "max_expiration": 0},
    }


async def authorization_server(call: Call) -> Response:  # noqa: ARG001
    """Not published: over plain HTTP its token endpoint would make clients refuse to sign in."""
    raise not_found("document")


async def health(call: Call) -> Response:
    """Whether the log can be read."""
    await call.look_up(call.gateway.log.head)
    return Response(b"OK", media_type="text/plain; charset=utf-8")


async def status(call: Call) -> Response:
    """How far the log is, each shard behind it, and what kind of fault keeps one from going on."""
    faults = await call.look_up(call.gateway.faults)  # first: whoever has one moves no more
    positions = await call.look_up(call.gateway.readers.positions)
    head = max(
        await call.look_up(call.gateway.log.head), *positions, 0
    )  # shards were asked first, and may have moved since
    shards: list[Json] = [
        {"shard": shard, "position": str(position), "lag": head - position, "fault": _kind(faults.get(shard))}
        for shard, position in enumerate(positions)
    ]
    told = {"head": str(head), "lag": max((s["lag"] for s in shards), default=head), "shards": shards}
    counts = call.gateway.readers.cache.counts
    return call.json({**told, "feed_cache_hit_rate": counts.hit_rate, "feed_cache_failures": counts.failures})


def _kind(fault: str | None) -> str | None:
    """The command tells the rest: anybody may ask here, and a fault names servers, users and paths."""
    return None if fault is None else fault.partition(":")[0]
