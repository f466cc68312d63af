"""The log on Kafka, beside what every log does: the topics it refuses, who copies, and how positions are found."""

import json
import pickle
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewPartitions, TopicPartition
from log_trials import child, child_environment
from services.kafka_topics import TIMEOUT_S, drop, dropped_topic, make
from services.services import Services
from waiting import until

from darkroom.events.codec import UnknownEventType, encode
from darkroom.events.facts import Event, PostLiked, Recorded, UserDeleted
from darkroom.events.lmdb_environments import EnvironmentUnusable
from darkroom.events.log import DamagedRecord, LogError, LogUnreachable
from darkroom.events.log_adapters import kafka_appender
from darkroom.events.log_adapters.kafka import KafkaAddress, KafkaEventLog, TopicRefused
from darkroom.events.log_adapters.kafka_mirror import Notes
from darkroom.events.log_adapters.kafka_records import messages_of, new_name
from darkroom.events.log_adapters.kafka_topic import Reach, Topic

pytestmark = pytest.mark.services
DEADLINE_S = 20.0


@pytest.fixture
def address(service: Services) -> Iterator[KafkaAddress]:
    with dropped_topic(service("kafka")) as address:
        yield address


@pytest.fixture
def admin(address: KafkaAddress) -> AdminClient:
    return AdminClient({"bootstrap.servers": address.servers, "log_level": 0})


@pytest.fixture
def opened(address: KafkaAddress, tmp_path: Path) -> Iterator[Callable[..., KafkaEventLog]]:
    logs: list[KafkaEventLog] = []

    def open_one(mirror: str = "mirror", *, create: bool = True) -> KafkaEventLog:
        logs.append(KafkaEventLog(address, tmp_path / mirror, create=create))
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()


def gone(count: int, *, first: int = 1) -> list[Event]:
    return [UserDeleted(user=number) for number in range(first, first + count)]


def users(log: KafkaEventLog) -> list[int]:
    return [record.event.user for record in log.read(0, 10**6) if isinstance(record.event, UserDeleted)]


def put(address: KafkaAddress, messages: Sequence[dict[str, object]]) -> None:
    """Write to the topic behind the log's back."""
    producer = Producer({"bootstrap.servers": address.servers})
    assert producer.produce_batch(address.topic, list(messages), partition=0) == len(messages)
    assert producer.flush(TIMEOUT_S) == 0


def ours(events: Sequence[Event]) -> list[dict[str, object]]:
    return messages_of([(1, encode(event)) for event in events], new_name(), 0)


# ---- the address


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"servers": "localhost"}, "not of the form host:port"),
        ({"servers": ""}, "not of the form host:port"),
        ({"topic": "a b"}, "topic 'a b'"),
        ({"topic": ".."}, "topic '..'"),
        ({"deadline_s": 0.0}, "is not from 1 to 600"),
        ({"security": (("acks", "0"),)}, "'acks' is none of security.protocol"),
    ],
)
def test_an_address_that_cannot_be_is_named(changed: dict[str, object], told: str) -> None:
    good: dict[str, object] = {"servers": "localhost:9092,[::1]:9092", "topic": "log"}
    KafkaAddress(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=told):
        KafkaAddress(**(good | changed))  # type: ignore[arg-type]


def test_an_address_travels_to_other_processes_and_shows_no_password() -> None:
    address = KafkaAddress("localhost:9092", "log", 5.0, (("sasl.password", "secret"),))
    assert pickle.loads(pickle.dumps(address)) == address
    assert "secret" not in repr(address)


# ---- topics


def test_the_topic_is_made_to_keep_every_record_for_ever(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, admin: AdminClient
) -> None:
    opened()
    resource = ConfigResource(ResourceType.TOPIC, address.topic)
    found = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    wanted = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
        "flush.messages": "1",
    }
    assert {name: found[name].value for name in wanted} == wanted


def test_a_topic_that_is_not_there_is_refused_and_not_made(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, admin: AdminClient, tmp_path: Path
) -> None:
    with pytest.raises(TopicRefused, match=f"{address.topic} is not there"):
        opened(create=False)
    assert address.topic not in admin.list_topics(timeout=TIMEOUT_S).topics
    assert not (tmp_path / "mirror").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"cleanup.policy": "compact"}, "cleanup.policy=compact, under which records are removed. Set it to delete"),
        ({"cleanup.policy": "compact,delete"}, "cleanup.policy="),
        ({"retention.ms": "604800000"}, "retention.ms=604800000, after which records are removed. Set it to -1"),
        ({"retention.bytes": "1000000000"}, "retention.bytes=1000000000, above which"),
        ({"message.timestamp.type": "CreateTime"}, "whose clock is wrong. Set it to LogAppendTime"),
        ({"flush.messages": "9223372036854775807"}, "may not be on its disk. Set it to 1"),
        ({"max.message.bytes": "1000"}, "max.message.bytes=1000. Set it to 1000000 or more"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_a_topic_that_may_lose_a_record_is_refused(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    make(address, settings=settings)
    with pytest.raises(TopicRefused, match=told):
        opened()
    assert not (tmp_path / "mirror").exists()


def test_a_topic_of_several_partitions_is_refused_also_when_they_are_added_later(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, admin: AdminClient
) -> None:
    opened().append(gone(1))
    admin.create_partitions([NewPartitions(address.topic, 2)])[address.topic].result(TIMEOUT_S)
    until(lambda: len(admin.list_topics(address.topic).topics[address.topic].partitions) == 2, "partitions")
    for mirror in ("mirror", "another"):
        with pytest.raises(TopicRefused, match="has 2 partitions, and a log's order needs one"):
            opened(mirror)


def test_a_truncated_topic_is_refused(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, admin: AdminClient
) -> None:
    opened().append(gone(5))
    partition = TopicPartition(address.topic, 0, 2)
    admin.delete_records([partition])[partition].result(TIMEOUT_S)
    for mirror in ("mirror", "another"):
        with pytest.raises(TopicRefused, match=r"has lost its records before position 3\. Restore it"):
            opened(mirror)


def test_a_topic_that_was_made_again_is_refused_by_whoever_knew_the_old_one(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress
) -> None:
    log = opened()
    log.append(gone(2))
    log.close()
    drop(address)
    with pytest.raises(TopicRefused, match="is not there any more; its id was"):
        opened()
    make(address)
    put(address, ours(gone(3)))
    with pytest.raises(TopicRefused, match="was deleted and made again since its mirror was filled"):
        opened()
    assert users(opened("another")) == [1, 2, 3]


def test_a_topic_that_is_made_again_under_an_open_log_is_noticed(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress
) -> None:
    log = opened()
    log.append(gone(2))
    drop(address)
    make(address)
    put(address, ours(gone(9)))

    def refused() -> bool:
        try:
            log.head()
        except TopicRefused:
            return True
        return False

    until(refused, "a refusal")
    assert users(log) == [1, 2], "records of the new topic were taken for the old one's"


def test_a_topic_that_ends_before_what_was_read_from_it_is_refused(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, admin: AdminClient, tmp_path: Path
) -> None:
    log = opened()
    log.append(gone(3))
    log.close()
    drop(address)
    make(address)
    put(address, ours(gone(1)))
    note = tmp_path / "mirror" / "topic.json"
    noted = json.loads(note.read_text())
    found = admin.describe_topics(TopicCollection([address.topic]))[address.topic].result(TIMEOUT_S)
    note.write_text(json.dumps(noted | {"id": str(found.topic_id)}))  # as if the servers had lost the end
    with pytest.raises(TopicRefused, match="ends at position 1, but 3 records were read from it"):
        opened()


def test_a_topic_with_other_records_is_refused(opened: Callable[..., KafkaEventLog], address: KafkaAddress) -> None:
    make(address)
    put(address, [{"key": b"user-1", "value": b'{"type": "order"}'}])
    with pytest.raises(TopicRefused, match=r"holds records that are not Darkroom's\. Name another topic"):
        opened()


def test_nothing_is_written_to_a_topic_that_is_refused(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress
) -> None:
    make(address, settings={"cleanup.policy": "compact"})
    with pytest.raises(TopicRefused):
        opened()
    assert Topic(address).reach() == Reach(earliest=0, head=0)


def test_servers_that_do_not_answer_are_named_within_the_deadline(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(
        LogUnreachable, match=r"Kafka at 127\.0\.0\.1:1 did not describe the topic within 1 s: .*refused"
    ):
        KafkaEventLog(KafkaAddress("127.0.0.1:1", "log", 1.0), tmp_path / "mirror")
    assert time.monotonic() - began < 20, "the deadline is a second"
    assert not (tmp_path / "mirror").exists()


# ---- the mirror and its tail


def test_another_node_and_another_day_find_the_same_records(opened: Callable[..., KafkaEventLog]) -> None:
    first = opened()
    assert first.append(gone(3)) == range(1, 4)
    first.close()
    here, there = opened(), opened("another")
    assert here.append(gone(2, first=4)) == range(4, 6)
    assert there.wait(5, DEADLINE_S)
    assert there.append(gone(1, first=6)) == range(6, 7)
    assert here.wait(6, DEADLINE_S)
    assert users(here) == users(there) == [1, 2, 3, 4, 5, 6]


def test_a_mirror_is_made_anew_when_it_was_removed_or_is_damaged(
    opened: Callable[..., KafkaEventLog], tmp_path: Path
) -> None:
    log = opened()
    log.append(gone(100))
    assert len(log.read(0, 1000)) == 100
    log.close()
    data = tmp_path / "mirror" / "records" / "data.mdb"
    data.write_bytes(data.read_bytes()[:8000])
    mended = opened()
    assert users(mended) == list(range(1, 101))
    mended.close()
    for file in sorted((tmp_path / "mirror").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert users(opened()) == list(range(1, 101))


def test_a_damaged_mirror_that_others_have_open_is_left_to_them(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, tmp_path: Path
) -> None:
    opened().append(gone(1))
    process = tailing(address, tmp_path / "another")
    data = tmp_path / "another" / "records" / "data.mdb"
    with data.open("r+b") as stream:
        stream.write(bytes(8192))
    try:
        with pytest.raises(EnvironmentUnusable, match="is made anew when no other process has it open"):
            opened("another")
    finally:
        process.kill()
        process.wait()
    assert users(opened("another")) == [1]


def test_a_mirror_of_another_topic_is_refused(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, tmp_path: Path
) -> None:
    opened()
    with pytest.raises(TopicRefused, match=f"mirrors Kafka topic {address.topic}, not other"):
        KafkaEventLog(KafkaAddress(address.servers, "other"), tmp_path / "mirror")


def tailing(address: KafkaAddress, mirror: Path) -> "subprocess.Popen[str]":
    """A process that is the tail of this mirror."""
    process = subprocess.Popen(
        child("tail_kafka", address.servers, address.topic, mirror),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "tailing\n"
    return process


def test_when_the_process_that_copies_is_killed_another_takes_over(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, tmp_path: Path
) -> None:
    process = tailing(address, tmp_path / "mirror")
    log = opened()
    log.append(gone(10))
    assert users(log) == list(range(1, 11))
    assert Notes(tmp_path / "mirror").tail_process == process.pid
    process.kill()
    process.wait()
    began = time.monotonic()
    log.append(gone(1, first=11))
    assert users(log) == list(range(1, 12))
    print(f"another process copied {time.monotonic() - began:.2f} s after the one that had was killed")
    assert Notes(tmp_path / "mirror").tail_process != process.pid


# ---- records


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"key": b"user-1", "value": b"something else"}, "it is no record of Darkroom's"),
        ({"key": None, "value": ours(gone(1))[0]["value"]}, "it is no record of Darkroom's"),
        (ours(gone(1))[0] | {"key": bytes(16)}, "its checksum does not match"),
        ({"key": bytes(16), "value": b"\xd4\x01" + bytes(40)}, "its checksum does not match"),
    ],
    ids=["foreign", "no key", "another's token", "damaged"],
)
def test_a_record_that_is_not_what_was_written_stops_every_reader_with_its_position(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, bad: dict[str, object], told: str
) -> None:
    log = opened()
    log.append(gone(3))
    put(address, [bad, *ours(gone(1))])
    assert log.wait(5, DEADLINE_S)
    assert users(log) == [1, 2, 3]
    for reader in (log, opened("another")):
        with pytest.raises(DamagedRecord, match=f"position 4: {told}"):
            reader.read(3, 10)
        assert users(reader) == [1, 2, 3]


def test_an_event_of_a_later_version_stops_the_reader_with_its_position(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress
) -> None:
    log = opened()
    log.append(gone(2))
    put(address, messages_of([(1, b"\x93\x7f\x01\xc0")], new_name(), 0))
    assert log.wait(3, DEADLINE_S)
    assert users(log) == [1, 2]
    with pytest.raises(UnknownEventType, match="position 3"):
        log.read(2, 10)


@pytest.mark.soak  # the servers may take long over their first transaction
def test_a_position_without_a_record_is_never_crossed(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress
) -> None:
    log = opened()
    log.append(gone(2))
    producer = Producer({"bootstrap.servers": address.servers, "transactional.id": address.topic})
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    for message in ours(gone(2, first=3)):
        producer.produce(address.topic, message["value"], message["key"], 0)  # type: ignore[arg-type]
    producer.commit_transaction(TIMEOUT_S)  # which leaves a mark at offset 4, for no reader to see
    put(address, ours(gone(1, first=5)))
    for reader in (log, opened("another")):
        until(lambda reader=reader: users(reader) == [1, 2, 3, 4], "what is before it")  # type: ignore[misc]
        with pytest.raises(TopicRefused, match="gave offset 5 where 4 belongs"):
            reader.read(4, 10)


# ---- positions


def test_processes_that_append_at_once_share_one_order(address: KafkaAddress, tmp_path: Path) -> None:
    writers, rounds = 3, 40
    processes = [
        subprocess.Popen(
            child("append_beside_kafka", address.servers, address.topic, tmp_path / "mirror", name, writers, rounds),
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        for name in range(writers)
    ]
    given = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    log = KafkaEventLog(address, tmp_path / "another", create=False)
    records = {record.position: record.event for record in read_all(log)}
    log.close()
    assert sorted(position for positions in given for position in positions) == list(range(1, len(records) + 1))
    for name, positions in enumerate(given):
        assert positions == sorted(positions)
        assert [records[position] for position in positions] == [
            PostLiked(user=name, post=number, author=index)
            for number in range(rounds)
            for index in range(1 + (name + number) % 4)
        ]


def read_all(log: KafkaEventLog) -> list[Recorded]:
    found: list[Recorded] = []
    while records := log.read(len(found), 1000):
        found += records
    return found


@pytest.mark.soak  # whether two groups mix is left to chance
def test_groups_of_two_appenders_that_mix_are_each_told_their_own_positions(
    opened: Callable[..., KafkaEventLog],
) -> None:
    logs = (opened(), opened("another"))
    rounds, size, mixed = 0, 30_000, 0
    while not mixed:
        rounds += 1
        assert rounds < 20, "no two groups were ever mixed"
        given: dict[int, Sequence[int]] = {}
        start = threading.Barrier(2)

        def append(which: int, start: threading.Barrier = start, given: dict[int, Sequence[int]] = given) -> None:
            events: list[Event] = [PostLiked(user=which, post=n + 1, author=1) for n in range(size)]
            start.wait(DEADLINE_S)
            given[which] = logs[which].append(events)

        threads = [threading.Thread(target=append, args=(which,)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        mixed = sum(not isinstance(positions, range) for positions in given.values())
    after = 2 * size * (rounds - 1)
    found: dict[int, list[int]] = {0: [], 1: []}
    while len(records := logs[0].read(after, 10_000)):
        for record in records:
            assert isinstance(record.event, PostLiked)
            found[record.event.user].append(record.position)
        after = records[-1].position
    assert found == {which: list(positions) for which, positions in given.items()}


def clock_off_by(hours: int) -> type[Producer]:
    """The producer of a machine whose clock is wrong: it stamps its messages with that clock."""

    class WrongClock(Producer):
        def produce_batch(self, topic: str, messages: list[dict[str, Any]], *_: Any, **__: Any) -> int:
            wrong_ms = int((time.time() + 3600 * hours) * 1000)
            for message in messages:
                told = message.get("callback")
                self.produce(topic, message["value"], message["key"], 0, told, timestamp=wrong_ms)
            return len(messages)

    return WrongClock


@pytest.mark.parametrize("hours", [-48, -2, 2, 48])
def test_an_appender_whose_clock_is_hours_off_is_acknowledged(
    opened: Callable[..., KafkaEventLog], address: KafkaAddress, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    make(address, settings={f"message.timestamp.{way}.max.ms": "3600000" for way in ("after", "before")})
    right = opened()
    assert list(right.append(gone(2))) == [1, 2]
    monkeypatch.setattr(kafka_appender, "Producer", clock_off_by(hours))
    wrong = opened("another")
    assert list(wrong.append(gone(3, first=3), [1, 2, 3])) == [3, 4, 5]
    assert list(right.append(gone(1, first=6))) == [6]
    assert wrong.wait(6, DEADLINE_S)
    for log in (right, wrong):
        records = read_all(log)
        assert [record.position for record in records] == [1, 2, 3, 4, 5, 6]
        assert [record.time_ms for record in records[2:5]] == [1, 2, 3], "Kafka's time was taken for the record's"


def test_a_closed_log_appends_nothing(opened: Callable[..., KafkaEventLog]) -> None:
    log = opened()
    log.append(gone(1))
    log.close()
    log.close()
    with pytest.raises(LogError, match="the log is closed"):
        log.append(gone(1))
