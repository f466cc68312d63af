"""Generations whose views are on Cassandra, as readers ask for them."""

from contextlib import closing
from pathlib import Path

import pytest
from services.services import Services
from services.stack import own_stack

from darkroom.gateway.published_generations import PublishedGenerations
from darkroom.gateway.servers import Servers
from darkroom.gateway.settings import load_settings
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.effects import BucketSizes, Effects
from darkroom.projections.store import Checkpoint
from darkroom.projections.view_adapters.cassandra_publisher import CassandraPublisher

pytestmark = pytest.mark.services


def test_positions_are_asked_for_in_one_round(
    service: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        own_stack(service, "kafka", "neo4j", "redis") as variables,
        closing(Servers(load_settings({}, variables, None), print, wait_s=60)) as servers,
        monkeypatch.context() as patch,
    ):
        assert servers.cassandra is not None
        generation = PublishedGenerations(servers.cassandra, tmp_path).create(1, 3)
        publisher = CassandraPublisher(servers.cassandra, 1, 1)
        publisher.open(0)
        publisher.publish(Effects(lambda _: True, BucketSizes()), 0, Checkpoint(5, 1))
        publisher.reached(Checkpoint(5, 1))
        patch.setattr(CassandraSession, "scan", lambda *_: pytest.fail("one by one"))
        assert generation.positions() == [0, 5, 0]
