"""Sign-ups that a crash cut short, at each place where it could: the next start settles every one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom.events.facts import Event, UserRegistered, personal
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.credentials import Credentials
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.passwords import PasswordHashing

from .http_client import PASSWORD, Server, refused, served


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory that was served once and in which somebody has the name `first`."""
    with served(tmp_path / "data") as server:
        server.person("first")
    return tmp_path / "data"


@pytest.fixture
def credentials(data: Path) -> Iterator[Credentials]:
    opened = Credentials(SqliteCredentialStore(data), PasswordHashing(memory_kib=8, passes=1, lanes=1))
    yield opened
    opened.close()


def append(data: Path, *events: Event) -> list[int]:
    log = LmdbEventLog(data / "log", create=False)
    try:
        return list(log.append(events))
    finally:
        log.close()


def registered(name: str, claim: str) -> UserRegistered:
    return UserRegistered(username=personal(name), display_name=personal(name), claim=claim)


def sign_in(server: Server, name: str) -> int:
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    return server.client.post("/oauth/token", data=form).status_code


def settled(credentials: Credentials) -> None:
    """Return once nothing is pending any more."""
    for _ in range(100_000):
        if not credentials.pending():
            return
    raise AssertionError(credentials.pending())


def test_one_that_the_log_never_heard_of_is_forgotten(data: Path, credentials: Credentials) -> None:
    credentials.begin("nobody", PASSWORD)
    with served(data) as server:
        settled(credentials)
        assert sign_in(server, "nobody") == 400
        assert server.person("nobody").name == "nobody"


def test_one_that_won_its_name_is_bound(data: Path, credentials: Credentials) -> None:
    [user] = append(data, registered("winner", credentials.begin("winner", PASSWORD).claim))
    with served(data) as server:
        settled(credentials)
        assert sign_in(server, "winner") == 200
        assert server.client.get(f"/api/v1/accounts/{user}").json()["acct"] == "winner"


def test_one_that_lost_its_name_is_deleted(data: Path, credentials: Credentials) -> None:
    loser, stranger = append(
        data,
        registered("First", credentials.begin("First", PASSWORD).claim),
        registered("first", "0" * 64),  # a nameless user of somebody else's making, who is left alone
    )
    with served(data) as server:
        settled(credentials)
        head = int(server.client.get("/api/darkroom/v1/status").json()["head"])
        assert head == stranger + 1, "one deletion, and nothing else, was appended"
        refused(server.client.get(f"/api/v1/accounts/{loser}?min_position={head}"), 404, "id")
        assert server.client.get(f"/api/v1/accounts/{stranger}").json()["acct"] == str(stranger)
        found = server.client.get(f"/api/v1/accounts/lookup?acct={stranger}").json()
        assert found["id"] == str(stranger)
    with served(data) as server:
        assert int(server.client.get("/api/darkroom/v1/status").json()["head"]) == head, "it is settled once"
