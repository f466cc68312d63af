"""Serving: uvicorn with our limits, on a socket that is bound before anything starts, until a signal says stop."""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from darkroom.gateway.composition import Gateway
from darkroom.gateway.http.app import App
from darkroom.gateway.http.limits import LimitedProtocol, Limits

BACKLOG = 1024
GRACE_S = 10
KEEP_ALIVE_S = 30


def serve(
    gateway: Gateway,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    limits: Limits | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, and finish what is under way. OSError where it cannot listen.

    `on_ready` is told the URL, with the real port, once connections are accepted.
    """
    limits = limits or Limits()
    with _listening(host, port) as listener:
        protocol = type("Protocol", (LimitedProtocol,), {"limits": limits})
        config = uvicorn.Config(
            App(gateway, limits),
            http=protocol,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        _Server(config, lambda: on_ready(_url(host, listener))).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says when it listens, and returns when it was told to stop, where uvicorn would end the process by the signal."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
