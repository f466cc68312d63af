"""Whether a server answers in its own protocol, asked by hand, so that the command needs no driver.

An open port is not enough: each server listens before it can serve. A server that answers has said yes to a request
that a client's first one would depend on.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"
TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1 << 20

Connection = socket.socket


class Unanswered(Exception):
    """No answer, or not the one that the protocol has."""


def redis(port: int) -> None:
    """PING, which Redis refuses while it loads. Raises `Unanswered`."""
    with _connected(port) as connection:
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        _expect(_receive(connection, 7) == b"+PONG\r\n")


def kafka(port: int) -> None:
    """ApiVersions, then Metadata, until the one broker is among those that serve. Raises `Unanswered`."""
    with _connected(port) as connection:
        _expect(_ask_kafka(connection, 18, b"")[4:6] == b"\0\0")
        brokers = _ask_kafka(connection, 3, struct.pack(">i", 0))
        _expect(struct.unpack_from(">i", brokers, 4)[0] > 0)


def neo4j(port: int) -> None:
    """Bolt's handshake for version 5.4. Raises `Unanswered`."""
    with _connected(port) as connection:
        connection.sendall(bytes.fromhex("6060b017 00000405 00000000 00000000 00000000"))
        _expect(_receive(connection, 4) == bytes.fromhex("00000405"))


def cassandra(port: int, user: str, password: str, statement: str = "") -> None:
    """OPTIONS and STARTUP, a log-in, and a statement if there is one. Raises `Unanswered`."""
    supported, authenticate, auth_success, result = 0x06, 0x03, 0x10, 0x08
    with _connected(port) as connection:
        _expect(_ask_cassandra(connection, 0x05, b"") == supported)
        options = struct.pack(">H", 1) + _text("CQL_VERSION") + _text("3.0.0")
        _expect(_ask_cassandra(connection, 0x01, options) == authenticate)
        token = f"\0{user}\0{password}".encode()
        _expect(_ask_cassandra(connection, 0x0F, struct.pack(">i", len(token)) + token) == auth_success)
        if statement:
            query = struct.pack(">i", len(statement)) + statement.encode() + struct.pack(">HB", 1, 0)
            _expect(_ask_cassandra(connection, 0x07, query) == result)


def _ask_kafka(connection: Connection, key: int, body: bytes) -> bytes:
    """The answer from its correlation id on. Metadata has to be version 1, the first that can ask for no topic."""
    version = 1 if key == 3 else 0
    request = struct.pack(">hhi", key, version, 7) + _text("darkroom") + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    (length,) = struct.unpack(">i", _receive(connection, 4))
    answer = _receive(connection, length)
    _expect(answer[:4] == struct.pack(">i", 7))
    return answer


def _ask_cassandra(connection: Connection, opcode: int, body: bytes) -> int:
    """The opcode of the answer, in version 4 of the protocol, whose frames are bare."""
    connection.sendall(struct.pack(">BBhBi", 4, 0, 0, opcode, len(body)) + body)
    _, _, _, answer, length = struct.unpack(">BBhBi", _receive(connection, 9))
    _receive(connection, length)
    return int(answer)


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


@contextmanager
def _connected(port: int) -> Iterator[Connection]:
    try:
        with socket.create_connection((HOST, port), TIMEOUT_S) as connection:
            yield connection
    except (OSError, struct.error) as error:
        raise Unanswered(str(error)) from error


def _receive(connection: Connection, length: int) -> bytes:
    _expect(0 <= length <= ANSWER_BYTES_MAX)
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        _expect(part != b"")
        received += part
    return received


def _expect(holds: bool) -> None:
    if not holds:
        raise Unanswered("not the answer that the protocol has")
