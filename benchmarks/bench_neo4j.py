"""Follows published into Neo4j, by one shard and by two at once

Every contender writes the same edges, skewed as real ones are, into an empty generation of its own. The loops of the
bare driver keep no checkpoint and compute nothing; the batched one is the best that was found.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import neo4j
import numpy as np

from benchmarks.measure import OURS, Aim, Measurement, Row, rate, turns
from benchmarks.run import Bench
from benchmarks.running_servers import running
from darkroom.projections.effects import BucketSizes, Change, Effects
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j, Neo4jAddress, open_neo4j
from darkroom.projections.graph_adapters.neo4j_publisher import Neo4jPublisher
from darkroom.projections.graph_adapters.neo4j_schema import create_generation, drop_generation
from darkroom.projections.store import Checkpoint
from darkroom.projections.tables import FOLLOWING

TITLE = "Neo4j"
BATCHES = {1_000: 20, 10_000: 5}
USERS = 20_000
SINGLE = 300
BATCHED, ONE_BY_ONE = "the bare driver, in batches", "the bare driver, one by one"
UNORDERED = "the bare driver, end points not in order"

_USERS = "UNWIND $users AS id MERGE (u:G:User {id: id})"
_FOLLOWS = (
    "UNWIND $rows AS row MATCH (a:G {id: row[0]}) MATCH (b:G {id: row[1]})"
    " MERGE (a)-[r:FOLLOWS]->(b) SET r.position = row[2]"
)
_FOLLOW = "MERGE (a:G:User {id: $a}) MERGE (b:G:User {id: $b}) MERGE (a)-[r:FOLLOWS]->(b) SET r.position = $position"
_UNORDERED = (
    "UNWIND $rows AS row MERGE (a:G:User {id: row[0]}) MERGE (b:G:User {id: row[1]})"
    " MERGE (a)-[r:FOLLOWS]->(b) SET r.position = row[2]"
)

Edge = tuple[int, int, int]
"""Follower, followee, position."""


def rows(bench: Bench) -> Iterator[Row]:
    (where,) = running("neo4j")
    address = Neo4jAddress(f"bolt://{where['host']}:{where['port']}", where["user"], where["password"], deadline_s=60)
    with ExitStack() as stack:
        connection = open_neo4j(address, wait_s=60, tell=print)
        stack.callback(connection.close)
        driver = neo4j.GraphDatabase.driver(address.uri, auth=(address.user, address.password))
        stack.callback(driver.close)
        for batch, batches in BATCHES.items():
            yield _one_shard(bench, connection, driver, batch, bench.size(batches, 2))
        yield _two_shards(bench, connection, driver, bench.size(20, 2))


def _edges(seed: int, count: int) -> list[Edge]:
    """By a power law: the first users are followed by many."""
    chance = np.random.default_rng(seed)
    followers = chance.integers(1, USERS + 1, count).tolist()
    followees = np.minimum(chance.pareto(0.5, count).astype(np.int64) + 1, USERS).tolist()
    return list(zip(followers, followees, range(1, count + 1), strict=True))


def _one_shard(bench: Bench, connection: Neo4j, driver: neo4j.Driver, batch: int, batches: int) -> Row:
    with ExitStack() as stack:
        targets = {name: _Target(stack, connection, driver, 1) for name in (OURS, BATCHED, ONE_BY_ONE)}
        seeds = {name: iter(range(1_000)) for name in targets}

        def measure(name: str, count: int, write: Callable[[list[Edge]], None]) -> float:
            edges = _edges(next(seeds[name]), count)
            return rate(count, lambda: write(edges))

        contenders: dict[str, Measurement] = {
            OURS: partial(measure, OURS, batch * batches, partial(targets[OURS].publish, 0, batch)),
            BATCHED: partial(measure, BATCHED, batch * batches, partial(targets[BATCHED].in_batches, batch)),
            ONE_BY_ONE: partial(measure, ONE_BY_ONE, SINGLE, targets[ONE_BY_ONE].one_by_one),
        }
        for name in (OURS, BATCHED):
            contenders[name]()  # the server plans each statement once
        values = turns(contenders, bench.repeats)
        same = targets[OURS].stored() == targets[BATCHED].stored()
        assert same, "the contenders stored different edges"
    return Row(
        name=f"publish follows, batches of {batch:,}",
        unit="edges/s",
        values=values,
        aims=[Aim(0.8, BATCHED), Aim(5, ONE_BY_ONE)],
        checked="the same edges are stored by both that write in batches",
    )


def _two_shards(bench: Bench, connection: Neo4j, driver: neo4j.Driver, batches: int) -> Row:
    batch = 1_000
    with ExitStack() as stack:
        targets = {name: _Target(stack, connection, driver, 2) for name in (OURS, UNORDERED)}
        seeds = {name: iter(range(1_000)) for name in targets}

        def measure(name: str, write: Callable[[int, list[Edge]], None]) -> float:
            halves = [_edges(next(seeds[name]), batch * batches) for _ in range(2)]
            with ThreadPoolExecutor(2) as threads:
                return rate(2 * batch * batches, lambda: list(threads.map(write, range(2), halves)))

        ours, unordered = targets[OURS], targets[UNORDERED]
        values = turns(
            {
                OURS: partial(measure, OURS, lambda shard, edges: ours.publish(shard, batch, edges)),
                UNORDERED: partial(measure, UNORDERED, lambda _, edges: unordered.unordered(batch, edges)),
            },
            bench.repeats,
        )
        transactions = 2 * batches * bench.repeats
        notes = [f"of {transactions} transactions, so many were begun again for a deadlock: {unordered.repeated}"]
    return Row(name=f"publish follows, two at once, batches of {batch:,}", unit="edges/s", values=values, notes=notes)


class _Target:
    """An empty generation, and the ways to write into it."""

    def __init__(self, stack: ExitStack, connection: Neo4j, driver: neo4j.Driver, shards: int) -> None:
        self._connection, self._driver = connection, driver
        self._generation = int(np.random.default_rng().integers(10**9, 10**12))
        create_generation(connection, self._generation, shards)
        stack.callback(drop_generation, connection, self._generation)
        self._publishers = [Neo4jPublisher(connection, self._generation, shard, shards) for shard in range(shards)]
        for publisher in self._publishers:
            publisher.open(0)
        self._positions = [0] * shards
        self.repeated = 0

    def publish(self, shard: int, batch: int, edges: list[Edge]) -> None:
        for start in range(0, len(edges), batch):
            effects = Effects(lambda _: True, BucketSizes())
            before = self._positions[shard]
            for place, (follower, followee, position) in enumerate(edges[start : start + batch], before + 1):
                effects.entries[FOLLOWING][follower, followee] = Change(place, (position,))
            self._positions[shard] += batch
            self._publishers[shard].publish(effects, before, Checkpoint(before + batch, 0))

    def in_batches(self, batch: int, edges: list[Edge]) -> None:
        with self._driver.session() as session:
            for start in range(0, len(edges), batch):
                session.execute_write(self._write_batch, edges[start : start + batch])

    def _write_batch(self, transaction: neo4j.ManagedTransaction, edges: list[Edge]) -> None:
        users = sorted({user for edge in edges for user in edge[:2]})
        transaction.run(self._of(_USERS), users=users).consume()
        transaction.run(self._of(_FOLLOWS), rows=[[*edge] for edge in edges]).consume()

    def one_by_one(self, edges: list[Edge]) -> None:
        with self._driver.session() as session:
            for follower, followee, position in edges:
                session.run(self._of(_FOLLOW), a=follower, b=followee, position=position).consume()

    def unordered(self, batch: int, edges: list[Edge]) -> None:
        with self._driver.session() as session:
            for start in range(0, len(edges), batch):
                attempts: list[int] = []
                session.execute_write(self._write_unordered, attempts, edges[start : start + batch])
                self.repeated += len(attempts) - 1

    def _write_unordered(self, transaction: neo4j.ManagedTransaction, attempts: list[int], edges: list[Edge]) -> None:
        attempts.append(1)
        transaction.run(self._of(_UNORDERED), rows=[[*edge] for edge in edges]).consume()

    def stored(self) -> set[tuple[int, int, int]]:
        label = f"darkroom_G{self._generation}"
        rows = self._connection.run(f"MATCH (a:{label})-[r:FOLLOWS]->(b) RETURN a.id, b.id, r.position")
        return {(follower, followee, position) for follower, followee, position in rows}

    def _of(self, cypher: str) -> str:
        return cypher.replace(":G", f":darkroom_G{self._generation}")
