"""Servers to load, each a process of its own: Darkroom as it is served, and what stands beside it.

`python -m benchmarks.http_servers bare FILE` answers each request with bytes recorded before, `… bare-twice FILE` from
two processes on one port; `… sql FILE` answers from one SQLite database by joins, with Darkroom's own rendering. They
print their port.
"""

import asyncio
import ctypes
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.http_sql import SqlPages
from benchmarks.peer_environments import HERE
from darkroom.gateway.http.server import BACKLOG, joining, listening

STOP_S = 30
PR_SET_PDEATHSIG = 1

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[..., Awaitable[None]]


@contextmanager
def server(*command: str) -> Iterator[int]:
    """Start `python COMMAND…`, wait for the port that it prints, and stop it afterwards."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)$", process.stdout.readline().strip())
        assert found, f"{command} did not start"
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]  # it is a pipe


def recorded(answer: bytes) -> Answer:
    """An answer as an ASGI handler sends it; what the server itself adds is left to it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return int(status.split()[1]), [pair for pair in headers if pair[0] not in (b"date", b"server")], body


def key_of(request: bytes) -> tuple[bytes, bytes]:
    """(path with its query, authorization): what an answer depends on."""
    path = request.split(b" ", 2)[1]
    return path, request.split(b"Authorization: ")[1].split(b"\r\n")[0]


def _asked(scope: Scope) -> tuple[bytes, bytes]:
    query = scope["query_string"]
    token = next(value for name, value in scope["headers"] if name == b"authorization")
    return scope["raw_path"] + (b"?" + query if query else b""), token


def bare(file: Path) -> App:
    """The least that an ASGI handler does: find the bytes, send them."""
    answers: dict[tuple[bytes, bytes], Answer] = pickle.loads(file.read_bytes())

    async def app(scope: Scope, receive: Any, send: Send) -> None:  # noqa: ARG001
        status, headers, body = answers[_asked(scope)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def sql(file: Path) -> App:
    """Pages from joins, rendered by Darkroom's own code."""
    database, tokens = pickle.loads(file.read_bytes())
    pages = SqlPages(database)

    async def app(scope: Scope, receive: Any, send: Send) -> None:  # noqa: ARG001
        path, token = _asked(scope)
        body = pages.answer(path.decode(), tokens[token.removeprefix(b"Bearer ").decode()])
        headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def main(kind: str, file: Path) -> None:
    app = {"bare": bare, "bare-twice": bare, "sql": sql}[kind](file)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn, once it has stopped, does with a signal what was set here
    with listening("127.0.0.1", 0, shared=kind == "bare-twice") as listener:
        port = listener.getsockname()[1]
        told = f"127.0.0.1:{port}"
        if kind == "bare-twice":
            _serve_twice(app, listener, joining("127.0.0.1", port), told)
        else:
            listener.listen(BACKLOG)  # whoever reads the next line connects at once
            print(told, flush=True)
            _serve(app, listener)
    os._exit(0)


def _serve_twice(app: App, listener: socket.socket, another: socket.socket, told: str) -> None:
    another.listen(BACKLOG)  # before there is a process for it, so that it has its share from the beginning
    other = os.fork()
    if not other:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        listener.close()
        _serve(app, another)
        os._exit(0)
    another.close()
    print(told, flush=True)
    try:
        _serve(app, listener)
    finally:
        os.kill(other, signal.SIGTERM)
        os.waitpid(other, 0)


def _serve(app: App, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    asyncio.set_event_loop_policy(None)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
