"""A request and its answer as ASGI has them: what routes need of both and no more, for every request pays for it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from darkroom.gateway.http.errors import Refused

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json; charset=utf-8"


class ClientDisconnect(Exception):
    """Whoever asked has gone before the body was there."""


class Body:
    """What a request may send: `bytes_max` of it, all within `seconds` from now. It is read once, or not at all."""

    def __init__(self, receive: Receive, bytes_max: int, seconds: float) -> None:
        self._receive = receive
        self._bytes_max = bytes_max
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds

    def check_declared(self, length: str) -> None:
        """Refused 413 where so much is announced that it need not be waited for.

        The connection is kept: closing it with bytes unread would reset it, and the client would not see why.
        """
        if not (length.isdecimal() and len(length) < 20 and int(length) <= self._bytes_max):
            raise self._too_large()

    async def read(self) -> bytes:
        """All of it. Refused 413 or 408, ClientDisconnect."""
        parts: list[bytes] = []
        taken, more = 0, True
        try:
            async with asyncio.timeout_at(self._deadline):
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    parts.append(message.get("body", b""))
                    taken += len(parts[-1])
                    if taken > self._bytes_max:
                        raise self._too_large()
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self._seconds:g} s", "body") from None
        return b"".join(parts)

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is over the limit of {self._bytes_max} bytes", "body")


class Request:
    """`headers` are by name in lower case, and of a name that came twice the first counts; `path` is decoded."""

    def __init__(self, scope: Scope, body: Body) -> None:
        self.method: str = scope["method"]
        self.scheme: str = scope["scheme"]
        self.path: str = scope["path"]
        self.path_params: Mapping[str, str] = {}
        self.query: bytes = scope["query_string"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        self.body = body


class Response:
    """An answer. Its length is sent with it unless its status says that it has no body."""

    def __init__(
        self,
        content: bytes = b"",
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        self.body = content
        self.status_code = status_code
        self.headers = {**headers} if headers else {}
        if media_type is not None:
            self.headers["Content-Type"] = media_type

    async def send(self, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        if self.status_code != 304:
            headers.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def refusal(refused: Refused) -> Response:
    """What a client is told."""
    headers = {"Cache-Control": "no-store", **refused.headers}
    return Response(msgspec.json.encode(refused.body), refused.status, headers, JSON)
