"""Generations in Neo4j, and bad settings: what is made, what is dropped, and what is said."""

import pickle
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from graph_world import (
    SHARDS,
    GraphWorld,
    check_stored,
    neo4j_address,
    own_generation,
    stored_edges,
)
from histories import seeded_history
from services.services import Address

from darkroom.projections.graph_adapters import neo4j_schema
from darkroom.projections.graph_adapters.neo4j_connection import (
    Neo4j,
    Neo4jAddress,
    UnknownDatabase,
    open_neo4j,
)
from darkroom.projections.graph_adapters.neo4j_publisher import Neo4jPublisher
from darkroom.projections.graph_adapters.neo4j_schema import (
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
