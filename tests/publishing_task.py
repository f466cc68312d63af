"""What a child process is told that publishes to all servers and is killed; it comes to the child as a pickle."""

from dataclasses import dataclass
from pathlib import Path

from histories import History

from darkroom.projections.cassandra_session import CassandraAddress
from darkroom.projections.graph_adapters.neo4j_connection import Neo4jAddress
from darkroom.projections.redis_link import RedisAddress


@dataclass(frozen=True)
class PublishingTask:
    """One shard of one, whose state lies at `path`; it dies at the moment with the number `moments`, if it comes."""

    history: History
    path: Path
    cassandra: CassandraAddress
    neo4j: Neo4jAddress
    redis: RedisAddress
    generation: int
    graph: int
    batch_events: int = 100
    moments: int = 0
