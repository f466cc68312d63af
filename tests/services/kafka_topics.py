"""Topics of a test's own on a real Kafka: named at random, and dropped at the end."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from services.services import Address

from darkroom.events.log_adapters.kafka_address import KafkaAddress

TIMEOUT_S = 30.0


def servers_of(where: Address) -> str:
    return f"{where['host']}:{where['port']}"


@contextmanager
def dropped_topic(where: Address, *, deadline_s: float = 10.0) -> Iterator[KafkaAddress]:
    """The address of a topic that is not there yet."""
    address = KafkaAddress(servers_of(where), f"test-{uuid.uuid4().hex}", deadline_s)
    try:
        yield address
    finally:
        drop(address)


def make(address: KafkaAddress, *, partitions: int = 1, settings: Mapping[str, str] | None = None) -> None:
    """The topic, as somebody else might have made it."""
    admin = AdminClient({"bootstrap.servers": address.servers, "log_level": 0})
    fit = {"flush.messages": "1", "retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
    config = fit | dict(settings or {})
    topic = NewTopic(address.topic, partitions, 1, config=config)
    admin.create_topics([topic])[address.topic].result(TIMEOUT_S)


def drop(address: KafkaAddress) -> None:
    admin = AdminClient({"bootstrap.servers": address.servers, "log_level": 0})
    try:
        admin.delete_topics([address.topic])[address.topic].result(TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
            raise
