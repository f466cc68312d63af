"""The tail: one thread on the node copies the topic into the mirror, in order and without a gap, or stands still.

Whoever holds the lock is the tail; when its process dies the system frees the lock and another one goes on from the
mirror's head. What stops it is told by name, and tried again: each fault is mended from outside.
"""

import os
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from darkroom.events.log import DamagedRecord, LogError, LogUnreachable
from darkroom.events.log_adapters.kafka_address import KafkaAddress, LastComplaint, TopicRefused
from darkroom.events.log_adapters.kafka_mirror import Fault, Mirror, Notes, try_lock
from darkroom.events.log_adapters.kafka_records import body_of
from darkroom.events.log_adapters.kafka_topic import Topic, new_consumer

LOOK_S = 0.2  # how often another process looks whether the tail has died
RETRY_S = 1.0
IDLE_S = 0.1
ASK_S = 1.0
GROUP_RECORDS = 10_000

_TOPIC_FAULTS = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)


class Tail:
    """Waits for the lock, then copies, until `close`."""

    def __init__(self, address: KafkaAddress, folder: Path, identity: str, mirror: Mirror, notes: Notes) -> None:
        self._address = address
        self._folder = folder
        self._identity = identity
        self._mirror = mirror
        self._notes = notes
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-tail", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._closing.wait(pause_s):
            pause_s = LOOK_S
            lock = try_lock(self._folder / "tail.lock")
            if lock is None:
                continue
            try:
                self._notes.take_over()
                self._copy()
            except Exception as failure:
                self._notes.stop_at(_fault_of(failure))
                pause_s = RETRY_S
            finally:
                os.close(lock)

    def _copy(self) -> None:
        copying = _Copying(self._address, self._identity, self._mirror, self._notes)
        try:
            while not self._closing.is_set():
                copying.step()
        finally:
            copying.close()


class _Copying:
    """One holder's copying, from the mirror's head on."""

    def __init__(self, address: KafkaAddress, identity: str, mirror: Mirror, notes: Notes) -> None:
        self._address = address
        self._identity = identity
        self._mirror = mirror
        self._notes = notes
        self._topic = Topic(address)
        self._asked_at = 0.0
        self._identify()
        self._head = mirror.head()
        self._partition = TopicPartition(address.topic, 0, self._head)
        self._consumer: Consumer = new_consumer(address, LastComplaint())
        self._consumer.assign([self._partition])

    def close(self) -> None:
        self._consumer.close()

    def step(self) -> None:
        """Copy what has come, and ask the servers themselves where nothing comes."""
        first = self._consumer.poll(IDLE_S)
        if first is not None:
            self._store([first, *self._consumer.consume(GROUP_RECORDS - 1, 0)])
        elif time.monotonic() - self._asked_at > ASK_S:
            self._identify()
            self._ask()

    def _store(self, messages: list[Message]) -> None:
        """Store the intact ones before the first that is not, which stops the tail."""
        bodies: list[bytes] = []
        after, failure = self._head, None
        try:
            for offset, message in enumerate(messages, after):
                if message.offset() != offset or message.error() is not None:
                    raise self._misplaced(offset, message)
                bodies.append(body_of(offset + 1, message.key(), message.value()))
        except (LogError, KafkaException) as error:
            failure = error
        if bodies:
            # Asked after they came, so that they are this topic's: one that was deleted and made again is read on from
            # where the old one was left, without a word.
            self._identify()
            self._mirror.extend(bodies, after)
            self._head = after + len(bodies)
            self._notes.go_on()
        _, high = self._consumer.get_watermark_offsets(self._partition, cached=True)
        self._notes.hear(max(high, self._head))
        if failure is not None:
            raise failure

    def _misplaced(self, expected: int, message: Message) -> Exception:
        error = message.error()
        if error is None:
            return TopicRefused(
                f"Kafka topic {self._address.topic} gave offset {message.offset()} where {expected} belongs: a "
                "position has no record, or two. It was compacted, truncated, or written to in transactions. Restore it"
            )
        if error.code() in _TOPIC_FAULTS:
            return TopicRefused(
                f"Kafka topic {self._address.topic} no longer has position {expected + 1} ({error.str()}). Restore it"
            )
        return KafkaException(error)

    def _identify(self) -> None:
        found = self._topic.identity()
        if found != self._identity:
            raise TopicRefused(
                f"Kafka topic {self._address.topic} was deleted and made again: its id was {self._identity} and is "
                f"{found}. Restore it"
            )

    def _ask(self) -> None:
        reach = self._topic.reach()
        if reach.earliest:
            raise TopicRefused(
                f"Kafka topic {self._address.topic} lost its records before position {reach.earliest + 1}. Restore it"
            )
        if reach.head < self._head:
            raise TopicRefused(
                f"Kafka topic {self._address.topic} ends at position {reach.head}, but {self._head} records were read "
                "from it. Restore it"
            )
        self._notes.hear(reach.head)
        if reach.head == self._head:
            self._notes.go_on()
        self._asked_at = time.monotonic()


def _fault_of(failure: Exception) -> Fault:
    if isinstance(failure, DamagedRecord):
        return Fault("DamagedRecord", failure.position, failure.reason)
    if isinstance(failure, KafkaException):
        return Fault(LogUnreachable.__name__, 0, f"Kafka does not answer: {failure.args[0].str()}")
    return Fault(type(failure).__name__, 0, str(failure))
