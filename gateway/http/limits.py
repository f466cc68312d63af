"""What a connection may cost: bytes and time of headers, bodies and answers, and how many there are at once.

uvicorn waits for ever for the rest of a header, a body, or a client that does not read; these limits do not.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from darkroom.gateway.http.errors import Refused
from darkroom.gateway.http.messages import Receive, Scope, Send, refusal

FORM_SLACK_BYTES = 64 * 1024  # what a multipart form adds to its file
BODY_BYTES_MAX = 256 * 1024  # the longest caption, every character escaped, with room to spare
MEDIA_PATHS = ("/api/v1/media", "/api/v2/media")


@dataclass(frozen=True)
class Limits:
    """Seconds are for the whole of what they name, so that a byte now and then buys no time."""

    header_s: float = 10.0
    header_bytes: int = 32 * 1024
    body_s: float = 60.0
    answer_s: float = 60.0
    connections: int = 500
    uploads_at_once: int = 16
    files_at_once: int = 128
    file_wait_s: float = 5.0


def body_bytes_max(path: str, upload_bytes: int) -> int:
    return upload_bytes + FORM_SLACK_BYTES if path in MEDIA_PATHS else BODY_BYTES_MAX


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    response = refusal(Refused(503, "too many connections at once; try again"))
    response.headers["Connection"] = "close"
    await response.send(send)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with deadlines. A connection over one is cut, for whoever is that slow reads no answer."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._in_header = False
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > 2 * self.limits.connections:
            # Up to twice the cap they are told that it is too many; there must be an end to politeness too.
            transport.abort()
        self._await_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_header:
            self._header_bytes += len(data)
            if self._header_bytes > self.limits.header_bytes:
                self._refuse(b"431 Request Header Fields Too Large")
        elif self.cycle is None or self.cycle.response_complete:
            # Bytes of no request: a line end before the next, or the rest of a body that was refused.
            self._await_header()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_header, self._header_bytes = True, 0
        self._await_header()

    def on_headers_complete(self) -> None:
        self._in_header = False
        self._stop_header_timer()
        if len(self.connections) > self.limits.connections:
            self.app = _too_many
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(self.limits.answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_answer_timer()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_answer_timer()
        super().connection_lost(exc)

    def _await_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.limits.header_s, self._refuse, b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        self._stop_header_timer()
        if not self.transport.is_closing():
            if self._in_header:
                self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
