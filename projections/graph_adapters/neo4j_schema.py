"""Generations in Neo4j: each is a label, with constraints and checkpoints of its own, and a node that names it.

That node is written last and deleted last, so that a generation is known for as long as anything is left of it. A
database with nodes that are no generation's is somebody else's, and refused before anything is written.
"""

from darkroom.projections.graph_adapters.neo4j_connection import Neo4j, Neo4jAddress, Row, Transaction
from darkroom.projections.routing import SHARDS_MAX
from darkroom.projections.store import StoreRefused

SCHEMA_VERSION = 1
DROP_ROWS, WINDOW_NODES = 10_000, 1_000
"""Nodes or relationships that are deleted in one transaction, and nodes that are looked at for it."""

_LOOKS = 5

_KNOWN = "MATCH (g:DarkroomGeneration {label: $label}) RETURN g.version, g.shards"
_STRANGER = """
MATCH (g:DarkroomGeneration) WITH collect(g.label) AS ours
MATCH (n) WHERE NOT n:DarkroomGeneration AND none(label IN labels(n) WHERE label IN ours)
RETURN labels(n) LIMIT 1
"""
_REGISTRY = "CREATE CONSTRAINT darkroom_generation IF NOT EXISTS FOR (g:DarkroomGeneration) REQUIRE g.label IS UNIQUE"
_ENTRY = """
MERGE (g:DarkroomGeneration {label: $label})
SET g.namespace = $namespace, g.number = $number, g.version = $version, g.shards = $shards
"""


class ForeignData(StoreRefused):
    """The database holds what Darkroom did not make. Nothing was written."""


class SchemaMismatch(StoreRefused):
    """The generation is of another version, or has another number of shards. Nothing was written."""


def label(address: Neo4jAddress, generation: int) -> str:
    """What every node of the generation bears: several Darkrooms may share a database, each with its namespace."""
    if generation < 0:
        raise ValueError(f"generation {generation} is below 0")
    return f"{address.namespace}_G{generation}"


def of_generation(cypher: str, address: Neo4jAddress, generation: int) -> str:
    """The statement with the generation's label where it says `:G`."""
    return cypher.replace(":G", f":{label(address, generation)}")


def create_generation(neo4j: Neo4j, generation: int, shards: int) -> None:
    """Make the generation, empty; one that is there is left as it is. ForeignData, SchemaMismatch."""
    if not 1 <= shards <= SHARDS_MAX:
        raise ValueError(f"shards is {shards}; it must be from 1 to {SHARDS_MAX}")
    if check_generation(neo4j, generation, shards):
        return
    check_ours(neo4j)
    its, namespace = label(neo4j.address, generation), neo4j.address.namespace
    for statement in (_REGISTRY, *_constraints(its)):
        _define(neo4j, statement)

    async def enter(transaction: Transaction) -> None:
        await transaction.run(
            _ENTRY, label=its, namespace=namespace, number=generation, version=SCHEMA_VERSION, shards=shards
        )
        await transaction.run(_checkpoints(its), shards=shards)

    neo4j.write(enter)


def check_generation(neo4j: Neo4j, generation: int, shards: int) -> bool:
    """Whether the generation is there. SchemaMismatch where it is not as this program would make it."""
    found = neo4j.run(_KNOWN, label=label(neo4j.address, generation))
    if not found:
        return False
    [(version, its_shards)] = found
    if version != SCHEMA_VERSION:
        raise SchemaMismatch(
            f"{neo4j.address}: generation {generation} is of schema version {version}, and this program's is"
            f" {SCHEMA_VERSION}. Run the program that made it, or rebuild into a new generation"
        )
    if its_shards != shards:
        raise SchemaMismatch(
            f"{neo4j.address}: generation {generation} has {its_shards} shards, and {shards} were named. Name"
            f" {its_shards}, or rebuild into a new generation"
        )
    return True


def drop_generation(neo4j: Neo4j, generation: int) -> None:
    """Delete all of the generation, in transactions of at most DROP_ROWS; go on where an earlier drop was interrupted.

    The checkpoints go first: whoever still publishes into the generation, or reads it, finds it lost.
    """
    its = label(neo4j.address, generation)
    neo4j.run(f"MATCH (c:{its}:Checkpoint) DELETE c")
    for first, last in _windows(neo4j, its):
        _repeat(neo4j, f"{_IN_WINDOW % its} MATCH (n)-[r]->() WITH r LIMIT $rows DELETE r", first=first, last=last)
    _repeat(neo4j, f"MATCH (n:{its}) WITH n LIMIT $rows DELETE n")
    for name in ("id", "name"):
        _define(neo4j, f"DROP CONSTRAINT darkroom_{its}_{name} IF EXISTS")
    neo4j.run("MATCH (g:DarkroomGeneration {label: $label}) DELETE g", label=its)


def generations(neo4j: Neo4j) -> list[int]:
    """The numbers of the namespace's generations that are there, or of which something is left."""
    known = "MATCH (g:DarkroomGeneration {namespace: $namespace}) RETURN g.number ORDER BY g.number"
    return [number for (number,) in neo4j.run(known, namespace=neo4j.address.namespace)]


_IN_WINDOW = "MATCH (n:%s) WHERE $first <= n.id <= $last"


def _windows(neo4j: Neo4j, its: str) -> list[tuple[int, int]]:
    """The first and last ids of so many nodes each: what is deleted is found by the index, not from the start."""
    windows: list[tuple[int, int]] = []
    next_window = (
        f"MATCH (n:{its}) WHERE n.id > $after WITH n.id AS id ORDER BY id LIMIT $nodes RETURN min(id), max(id)"
    )
    after = 0
    while True:
        [(first, last)] = neo4j.run(next_window, after=after, nodes=WINDOW_NODES)
        if last is None:
            return windows
        windows.append((first, last))
        after = last


def _define(neo4j: Neo4j, statement: str) -> None:
    """Change the schema; begun again where several do so at once, for their locks meet in any order."""
    neo4j.write(lambda transaction: transaction.run(statement))


def _repeat(neo4j: Neo4j, statement: str, **parameters: int) -> None:
    """Delete until nothing is left to."""
    while True:
        [(deleted,)] = neo4j.run(f"{statement} RETURN count(*)", rows=DROP_ROWS, **parameters)
        if deleted < DROP_ROWS:
            return


def check_ours(neo4j: Neo4j) -> None:
    """By counts, which are kept and cost nothing. Others may write meanwhile, so they are looked at more than once."""
    stranger: list[Row] = []
    for _ in range(_LOOKS):
        if not _uncounted(neo4j):
            return
    for _ in range(2):  # once more, for a generation may be entered between the two halves of the question
        stranger = neo4j.run(_STRANGER)
        if not stranger:
            return
    [(labels,)] = stranger
    raise ForeignData(
        f"{neo4j.address} holds other data: a node with {'the labels ' + ', '.join(labels) if labels else 'no label'}."
        " Name a database of Darkroom's own; it mixes with nothing else"
    )


def _uncounted(neo4j: Neo4j) -> int:
    """How many nodes are neither a generation's nor name one."""
    labels = [its for (its,) in neo4j.run("MATCH (g:DarkroomGeneration) RETURN g.label")]
    ours = ["DarkroomGeneration", *labels]
    counts = [f"CALL () {{ MATCH (n:{its}) RETURN count(n) AS c{place} }}" for place, its in enumerate(ours)]
    total = "CALL () { MATCH (n) RETURN count(n) AS nodes }"
    difference = " - ".join(["nodes", *(f"c{place}" for place in range(len(ours)))])
    [(nodes,)] = neo4j.run(f"{total} {' '.join(counts)} RETURN {difference}")
    return int(nodes)


def _constraints(its: str) -> list[str]:
    """Ids are positions of the log, so users, posts and comments of one generation never share one."""
    return [
        f"CREATE CONSTRAINT darkroom_{its}_{key} IF NOT EXISTS FOR (n:{its}) REQUIRE n.{key} IS UNIQUE"
        for key in ("id", "name")
    ]


def _checkpoints(its: str) -> str:
    return (
        f"UNWIND range(0, $shards - 1) AS shard MERGE (c:{its}:Checkpoint {{shard: shard}})"
        " ON CREATE SET c.position = 0, c.time_ms = 0"
    )
