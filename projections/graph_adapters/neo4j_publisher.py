"""Publishes a shard's part of the graph into Neo4j: its effects and its checkpoint, together.

Every relationship, and every property and deletion of a node, is one shard's alone, and end points are merged: so
shards at different positions never lose or revive anything of each other's. A user's node is never deleted, for other
shards' relationships may still hang on it. What is above the checkpoint may be there already, and is written again.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from darkroom.projections.effects import Change, Effects, ViewsLost
from darkroom.projections.engagement import CommentRow
from darkroom.projections.graph_adapters.neo4j_connection import Neo4j, Transaction
from darkroom.projections.graph_adapters.neo4j_schema import check_generation, of_generation
from darkroom.projections.routing import shard_of
from darkroom.projections.store import Checkpoint, Superseded
from darkroom.projections.tables import COMMENTS, FOLLOWING, LIKERS, NAMES, PROFILES, TIMELINES

TRANSACTION_ROWS = 10_000
"""Rows in one transaction, which Neo4j holds in its heap until it is committed: some 1 KB each."""

Row = list[Any]
_Ids = Callable[[Row], tuple[int, ...]]


class _Kind(NamedTuple):
    """One UNWIND statement, and the users who are end points in a row of it."""

    cypher: str
    users: _Ids


class _Edit(NamedTuple):
    kind: _Kind
    rows: list[Row]


def _kind(body: str, *columns: int) -> _Kind:
    return _Kind(f"UNWIND $rows AS row {body}", lambda row: tuple(row[column] for column in columns))


_USER = "MATCH (u:G {id: row[0]})"
_TWO_USERS = "MATCH (a:G {id: row[0]}) MATCH (b:G {id: row[1]})"
_POST = "MERGE (p:G:Post {id: row[1]})"
_COMMENT = "MERGE (c:G:Comment {id: row[0]})"

_REGISTERED = _kind(f"{_USER} SET u.live = true", 0)
_LEFT = _kind(f"{_USER} REMOVE u.live", 0)
_NAMED = _kind(f"{_USER} SET u.name = row[1]", 0)
_UNFOLLOWED = _kind(f"{_TWO_USERS} MATCH (a)-[r:FOLLOWS]->(b) DELETE r", 0, 1)
_FOLLOWED = _kind(f"{_TWO_USERS} MERGE (a)-[r:FOLLOWS]->(b) SET r.position = row[2]", 0, 1)
_UNLIKED = _kind(f"{_USER} MATCH (p:G {{id: row[1]}}) MATCH (u)-[r:LIKES]->(p) DELETE r", 0)
_LIKED = _kind(f"{_USER} {_POST} MERGE (u)-[r:LIKES]->(p) SET r.position = row[2]", 0)
_POSTED = _kind(f"{_USER} {_POST} MERGE (u)-[:POSTED]->(p)", 0)
_COMMENTED = _kind(f"MATCH (u:G {{id: row[2]}}) {_POST} {_COMMENT} MERGE (u)-[:WROTE]->(c) MERGE (c)-[:ON]->(p)", 2)
_BURIED = _kind(f"{_POST} {_COMMENT} MERGE (c)-[:ON]->(p) WITH c MATCH (c)<-[r:WROTE]-() DELETE r", 2)
_REPLIED = _kind(f"{_COMMENT} MERGE (to:G:Comment {{id: row[1]}}) MERGE (c)-[:REPLIES_TO]->(to)")
_COMMENT_GONE = _kind("MATCH (c:G:Comment {id: row[0]}) DETACH DELETE c")
_POST_GONE = _kind("MATCH (p:G:Post {id: row[1]}) DETACH DELETE p", 0)

# The end points are locked in the order of their ids: shards that lock the same in different orders wait for each
# other in a circle. A lock is taken by removing a property, even one that users do not have.
_END_POINTS = "UNWIND $users AS id MERGE (u:G:User {id: id}) REMOVE u.position"

_FIND = "MATCH (c:G:Checkpoint {shard: $shard}) REMOVE c.id RETURN c.position"
_MOVE = "MATCH (c:G:Checkpoint {shard: $shard}) SET c.position = $position, c.time_ms = $time_ms"


class Neo4jPublisher:
    """See `Publisher`. One shard of one generation; the connection is closed by whoever opened it."""

    def __init__(
        self, neo4j: Neo4j, generation: int, shard: int, shards: int, *, transaction_rows: int = TRANSACTION_ROWS
    ) -> None:
        self._neo4j = neo4j
        self._generation = generation
        self._shard = shard
        self._shards = shards
        self._transaction_rows = transaction_rows
        self._reached = 0
        """Where the checkpoint was when it was last looked at: at the shard's position, or above it."""

    def open(self, position: int) -> None:
        if not check_generation(self._neo4j, self._generation, self._shards):
            raise ViewsLost(
                f"{self._neo4j.address} has no generation {self._generation}: make it, or rebuild into a new one"
            )
        self._reached = self._neo4j.write(self._find)
        if self._reached < position:
            raise ViewsLost(f"{self._where()} is at position {self._reached}, and {position} is committed: rebuild")

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        """In several transactions if need be, of which only the last moves the checkpoint.

        Those before it write what lies above the checkpoint, where no reader looks; a crash leaves it to be written
        again. They cannot move the checkpoint part of the way: effects have only the last change of each row.
        """
        assert expected <= self._reached, f"opened at {self._reached}, asked to go on from {expected}"
        if checkpoint.position <= self._reached:
            return
        pieces = list(_cut(_edits(effects, self._reached, self._serves), self._transaction_rows)) or [[]]
        for piece in pieces[:-1]:
            self._write(piece, checkpoint, moves=False)
        self._write(pieces[-1], checkpoint, moves=True)
        self._reached = checkpoint.position

    def reached(self, checkpoint: Checkpoint) -> None:
        """Readers learn it from the checkpoint."""

    def close(self) -> None:
        """Nothing is held."""

    def _write(self, piece: list[_Edit], checkpoint: Checkpoint, *, moves: bool) -> None:
        users = sorted({user for kind, rows in piece for row in rows for user in kind.users(row)})

        async def work(transaction: Transaction) -> None:
            found = await self._find(transaction)
            if moves and found == checkpoint.position:
                return  # an attempt whose commit was not answered
            self._check(found)
            await transaction.run(self._of(_END_POINTS), users=users)
            for kind, rows in piece:
                await transaction.run(self._of(kind.cypher), rows=rows)
            if moves:
                where = {"position": checkpoint.position, "time_ms": checkpoint.time_ms}
                await transaction.run(self._of(_MOVE), shard=self._shard, **where)

        self._neo4j.write(work)

    def _serves(self, user: int) -> bool:
        return shard_of(user, self._shards) == self._shard

    def _of(self, cypher: str) -> str:
        return of_generation(cypher, self._neo4j.address, self._generation)

    async def _find(self, transaction: Transaction) -> int:
        """The position of the checkpoint, which stays locked until the transaction ends."""
        found = await transaction.run(self._of(_FIND), shard=self._shard)
        if not found:
            raise ViewsLost(f"{self._where()} has no checkpoint: rebuild")
        [(position,)] = found
        return int(position)

    def _check(self, found: int) -> None:
        if found < self._reached:
            raise ViewsLost(f"{self._where()} fell from position {self._reached} to {found}: rebuild")
        if found > self._reached:
            raise Superseded(f"{self._where()}: expected position {self._reached}, found {found}")

    def _where(self) -> str:
        return f"{self._neo4j.address}: generation {self._generation}, shard {self._shard}"


def _edits(effects: Effects, above: int, serves: Callable[[int], bool]) -> list[_Edit]:
    """What the changes above the position ask for; what goes, before what comes."""
    edits = [*_users(effects, above, serves), *_follows(effects, above), *_engagement(effects, above)]
    return [edit for edit in edits if edit.rows]


def _users(effects: Effects, above: int, serves: Callable[[int], bool]) -> list[_Edit]:
    """Every shard tells that a user is gone, and may do so before the user's own is there."""
    told = [(_id(key), value) for key, value in _above(effects.rows.get(PROFILES, {}), above)]
    profiles = [(user, value) for user, value in told if serves(user)]
    names = [[_id(value), key.decode()] for key, value in _above(effects.rows.get(NAMES, {}), above)]
    return [
        _Edit(_LEFT, sorted([user] for user, value in profiles if value is None)),
        _Edit(_REGISTERED, sorted([user] for user, value in profiles if value is not None)),
        _Edit(_NAMED, sorted(names)),
    ]


def _follows(effects: Effects, above: int) -> list[_Edit]:
    gone, come = _parted(effects.entries[FOLLOWING], above)
    return [_Edit(_UNFOLLOWED, gone), _Edit(_FOLLOWED, come)]


def _engagement(effects: Effects, above: int) -> list[_Edit]:
    unliked, liked = _parted(effects.entries[LIKERS], above)
    posts_gone, posts = _parted(effects.entries[TIMELINES], above)
    gone, live, buried, replies = _comments(effects.rows.get(COMMENTS, {}), above)
    return [
        _Edit(_UNLIKED, sorted([user, post] for post, user in unliked)),
        _Edit(_COMMENT_GONE, gone),
        _Edit(_POST_GONE, posts_gone),
        _Edit(_POSTED, posts),
        _Edit(_LIKED, sorted([user, post, position] for post, user, position in liked)),
        _Edit(_COMMENTED, live),
        _Edit(_BURIED, buried),
        _Edit(_REPLIED, replies),
    ]


def _comments(rows: dict[bytes, Change], above: int) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """Those without a row; (comment, post, writer) of the live and of the tombstones; (comment, replied to)."""
    gone: list[Row] = []
    live: list[Row] = []
    buried: list[Row] = []
    replies: list[Row] = []
    for key, value in sorted(_above(rows, above)):
        comment = _id(key)
        if value is None:
            gone.append([comment])
            continue
        row = _decode_comment(value)
        (live if row.event else buried).append([comment, row.post, row.user])
        if row.in_reply_to is not None:
            replies.append([comment, row.in_reply_to])
    return gone, live, buried, replies


def _parted(entries: dict[tuple[int, int], Change], above: int) -> tuple[list[Row], list[Row]]:
    """(owner, key) of what is gone, and (owner, key, *words) of what is there, sorted."""
    gone: list[Row] = []
    come: list[Row] = []
    for place, words in sorted(_above(entries, above)):
        if words is None:
            gone.append([*place])
        else:
            come.append([*place, *words])
    return gone, come


def _above(changes: dict[Any, Change], above: int) -> Iterator[tuple[Any, Any]]:
    return ((place, change.value) for place, change in changes.items() if change.position > above)


def _cut(edits: Iterable[_Edit], rows_max: int) -> Iterator[list[_Edit]]:
    """The edits in order, in pieces of at most so many rows."""
    rows = ((kind, row) for kind, edit_rows in edits for row in edit_rows)
    while piece := list(islice(rows, rows_max)):
        merged: list[_Edit] = []
        for kind, row in piece:
            if not merged or merged[-1].kind is not kind:
                merged.append(_Edit(kind, []))
            merged[-1].rows.append(row)
        yield merged


def _id(key: bytes) -> int:
    return int.from_bytes(key, "big")


_decode_comment = msgspec.msgpack.Decoder(CommentRow).decode
