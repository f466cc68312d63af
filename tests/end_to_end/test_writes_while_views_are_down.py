"""Writes while Cassandra gives no answer and the log is up: each has its position, and afterwards all are there, once.

The gateway is `darkroom serve` on real servers. Its way to Cassandra is held up, or (slow) Cassandra is killed.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands_run import listening
from end_to_end.own_servers import own_servers
from services.services import Services
from services.stack import own_stack
from services.tcp_proxy import TcpProxy
from waiting import until

pytestmark = pytest.mark.services

PASSWORD = "correct horse battery"
TIMEOUT_S = 120.0
SETTINGS = {"DARKROOM_SERVICE_DEADLINE_MS": "8000", "DARKROOM_WRITE_WAIT_MS": "20000"}
STATUSES = "/api/v1/statuses"
Request = Callable[[], httpx.Response]


@dataclass
class Site:
    """A server, and how Cassandra is taken away from it for a while."""

    url: str
    without_cassandra: Callable[[], AbstractContextManager[None]]


@contextmanager
def held(wire: TcpProxy) -> Iterator[None]:
    wire.hold()
    try:
        yield
    finally:
        wire.go_on()


@contextmanager
def held_up(service: Services, folder: Path) -> Iterator[Site]:
    where = service("cassandra")
    with own_stack(service, "neo4j", "redis") as variables, TcpProxy(where["host"], where["port"]) as wire:
        through = {"DARKROOM_CASSANDRA": "{}:{}".format(*wire.address)}
        with serving(folder, variables | through) as url:
            yield Site(url, lambda: held(wire))


@contextmanager
def killed(service: Services, folder: Path) -> Iterator[Site]:  # noqa: ARG001
    with own_servers(folder / "services") as servers, own_stack(servers, "neo4j", "redis") as variables:

        @contextmanager
        def dead() -> Iterator[None]:
            servers.kill("cassandra")
            yield
            servers.start("cassandra")

        with serving(folder, variables) as url:
            yield Site(url, dead)


@contextmanager
def serving(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    serve = listening(
        "serve", "--runtime", "inline", "--shards", "2", data=folder / "data", settings=variables | SETTINGS
    )
    with serve as (_, url):
        yield url


@pytest.fixture(params=[held_up, pytest.param(killed, marks=pytest.mark.soak)])
def site(request: pytest.FixtureRequest, service: Services, tmp_path: Path) -> Iterator[Site]:
    with request.param(service, tmp_path) as site:
        yield site


class Person:
    """Somebody who has signed up. Any number of threads may ask."""

    def __init__(self, url: str, name: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT_S)
        answer = self.ask("POST", "/api/v1/accounts", json={"username": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.id = answer.headers["darkroom-position"]
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, **options)

    def publish(self, text: str, key: str | None = None, **fields: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.ask("POST", STATUSES, json={"status": text, **fields}, headers=headers)

    def published(self, text: str, **fields: Any) -> str:
        answer = self.publish(text, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])


@dataclass(frozen=True)
class World:
    """What was there before: a post of ben's with a comment of his, and a post of ada's."""

    ada: Person
    ben: Person
    post: str
    comment: str
    own: str


@pytest.fixture
def world(site: Site) -> Iterator[World]:
    ada, ben = Person(site.url, "ada"), Person(site.url, "ben")
    post = ben.published("of ben's")
    yield World(ada, ben, post, ben.published("a comment", in_reply_to_id=post), ada.published("not for long"))
    ada.http.close()
    ben.http.close()


def accepted(world: World) -> list[Request]:
    ada, post = world.ada, world.post
    return [
        lambda: ada.publish("without a key"),
        lambda: ada.publish("a comment of ada's", in_reply_to_id=post),
        lambda: ada.publish("a reply of ada's", in_reply_to_id=world.comment),
        lambda: ada.ask("POST", f"/api/v1/accounts/{world.ben.id}/follow"),
        lambda: ada.ask("POST", f"{STATUSES}/{post}/favourite"),
        lambda: ada.ask("POST", "/api/v1/accounts/1000000000/follow"),
        lambda: ada.ask("PATCH", "/api/v1/accounts/update_credentials", json={"note": "written meanwhile"}),
        lambda: ada.ask("DELETE", f"{STATUSES}/{world.own}"),
    ]


def repeatable(world: World) -> list[Request]:
    return [
        lambda: world.ada.publish("with a key", key="key"),
        lambda: world.ada.publish("with a key", key="key"),
        lambda: world.ada.publish("a keyed comment", key="key", in_reply_to_id=world.post),
    ]


def refused(world: World) -> list[tuple[int, Request]]:
    """As the log alone tells."""
    ada, post, comment = world.ada, world.post, world.comment
    return [
        (403, lambda: ada.ask("DELETE", f"{STATUSES}/{post}")),
        (403, lambda: ada.ask("DELETE", f"{STATUSES}/{comment}")),
        (404, lambda: ada.ask("POST", f"{STATUSES}/{world.ben.id}/favourite")),
        (404, lambda: ada.publish("to nobody", in_reply_to_id="1000000000")),
        (422, lambda: ada.ask("POST", f"{STATUSES}/{comment}/favourite")),
    ]


def not_possible(world: World) -> list[Request]:
    ada = world.ada
    stranger = {"Authorization": "Bearer " + "x" * 43}
    return [
        lambda: ada.publish("with @ben"),
        lambda: ada.publish("with @ben", in_reply_to_id=world.post),
        lambda: ada.publish("with a photo", media_ids=["1"]),
        lambda: ada.ask("POST", "/api/v1/accounts", json={"username": "eve", "password": PASSWORD}),
        lambda: ada.ask("POST", "/api/darkroom/v1/account/delete", json={"password": PASSWORD}),
        lambda: ada.ask("POST", STATUSES, json={"status": "of whom?"}, headers=stranger),
        lambda: ada.ask("GET", "/api/v1/timelines/home"),
        lambda: ada.ask("GET", f"/api/v1/accounts/{world.ben.id}"),
    ]


def test_writes_go_on_without_cassandra_and_are_all_there_afterwards_once(site: Site, world: World) -> None:
    requests = [accepted(world), repeatable(world), not_possible(world), [request for _, request in refused(world)]]
    with ThreadPoolExecutor(sum(map(len, requests))) as threads, site.without_cassandra():
        asked = [[threads.submit(request) for request in kind] for kind in requests]
        told, told_of_keys, told_to_wait, told_off = ([answer.result() for answer in kind] for kind in asked)
    for answer in told:
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"position": answer.headers["darkroom-position"]}
    for answer in told_of_keys:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert answer.json()["position"] == answer.headers["darkroom-position"]
    for answer in told_to_wait:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert "darkroom-position" not in answer.headers
    assert [answer.status_code for answer in told_off] == [status for status, _ in refused(world)]
    check_all_is_there(world, max(int(answer.headers["darkroom-position"]) for answer in told + told_of_keys))


def check_all_is_there(world: World, position: int) -> None:
    ada, ben, post, comment = world.ada, world.ben, world.post, world.comment

    def read(path: str, **query: Any) -> Any:
        answer = ada.ask("GET", path, params={"min_position": position, **query})
        return answer.json() if answer.status_code == 200 else None

    home = until(lambda: read("/api/v1/timelines/home"), "the position can be read", TIMEOUT_S)
    assert sorted(status["content_text"] for status in home) == ["of ben's", "with a key", "without a key"]
    keyed = next(status["id"] for status in home if status["content_text"] == "with a key")
    again = ada.publish("with a key", key="key")
    assert (again.status_code, again.json()["id"]) == (200, keyed)
    thread = read(f"{STATUSES}/{post}/context")["descendants"]
    assert sorted((status["content_text"], status["in_reply_to_id"]) for status in thread) == [
        ("a comment", post),
        ("a comment of ada's", post),
        ("a keyed comment", post),
        ("a reply of ada's", comment),
    ]
    assert [liker["id"] for liker in read(f"{STATUSES}/{post}/favourited_by")] == [ada.id]
    assert [followed["id"] for followed in read(f"/api/v1/accounts/{ada.id}/following")] == [ben.id]
    account = read(f"/api/v1/accounts/{ada.id}")
    assert (account["statuses_count"], account["note"]) == (2, "<p>written meanwhile</p>")
