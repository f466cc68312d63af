"""Generations in Cassandra for tests, in keyspaces of their own, read in small bites."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from publishing import OpenViews, Published
from services.keyspaces import own_keyspace
from services.services import Services

from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.view_adapters import cassandra as cassandra_views
from darkroom.projections.view_adapters import cassandra_among, cassandra_tables
from darkroom.projections.view_adapters.cassandra import CassandraViews
from darkroom.projections.view_adapters.cassandra_publisher import CassandraPublisher
from darkroom.projections.view_adapters.cassandra_tables import create_generation

GENERATION = 1

SMALL_READS = {
    "PROBED_BUCKETS_MAX": 2,
    "READ_BUCKETS_MAX": 3,
    "DIRECTORY_ROWS": 4,
    "OWNERS_MAX": 3,
    "KEYS_MAX": 4,
    "KEYS_OF_A_SLOT_MAX": 5,
    "READ_ENTRIES": 3,
    "FIRST_PAGES": 1,
    "FURTHER_PAGES": 2,
}


@contextmanager
def small_reads() -> Iterator[None]:
    """Buckets, pages and groups so small that a handful of rows needs several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cassandra_tables, "BROAD_BUCKET_BITS", 3)
        patch.setattr(cassandra_tables, "FEED_BUCKET_BITS", 3)
        for name, limit in SMALL_READS.items():
            patch.setattr(cassandra_views, name, limit)
        patch.setattr(cassandra_among, "OWNERS_MAX", 2)
        patch.setattr(cassandra_among, "FIRST_KEYS_MIN", 1)
        yield


def places(session: CassandraSession) -> OpenViews:
    """Each place is a shard of one generation."""
    create_generation(session, GENERATION)

    def open_views(number: int) -> Published:
        views = CassandraViews(session, GENERATION, number)
        return Published(CassandraPublisher(session, GENERATION, number), views)

    return open_views


@contextmanager
def cassandra(service: Services) -> Iterator[OpenViews]:
    with own_keyspace(service) as session, small_reads():
        yield places(session)
