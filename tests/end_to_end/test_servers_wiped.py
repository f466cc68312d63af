"""A store that was wiped, in whole or in part: shards notice, stand still and say `rebuild`, and that restores all."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from end_to_end.twins import caught_up, check_same, embedded_twin, opened, working
from services.services import Services
from services.stack import own_stack
from waiting import until

from darkroom.actors.standstill import ShardFaulted
from darkroom.actors.supervisor import no_progress
from darkroom.actors.worker import fault_of
from darkroom.events.facts import FeedViewed
from darkroom.gateway.composition import Darkroom
from darkroom.gateway.simulation import simulate
from darkroom.projections.graph_adapters import neo4j_schema
from darkroom.projections.store import StoreRefused
from darkroom.projections.view_adapters import cassandra_tables

pytestmark = pytest.mark.services

PEOPLE, EVENTS = 12, 300
SHARDS = 2
Wipe = Callable[[Darkroom], None]


@pytest.fixture(scope="module")
def stack(service: Services) -> Iterator[dict[str, str]]:
    with own_stack(service) as variables:
        yield variables


@pytest.fixture(scope="module")
def worlds(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Darkroom, Darkroom]]:
    """One on servers that is wiped again and again, and its embedded twin."""
    folder = tmp_path_factory.mktemp("wiped")
    with ExitStack() as opening:
        served = opening.enter_context(opened(folder / "served", stack))
        simulate(served.log, seed=7, users=PEOPLE, events=EVENTS, progress=no_progress)
        caught_up(served)
        yield served, opening.enter_context(embedded_twin(served.log, folder / "embedded"))


def tables(darkroom: Darkroom) -> list[str]:
    """The tables of the serving generation."""
    session = darkroom.servers.cassandra
    assert session is not None
    generation = darkroom.generations.pointer().generation
    return [cassandra_tables.table_name(session, table, generation) for table in cassandra_tables._TABLES]


def tables_are_emptied(darkroom: Darkroom) -> None:
    for table in tables(darkroom):
        darkroom.servers.cassandra.define(f"TRUNCATE {table}")  # type: ignore[union-attr]


def tables_are_dropped(darkroom: Darkroom) -> None:
    for table in tables(darkroom):
        darkroom.servers.cassandra.define(f"DROP TABLE {table}")  # type: ignore[union-attr]


def graph_is_deleted(darkroom: Darkroom) -> None:
    assert darkroom.servers.neo4j is not None
    neo4j_schema.drop_generation(darkroom.servers.neo4j, darkroom.generations.pointer().generation)


WIPES: dict[str, Wipe] = {
    "tables are emptied": tables_are_emptied,
    "tables are dropped": tables_are_dropped,
    "the graph is deleted": graph_is_deleted,
}


def faults(darkroom: Darkroom) -> list[str]:
    generation = darkroom.generations.pointer().generation
    return [fault_of(darkroom.directory.generations, generation, shard) or "" for shard in range(SHARDS)]


def say_rebuild(darkroom: Darkroom) -> bool:
    return all(fault.startswith("ViewsLost") and "rebuild" in fault.lower() for fault in faults(darkroom))


def appended(worlds: tuple[Darkroom, Darkroom]) -> None:
    """One more record in both logs."""
    for darkroom in worlds:
        darkroom.log.append([FeedViewed(user=1, newest=1)], [2**41])


@pytest.mark.soak
@pytest.mark.parametrize("wipe", WIPES)
def test_what_was_wiped_while_nobody_worked_is_noticed_and_rebuilt(
    worlds: tuple[Darkroom, Darkroom], wipe: str
) -> None:
    served, embedded = worlds
    WIPES[wipe](served)
    with working(served) as supervisor:
        until(lambda: say_rebuild(served), "shards say what to do")
        if wipe == "tables are emptied":  # otherwise positions cannot be read, or are not behind
            with pytest.raises(ShardFaulted, match=r"stands still at position .*(?i:rebuild)"):
                supervisor.catch_up()
        number = supervisor.rebuild(None)
    assert served.generations.pointer().generation == number
    check_same(served, embedded)


@pytest.mark.parametrize(
    "wipe", [wipe if wipe == "tables are emptied" else pytest.param(wipe, marks=pytest.mark.soak) for wipe in WIPES]
)
def test_what_is_wiped_under_shards_at_work_is_noticed_with_the_next_record(
    worlds: tuple[Darkroom, Darkroom], wipe: str
) -> None:
    served, embedded = worlds
    with working(served) as supervisor:
        appended(worlds)
        supervisor.catch_up()  # so they are at work
        WIPES[wipe](served)
        appended(worlds)
        until(lambda: say_rebuild(served), "shards say what to do")
        supervisor.rebuild(None)
    caught_up(embedded)
    check_same(served, embedded)


@pytest.mark.soak
def test_a_lost_keyspace_is_refused_by_name_and_made_anew_as_is_said(service: Services, tmp_path: Path) -> None:
    with own_stack(service) as stack:
        with opened(tmp_path / "served", stack) as served:
            simulate(served.log, seed=7, users=PEOPLE, events=EVENTS, progress=no_progress)
            caught_up(served)
            served.servers.cassandra.define(f"DROP KEYSPACE {stack['DARKROOM_CASSANDRA_KEYSPACE']}")  # type: ignore[union-attr]
            generations = served.directory.generations
        with pytest.raises(StoreRefused, match=re.escape(f"remove {generations} and run catch-up")):
            opened(tmp_path / "served", stack).__enter__()
        shutil.rmtree(generations)
        with opened(tmp_path / "served", stack) as served:
            caught_up(served)
            with embedded_twin(served.log, tmp_path / "embedded") as embedded:
                check_same(served, embedded)
