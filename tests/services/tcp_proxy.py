"""A wire to a server that can be cut, held, and made to lose an answer: real bytes of a real server, or none."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class TcpProxy:
    """Use as a context manager; `address` is where clients connect. Listens at once, or from `listen()` on."""

    def __init__(self, host: str, port: int, *, listening: bool = True) -> None:
        self._server = (host, port)
        self._passing = threading.Event()
        self._passing.set()
        self._lock = threading.Lock()
        self._lost_request: bytes | None = None
        self.answers_lost = 0
        self._open: list[socket.socket] = []
        self._closed = False
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        if listening:
            self.listen()

    def listen(self) -> None:
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Pass nothing on, and close nothing: a frozen server, or a black hole."""
        self._passing.clear()

    def go_on(self) -> None:
        self._passing.set()

    def lose_answer_to(self, request: bytes) -> None:
        """The next request with these bytes reaches the server; its answer is lost, and the connection with it."""
        with self._lock:
            self._lost_request = request

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed = True
        self._passing.set()
        with self._lock:
            ends, self._open = self._open, []
        for end in (self._listener, *ends):
            _cut(end)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                doomed = threading.Event()
                with self._lock:
                    self._open += [client, server]
                threading.Thread(target=self._requests, args=(client, server, doomed), daemon=True).start()
                threading.Thread(target=self._answers, args=(server, client, doomed), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                self._passing.wait()
                with self._lock:
                    if self._lost_request is not None and self._lost_request in data:
                        self._lost_request = None
                        doomed.set()
                server.sendall(data)
        _cut(server)

    def _answers(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                self._passing.wait()
                if doomed.is_set():
                    self.answers_lost += 1
                    break
                client.sendall(data)
        _cut(client)
        _cut(server)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
