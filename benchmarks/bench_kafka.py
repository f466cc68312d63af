"""The log on Kafka: appending in groups and by many writers, and copying to the node and reading there

The loops of the bare client send, receive and store the same bytes as Darkroom, but know nothing of a lost
acknowledgement, of a group that another process cut in two, or of a topic that was made again. While appending is
measured nobody copies.
"""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.bench_append import append_together, likes
from benchmarks.measure import OURS, Aim, Measurement, Row, percentile, rate, turns
from benchmarks.run import Bench
from benchmarks.running_servers import running
from darkroom.events.codec import Codec, encode
from darkroom.events.facts import Event, Recorded
from darkroom.events.log_adapters.kafka import KafkaAddress, KafkaEventLog
from darkroom.events.log_adapters.kafka_mirror import try_lock
from darkroom.events.log_adapters.kafka_records import body_of, messages_of, new_name
from darkroom.events.log_adapters.lmdb import rows_of

TITLE = "Kafka"
ROUNDS = {1: 500, 100: 200, 1_000: 100}
WRITERS = 16
RECORDS = 500_000
PAGE = 5_000
MAP_BYTES = 4 << 30
TIMEOUT_S = 60.0
BARE, ONE_BY_ONE = "the bare client, a flush a group", "the bare client, a flush an event"
ENCODING = "the bare client, encoding too"
CHECKED, STORED = "the bare client, checked and kept nowhere", "the bare client, checked and stored with LMDB"
DECODED = "the bare client, checked, stored with LMDB and decoded"


def rows(bench: Bench) -> Iterator[Row]:
    (where,) = running("kafka")
    servers = f"{where['host']}:{where['port']}"
    for group, rounds in ROUNDS.items():
        yield _groups(bench, servers, group, bench.size(rounds, 1 + rounds // 20))
    yield _writers(bench, servers, bench.size(200, 20))
    yield from _reading(bench, servers, bench.size(RECORDS, 20_000))


@contextmanager
def _opened(servers: str) -> Iterator[tuple[KafkaAddress, KafkaEventLog, Callable[[], None]]]:
    """A log on a topic of its own, and a new mirror, which is not filled until the last of the three is called."""
    address = KafkaAddress(servers, f"bench-{uuid.uuid4().hex}", TIMEOUT_S)
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        lock = try_lock(Path(folder) / "tail.lock")
        assert lock is not None
        log = KafkaEventLog(address, Path(folder))
        try:
            yield address, log, partial(os.close, lock)
        finally:
            log.close()
            admin.delete_topics([address.topic])[address.topic].result(TIMEOUT_S)


class _Bare:
    """The best loop of the bare client that was found: one call a group, and a flush that cuts lingering short."""

    def __init__(self, address: KafkaAddress) -> None:
        self._topic = address.topic
        self.producer = Producer(
            {"bootstrap.servers": address.servers, "enable.idempotence": True, "acks": "all", "linger.ms": 5}
        )
        self.producer.list_topics(timeout=TIMEOUT_S)

    def append(self, messages: list[dict[str, Any]], rounds: int) -> None:
        for _ in range(rounds):
            self.producer.produce_batch(self._topic, messages, partition=0)
            self.producer.flush()

    def append_encoding(self, events: Sequence[Event], rounds: int) -> None:
        name = new_name()
        for number in range(rounds):
            encoded = [(1, encode(event)) for event in events]
            self.append(messages_of(encoded, name, number * len(events)), 1)

    def append_one(self, message: dict[str, Any]) -> None:
        self.producer.produce(self._topic, message["value"], message["key"], 0)
        self.producer.flush()


def _groups(bench: Bench, servers: str, group: int, rounds: int) -> Row:
    with _opened(servers) as (_, log, copy), _opened(servers) as (bare_address, *_):
        events, bare = likes(group), _Bare(bare_address)
        messages = _messages(group)

        def ours() -> None:
            for _ in range(rounds):
                log.append(events)

        singles = max(rounds * group // 50, 10)
        ours()
        bare.append(messages, rounds)
        contenders: dict[str, Measurement] = {
            OURS: lambda: rate(rounds * group, ours),
            BARE: lambda: rate(rounds * group, lambda: bare.append(messages, rounds)),
        }
        if group > 1:
            contenders[ENCODING] = lambda: rate(rounds * group, lambda: bare.append_encoding(events, rounds))
            contenders[ONE_BY_ONE] = lambda: rate(singles, lambda: _one_by_one(bare, messages[0], singles))
        values = turns(contenders, bench.repeats)
        copy()
        assert [record.event for record in log.read(log.head() - group, group)] == events
    aims = [Aim(0.8, ENCODING if group > 1 else BARE)]
    return Row(name=f"append to Kafka, groups of {group:,}", unit="events/s", values=values, aims=aims)


def _messages(count: int) -> list[dict[str, Any]]:
    return messages_of([(1, encode(event)) for event in likes(count)], new_name(), 0)


def _one_by_one(bare: _Bare, message: dict[str, Any], count: int) -> None:
    for _ in range(count):
        bare.append_one(message)


def _writers(bench: Bench, servers: str, each: int) -> Row:
    """Each writer appends one event at a time."""
    waits: list[float] = []
    with _opened(servers) as (_, log, copy), _opened(servers) as (bare_address, *_):
        [event], [message], bare = likes(1), _messages(1), _Bare(bare_address)
        log.append([event])
        bare.append_one(message)

        def ours() -> float:
            taken, waited = append_together(lambda: log.append([event]), each)
            waits.append(1e3 * percentile(waited, 99))
            return WRITERS * each / taken

        def theirs() -> float:
            taken, _ = append_together(partial(bare.append_one, message), each)
            return WRITERS * each / taken

        values = turns({OURS: ours, BARE: theirs}, bench.repeats)
        copy()
        assert log.read(log.head() - 1, 1)[0].event == event
    return Row(
        name=f"append to Kafka, {WRITERS} writers of one event at a time",
        unit="events/s",
        values=values,
        aims=[Aim(0.8, BARE)],
        notes=[f"p99 of an append: {percentile(waits, 50):.1f} ms"],
    )


def _reading(bench: Bench, servers: str, records: int) -> Iterator[Row]:
    """From the first record to the last, on a node that has nothing of the topic yet."""
    with _opened(servers) as (address, log, copy):
        events = likes(records)
        for start in range(0, records, 20_000):
            log.append(events[start : start + 20_000])
        copy()
        assert [record.event for record in log.read(0, records)] == events
        copying = {
            OURS: lambda: rate(records, lambda: _copy(address, records, read=False)),
            STORED: lambda: rate(records, lambda: _consume_and_store(address, records, decode=False)),
            CHECKED: lambda: rate(records, lambda: _consume(address, records)),
        }
        yield Row(
            name="copy from Kafka, durably",
            unit="records/s",
            values=turns(copying, bench.repeats),
            aims=[Aim(0.8, STORED)],
        )
        reading = {
            OURS: lambda: rate(records, lambda: _copy(address, records, read=True)),
            DECODED: lambda: rate(records, lambda: _consume_and_store(address, records, decode=True)),
        }
        yield Row(
            name="copy from Kafka and read, in one process",
            unit="events/s",
            values=turns(reading, bench.repeats),
            aims=[Aim(0.8, DECODED)],
        )


def _copy(address: KafkaAddress, records: int, *, read: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        log = KafkaEventLog(address, Path(folder), create=False)
        if read:
            assert _read(log, records) == records
        else:
            assert log.read(records - 1, 1)[0].position == records  # it waits until that is there
        log.close()


def _read(log: KafkaEventLog, records: int) -> int:
    position = 0
    while position < records:
        position = log.read(position, PAGE)[-1].position
    return position


def _consume(address: KafkaAddress, records: int) -> None:
    for _ in _groups_of(address, records):
        pass


def _consume_and_store(address: KafkaAddress, records: int, *, decode: bool) -> None:
    """The rows that the mirror keeps, a synced transaction for all that has come meanwhile."""
    read: list[Recorded] = []
    decoded = Codec().decode
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder, lmdb.open(folder, MAP_BYTES) as env:
        for bodies, first in _groups_of(address, records):
            with env.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(rows_of(bodies, first), append=True)
            if decode:
                for position, body in enumerate(bodies, first):
                    read.append(Recorded(position, int.from_bytes(body[:8], "little"), decoded(body[8:])))


def _groups_of(address: KafkaAddress, records: int) -> Iterator[tuple[list[bytes], int]]:
    """The topic's records as they come, checked, with the position of the first."""
    settings = {"group.id": "bench", "enable.auto.commit": False, "fetch.queue.backoff.ms": 5}
    consumer = Consumer({"bootstrap.servers": address.servers, "log_level": 0, **settings})
    consumer.assign([TopicPartition(address.topic, 0, 0)])
    count = 0
    while count < records:
        first = consumer.poll(TIMEOUT_S)
        assert first is not None
        messages = [first, *consumer.consume(10_000, 0)]
        bodies = [body_of(at, message.key(), message.value()) for at, message in enumerate(messages, count + 1)]
        yield bodies, count + 1
        count += len(messages)
    consumer.close()
