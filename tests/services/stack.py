"""All servers together, as the settings of one Darkroom: names of its own in each, dropped at the end."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from services import kafka_topics
from services.services import Services

from darkroom.events.log_adapters.kafka_address import KafkaAddress
from darkroom.gateway.servers import Servers
from darkroom.gateway.settings import load_settings

WAIT_S = 60.0


@contextmanager
def own_stack(service: Services, *left_out: str) -> Iterator[dict[str, str]]:
    """The settings, as variables of the environment. What is `left_out` is embedded instead."""
    name = f"test_{uuid.uuid4().hex[:24]}"
    servers = [server for server in ("kafka", "cassandra", "neo4j", "redis") if server not in left_out]
    variables = {variable: value for server in servers for variable, value in _variables(service, server, name)}
    try:
        yield variables
    finally:
        _drop(variables)


def _variables(service: Services, server: str, name: str) -> Iterator[tuple[str, str]]:
    where = service(server)
    place = f"{where['host']}:{where['port']}"
    prefix = f"DARKROOM_{server.upper()}"
    yield prefix, f"bolt://{place}" if server == "neo4j" else place
    if where["user"]:
        yield f"{prefix}_USER", where["user"]
        yield f"{prefix}_PASSWORD", where["password"]
    yield f"{prefix}_{OWN_NAME[server]}", name


OWN_NAME = {"kafka": "TOPIC", "cassandra": "KEYSPACE", "neo4j": "NAMESPACE", "redis": "PREFIX"}


def _drop(variables: dict[str, str]) -> None:
    settings = load_settings({}, variables, None)
    if settings.kafka is not None:
        kafka_topics.drop(KafkaAddress(settings.kafka, settings.kafka_topic))
    servers = Servers(settings, print, wait_s=WAIT_S)
    try:
        if servers.neo4j is not None:
            from darkroom.projections.graph_adapters.neo4j_schema import drop_generation, generations

            for number in generations(servers.neo4j):
                drop_generation(servers.neo4j, number)
        if servers.cassandra is not None:
            servers.cassandra.define(f"DROP KEYSPACE {settings.cassandra_keyspace}")
    finally:
        servers.close()
