"""The graph as Neo4j has it. The checkpoints are read before the rows, in one transaction: so the rows are of that
position or later, and what they show of later is left out.

Followers are written by the shards of those who follow, so that question concerns all shards; every other concerns one.
"""

from collections.abc import Collection
from typing import Any

from darkroom.projections.effects import ViewsLost
from darkroom.projections.graph import Found, Page, id_or_nobody
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j, Transaction
from darkroom.projections.graph_adapters.neo4j_schema import of_generation
from darkroom.projections.reading import Behind, Lagging, never_lagging
from darkroom.projections.routing import shard_of

_CHECKPOINTS = "MATCH (c:G:Checkpoint) WHERE c.shard IN $shards RETURN c.shard, c.position"

_FOLLOWERS = """
MATCH (x:G {id: $user})<-[r:FOLLOWS]-(n) WHERE x.live AND r.position <= $position AND $above < n.id < $below
RETURN n.id AS id
"""
_FOLLOWING = """
MATCH (x:G {id: $user})-[r:FOLLOWS]->(n) WHERE r.position <= $position AND $above < n.id < $below
RETURN n.id AS id
"""
_POSTS = """
MATCH (y:G {id: $author})-[:POSTED]->(p) WHERE p.id <= $position AND $above < p.id < $below
RETURN p.id AS id
"""
_POSTS_COMMENTED_ON = """
MATCH (y:G {id: $author})-[:POSTED]->(p)<-[:ON]-(c)<-[:WROTE]-(x:G {id: $commenter})
WHERE c.id <= $position AND $above < p.id < $below
RETURN DISTINCT p.id AS id
"""
_LIKERS = """
MATCH (y:G {id: $author})-[:POSTED]->(p:G {id: $post})<-[r:LIKES]-(n)
WHERE r.position <= $position AND $above < n.id < $below
RETURN n.id AS id
"""
_COMMENTS = """
MATCH (y:G {id: $author})-[:POSTED]->(p:G {id: $post})<-[:ON]-(c)<-[:WROTE]-()
WHERE c.id <= $position AND $above < c.id < $below
RETURN c.id AS id
"""


class Neo4jGraph:
    """See `Graph`. With `min_position` every shard concerned must have reached it, and none is left out as lagging."""

    def __init__(
        self,
        neo4j: Neo4j,
        generation: int,
        shards: int,
        *,
        min_position: int = 0,
        lagging: Lagging = never_lagging,
    ) -> None:
        self._neo4j = neo4j
        self._generation = generation
        self._shards = shards
        self._min_position = min_position
        self._is_lagging = lagging
        self._lagging: set[int] = set()

    @property
    def lagging(self) -> set[int]:
        return self._lagging

    def followers(self, user: int, page: Page) -> Found:
        return self._page(range(self._shards), _FOLLOWERS, page, user=id_or_nobody(user))

    def following(self, user: int, page: Page) -> Found:
        return self._page(self._shard(user), _FOLLOWING, page, user=id_or_nobody(user))

    def posts(self, author: int, page: Page) -> Found:
        return self._page(self._shard(author), _POSTS, page, author=id_or_nobody(author))

    def posts_commented_on(self, author: int, commenter: int, page: Page) -> Found:
        pair = {"author": id_or_nobody(author), "commenter": id_or_nobody(commenter)}
        return self._page(self._shard(author), _POSTS_COMMENTED_ON, page, **pair)

    def likers(self, post: int, author: int, page: Page) -> Found:
        return self._page(self._shard(author), _LIKERS, page, post=id_or_nobody(post), author=id_or_nobody(author))

    def comments(self, post: int, author: int, page: Page) -> Found:
        return self._page(self._shard(author), _COMMENTS, page, post=id_or_nobody(post), author=id_or_nobody(author))

    def _shard(self, user: int) -> Collection[int]:
        return [shard_of(user, self._shards)]

    def _page(self, shards: Collection[int], cypher: str, page: Page, **of: Any) -> Found:
        order = "DESC" if page.newest_first else "ASC"
        statement = f"{of_generation(cypher, self._neo4j.address, self._generation)} ORDER BY id {order} LIMIT $limit"
        bounds = page.within_ids()._asdict()

        async def work(transaction: Transaction) -> Found:
            checkpoints = await transaction.run(
                of_generation(_CHECKPOINTS, self._neo4j.address, self._generation), shards=list(shards)
            )
            position = self._position(len(shards), dict(checkpoints))
            rows = await transaction.run(statement, position=position, **bounds, **of)
            return Found(position, [id for (id,) in rows])

        return self._neo4j.read(work)

    def _position(self, shards: int, positions: dict[int, int]) -> int:
        """The lowest position of those that do not lag; where all lag, of all."""
        if len(positions) < shards:
            raise ViewsLost(f"{self._neo4j.address}: generation {self._generation} is not there, or not whole: rebuild")
        counted = []
        for shard, position in positions.items():
            if position < self._min_position:
                raise Behind(shard, position, self._min_position)
            if not self._min_position and self._is_lagging(shard, position):
                self._lagging.add(shard)
            else:
                counted.append(position)
        return min(counted or positions.values())
