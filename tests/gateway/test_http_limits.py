"""What one client may cost the others: bytes and seconds of headers and bodies, connections, uploads at once."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import httpx
import pytest
from waiting import until

from .http_client import Person, Server, picture, refused, served

HEADER_S, BODY_S, CONNECTIONS, UPLOADS = 0.6, 0.8, 20, 2
SLOW_S = 20.0
"""How much later than the server means to a busy machine may do it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {"header_s": HEADER_S, "body_s": BODY_S, "connections": CONNECTIONS, "uploads_at_once": UPLOADS}
    options = [word for name, value in limits.items() for word in ("--limit", name, str(value))]
    options += ["--setting", "upload_bytes", "100000"]
    with served(tmp_path_factory.mktemp("http") / "data", *options) as running:
        yield running


@pytest.fixture(scope="module")
def person(server: Server) -> Person:
    return server.person()


def connect(server: Server) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=10)


def rest(connection: socket.socket) -> bytes:
    """All that still comes, until the server closes."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def head(person: Person, path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {person.token}", *headers]
    return "\r\n".join((*lines, "", "")).encode()


def test_a_body_over_its_limit_is_413_whether_it_says_so_or_not(person: Person) -> None:
    refused(person.publish("x" * 300_000), 413, "body")
    refused(person.upload(picture() + b"x" * 200_000), 413, "body")

    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 10_000

    try:
        answer = person.ask("POST", "/api/v1/statuses", content=chunks(), headers={"Content-Type": "application/json"})
    except httpx.WriteError:
        return  # cut before it had sent everything
    refused(answer, 413, "body")


def test_a_length_that_is_no_number_is_refused(server: Server, person: Person) -> None:
    for length in ("-1", "x", "1" * 40):
        with closing(connect(server)) as connection:
            connection.sendall(head(person, "/api/v1/statuses", f"Content-Length: {length}"))
            assert rest(connection)[9:12] in (b"400", b"413")


def test_a_body_that_does_not_end_is_408(server: Server, person: Person) -> None:
    with closing(connect(server)) as connection:
        started = time.monotonic()
        connection.sendall(head(person, "/api/v1/statuses", "Content-Type: application/json", "Content-Length: 50"))
        connection.sendall(b'{"status": ')
        received = rest(connection)
        assert received.startswith(b"HTTP/1.1 408")
        assert b'"field":"body"' in received
        assert BODY_S * 0.9 < time.monotonic() - started < BODY_S + SLOW_S


def test_a_header_that_does_not_end_is_cut(server: Server) -> None:
    for begun in (b"", b"\r\n", b"GET / HTTP/1.1\r\nHost:", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /"):
        with closing(connect(server)) as connection:
            connection.sendall(begun)
            started = time.monotonic()
            received = rest(connection)
            assert time.monotonic() - started < HEADER_S + SLOW_S
            if begun.startswith(b"GET /health"):
                assert received.startswith(b"HTTP/1.1 200")


def test_bytes_now_and_then_buy_no_time(server: Server, person: Person) -> None:
    header = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000
    body = head(person, "/api/v1/statuses", "Content-Type: application/json", "Content-Length: 10000") + b"x" * 10_000
    for dripped in (header, body):
        with closing(connect(server)) as connection:
            started = time.monotonic()
            drip(connection, dripped)
            assert time.monotonic() - started < max(HEADER_S, BODY_S) + SLOW_S


def drip(connection: socket.socket, dripped: bytes) -> None:
    """A byte every 20 ms, until the server closes; all of it would take minutes."""
    connection.settimeout(0.02)
    for index in range(len(dripped) - 1):
        with suppress(TimeoutError):
            try:
                connection.sendall(dripped[index : index + 1])
                if not connection.recv(1000):
                    return
            except (ConnectionResetError, BrokenPipeError):
                return
    raise AssertionError("the server took it all")


def test_a_header_without_end_is_431(server: Server) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000)
        assert rest(connection).startswith(b"HTTP/1.1 431")


def test_others_are_answered_while_some_are_slow(server: Server, person: Person) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS // 2):
            connection = stack.enter_context(closing(connect(server)))
            connection.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert person.get("/api/v1/timelines/home").status_code == 200


def test_more_connections_than_the_cap_are_told_or_cut(server: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(server))) for _ in range(3 * CONNECTIONS)]
        request = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answers = []
        for connection in connections[::-1]:
            try:
                connection.sendall(request)
                answers.append(rest(connection)[9:12])
            except (BrokenPipeError, ConnectionResetError):
                answers.append(b"")
        assert answers.count(b"503") > 0
        assert answers.count(b"") >= CONNECTIONS // 2
    assert server.client.get("/health").text == "OK"


def test_more_uploads_at_once_than_the_cap_are_503(server: Server, person: Person) -> None:
    def one_more_is_refused() -> bool:
        with ExitStack() as stack:
            for _ in range(UPLOADS):
                connection = stack.enter_context(closing(connect(server)))
                connection.sendall(
                    head(person, "/api/v2/media", "Expect: 100-continue", "Content-Length: 1000", "Content-Type: x/y")
                )
                assert connection.recv(100).startswith(b"HTTP/1.1 100"), "its body is waited for, so it has a place"
            refused(person.upload(), 503)
        return True

    until(one_more_is_refused, "one too many before any body is late", meanwhile=AssertionError)
    until(lambda: person.upload().status_code != 503, "a free place")


def test_a_form_of_very_many_parts_is_400(server: Server, person: Person) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n1\r\n'
    for parts in (part * 500, file * 10):
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        refused(person.ask("POST", "/api/v2/media", content=parts + b"--x--\r\n", headers=kind), 400, "body")
    names = {path.name for path in server.data.iterdir()}
    assert not {name for name in names if "tmp" in name or "temporary" in name}
