"""One generation in the shared Neo4j, for the modules that try what is written there."""

from collections.abc import Iterator

import pytest
from graph_world import SHARDS, connected, emptied, neo4j_address, own_generation
from services.services import Address, Services

from darkroom.projections.graph_adapters.neo4j_connection import Neo4j


@pytest.fixture(scope="module")
def where(service: Services) -> Address:
    return service("neo4j")


@pytest.fixture(scope="module")
def neo4j(where: Address) -> Iterator[Neo4j]:
    with connected(neo4j_address(where)) as connection:
        yield connection


@pytest.fixture(scope="module")
def kept_generation(neo4j: Neo4j) -> Iterator[int]:
    with own_generation(neo4j, SHARDS) as generation:
        yield generation


@pytest.fixture
def generation(neo4j: Neo4j, kept_generation: int) -> int:
    """Empty, and nobody else's."""
    emptied(neo4j, kept_generation)
    return kept_generation
