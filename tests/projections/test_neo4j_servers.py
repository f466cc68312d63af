"""Generations in Neo4j, bad settings, and servers that hang, are killed and wiped: what is lost, and what is said."""

import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from graph_world import (
    EVERYTHING,
    SHARDS,
    GraphWorld,
    check_stored,
    connected,
    neo4j_address,
    own_generation,
    stored_edges,
)
from histories import seeded_history
from services.services import Address, control, own_folder, started
from waiting import until

from darkroom.projections.effects import ViewsLost
from darkroom.projections.graph_adapters import neo4j_schema
from darkroom.projections.graph_adapters.neo4j import Neo4jGraph
from darkroom.projections.graph_adapters.neo4j_connection import (
    Neo4j,
    Neo4jAddress,
    UnknownDatabase,
    open_neo4j,
)
from darkroom.projections.graph_adapters.neo4j_publisher import Neo4jPublisher
from darkroom.projections.graph_adapters.neo4j_schema import (
    ForeignData,
    SchemaMismatch,
    create_generation,
    drop_generation,
    generations,
)
from darkroom.projections.store import StoreUnavailable, WrongCredentials

pytestmark = pytest.mark.services


# Generations


def test_dropping_a_generation_leaves_the_others(neo4j: Neo4j, generation: int) -> None:
    history = seeded_history(6, 100)
    kept = GraphWorld(history, SHARDS, neo4j, generation)
    kept.catch_up()
    with own_generation(neo4j, 1) as dropped:
        GraphWorld(history, 1, neo4j, dropped).catch_up()
        assert stored_edges(neo4j, dropped) == stored_edges(neo4j, generation)
        drop_generation(neo4j, dropped)
        assert dropped not in generations(neo4j)
        assert neo4j.run(f"MATCH (n:darkroom_G{dropped}) RETURN n") == []
        assert _constraints(neo4j, dropped) == []
        drop_generation(neo4j, dropped)
    check_stored(kept)
    assert generation in generations(neo4j)


def test_a_large_generation_is_dropped_in_bounded_transactions(neo4j: Neo4j, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neo4j_schema, "DROP_ROWS", 7)
    monkeypatch.setattr(neo4j_schema, "WINDOW_NODES", 5)
    with own_generation(neo4j, SHARDS) as generation:
        GraphWorld(seeded_history(6, 200), SHARDS, neo4j, generation).catch_up()
        drop_generation(neo4j, generation)
        assert neo4j.run(f"MATCH (n:darkroom_G{generation}) RETURN n") == []


def test_making_a_generation_again_changes_nothing(neo4j: Neo4j, generation: int) -> None:
    world = GraphWorld(seeded_history(6, 60), SHARDS, neo4j, generation)
    world.catch_up()
    create_generation(neo4j, generation, SHARDS)
    check_stored(world)
    assert len(_constraints(neo4j, generation)) == 2


def test_a_generation_that_is_made_by_several_at_once_is_one(neo4j: Neo4j) -> None:
    with own_generation(neo4j, SHARDS) as generation:
        drop_generation(neo4j, generation)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: create_generation(neo4j, generation, SHARDS), range(4)))
        assert neo4j.run(f"MATCH (c:darkroom_G{generation}:Checkpoint) RETURN count(c)") == [(SHARDS,)]
        assert len(_constraints(neo4j, generation)) == 2


def test_another_version_or_number_of_shards_is_refused(neo4j: Neo4j) -> None:
    with own_generation(neo4j, SHARDS) as generation:
        with pytest.raises(SchemaMismatch, match=r"has 3 shards, and 4 were named"):
            create_generation(neo4j, generation, 4)
        neo4j.run("MATCH (g:DarkroomGeneration {number: $number}) SET g.version = 99", number=generation)
        with pytest.raises(SchemaMismatch, match=r"schema version 99, and this program's is 1"):
            create_generation(neo4j, generation, SHARDS)
        with pytest.raises(SchemaMismatch, match=r"schema version 99"):
            Neo4jPublisher(neo4j, generation, 0, SHARDS).open(0)


def _constraints(neo4j: Neo4j, generation: int) -> list[str]:
    rows = neo4j.run(
        "SHOW CONSTRAINTS YIELD name, labelsOrTypes WHERE $label IN labelsOrTypes RETURN name",
        label=f"darkroom_G{generation}",
    )
    return [name for (name,) in rows]


# Bad settings


def test_a_wrong_password_is_named_at_once(where: Address) -> None:
    address = neo4j_address(where, password="not-this-one")
    with pytest.raises(WrongCredentials, match=r"does not let in the user neo4j: mend user and password"):
        open_neo4j(address, wait_s=60, tell=pytest.fail)
    assert "not-this-one" not in repr(address)


def test_a_wrong_database_is_named_at_once(where: Address) -> None:
    with pytest.raises(UnknownDatabase, match=r"database nosuch: there is no such database"):
        open_neo4j(neo4j_address(where, database="nosuch"), wait_s=60, tell=pytest.fail)


def test_a_server_that_is_not_there_is_waited_for_aloud_and_not_for_ever() -> None:
    told: list[str] = []
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = Neo4jAddress(f"bolt://127.0.0.1:{nobody.getsockname()[1]}", "neo4j", "secret", deadline_s=2)
        with pytest.raises(StoreUnavailable, match=r"waited 1 s for it\. Is it running, and is this its address\?"):
            open_neo4j(address, wait_s=1, tell=told.append)
    [line] = told
    assert line.startswith("waiting up to 1 s: Neo4j at bolt://127.0.0.1:")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"uri": "http://here:7474"}, "uri must be one of bolt"),
        ({"uri": "bolt://"}, "uri must be one of bolt"),
        ({"uri": "bolt://me:secret@here:7687"}, "uri must not hold a user or a password"),
        ({"database": ""}, "database is empty"),
        ({"deadline_s": 0}, "deadline_s is 0; it must be above 0"),
    ],
)
def test_what_can_be_no_address_is_refused(fields: dict[str, Any], reason: str) -> None:
    good: dict[str, Any] = {"uri": "bolt://here:7687", "user": "neo4j", "password": "secret"}
    with pytest.raises(ValueError, match=reason):
        Neo4jAddress(**good | fields)


def test_an_address_travels_between_processes() -> None:
    address = Neo4jAddress("neo4j+s://here:7687", "neo4j", "secret")
    assert pickle.loads(pickle.dumps(address)) == address


# Servers of our own, which are stopped, killed and wiped


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server that is ours alone."""
    folder = own_folder(tmp_path_factory.mktemp("neo4j") / "services")
    started("neo4j", folder)
    yield folder
    control("stop", "neo4j", folder=folder)


@contextmanager
def on_own_server(folder: Path, **changes: Any) -> Iterator[Neo4j]:
    with connected(neo4j_address(started("neo4j", folder), **changes)) as neo4j:
        yield neo4j


def test_a_database_with_other_data_is_refused_and_left_as_it_is(own_server: Path) -> None:
    with on_own_server(own_server) as neo4j:
        for labels, told in ((":Film:G12", r"a node with the labels Film, G12\."), ("", r"a node with no label\.")):
            neo4j.run(f"CREATE (f{labels} {{title: 'Alien'}})")
            with pytest.raises(ForeignData, match=told):
                create_generation(neo4j, 12, 1)
            assert neo4j.run("MATCH (n) RETURN n.title") == [("Alien",)]
            assert neo4j.run("SHOW CONSTRAINTS YIELD name") == []
            neo4j.run("MATCH (n) DELETE n")
        create_generation(neo4j, 12, 1)
        neo4j.run("CREATE (f:Film)")
        with pytest.raises(ForeignData, match=r"the labels Film\."):
            create_generation(neo4j, 13, 1)
        neo4j.run("MATCH (f:Film) DELETE f")
        create_generation(neo4j, 13, 1)
        assert generations(neo4j) == [12, 13]
        drop_generation(neo4j, 12)
        drop_generation(neo4j, 13)


def test_a_server_that_hangs_is_an_error_by_the_deadline_and_is_asked_again(own_server: Path) -> None:
    with on_own_server(own_server) as patient, own_generation(patient, 1) as generation:
        world = GraphWorld(seeded_history(4, 120), 1, patient, generation)
        world.step(0, 40)
        with on_own_server(own_server, deadline_s=2.0) as neo4j:
            _when_it_answers(lambda: Neo4jGraph(neo4j, generation, 1).followers(1, EVERYTHING))
            process = started("neo4j", own_server)["process"]["pid"]
            os.kill(process, signal.SIGSTOP)
            try:
                for ask in (
                    lambda: Neo4jGraph(neo4j, generation, 1).followers(1, EVERYTHING),
                    lambda: Neo4jPublisher(neo4j, generation, 0, 1).open(40),
                ):
                    began = time.monotonic()
                    with pytest.raises(StoreUnavailable, match="gave no answer in 2 s"):
                        ask()
                    assert time.monotonic() - began < 20
            finally:
                os.kill(process, signal.SIGCONT)
            _when_it_answers(lambda: Neo4jPublisher(neo4j, generation, 0, 1).open(40))
        world.catch_up()
        check_stored(world)


def _when_it_answers(work: Callable[[], object]) -> None:
    """A server that goes on has much to catch up with first. Each attempt waits for its own deadline."""
    until(lambda: [work()], "an answer", meanwhile=StoreUnavailable)


def test_a_server_that_is_killed_while_it_is_written_to_loses_nothing(own_server: Path) -> None:
    history = seeded_history(9, 600, users=10)
    with on_own_server(own_server, deadline_s=5.0) as neo4j, own_generation(neo4j, 1) as generation:
        world = GraphWorld(history, 1, neo4j, generation, transaction_rows=20)
        for kill_at in (3, 9, 14):
            process = started("neo4j", own_server)["process"]["pid"]
            with suppress(StoreUnavailable):
                for step in range(kill_at + 5):
                    if step == kill_at:
                        threading.Timer(0.005, os.kill, (process, signal.SIGKILL)).start()
                    world.step(0, 9)
            with on_own_server(own_server):
                _when_it_answers(lambda: world.restart(0))
        world.catch_up()
        check_stored(world)


def test_a_server_that_is_wiped_is_developed_again(own_server: Path) -> None:
    history = seeded_history(4, 120)
    with on_own_server(own_server) as neo4j:
        create_generation(neo4j, 1, SHARDS)
        world = GraphWorld(history, SHARDS, neo4j, 1)
        world.catch_up()
        before = stored_edges(neo4j, 1)
    assert control("stop", "--wipe", "neo4j", folder=own_server)[0] == 0
    with on_own_server(own_server) as neo4j:
        with pytest.raises(ViewsLost, match="has no generation 1: make it, or rebuild into a new one"):
            Neo4jPublisher(neo4j, 1, 0, SHARDS).open(world.shards[0].position)
        create_generation(neo4j, 2, SHARDS)
        GraphWorld(history, SHARDS, neo4j, 2).catch_up()
        assert stored_edges(neo4j, 2) == before
