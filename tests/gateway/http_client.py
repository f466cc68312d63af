"""A server in a process of its own, and people who use it over HTTP. Every read asks for what was written before it."""

import io
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

PASSWORD = "correct horse battery"
SERVER = Path(__file__).parent / "http_server.py"

_numbers = itertools.count(1)


class Server:
    """One server process. `position` is that of the last write that anybody here was told of."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.position = 0
        # Read while it runs, so that a server which logs much is not held up by a full pipe.
        self.errors = (data.parent / f"errors-{next(_numbers)}").open("w+")
        command = [sys.executable, str(SERVER), str(data), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.told()
        self.host, port = self.url.removeprefix("http://").split(":")
        self.port = int(port)
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def told(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def person(self, name: str | None = None) -> "Person":
        """Somebody who has just signed up."""
        name = name or f"person_{next(_numbers)}"
        answer = self.client.post("/api/v1/accounts", json={"username": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.note(answer)
        return Person(self, name, answer.json()["access_token"])

    def anybody(self) -> "Person":
        """Somebody without a token."""
        return Person(self, "", None)

    def note(self, answer: httpx.Response) -> None:
        self.position = max(self.position, int(answer.headers.get("darkroom-position", 0)))

    def stop(self) -> int:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        self.client.close()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()


@contextmanager
def served(data: Path, *options: str) -> Iterator[Server]:
    server = Server(data, *options)
    try:
        yield server
        # Whatever was asked, nothing went wrong that nobody had thought of.
        assert "Traceback" not in server.told(), server.told()
    finally:
        server.close()


class Person:
    """Whoever holds a token; `get` answers from the position of the last write on, or later."""

    def __init__(self, server: Server, name: str, token: str | None) -> None:
        self.server = server
        self.name = name
        self.token = token
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    @property
    def id(self) -> str:
        found: str = self.get("/api/v1/accounts/verify_credentials").json()["id"]
        return found

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self.headers | options.pop("headers", {})
        answer = self.server.client.request(method, path, headers=headers, **options)
        if method != "GET":
            self.server.note(answer)
        return answer

    def get(self, path: str, **query: Any) -> httpx.Response:
        if path.startswith("http"):
            return self.ask("GET", path)
        return self.ask("GET", path, params={"min_position": self.server.position, **query})

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.ask("POST", path, json=body, **options)

    def publish(self, text: str = "", key: str | None = None, **fields: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.post("/api/v1/statuses", {"status": text, **fields}, headers=headers)

    def published(self, text: str = "a caption", **fields: Any) -> str:
        """The id of what was published."""
        answer = self.publish(text, **fields)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["id"]
        return found

    def upload(self, data: bytes | None = None, description: str = "", path: str = "/api/v2/media") -> httpx.Response:
        files = {"file": ("photo.jpg", picture() if data is None else data)}
        return self.ask("POST", path, files=files, data={"description": description})

    def follow(self, other: "Person") -> httpx.Response:
        return self.post(f"/api/v1/accounts/{other.id}/follow")

    def home(self, **query: Any) -> list[str]:
        answer = self.get("/api/v1/timelines/home", **query)
        assert answer.status_code == 200, answer.text
        return [status["id"] for status in answer.json()]

    def status(self, status_id: str) -> Any:
        answer = self.get(f"/api/v1/statuses/{status_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def relationship(self, other: "Person") -> Any:
        return self.get("/api/v1/accounts/relationships", id=other.id).json()[0]


def picture(seed: int = 1, **options: Any) -> bytes:
    """A small JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def link(answer: httpx.Response, relation: str) -> str | None:
    found = re.search(rf'<([^>]*)>; rel="{relation}"', answer.headers.get("link", ""))
    return found[1] if found else None


def walk(person: Person, path: str, relation: str = "next", **query: Any) -> list[list[str]]:
    """The ids of every page, by following links until a page has none."""
    pages: list[list[str]] = []
    answer = person.get(path, **query)
    while True:
        assert answer.status_code == 200, answer.text
        pages.append([item["id"] for item in answer.json()])
        url = link(answer, relation)
        if url is None:
            assert not pages[-1]
            return pages[:-1]
        answer = person.get(url)


def flat(pages: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(pages))


def refused(answer: httpx.Response, status: int, field: str | None = None) -> str:
    """The answer is an error of that status which names that field; what it says."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    body = answer.json()
    assert set(body) >= {"error", "field"}
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["field"] == field, body
    return str(body["error"])
