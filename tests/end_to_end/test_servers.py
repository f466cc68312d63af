"""One Darkroom on real servers against the same log in a directory of its own, and what several gateways share."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from commands_run import darkroom, listening
from end_to_end.twins import caught_up, check_same, embedded_twin, opened, working
from services.services import Services
from services.stack import own_stack

from darkroom.actors.supervisor import no_progress
from darkroom.gateway.simulation import simulate

pytestmark = pytest.mark.services

PEOPLE, EVENTS = 20, 600
PATIENT = {"DARKROOM_WRITE_WAIT_MS": "20000"}
"""For writes whose answer is wanted: the first ones meet shards that still open their views, on a busy machine."""


@pytest.fixture
def stack(service: Services) -> Iterator[dict[str, str]]:
    with own_stack(service) as variables:
        yield variables


def test_everything_is_served_as_the_embedded_default_does(stack: dict[str, str], tmp_path: Path) -> None:
    with opened(tmp_path / "served", stack) as served:
        head = simulate(served.log, seed=5, users=PEOPLE, events=EVENTS, progress=no_progress)
        assert caught_up(served) == head
        with embedded_twin(served.log, tmp_path / "embedded") as embedded:
            check_same(served, embedded)
            with working(served, starts=False) as supervisor:
                assert supervisor.rebuild(3) == 2
            check_same(served, embedded)
    # And through the command, whose settings come from outside.
    people = [str(user) for user in range(1, PEOPLE + 1)]
    for query in (("feed", "--json"), ("graph", "followers", "--json")):
        expected = darkroom(*query, *people, data=tmp_path / "embedded")
        assert expected.status == 0
        assert darkroom(*query, *people, data=tmp_path / "served", settings=stack) == expected


def test_two_gateways_share_everything_but_a_directory(stack: dict[str, str], tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    settings = stack | PATIENT
    serving = listening("serve", "--runtime", "inline", "--shards", "2", data=one / "data", settings=settings)
    with serving as (_, here), listening("gateway", data=other / "data", settings=settings) as (_, there):
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
