"""A Darkroom on servers and its embedded twin of the same log, in this process; what both serve, by digest."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.supervisor import Supervisor
from darkroom.events.data_directory import WorkLock
from darkroom.events.log import EventLog
from darkroom.gateway.composition import Darkroom
from darkroom.gateway.settings import load_settings
from darkroom.projections.digests import GRAPH_PROJECTIONS, Digests, Scope, digest, digest_graph
from darkroom.projections.generations import OpenGeneration
from darkroom.projections.graph import Graph
from darkroom.projections.reading import Reading

BLOCK_RECORDS = 10_000
RANGE_IDS = 64
DIGEST_IDS, DIGEST_THREADS = 512, 8
"""Servers are asked by several at once, each for a range of users."""


@contextmanager
def opened(data: Path, variables: dict[str, str] | None = None) -> Iterator[Darkroom]:
    """On the servers that the variables name, if any; none of them has to be waited for."""
    with Darkroom(load_settings({"data": data}, variables or {}, None), create=True, tell=pytest.fail) as darkroom:
        yield darkroom


@contextmanager
def working(darkroom: Darkroom, *, starts: bool = True) -> Iterator[Supervisor]:
    """A supervisor, with its shards in threads of this process."""
    lock = WorkLock(darkroom.directory, "a test")
    supervisor = darkroom.supervisor(InlineRuntime())
    try:
        if starts:
            supervisor.start()
        yield supervisor
    finally:
        supervisor.close()
        lock.close()


def caught_up(darkroom: Darkroom) -> int:
    """Bring the shards to the log's head."""
    with working(darkroom) as supervisor:
        return supervisor.catch_up()


def copy_log(source: EventLog, target: EventLog) -> None:
    """With log time, the running maximum: recorded times may go back, which no append may."""
    position, time_ms = target.head(), 0
    while records := source.read(position, BLOCK_RECORDS):
        times_ms = [time_ms := max(time_ms, record.time_ms) for record in records]
        target.append([record.event for record in records], times_ms)
        position = records[-1].position


@contextmanager
def embedded_twin(source: EventLog, data: Path) -> Iterator[Darkroom]:
    """A fold of the same log in a directory of its own."""
    with opened(data) as twin:
        copy_log(source, twin.log)
        caught_up(twin)
        yield twin


@contextmanager
def serving(darkroom: Darkroom) -> Iterator[OpenGeneration]:
    generation = darkroom.generations.open_serving()
    assert generation is not None
    try:
        yield generation
    finally:
        generation.close()


def digests(darkroom: Darkroom) -> Digests:
    """Of the views that it serves."""
    with serving(darkroom) as generation, ThreadPoolExecutor(DIGEST_THREADS) as threads:
        ids = range(max(generation.positions()) + 1)
        parts = [ids[start : start + DIGEST_IDS] for start in range(0, len(ids), DIGEST_IDS)]
        first, *others = threads.map(lambda part: digest(generation.views, part, range_ids=RANGE_IDS), parts)
    for other in others:
        first.merge(other)
    return first


def graph_digests(darkroom: Darkroom, scope: Scope) -> Digests:
    """Of the graph that it answers from, be it on Neo4j."""
    with serving(darkroom) as generation:

        @contextmanager
        def graph() -> Iterator[Graph]:
            with Reading(generation.views, generation=generation.number) as reading:
                yield darkroom.readers.graph(reading)

        return digest_graph(graph, generation.views, scope)


def check_same(served: Darkroom, embedded: Darkroom) -> Digests:
    """Every projection of both, and the graph."""
    expected = digests(embedded)
    differences = digests(served).differences(expected)
    assert not differences, "\n".join(map(str, differences[:5]))
    assert expected.total("posts").rows, "nothing was compared"
    others = graph_digests(served, expected.scope).differences(expected, GRAPH_PROJECTIONS)
    assert not others, "\n".join(map(str, others[:5]))
    return expected
