"""Many requests over a few connections that are kept open: each connection sends its next when the answer is there."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import uvloop

LOAD_S = 300


@dataclass(frozen=True)
class Load:
    """How long all took, and how long each."""

    seconds: float
    waited_s: list[float]
    bodies: list[bytes]


class _Client(asyncio.Protocol):
    """One connection. What it sends it takes from the list that all share."""

    def __init__(
        self, requests: Iterator[tuple[int, bytes]], load: Load, done: asyncio.Future[None], keep: bool
    ) -> None:
        self._requests, self._load, self._done, self._keep = requests, load, done, keep
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and no subclass of it
        self._send()

    def _send(self) -> None:
        found = next(self._requests, None)
        if found is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._number = found[0]
        self._began = time.perf_counter()
        self._transport.write(found[1])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.find(b"content-length:") + 15
        end = head_end + 4 + int(head[at : head.find(b"\r\n", at) if b"\r\n" in head[at:] else None])
        if len(self._buffer) < end:
            return
        self._load.waited_s.append(time.perf_counter() - self._began)
        if not head.startswith(b"http/1.1 200"):
            self._done.set_exception(ValueError(f"refused: {self._buffer[:200]!r}"))
            self._transport.close()
            return
        if self._keep:
            self._load.bodies[self._number] = self._buffer[:end]
        self._buffer = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed the connection"))


def load(port: int, requests: Sequence[bytes], connections: int, *, keep: bool = False) -> Load:
    """Send them all, in order, over so many connections; with `keep` the answers are kept, heads and all."""
    return uvloop.run(_load(port, requests, connections, keep))


async def _load(port: int, requests: Sequence[bytes], connections: int, keep: bool) -> Load:
    loop, shared = asyncio.get_running_loop(), iter(list(enumerate(requests)))
    found = Load(0.0, [], [b""] * (len(requests) if keep else 0))
    finished: list[asyncio.Future[None]] = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for done in finished:
        await loop.create_connection(lambda done=done: _Client(shared, found, done, keep), "127.0.0.1", port)  # type: ignore[misc]
    async with asyncio.timeout(LOAD_S):
        await asyncio.gather(*finished)
    return Load(time.perf_counter() - began, found.waited_s, found.bodies)


def get(path: str, token: str) -> bytes:
    """A request as a client sends it. The host is one name for all servers, so that all links are alike."""
    lines = (f"GET {path} HTTP/1.1", "Host: darkroom.test", f"Authorization: Bearer {token}", "Accept: */*", "", "")
    return "\r\n".join(lines).encode()
