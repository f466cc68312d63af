"""`status` beside servers that do not answer: at once, by name, with all that the others know."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from commands_run import darkroom, done, lines, refused, registered
from services.services import Services
from services.stack import own_stack

from darkroom.gateway.composition import Darkroom
from darkroom.gateway.servers import Servers
from darkroom.gateway.settings import load_settings
from darkroom.projections.graph_adapters.neo4j_schema import drop_generation

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def stack(service: Services) -> Iterator[dict[str, str]]:
    with own_stack(service) as variables:
        yield variables


@pytest.fixture(scope="module")
def data(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("status") / "data"
    done("log", "append", "-", data=data, stdin=lines(*registered("carol")), settings=stack)
    done("catch-up", "--shards", "1", data=data, settings=stack)
    (data / "generations" / "000001" / "shard-0000" / "fault").write_text("FoldFailed: position 7")
    return data


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{nobody.getsockname()[1]}"


@pytest.mark.parametrize(
    ("server", "head", "position"),
    [("kafka", None, 1), ("cassandra", 1, None), ("neo4j", 1, 1), ("redis", 1, 1)],
)
def test_what_does_not_answer_is_named_and_the_rest_told(
    stack: dict[str, str], data: Path, nowhere: str, server: str, head: int | None, position: int | None
) -> None:
    variables = stack | {f"DARKROOM_{server.upper()}": f"bolt://{nowhere}" if server == "neo4j" else nowhere}
    said = darkroom("status", "--json", data=data, settings=variables | {"DARKROOM_SERVICE_WAIT_S": "3600"})
    assert (said.status, said.errors) == (1, "")
    told = said.object
    assert list(told["silent"]) == [server]
    assert nowhere in told["silent"][server]
    assert told["head"] == head
    [shard] = told["shards"]
    assert (shard["position"], shard["fault"]) == (position, "FoldFailed: position 7")


def test_where_all_answer_nothing_is_silent(stack: dict[str, str], data: Path) -> None:
    told = darkroom("status", "--json", data=data, settings=stack)
    assert (told.status, told.object["silent"], told.object["head"]) == (0, {}, 1)


def test_whose_a_graph_is_is_noted_once(stack: dict[str, str], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkroom.projections.graph_adapters.neo4j_connection import Neo4j

    monkeypatch.setattr(Neo4j, "write", lambda *_: pytest.fail("a reader wrote"))
    Darkroom(load_settings({"data": data}, stack, None)).close()


def test_catching_up_says_which_shard_has_lost_its_graph(service: Services, tmp_path: Path) -> None:
    with own_stack(service, "kafka", "redis") as variables:
        done("log", "append", "-", data=tmp_path / "data", stdin=lines(*registered("dave")), settings=variables)
        done("catch-up", "--shards", "1", data=tmp_path / "data", settings=variables)
        with closing(Servers(load_settings({}, variables, None), print, wait_s=60)) as servers:
            assert servers.neo4j is not None
            drop_generation(servers.neo4j, 1)
        line = refused("catch-up", data=tmp_path / "data", settings=variables)
        assert line.startswith("shard 0 stands still at position 1: ViewsLost: ")
