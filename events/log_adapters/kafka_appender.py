"""Appending: groups go to the servers through one idempotent producer, and each record's own offset comes back.

The producer tries a record again, under the number by which the servers know it from a new one, until they answer. So a
record is stored once or not at all, none overtakes another, and a group that fails leaves a prefix. What the producer
cannot tell is looked up in the topic by append token.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from darkroom.events.log import APPEND_EVENTS_MAX, LogBusy, LogError, LogStopped, LogUnreachable, OutcomeUnknown
from darkroom.events.log_adapters.kafka_address import KafkaAddress, LastComplaint
from darkroom.events.log_adapters.kafka_records import RECORD_BYTES_MORE, messages_of, new_name, token
from darkroom.events.log_adapters.kafka_topic import BATCH_BYTES_MAX, PAUSE_S, Topic, new_consumer

WAITING_EVENTS_MAX = 4 * APPEND_EVENTS_MAX
WAITING_BYTES_MAX = 256 << 20
PART_BYTES = 32 << 20
"""A group of large events is sent in parts of so many bytes, each when the one before it is stored."""

FLUSH_S, FLUSH_ALONE_S = 0.1, 0.002
CONNECT_S = 1.0
GATHER_MS = 1.0


class _Ticket:
    """Records that were sent together, and what became of the first and the last of them.

    With the first and the last offset all others are known: none is missing where they are as far apart as the records.
    """

    __slots__ = ("bytes", "count", "done", "error", "first", "last", "overdue", "serial")

    def __init__(self, serial: int, count: int, size: int) -> None:
        self.serial = serial
        self.count = count
        self.bytes = size
        self.first: int | None = None
        self.last: int | None = None
        self.error: KafkaError | None = None
        self.overdue = False
        self.done = threading.Event()

    @property
    def in_one_piece(self) -> bool:
        return self.first is not None and self.last == self.first + self.count - 1


class Appender:
    """Any number of threads may append. `name` is its part of every append token."""

    def __init__(self, address: KafkaAddress) -> None:
        self._address = address
        self._name = new_name()
        self._serial = 0
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False

    def append(self, encoded: Sequence[tuple[int, bytes]], known_head: Callable[[], int]) -> Sequence[int]:
        """The records' positions, all of them above the head that is known now.

        LogBusy and LogUnreachable where nothing was stored, OutcomeUnknown, and LogStopped once it is closed.
        """
        ends_at = time.monotonic() + self._address.deadline_s
        positions: list[Sequence[int]] = []
        for part in _parts(encoded):
            try:
                line, head = self._open_line(), known_head()
                ticket = self._send(line, part, is_first=not positions)
            except LogError as error:
                if not positions:
                    raise
                stored = positions[-1][-1]
                raise OutcomeUnknown(f"{error}; a part of the group was stored, up to position {stored}") from error
            positions.append(self._settled(line, ticket, head, ends_at))
        return positions[0] if len(positions) == 1 else _joined(positions)

    def _open_line(self) -> "_Line":
        with self._lock:
            if self._closed:
                raise LogStopped("the log is closed")
            if self._line is None or self._line.condemned:
                self._line = _Line(self._address)
            return self._line

    def _send(self, line: "_Line", part: Sequence[tuple[int, bytes]], *, is_first: bool) -> _Ticket:
        size = sum(len(data) for _, data in part) + RECORD_BYTES_MORE * len(part)
        with self._lock:
            ticket = _Ticket(self._serial, len(part), size)
            line.admit(ticket, is_limited=is_first)
            self._serial += len(part)
        line.send(ticket, messages_of(part, self._name, ticket.serial))
        return ticket

    def _settled(self, line: "_Line", ticket: _Ticket, head: int, ends_at: float) -> Sequence[int]:
        if not line.hears_of(ticket, ends_at):
            ticket.overdue = True
            raise OutcomeUnknown(
                f"Kafka at {self._address.servers} did not acknowledge an append within {self._address.deadline_s:g} s"
                f"{line.said}; it may yet be stored: look in the log before appending it again"
            )
        if ticket.error is not None:
            line.condemn()
        if ticket.error is None and ticket.in_one_piece and ticket.first is not None:
            found: Sequence[int] = range(ticket.first + 1, ticket.first + 1 + ticket.count)
        else:
            found = self._look_up(ticket, head, ends_at)
        if found[0] <= head:
            raise LogStopped(
                f"Kafka topic {self._address.topic} stored an append at position {found[0]}, though it had {head} "
                "records: it was deleted and made again. Restore it"
            )
        return found

    def _look_up(self, ticket: _Ticket, head: int, ends_at: float) -> list[int]:
        """The positions of the ticket's records, found in the topic by their tokens; OutcomeUnknown.

        Not finding one proves nothing: a request may still lie in the buffers of a server that was frozen.
        """
        wanted = {token(self._name, ticket.serial + index) for index in range(ticket.count)}
        found: dict[bytes, int] = {}
        start = head if ticket.error is not None or ticket.first is None else ticket.first
        reason = "" if ticket.error is None else f": {ticket.error.str()}"
        search = _Search(self._address, start)
        try:
            while len(found) < ticket.count:
                if time.monotonic() >= ends_at:
                    raise OutcomeUnknown(
                        f"{len(found)} of {ticket.count} appended records were found in Kafka topic "
                        f"{self._address.topic}{reason}; look in the log before appending them again"
                    )
                found.update(search.new_among(wanted, ends_at))
        finally:
            search.close()
        return sorted(found.values())

    def close(self) -> None:
        """Wait for the appends that are under way, up to their deadline."""
        with self._lock:
            was_closed, self._closed = self._closed, True
            line = self._line
        if line is not None and not was_closed:
            line.close(self._address.deadline_s)


class _Line:
    """One producer, and the thread that has it send and hears what became of it.

    After a record that failed the producer is condemned: nothing more is sent behind the gap.
    """

    def __init__(self, address: KafkaAddress) -> None:
        self.said = LastComplaint()
        self.condemned = False
        self._address = address
        self._producer = Producer(address.settings(self.said, **_PRODUCER))
        with suppress(KafkaException):  # connected first, it is given its number at once, and otherwise after 0.5 s
            self._producer.list_topics(address.topic, timeout=CONNECT_S)
        self._sending = threading.Lock()
        self._waiting: dict[_Ticket, None] = {}
        self._work = threading.Event()
        self._flushing = threading.Lock()
        self._thread = threading.Thread(target=self._flush, name="kafka-append", daemon=True)
        self._thread.start()

    def admit(self, ticket: _Ticket, *, is_limited: bool) -> None:
        """Let it wait for its turn; LogBusy and LogUnreachable. What follows the first part of a group is let in."""
        if is_limited:
            self._refuse_excess(ticket.count, ticket.bytes)
        self._waiting[ticket] = None

    def _refuse_excess(self, count: int, size: int) -> None:
        waiting = list(self._waiting)
        if any(ticket.overdue for ticket in waiting):
            raise LogUnreachable(
                f"Kafka at {self._address.servers} has not acknowledged an earlier append for over "
                f"{self._address.deadline_s:g} s{self.said}; try again later"
            )
        events = sum(ticket.count for ticket in waiting)
        if events + count > WAITING_EVENTS_MAX:
            raise LogBusy(f"{events} events wait to be appended; the limit is {WAITING_EVENTS_MAX}")
        held = sum(ticket.bytes for ticket in waiting)
        if waiting and held + size > WAITING_BYTES_MAX:
            raise LogBusy(f"{held} bytes wait to be appended; the limit is {WAITING_BYTES_MAX}")

    def send(self, ticket: _Ticket, messages: list[dict[str, Any]]) -> None:
        messages[0]["callback"] = lambda error, message: self._heard(ticket, error, message, is_first=True)
        messages[-1]["callback"] = lambda error, message: self._heard(ticket, error, message, is_last=True)
        if len(messages) == 1:
            messages[0]["callback"] = lambda error, message: self._heard(
                ticket, error, message, is_first=True, is_last=True
            )
        try:
            with self._sending:  # so that groups of this process lie one behind the other
                queued = self._producer.produce_batch(self._address.topic, messages, partition=0)
        except KafkaException as failure:
            self._fail(ticket, failure.args[0])
            raise LogUnreachable(f"{failure.args[0].str()}; nothing was stored: try again") from failure
        if queued < len(messages):
            self._fail(ticket, next(message["_error"] for message in messages if "_error" in message))
            self.condemn()
        elif self.condemned:
            self._fail(ticket, None)

    def hears_of(self, ticket: _Ticket, ends_at: float) -> bool:
        """Wait until it is known what became of the ticket; False at the deadline."""
        # Whoever is alone flushes itself: waking another thread twice would add a fifth to a single append.
        if self._flushing.acquire(blocking=False):
            try:
                while not (ticket.done.is_set() or self.condemned or time.monotonic() >= ends_at):
                    self._producer.flush(FLUSH_ALONE_S)
            except KafkaException:
                self.condemned = True
            finally:
                self._flushing.release()
        if self._waiting or self.condemned:
            self._work.set()
        return ticket.done.wait(max(ends_at - time.monotonic(), 0.0))

    def _heard(
        self,
        ticket: _Ticket,
        error: KafkaError | None,
        message: Message,
        *,
        is_first: bool = False,
        is_last: bool = False,
    ) -> None:
        offset = message.offset()
        if error is not None or offset is None or offset < 0:
            self._fail(ticket, error or KafkaError(KafkaError._NO_OFFSET))
            return
        if is_first:
            ticket.first = offset
        if is_last:
            ticket.last = offset
            self._waiting.pop(ticket, None)
            ticket.done.set()

    def _fail(self, ticket: _Ticket, error: KafkaError | None) -> None:
        ticket.error = ticket.error or error or KafkaError(KafkaError._FAIL, "its producer was given up")
        self._waiting.pop(ticket, None)
        ticket.done.set()

    def condemn(self) -> None:
        """Give up everything that it was to send; each append that waits then looks for its records itself."""
        self.condemned = True
        self._work.set()

    def _flush(self) -> None:
        # Records gather for GATHER_MS, which a flush cuts short: a group is sent whole, and a single event at once.
        with suppress(KafkaException):  # the producer itself has given up, and will do no more
            while not self.condemned:
                self._work.wait()
                self._work.clear()
                with self._flushing:
                    while self._producer.flush(FLUSH_S) and not self.condemned:
                        pass
        self.condemned = True
        self._producer.purge()
        for ticket in list(self._waiting):  # whatever was acknowledged and not heard is found in the topic
            self._fail(ticket, None)

    def close(self, timeout_s: float) -> None:
        ends_at = time.monotonic() + timeout_s
        for ticket in list(self._waiting):
            if not ticket.overdue:
                ticket.done.wait(max(ends_at - time.monotonic(), 0.0))
        self.condemn()
        self._thread.join()


class _Search:
    """A walk through the topic, from an offset up to a head that its leader names, and on."""

    def __init__(self, address: KafkaAddress, start: int) -> None:
        self._topic = Topic(address)
        self._next = start
        self._consumer = new_consumer(address, LastComplaint())
        self._consumer.assign([TopicPartition(address.topic, 0, start)])

    def new_among(self, wanted: set[bytes], ends_at: float) -> Iterator[tuple[bytes, int]]:
        """The wanted tokens that lie between here and the topic's present head, with their positions."""
        try:
            head = self._topic.head()
        except LogError:
            head = self._next  # it does not answer yet
        while self._next < head and time.monotonic() < ends_at:
            for message in self._consumer.consume(1000, PAUSE_S):
                offset, key = message.offset(), message.key()
                if message.error() is None and offset is not None and offset >= self._next:
                    self._next = offset + 1
                    if key in wanted:
                        yield key, self._next
        time.sleep(PAUSE_S)

    def close(self) -> None:
        self._consumer.close()


_PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "enable_gapless_guarantee": True,
    "message_timeout_ms": 0,  # the producer never gives up: a record whose number was skipped would leave a gap
    "linger_ms": GATHER_MS,
    "batch_size": BATCH_BYTES_MAX,
    "batch_num_messages": 100_000,
    "message_max_bytes": BATCH_BYTES_MAX,
    "queue_buffering_max_messages": 0,  # limits of our own hold, and name themselves
    "queue_buffering_max_kbytes": 2 << 20,
}


def _parts(encoded: Sequence[tuple[int, bytes]]) -> Iterator[Sequence[tuple[int, bytes]]]:
    start, size = 0, 0
    for index, (_, data) in enumerate(encoded):
        size += len(data) + RECORD_BYTES_MORE
        if size > PART_BYTES:
            yield encoded[start : index + 1]
            start, size = index + 1, 0
    if start < len(encoded):
        yield encoded[start:]


def _joined(parts: Sequence[Sequence[int]]) -> Sequence[int]:
    positions = [position for part in parts for position in part]
    whole = range(positions[0], positions[-1] + 1)
    return whole if len(whole) == len(positions) else positions
