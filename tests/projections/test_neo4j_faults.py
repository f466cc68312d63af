"""Neo4j that hangs, is killed and wiped, or has other data: what is lost, and what is said."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
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
from services.services import control, own_folder, started
from waiting import until

from darkroom.projections.effects import ViewsLost
from darkroom.projections.graph_adapters.neo4j import Neo4jGraph
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j
from darkroom.projections.graph_adapters.neo4j_publisher import Neo4jPublisher
from darkroom.projections.graph_adapters.neo4j_schema import (
    ForeignData,
    create_generation,
    drop_generation,
    generations,
)
from darkroom.projections.store import StoreUnavailable

pytestmark = [pytest.mark.services, pytest.mark.own_servers]


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


@pytest.mark.parametrize("kills_at", [(9,), pytest.param((3, 9, 14), marks=pytest.mark.soak)], ids=str)
def test_a_server_that_is_killed_while_it_is_written_to_loses_nothing(
    own_server: Path, kills_at: tuple[int, ...]
) -> None:
    history = seeded_history(9, 600, users=10)
    with on_own_server(own_server, deadline_s=5.0) as neo4j, own_generation(neo4j, 1) as generation:
        world = GraphWorld(history, 1, neo4j, generation, transaction_rows=20)
        for kill_at in kills_at:
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


@pytest.mark.soak
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
