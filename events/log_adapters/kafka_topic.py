"""The topic itself: made as a log needs it, examined before it is trusted, and asked how far it reaches.

A topic that could lose, reorder or forget a record is refused by name before anything is written to it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from darkroom.events.codec import EVENT_BYTES_MAX
from darkroom.events.log import DamagedRecord, LogUnreachable
from darkroom.events.log_adapters.kafka_address import KafkaAddress, LastComplaint, TopicRefused
from darkroom.events.log_adapters.kafka_records import RECORD_BYTES_MORE, NotOurs, body_of

REPLICAS = 3
BATCH_BYTES_MAX = 1_000_000
"""What a producer sends at once, at most; a topic must take that and the largest event."""

PAUSE_S = 0.1

_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
# Our time is in the value. Kafka's own would be the appender's, whose record is refused if its clock is an hour ahead.
_ANY_CLOCK = {"message.timestamp.type": "LogAppendTime"}
_REFUSING = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError._AUTHENTICATION,
)

_SPEC: Any = OffsetSpec  # its methods have no types
_EARLIEST, _LATEST = _SPEC.earliest(), _SPEC.latest()

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Reach:
    """Where the topic's records begin and end, as offsets: a log's topic begins at 0, and ends at its head."""

    earliest: int
    head: int


class Topic:
    """Questions to the servers about one topic. Every one is answered within the deadline, or LogUnreachable."""

    def __init__(self, address: KafkaAddress) -> None:
        self._address = address
        self._said = LastComplaint()
        self._admin = AdminClient(address.settings(self._said))
        self._partition = TopicPartition(address.topic, 0)

    def foresee(self, *, create: bool) -> tuple[str, bytes | None] | None:
        """The topic's id and its first record's time and event; None where it is not there and `create` may make it.

        TopicRefused for what the first `examine` would refuse; nothing is written, here or there.
        """
        if create and self._look() is None:
            self._create(only_asked=True)
            return None
        identity, reach = self._sound(None, create=False)
        return identity, self._first_body() if reach.head else None

    def examine(self, *, noted: str | None, mirrored: int, create: bool) -> tuple[str, Reach]:
        """The topic's id and reach, where it can be this log; TopicRefused otherwise.

        `noted` is the id that the mirror has noted, and `mirrored` how many records the mirror has.
        """
        identity, reach = self._sound(noted, create=create)
        if reach.head < mirrored:
            raise self._refused(f"ends at position {reach.head}, but {mirrored} records were read from it. Restore it")
        if not mirrored and reach.head:
            self._first_body()
        return identity, reach

    def _sound(self, noted: str | None, *, create: bool) -> tuple[str, Reach]:
        identity, replicas = self._described(noted, create=create)
        if noted not in (None, identity):
            raise self._refused(
                f"was deleted and made again since its mirror was filled: its id was {noted} and is {identity}. "
                "Restore the topic; or, if its loss is meant, remove the mirror and the projections"
            )
        self._refuse_settings(self._configured(), replicas)
        reach = self.reach()
        if reach.earliest:
            raise self._refused(f"has lost its records before position {reach.earliest + 1}. Restore it from a backup")
        return identity, reach

    def identity(self) -> str:
        """The topic's id; TopicRefused where there is none."""
        return self._described(None, create=False)[0]

    def reach(self) -> Reach:
        """Asked of the partition's leader now: whatever was acknowledged to anybody lies below the head."""
        return Reach(self._offset(_EARLIEST), self._offset(_LATEST))

    def head(self) -> int:
        return self._offset(_LATEST)

    def _offset(self, which: OffsetSpec) -> int:
        def ask(timeout_s: float) -> int:
            futures = self._admin.list_offsets({self._partition: which}, request_timeout=timeout_s)
            return int(futures[self._partition].result(timeout_s + 1).offset)

        return self._asked("say where it ends", ask)

    def _described(self, noted: str | None, *, create: bool) -> tuple[str, int]:
        found = self._look()
        if found is None and create and noted is None:
            self._create()
            found = self._asked("show the topic that was made", self._look_again)
        if found is None:
            raise self._refused(
                "is not there. Name the right one, or have it made by the first command that appends"
                if noted is None
                else f"is not there any more; its id was {noted}. Restore it"
            )
        if len(found.partitions) != 1:
            raise self._refused(
                f"has {len(found.partitions)} partitions, and a log's order needs one. Name another topic"
            )
        return str(found.topic_id), len(found.partitions[0].replicas)

    def _look(self) -> Any:
        """The topic's description, None where there is none."""
        name = self._address.topic

        def ask(timeout_s: float) -> Any:
            try:
                return self._admin.describe_topics(TopicCollection([name]), request_timeout=timeout_s)[name].result(
                    timeout_s + 1
                )
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return None
                raise

        return self._asked("describe the topic", ask)

    def _look_again(self, timeout_s: float) -> Any:
        del timeout_s
        found = self._look()
        if found is None or not found.partitions:
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return found

    def _create(self, *, only_asked: bool = False) -> None:
        """Make it; or, if `only_asked`, hear whether it would be made."""
        brokers = self._asked("name its brokers", lambda timeout_s: self._admin.list_topics(timeout=timeout_s).brokers)
        replicas = min(REPLICAS, len(brokers))
        wanted = _FOR_EVER | _ANY_CLOCK | {"unclean.leader.election.enable": "false"}
        wanted["min.insync.replicas"] = str(min(2, replicas))
        if replicas == 1:
            wanted["flush.messages"] = "1"  # nobody else has it, so it must be on the disk
        topic = NewTopic(self._address.topic, 1, replicas, config=wanted)

        def ask(timeout_s: float) -> None:
            try:
                made = self._admin.create_topics([topic], request_timeout=timeout_s, validate_only=only_asked)
                made[topic.topic].result(timeout_s + 1)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker
                    raise

        self._asked("make the topic", ask)

    def _configured(self) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, self._address.topic)

        def ask(timeout_s: float) -> dict[str, str]:
            answer = self._admin.describe_configs([resource], request_timeout=timeout_s)
            return {name: str(entry.value) for name, entry in answer[resource].result(timeout_s + 1).items()}

        return self._asked("tell the topic's settings", ask)

    def _refuse_settings(self, found: Mapping[str, str], replicas: int) -> None:
        for name, wanted in (_FOR_EVER | _ANY_CLOCK | _durable(replicas)).items():
            if found.get(name, wanted) != wanted and not _is_more(name, found[name], wanted):
                raise self._refused(f"has {name}={found[name]}, {_WHY[name]}. Set it to {wanted}")
        takes = int(found.get("max.message.bytes", "0"))
        needs = max(BATCH_BYTES_MAX, EVENT_BYTES_MAX + RECORD_BYTES_MORE)
        if takes < needs:
            raise self._refused(f"has max.message.bytes={takes}. Set it to {needs} or more")

    def _first_body(self) -> bytes:
        key, value = self._asked("show its first record", self._first)
        try:
            return body_of(1, key, value)
        except NotOurs:
            raise self._refused("holds records that are not Darkroom's. Name another topic") from None
        except DamagedRecord as error:
            raise self._refused(f"is not readable: {error}") from None

    def _first(self, timeout_s: float) -> tuple[bytes | None, bytes | None]:
        consumer = new_consumer(self._address, self._said)
        try:
            consumer.assign([TopicPartition(self._address.topic, 0, 0)])
            message = consumer.poll(timeout_s)
            if message is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            return message.key(), message.value()
        finally:
            consumer.close()

    def _asked(self, what: str, ask: Callable[[float], _Answer]) -> _Answer:
        """The answer; a server that is starting, or is electing a leader, is asked again until the deadline."""
        address = self._address
        ends_at = time.monotonic() + address.deadline_s
        while True:
            try:
                return ask(max(min(ends_at - time.monotonic(), address.deadline_s / 3), PAUSE_S))
            except (KafkaException, TimeoutError) as failure:
                self._admin.poll(0)  # which tells of complaints
                error = failure.args[0] if isinstance(failure, KafkaException) else None
                if error is not None and error.code() in _REFUSING:
                    raise self._refused(f"is not for us: the servers say: {error.str()}") from failure
                if mend := self._said.to_mend:
                    raise self._refused(
                        f"cannot be reached with these credentials: mend {mend}{self._said}"
                    ) from failure
                if time.monotonic() + PAUSE_S >= ends_at:
                    why = error.str() if error is not None else "no answer"
                    raise LogUnreachable(
                        f"Kafka at {address.servers} did not {what} within {address.deadline_s:g} s: {why}{self._said}"
                    ) from failure
            time.sleep(PAUSE_S)

    def _refused(self, why: str) -> TopicRefused:
        return TopicRefused(f"Kafka topic {self._address.topic} {why}")


_WHY = {
    "cleanup.policy": "under which records are removed",
    "retention.ms": "after which records are removed",
    "retention.bytes": "above which records are removed",
    "message.timestamp.type": "so it may refuse what an appender sends whose clock is wrong",
    "flush.messages": "so, with one replica, what it acknowledges may not be on its disk",
    "min.insync.replicas": "so a single disk may hold what it acknowledges",
    "unclean.leader.election.enable": "so what it acknowledged may be dropped",
}


def _durable(replicas: int) -> dict[str, str]:
    if replicas == 1:
        return {"flush.messages": "1"}
    return {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


def _is_more(name: str, found: str, wanted: str) -> bool:
    return name == "min.insync.replicas" and int(found) > int(wanted)


def new_consumer(address: KafkaAddress, said: LastComplaint) -> Consumer:
    """A reader of the topic that goes where it is told, and never elsewhere by itself."""
    return Consumer(
        address.settings(
            said,
            group_id="darkroom",  # demanded, and not used: no offset is ever committed
            enable_auto_commit=False,
            auto_offset_reset="error",
            check_crcs=True,
            fetch_queue_backoff_ms=5,  # the default of a second, when it is full, allows 100,000 records a second
        )
    )
