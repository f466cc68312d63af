"""A small Darkroom whose shards publish the graph into Neo4j, and the graph that the oracles beside them call for."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from oracle import Oracle
from services.services import Address
from world import World

from darkroom.actors.shard import Shard
from darkroom.events.facts import Event
from darkroom.projections.effects import Effects
from darkroom.projections.graph import Graph, Page
from darkroom.projections.graph_adapters.neo4j import Neo4jGraph
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j, Neo4jAddress, open_neo4j
from darkroom.projections.graph_adapters.neo4j_publisher import Neo4jPublisher
from darkroom.projections.graph_adapters.neo4j_schema import create_generation, drop_generation
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Checkpoint

ALL = 1_000_000
EVERYTHING, NEWEST = Page(ALL), Page(ALL, newest_first=True)
SHARDS, WAIT_S = 3, 60
SETTINGS = FoldSettings()

Edge = tuple[str, int, int, int | None]
"""(type, from, to, position)."""


def neo4j_address(where: Address, **changes: Any) -> Neo4jAddress:
    fields = {"uri": f"bolt://{where['host']}:{where['port']}", "user": where["user"], "password": where["password"]}
    return Neo4jAddress(**fields | {"deadline_s": 60.0} | changes)


@contextmanager
def connected(address: Neo4jAddress) -> Iterator[Neo4j]:
    neo4j = open_neo4j(address, wait_s=WAIT_S, tell=print)
    try:
        yield neo4j
    finally:
        neo4j.close()


@contextmanager
def own_generation(neo4j: Neo4j, shards: int) -> Iterator[int]:
    """A generation that nobody else has, dropped at the end."""
    generation = random.SystemRandom().randrange(10**9, 10**12)
    try:
        create_generation(neo4j, generation, shards)
        yield generation
    finally:
        drop_generation(neo4j, generation)


def emptied(neo4j: Neo4j, generation: int) -> None:
    """As it was when it was made; much quicker than dropping and making it."""
    neo4j.run(f"MATCH (n:darkroom_G{generation}) WHERE n.shard IS NULL DETACH DELETE n")
    neo4j.run(f"MATCH (c:darkroom_G{generation}:Checkpoint) SET c.position = 0, c.time_ms = 0")


class CrashingPublisher:
    """Publishes, and then dies as often as it is told to: what it published stays, and is committed by nobody."""

    def __init__(self, publisher: Neo4jPublisher) -> None:
        self.publisher = publisher
        self.crashes = 0

    def open(self, position: int) -> None:
        self.publisher.open(position)

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        self.publisher.publish(effects, expected, checkpoint)
        if self.crashes:
            self.crashes -= 1
            raise Crashed

    def reached(self, checkpoint: Checkpoint) -> None:
        self.publisher.reached(checkpoint)

    def close(self) -> None:
        self.publisher.close()


class Crashed(Exception):
    """Between what is published and what is committed."""


class GraphWorld(World):
    """A World whose shards publish into a generation of Neo4j, which must be empty."""

    def __init__(
        self,
        history: Sequence[tuple[int, Event]],
        shards: int,
        neo4j: Neo4j,
        generation: int,
        *,
        transaction_rows: int = 10_000,
    ) -> None:
        super().__init__(history, shards, SETTINGS)
        self.neo4j = neo4j
        self.generation = generation
        self.transaction_rows = transaction_rows
        self.publishers = [self._publisher(shard) for shard in range(shards)]
        for shard in range(shards):
            self.restart(shard, SETTINGS)

    def restart(self, shard: int, settings: FoldSettings | None = None) -> None:
        self.publishers[shard] = self._publisher(shard)
        self.shards[shard] = Shard(self.log, self.stores[shard], settings or self.settings, [self.publishers[shard]])

    def crash(self, shard: int, batch_events: int) -> None:
        """Publish a batch, die before it is committed, and be started again. The oracle goes with what is published."""
        self.publishers[shard].crashes = 1
        try:
            self.step(shard, batch_events)
        except Crashed:
            self.restart(shard)
        oracle = self.oracles[shard]
        for record in self.records[oracle.position : self.published(shard)]:
            oracle.apply(record)

    def published(self, shard: int) -> int:
        """Where the shard's checkpoint is in Neo4j: at its store's, or above it after a crash."""
        cypher = f"MATCH (c:darkroom_G{self.generation}:Checkpoint {{shard: $shard}}) RETURN c.position"
        [(position,)] = self.neo4j.run(cypher, shard=shard)
        return int(position)

    def graph(self, **settings: Any) -> Neo4jGraph:
        return Neo4jGraph(self.neo4j, self.generation, len(self.shards), **settings)

    def _publisher(self, shard: int) -> CrashingPublisher:
        return CrashingPublisher(
            Neo4jPublisher(self.neo4j, self.generation, shard, len(self.shards), transaction_rows=self.transaction_rows)
        )


def stored_edges(neo4j: Neo4j, generation: int) -> set[Edge]:
    rows = neo4j.run(f"MATCH (a:darkroom_G{generation})-[r]->(b) RETURN type(r), a.id, b.id, r.position")
    edges = [(kind, start, end, position) for kind, start, end, position in rows]
    assert len(edges) == len(set(edges)), "no relationship is there twice"
    return set(edges)


def stored_nodes(neo4j: Neo4j, generation: int) -> set[tuple[str, int]]:
    """(label, id) of the posts, comments and live users."""
    rows = neo4j.run(
        f"MATCH (n:darkroom_G{generation}) WHERE n.id IS NOT NULL AND (NOT n:User OR n.live) RETURN labels(n), n.id"
    )
    return {(next(label for label in labels if label != f"darkroom_G{generation}"), id) for labels, id in rows}


def named_users(neo4j: Neo4j, generation: int) -> dict[str, int]:
    return dict(neo4j.run(f"MATCH (u:darkroom_G{generation}:User) WHERE u.name IS NOT NULL RETURN u.name, u.id"))


def edges_called_for(world: World) -> set[Edge]:
    """Each as the shard knows it that writes it: follows as the follower's, the others as the post's author's."""
    edges: set[Edge] = set()
    for user in world.people():
        knower = world.knower(user)
        if not knower.live(user):
            continue
        edges |= {("FOLLOWS", user, followee, at) for followee, at in knower.users[user].following.items()}
        for post in knower.timeline(user):
            edges |= _post_edges(world, user, post)
    return edges


def _post_edges(world: World, author: int, post: int) -> set[Edge]:
    knower = world.knower(author)
    edges: set[Edge] = {("POSTED", author, post, None)}
    edges |= {("LIKES", liker, post, at) for liker, at in knower.posts[post].likes.items()}
    for id in knower.posts[post].comments:
        comment = knower.comments_ever[id]
        edges.add(("ON", id, post, None))
        if comment.live:
            edges.add(("WROTE", comment.user, id, None))
        if comment.in_reply_to is not None:
            edges.add(("REPLIES_TO", id, comment.in_reply_to, None))
    return edges


def nodes_called_for(world: World) -> set[tuple[str, int]]:
    nodes: set[tuple[str, int]] = set()
    for user in world.people():
        knower = world.knower(user)
        if knower.live(user):
            nodes.add(("User", user))
            nodes |= {("Post", post) for post in knower.timeline(user)}
            nodes |= {("Comment", id) for post in knower.timeline(user) for id in knower.posts[post].comments}
    return nodes


def check_graph(world: World, graph: Graph) -> None:
    """Every question answers as the oracles beside the shards say, wherever those are.

    Followers are answered either by the shards of those who follow, or by that of whom they follow.
    """
    people = [user for user in world.people() if world.knower(user).live(user)]
    lowest = min(oracle.position for oracle in world.oracles)
    for user in people:
        knower, at = world.knower(user), world.knower(user).position
        if isinstance(graph, Neo4jGraph):
            shown = [one for one in people if world.knower(one).users[one].following.get(user, ALL) <= lowest]
            assert graph.followers(user, EVERYTHING) == (lowest, shown)
        else:
            assert graph.followers(user, EVERYTHING) == (at, knower.followers(user))
        assert graph.following(user, EVERYTHING) == (at, knower.following(user))
        assert graph.posts(user, NEWEST) == (at, knower.timeline(user))
        for other in people:
            assert graph.posts_commented_on(user, other, NEWEST) == (at, knower.commented(user, other))
        for post in knower.timeline(user):
            assert graph.likers(post, user, EVERYTHING) == (at, knower.likers(post))
            assert graph.comments(post, user, EVERYTHING) == (at, knower.comments(post))


def check_stored(world: GraphWorld) -> None:
    """What lies in Neo4j, relationship by relationship."""
    assert stored_edges(world.neo4j, world.generation) == edges_called_for(world)
    assert stored_nodes(world.neo4j, world.generation) == nodes_called_for(world)


def oracle_at(world: World, position: int) -> Oracle:
    oracle = Oracle()
    for record in world.records[:position]:
        oracle.apply(record)
    return oracle
