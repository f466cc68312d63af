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
    listener: socket.socket,
    on_ready: Callable[[], object],
    limits: Limits | None = None,
    on_stopping: Callable[[], object] = lambda: None,
) -> None:
    """Serve on the socket until SIGTERM or SIGINT, and finish what is under way.

    `on_ready` is called once connections are accepted, `on_stopping` before what is under way is waited for.
    """
    limits = limits or Limits()
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
    _Server(config, on_ready, on_stopping).run(sockets=[listener])


def listening(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that has the port, where port 0 is a free one. OSError where it cannot.

    If it is `shared`, others may be `joining` it. The kernel then lets all programs of one user share it, so whether it
    is another server's is tried first; two that try within the same moment do not notice each other.
    """
    if not shared:
        return _bound(host, port)
    with _bound(host, port) as tried:
        port = tried.getsockname()[1]
    listener = _bound(host, port, shared=True)
    listener.listen(BACKLOG)  # at once: only who listens has a port in the eyes of whoever tries it
    return listener


def joining(host: str, port: int) -> socket.socket:
    """Another socket on a port that is shared: the kernel deals connections out among all that accept some."""
    return _bound(host, port, shared=True)


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """Under which the socket of that host is reached, with its real port."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says when it listens, and returns when it was told to stop, where uvicorn would end the process by the signal."""

    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[], object], on_stopping: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._on_stopping = on_stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stopping()
        await super().shutdown(sockets)

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
