"""The application: one table of routes with who may call each, and one place where errors become answers."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from darkroom.gateway.composition import Gateway
from darkroom.gateway.http import accounts, activity, instance, media, oauth, posting, statuses, timelines
from darkroom.gateway.http.call import Access, Call
from darkroom.gateway.http.errors import Pending, Refused, refusal_of
from darkroom.gateway.http.limits import BodyLimits, Limits
from darkroom.gateway.http.pages import WebPage
from darkroom.gateway.http.work import Work

Handler = Callable[[Call], Awaitable[Response]]

ANYBODY = Access(signed_in=False)
READ = Access(("read:statuses",), signed_in=False)
READ_ACCOUNTS = Access(("read:accounts",), signed_in=False)
OWN_ACCOUNT = Access(("read:accounts", "profile"))
WRITE_ACCOUNT = Access(("write:accounts",))
WRITE_MEDIA = Access(("write:media",))
WRITE_STATUSES = Access(("write:statuses",))
WRITE_FAVOURITES = Access(("write:favourites",))
FOLLOW = Access(("write:follows", "follow"))
BLOCK = Access(("write:blocks", "follow"))
MUTE = Access(("write:mutes", "follow"))

ROUTES: list[tuple[str, str, Access, Handler]] = [
    ("GET", "/health", ANYBODY, instance.health),
    ("GET", "/.well-known/oauth-authorization-server", ANYBODY, instance.authorization_server),
    ("GET", "/api/v1/instance", ANYBODY, instance.first),
    ("GET", "/api/v1/instance/", ANYBODY, instance.first),
    ("GET", "/api/v2/instance", ANYBODY, instance.second),
    ("GET", "/api/v2/instance/", ANYBODY, instance.second),
    ("POST", "/oauth/token", ANYBODY, oauth.token),
    ("POST", "/oauth/revoke", ANYBODY, oauth.revoke),
    ("POST", "/api/v1/accounts", ANYBODY, accounts.sign_up),
    ("GET", "/api/v1/accounts/verify_credentials", OWN_ACCOUNT, accounts.verify_credentials),
    ("PATCH", "/api/v1/accounts/update_credentials", WRITE_ACCOUNT, accounts.update_credentials),
    ("GET", "/api/v1/accounts/lookup", READ_ACCOUNTS, accounts.lookup),
    ("GET", "/api/v1/accounts/relationships", Access(("read:follows",)), accounts.relationships),
    ("GET", "/api/v1/accounts/{id}", READ_ACCOUNTS, accounts.show),
    ("GET", "/api/v1/accounts/{id}/statuses", READ, accounts.posts_of),
    ("GET", "/api/v1/accounts/{id}/followers", READ_ACCOUNTS, accounts.followers),
    ("GET", "/api/v1/accounts/{id}/following", READ_ACCOUNTS, accounts.following),
    ("POST", "/api/v1/accounts/{id}/follow", FOLLOW, accounts.follow),
    ("POST", "/api/v1/accounts/{id}/unfollow", FOLLOW, accounts.unfollow),
    ("POST", "/api/v1/accounts/{id}/block", BLOCK, accounts.block),
    ("POST", "/api/v1/accounts/{id}/unblock", BLOCK, accounts.unblock),
    ("POST", "/api/v1/accounts/{id}/mute", MUTE, accounts.mute),
    ("POST", "/api/v1/accounts/{id}/unmute", MUTE, accounts.unmute),
    ("POST", "/api/v1/media", WRITE_MEDIA, media.upload),
    ("POST", "/api/v2/media", WRITE_MEDIA, media.upload),
    ("GET", "/api/v1/media/{id}", WRITE_MEDIA, media.show),
    ("PUT", "/api/v1/media/{id}", WRITE_MEDIA, media.describe),
    ("GET", "/media/{hash}/{name}", ANYBODY, media.rendition),
    ("POST", "/api/v1/statuses", WRITE_STATUSES, posting.create),
    ("GET", "/api/v1/statuses/{id}", READ, statuses.show),
    ("DELETE", "/api/v1/statuses/{id}", WRITE_STATUSES, statuses.delete),
    ("GET", "/api/v1/statuses/{id}/context", READ, statuses.context),
    ("POST", "/api/v1/statuses/{id}/favourite", WRITE_FAVOURITES, statuses.favourite),
    ("POST", "/api/v1/statuses/{id}/unfavourite", WRITE_FAVOURITES, statuses.unfavourite),
    ("GET", "/api/v1/statuses/{id}/favourited_by", READ_ACCOUNTS, statuses.favourited_by),
    ("GET", "/api/v1/timelines/home", Access(("read:statuses",)), timelines.home),
    ("GET", "/api/darkroom/v1/status", ANYBODY, instance.status),
    ("GET", "/api/darkroom/v1/activity", Access(("read:notifications",)), activity.show),
    ("POST", "/api/darkroom/v1/account/delete", WRITE_ACCOUNT, accounts.delete_account),
]

SETTLE_EVERY_S = 60.0

logger = logging.getLogger("darkroom.http")


def build_app(gateway: Gateway, limits: Limits | None = None) -> Starlette:
    """The application over an open gateway, which stays its caller's to close."""
    limits = limits or Limits()
    work, page = Work(gateway, limits), WebPage()
    pages: list[tuple[str, str, Access, Handler]] = [
        ("GET", path, ANYBODY, page.index) for path in ("/", "/upload", "/@{name}", "/@{name}/{id}")
    ]
    pages.append(("GET", "/web/{name}", ANYBODY, page.file))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        settling = asyncio.create_task(_settle(work))
        try:
            yield
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
            work.close()

    def endpoint(handler: Handler, access: Access) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await _answered(request, gateway, work, handler, access)

        return answer

    app = Starlette(
        routes=[
            Route(path, endpoint(handler, access), methods=[method]) for method, path, access, handler in ROUTES + pages
        ],
        middleware=[Middleware(BodyLimits, limits=limits, upload_bytes=gateway.settings.upload_bytes)],
        exception_handlers={HTTPException: _routing_error, Exception: _fault},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _settle(work: Work) -> None:
    while True:
        try:
            await work.sign_ups.settle_left()
        except Exception:
            logger.exception("sign-ups that were left pending could not be settled; they are at the next look")
        await asyncio.sleep(SETTLE_EVERY_S)


async def _answered(request: Request, gateway: Gateway, work: Work, handler: Handler, access: Access) -> Response:
    call = Call(request, gateway, work)
    try:
        await call.admit(access)
        response = await handler(call)
    except Pending as pending:
        response = _pending(call, pending)
    except ClientDisconnect:
        response = Response(status_code=400)
    except Exception as error:
        refused = refusal_of(error)
        if refused is None:
            raise
        if refused.status >= 500 and not isinstance(error, Refused):
            logger.warning("%s %s: %s", call.request.method, call.request.url.path, error)
        response = call.json(refused.body, refused.status, refused.headers)
    return call.stamp(response)


def _pending(call: Call, pending: Pending) -> Response:
    """It is done and cannot be read yet: what may be repeated is better repeated, for then it has an answer."""
    told = {"position": str(pending.position)}
    if not pending.repeatable:
        return call.json(told, 202)
    refused = Refused(503, "it is stored but cannot be read yet; repeat the request with the same key")
    return call.json(refused.body | told, 503, refused.headers)


async def _routing_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return _plain(Refused(error.status_code, error.detail.lower()), headers)


async def _fault(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """A bug or a broken store. Starlette raises it again, so that the log has its trace."""
    return _plain(Refused(500, "an internal error; nothing is known of the outcome"), {})


def _plain(refused: Refused, headers: dict[str, str]) -> Response:
    return Response(
        msgspec.json.encode(refused.body),
        refused.status,
        headers | {"Cache-Control": "no-store"},
        media_type="application/json; charset=utf-8",
    )
