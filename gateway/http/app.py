"""The application: one table of routes with who may call each, and one place where errors become answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from darkroom.gateway.composition import Gateway
from darkroom.gateway.http import accounts, activity, instance, media, oauth, posting, statuses, timelines
from darkroom.gateway.http.call import Access, Call
from darkroom.gateway.http.errors import Pending, Refused, refusal_of
from darkroom.gateway.http.limits import Limits, body_bytes_max
from darkroom.gateway.http.messages import Body, ClientDisconnect, Receive, Request, Response, Scope, Send, refusal
from darkroom.gateway.http.pages import WebPage
from darkroom.gateway.http.routing import Routes
from darkroom.gateway.http.work import Work
from darkroom.gateway.readers import Readers

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
INTERNAL_ERROR = Refused(500, "an internal error; nothing is known of the outcome")

logger = logging.getLogger("darkroom.http")


class App:
    """The application over an open gateway, which stays its caller's to close."""

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self._gateway = gateway
        self._limits = limits
        self._work, page = Work(gateway, limits), WebPage()
        pages: list[tuple[str, str, Access, Handler]] = [
            ("GET", path, ANYBODY, page.index) for path in ("/", "/upload", "/@{name}", "/@{name}/{id}")
        ]
        pages.append(("GET", "/web/{name}", ANYBODY, page.file))
        self._routes = Routes((method, path, (access, handler)) for method, path, access, handler in ROUTES + pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        bytes_max = body_bytes_max(scope["path"], self._gateway.settings.upload_bytes)
        request = Request(scope, Body(receive, bytes_max, self._limits.body_s))
        try:
            response = await self._answer(request)
        except Exception:
            # A bug or a broken store. It is raised again, so that the log has its trace.
            await refusal(INTERNAL_ERROR).send(send)
            raise
        await response.send(send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan: what is done besides answering, from the server's start to its end."""
        await receive()
        settling = asyncio.create_task(_settle(self._work, self._gateway.readers))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        self._work.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request) -> Response:
        call = Call(request, self._gateway, self._work)
        try:
            request.body.check_declared(request.headers.get("content-length", "0"))
            (access, handler), request.path_params = self._routes.find(request.method, request.path)
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
                logger.warning("%s %s: %s", request.method, request.path, error)
            response = refusal(refused)
        return call.stamp(response)


async def _settle(work: Work, readers: Readers) -> None:
    while True:
        try:
            await work.sign_ups.settle_left()
        except Exception:
            logger.exception("sign-ups that were left pending could not be settled; they are at the next look")
        with suppress(Exception):  # whoever reads is told of it
            # Of several gateways one may be asked nothing for hours, and would hold a generation that was dropped.
            await readers.ask(readers.positions)
        await asyncio.sleep(SETTLE_EVERY_S)


def _pending(call: Call, pending: Pending) -> Response:
    """It is done and cannot be read yet: what may be repeated is better repeated, for then it has an answer."""
    told = {"position": str(pending.position)}
    if not pending.repeatable:
        return call.json(told, 202)
    refused = Refused(503, "it is stored but cannot be read yet; repeat the request with the same key")
    return call.json(refused.body | told, 503, refused.headers)
