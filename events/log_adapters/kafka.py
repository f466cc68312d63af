"""The event log on Kafka: a topic of one partition, position = offset + 1; read through a copy that the node shares.

The servers' order is the log's order, so any number of processes on any number of machines may append. See
docs/kafka.md for what the topic must be like.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from darkroom.events.clock import Clock, system_clock
from darkroom.events.codec import Codec
from darkroom.events.facts import Event, Recorded
from darkroom.events.log import LogError, LogUnreachable, OutcomeUnknown, encoded_group
from darkroom.events.log_adapters.kafka_address import KafkaAddress, TopicRefused
from darkroom.events.log_adapters.kafka_appender import Appender
from darkroom.events.log_adapters.kafka_mirror import Mirror, Notes, note_topic, noted_topic
from darkroom.events.log_adapters.kafka_tail import Tail
from darkroom.events.log_adapters.kafka_topic import Topic

POLL_S_MIN, POLL_S_MAX = 0.0005, 0.002
FAULT_S = 0.02
"""How often who waits for the copy looks whether it can come."""


class KafkaEventLog:
    """See `EventLog`. `mirror` is a folder of this node's; `create` makes the topic, otherwise one that is not there is
    TopicRefused. LogUnreachable where the servers do not answer."""

    def __init__(
        self,
        address: KafkaAddress,
        mirror: Path,
        *,
        create: bool = True,
        clock: Clock = system_clock,
        codec: Codec | None = None,
    ) -> None:
        self._address = address
        self._clock = clock
        self._lock = threading.Lock()
        with ExitStack() as stack:
            noted = noted_topic(mirror, address.topic)
            if noted is not None:
                self._mirror = _opened(mirror, clock, codec, stack)
            identity, reach = Topic(address).examine(
                noted=noted, mirrored=0 if noted is None else self._mirror.head(), create=create
            )
            if noted is None:
                note_topic(mirror, address.topic, identity)
                self._mirror = _opened(mirror, clock, codec, stack)
            self._floor = reach.head
            self._heard_ns = time.monotonic_ns()
            self._stored = 0
            self._notes = Notes(mirror)
            stack.callback(self._notes.close)
            stack.callback(Tail(address, mirror, identity, self._mirror, self._notes).close)
            self._appender = Appender(address)
            stack.callback(self._appender.close)
            self._stack = stack.pop_all()

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> Sequence[int]:
        """As in the port, but a group that fails may leave a prefix: OutcomeUnknown says that it may have.

        Positions ascend. They are a range, unless another process appended in between.
        """
        encoded = encoded_group(events, times_ms, self._clock)
        if not encoded:
            head = self.head()
            return range(head + 1, head + 1)
        positions = self._appender.append(encoded, self._known)
        with self._lock:
            self._stored = max(self._stored, positions[-1])
            self._heard_ns = time.monotonic_ns()
        return positions

    def read(self, after: int, limit: int) -> list[Recorded]:
        """As in the port. It waits for the copy where that lacks what is known to be there; LogUnreachable in vain."""
        if limit <= 0:
            return []
        # Whoever has appended reads it, though the copy may be a millisecond behind.
        wanted = max(min(self._stored, after + limit), min(self._known(), after + 1))
        try:
            self._await_copy(wanted)
        except LogError:
            if self._mirror.head() <= after:
                raise
        return self._mirror.read(after, limit)

    def head(self) -> int:
        """The last position that this node knows of; what this process appended is always below it.

        LogUnreachable where the servers have not answered for longer than the deadline, and TopicRefused where the
        topic is no longer what it was: then nobody knows how far the log reaches.
        """
        silent_ns = time.monotonic_ns() - max(self._heard_ns, self._notes.heard_ns)
        fault = self._notes.fault
        if fault is not None and fault.kind == TopicRefused.__name__:
            raise fault.error()
        if silent_ns > self._address.deadline_s * 1e9:
            raise LogUnreachable(
                f"Kafka at {self._address.servers} has not answered for {silent_ns / 1e9:.0f} s{self._told()}"
            )
        return self._known()

    def wait(self, position: int, timeout_s: float) -> bool:
        return _reached(self._known, position, time.monotonic() + timeout_s)

    def release_dead_readers(self) -> int:
        """Free what readers of the copy that were killed still hold; how many there were."""
        return self._mirror.release_dead_readers()

    def bytes_stored(self) -> int:
        """Of the copy on this node."""
        return self._mirror.bytes_stored()

    def close(self) -> None:
        self._stack.close()

    def _known(self) -> int:
        return max(self._stored, self._floor, self._notes.head)

    def _await_copy(self, position: int) -> None:
        ends_at = time.monotonic() + self._address.deadline_s
        while not _reached(self._mirror.head, position, min(ends_at, time.monotonic() + FAULT_S)):
            fault = self._notes.fault
            if fault is not None and fault.kind != LogUnreachable.__name__:
                raise fault.error()
            if time.monotonic() >= ends_at:
                raise LogUnreachable(
                    f"the copy of Kafka topic {self._address.topic} is at position {self._mirror.head()} and has not "
                    f"reached {position} for {self._address.deadline_s:g} s{self._told()}"
                )

    def _told(self) -> str:
        fault = self._notes.fault
        return f"; process {self._notes.tail_process} copies it" + (f": {fault.reason}" if fault else "")


def _opened(folder: Path, clock: Clock, codec: Codec | None, stack: ExitStack) -> Mirror:
    mirror = Mirror(folder, clock, codec)
    stack.callback(mirror.close)
    return mirror


def _reached(head: Callable[[], int], position: int, ends_at: float) -> bool:
    # The head is in memory that other processes write to, and memory has no signal: a look costs 2 µs at most.
    pause_s = POLL_S_MIN
    while head() < position:
        if time.monotonic() >= ends_at:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.2, POLL_S_MAX)
    return True


__all__ = ["KafkaAddress", "KafkaEventLog", "LogError", "LogUnreachable", "OutcomeUnknown", "TopicRefused"]
