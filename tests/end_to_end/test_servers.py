"""One Darkroom on real servers, through its commands, against the same log in a directory of its own."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from commands_run import darkroom, done, listening
from services.services import Services
from services.stack import own_stack

pytestmark = pytest.mark.services

PEOPLE = 40
QUERIES = (
    ("feed", "--json", "--limit", "30"),
    ("counters", "user", "--json"),
    ("activity", "--json"),
    ("graph", "followers", "--json"),
    ("graph", "following", "--json"),
    ("graph", "posts", "--json"),
)


@pytest.fixture
def stack(service: Services) -> Iterator[dict[str, str]]:
    with own_stack(service) as variables:
        yield variables


def test_every_query_answers_as_the_embedded_default_does(stack: dict[str, str], tmp_path: Path) -> None:
    served, embedded = tmp_path / "served", tmp_path / "embedded"
    made = ("simulate", "--seed", "5", "--users", str(PEOPLE), "--events", "1500")
    head = done(*made, data=served, settings=stack)
    log = done("log", "export", data=served, settings=stack)
    assert done("log", "append", "-", data=embedded, stdin=log + "\n") == head
    done("catch-up", "--shards", "2", data=embedded)
    assert done("catch-up", "--shards", "2", data=served, settings=stack) == head
    people = [str(user) for user in range(1, PEOPLE + 1)]
    for query in QUERIES:
        expected = darkroom(*query, *people, data=embedded)
        assert expected.status == 0
        assert darkroom(*query, *people, data=served, settings=stack) == expected
    assert done("rebuild", "--shards", "3", data=served, settings=stack) == "generation 2 serves"
    for query in QUERIES:
        assert darkroom(*query, *people, data=served, settings=stack) == darkroom(*query, *people, data=embedded)


def test_two_gateways_share_everything_but_a_directory(stack: dict[str, str], tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    serving = listening("serve", "--runtime", "inline", "--shards", "2", data=one / "data", settings=stack)
    with serving as (_, here), listening("gateway", data=other / "data", settings=stack) as (_, there):
        person = {"username": "ada", "password": "correct horse battery"}
        signed_up = httpx.post(f"{here}/api/v1/accounts", json=person, timeout=30)
        assert signed_up.status_code == 200, signed_up.text
        token = {"Authorization": f"Bearer {signed_up.json()['access_token']}"}
        said = httpx.post(f"{there}/api/v1/statuses", json={"status": "hello"}, headers=token, timeout=30)
        assert said.status_code == 200, said.text
        for gateway in (here, there):
            url = f"{gateway}/api/v1/timelines/home?min_position={said.headers['darkroom-position']}"
            home = httpx.get(url, headers=token, timeout=30)
            assert [status["id"] for status in home.json()] == [said.json()["id"]]
