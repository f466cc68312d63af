"""An S3-compatible server for tests: moto's, in a process of its own on loopback, at a port that the system chose.

`object_store()` is the address of a new, empty bucket. The server ends with its standard input, so it outlives nobody.
"""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from darkroom.events.object_store import ObjectStoreAddress

START_S = 60.0

_SERVE = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

_SCOPE = "Credential=key/20260101/us-east-1/s3/aws4_request"
_SIGNED = {"Authorization": f"AWS4-HMAC-SHA256 {_SCOPE}, SignedHeaders=host, Signature=0"}

Buckets = Callable[[], ObjectStoreAddress]


class ObjectStoreServer:
    """One server process. `endpoint` is where it listens; what it holds is in its memory and goes with it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        port = self.process.stdout.readline().strip()
        assert port.isdigit(), "the object store did not start; is moto installed, with flask and flask-cors?"
        self.endpoint = f"http://127.0.0.1:{port}"
        self._numbers = itertools.count(1)

    def bucket(self, deadline_s: float = 30.0) -> ObjectStoreAddress:
        """A new one, and a prefix in it."""
        name = f"darkroom-{next(self._numbers)}"
        self.ask("PUT", f"/{name}")
        return ObjectStoreAddress(
            f"s3://{name}/prints", self.endpoint, access_key="key", secret="sesame", deadline_s=deadline_s
        )

    def ask(self, method: str, path: str, content: bytes = b"") -> bytes:
        """A request with no valid signature, which this server takes: for what a test does behind Darkroom's back."""
        answer = httpx.request(method, self.endpoint + path, content=content, headers=_SIGNED, timeout=START_S)
        answer.raise_for_status()
        return answer.content

    def refuse_strangers(self) -> None:
        """From now on every request needs a key that the server knows, and it knows none."""
        self.ask("POST", "/moto-api/reset-auth", b"0")

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def object_store_server() -> Iterator[ObjectStoreServer]:
    """The one that all tests share."""
    server = ObjectStoreServer()
    yield server
    server.stop()


@pytest.fixture
def object_store(object_store_server: ObjectStoreServer) -> Buckets:
    return object_store_server.bucket
