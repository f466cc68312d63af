"""All servers together: posts, from an append to Kafka until they are in every view, and pages read from there

One process runs the gateway's part and two shards in threads, with Kafka, Cassandra, Neo4j and Redis of `make services`
on the same machine; its twin is the same process on the embedded default.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from confluent_kafka.admin import AdminClient

from benchmarks.measure import OURS, Row, percentile
from benchmarks.run import Bench
from benchmarks.running_servers import running
from benchmarks.worlds import Graph, append_all, follows, posts, power_law, registrations
from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.supervisor import Supervisor
from darkroom.gateway.composition import Darkroom
from darkroom.gateway.servers import Servers
from darkroom.gateway.settings import Settings, load_settings
from darkroom.projections import home_feed
from darkroom.projections.graph_adapters.neo4j_schema import drop_generation, generations
from darkroom.projections.home_feed import FeedEntry
from darkroom.projections.reading import Reading
from darkroom.projections.routing import Ids

TITLE = "All servers together"
NAMES = {"kafka": "topic", "cassandra": "keyspace", "neo4j": "namespace", "redis": "prefix"}
"""Of each server, what the setting is called that keeps ours apart from others'."""

SHARDS = 2
MEAN_FOLLOWS = 30
GROUP = 100
LIMIT = 20
POLL_S = 0.002
TIMEOUT_S = 60.0
EMBEDDED, PULLED = "embedded", "everybody a celebrity"


@dataclass(frozen=True)
class System:
    """One Darkroom whose shards are at work."""

    darkroom: Darkroom
    supervisor: Supervisor

    def append(self, authors: list[int]) -> float:
        """Append a post by each of them, in groups; how many seconds until all are readable."""
        began = perf_counter()
        for start in range(0, len(authors), GROUP):
            head = self.darkroom.log.append(list(posts(authors[start : start + GROUP])))[-1]
        while min(self.darkroom.readers.positions()) < head:
            time.sleep(POLL_S)
        return perf_counter() - began

    def page(self, user: int) -> list[FeedEntry]:
        def answer(reading: Reading) -> list[FeedEntry]:
            return home_feed.page(reading, user, limit=LIMIT, cache=self.darkroom.readers.cache)

        return self.darkroom.readers.read(answer)

    def times_ms(self, users: list[int]) -> tuple[float, float]:
        """(median, 99th percentile) of their pages."""
        times = []
        for user in users:
            began = perf_counter()
            self.page(user)
            times.append(1e3 * (perf_counter() - began))
        return percentile(times, 50), percentile(times, 99)


def rows(bench: Bench) -> Iterator[Row]:
    graph = power_law(bench.size(2_000, 200), MEAN_FOLLOWS)
    authors = np.random.default_rng(7).integers(1, graph.users + 1, bench.size(4_000, 400), dtype=np.uint64)
    with bench.folder() as folder, ExitStack() as stack:
        systems: dict[str, System] = {}
        for name, threshold in ((OURS, "never"), (PULLED, "0")):
            variables = stack.enter_context(on_servers())
            systems[name] = stack.enter_context(working(folder / name, variables, threshold, graph))
        systems[EMBEDDED] = stack.enter_context(working(folder / EMBEDDED, {}, "never", graph))
        yield _end_to_end(bench, systems, graph, authors)
        yield from _reading(bench, systems, graph)


def _end_to_end(bench: Bench, systems: dict[str, System], graph: Graph, authors: Ids) -> Row:
    count = len(graph.deliveries(authors)[0])
    values: dict[str, list[float]] = {OURS: [], EMBEDDED: []}
    for _ in range(bench.repeats):
        for name, rates in values.items():
            rates.append(count / systems[name].append(authors.tolist()))
        systems[PULLED].append(authors.tolist())
    followed = count // len(authors)
    return Row(
        name=f"posts in groups of {GROUP} until everybody can read them",
        unit="deliveries/s",
        values=values,
        notes=[f"{len(authors):,} posts a time, each delivered to {followed} in the mean: {count:,} deliveries"],
    )


def _reading(bench: Bench, systems: dict[str, System], graph: Graph) -> Iterator[Row]:
    """Whoever is read a second time is in the cache, and nobody is read in two repeats."""
    for user in range(1, 51):
        assert len({tuple(entry.post for entry in system.page(user)) for system in systems.values()}) == 1
    each = min(graph.users - 50, bench.size(1_500, 100)) // bench.repeats
    found: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(bench.repeats):
        users = list(range(51 + repeat * each, 51 + (repeat + 1) * each))
        for name, system in ((OURS, OURS), ("a hit in the cache", OURS), (PULLED, PULLED), (EMBEDDED, EMBEDDED)):
            found.setdefault(name, []).append(systems[system].times_ms(users))
    for index, part in enumerate(("p50", "p99")):
        yield Row(
            name=f"a page of {LIMIT}, posts and authors, not in the cache, {part}",
            unit="ms",
            values={name: [times[index] for times in pairs] for name, pairs in found.items()},
            checked="first pages of 50 people, pushed, pulled and embedded, are the same",
        )


@contextmanager
def on_servers() -> Iterator[dict[str, str]]:
    """The settings of a Darkroom with names of its own on every server; what it left there goes."""
    name, variables = f"bench_{uuid.uuid4().hex[:16]}", dict[str, str]()
    for (server, own), where in zip(NAMES.items(), running(*NAMES), strict=True):
        prefix = f"DARKROOM_{server.upper()}"
        variables[prefix] = ("bolt://" if server == "neo4j" else "") + f"{where['host']}:{where['port']}"
        variables[f"{prefix}_{own.upper()}"] = name
        if where["user"]:
            variables |= {f"{prefix}_USER": where["user"], f"{prefix}_PASSWORD": where["password"]}
    try:
        yield variables
    finally:
        _drop(load_settings({}, variables, None))


def _drop(settings: Settings) -> None:
    assert settings.kafka is not None
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    admin.delete_topics([settings.kafka_topic])[settings.kafka_topic].result(TIMEOUT_S)
    servers = Servers(settings, print, wait_s=TIMEOUT_S)
    assert servers.neo4j is not None
    assert servers.cassandra is not None
    for number in generations(servers.neo4j):
        drop_generation(servers.neo4j, number)
    servers.cassandra.define(f"DROP KEYSPACE {settings.cassandra_keyspace}")
    servers.close()


@contextmanager
def working(data: Path, variables: dict[str, str], threshold: str, graph: Graph) -> Iterator[System]:
    """With everybody registered and every follow folded."""
    variables = variables | {"DARKROOM_CELEBRITY_THRESHOLD": threshold, "DARKROOM_SHARDS": str(SHARDS)}
    settings = load_settings({"data": data}, variables, None)
    with Darkroom(settings, create=True, tell=print) as darkroom:
        append_all(darkroom.log, registrations(graph.users))
        append_all(darkroom.log, follows(graph))
        supervisor = darkroom.supervisor(InlineRuntime())
        try:
            supervisor.start()
            supervisor.catch_up()
            supervisor.run()
            yield System(darkroom, supervisor)
        finally:
            supervisor.close()
