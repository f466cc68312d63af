"""What every event log does, whatever it is built on; and two built differently that must agree at every step.

A new adapter costs one line in ADAPTERS.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from event_strategies import PATIENT, events
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from log_trials import ram_folder
from services.kafka_topics import dropped_topic
from services.services import Services

from darkroom.events.clock import TIME_MS_MAX, Clock
from darkroom.events.codec import EVENT_BYTES_MAX, Codec, UndecodableEvent, UnknownEventType
from darkroom.events.facts import Event, PostLiked, Recorded, RecordParked, UserDeleted, UserFollowed
from darkroom.events.log import APPEND_EVENTS_MAX, EventLog
from darkroom.events.log_adapters.kafka import KafkaEventLog
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.events.log_adapters.memory import MemoryEventLog

Adapter = Callable[[Path, Clock, Codec], EventLog]

ADAPTERS: dict[str, Adapter] = {
    "memory": lambda folder, clock, codec: MemoryEventLog(clock, codec),  # noqa: ARG005
    "lmdb": lambda folder, clock, codec: LmdbEventLog(folder / "log", clock=clock, codec=codec),
}

DEADLINE_S = 20.0
NOW_MS = 1_700_000_000_000

TOO_LARGE = RecordParked(position=1, reason="x" * EVENT_BYTES_MAX)
NOT_TEXT = RecordParked(position=1, reason="\ud800")
TOO_GREAT = UserDeleted(user=2**64)


def follows(count: int, *, first: int = 1) -> list[Event]:
    return [UserFollowed(follower=number, followee=10**9) for number in range(first, first + count)]


def recorded(events: Sequence[Event], *, first: int = 1, time_ms: int = NOW_MS) -> list[Recorded]:
    return [Recorded(position, time_ms, event) for position, event in enumerate(events, first)]


class Refusing(Codec):
    """A codec that does not know parked records: the log of a newer writer, to an older reader."""

    def decode(self, data: bytes | memoryview) -> Event:
        event = super().decode(data)
        if isinstance(event, RecordParked):
            raise UnknownEventType("RecordParked is unknown to this version")
        return event


@pytest.fixture
def kafka(service: Services) -> Iterator[Adapter]:
    with dropped_topic(service("kafka")) as address:
        yield lambda folder, clock, codec: KafkaEventLog(address, folder / "mirror", clock=clock, codec=codec)


@pytest.fixture(params=[*ADAPTERS, pytest.param("kafka", marks=pytest.mark.services)])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., EventLog]]:
    opened: list[EventLog] = []
    adapter: Adapter = ADAPTERS.get(request.param) or request.getfixturevalue(request.param)

    def open_one(clock: Clock = lambda: NOW_MS, codec: Codec | None = None) -> EventLog:
        opened.append(adapter(tmp_path, clock, codec or Codec()))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: Callable[..., EventLog]) -> EventLog:
    return open_log()


# ---- positions and times


def test_a_new_log_is_empty(log: EventLog) -> None:
    assert log.head() == 0
    assert log.read(0, 10) == []


def test_positions_are_one_two_three_without_a_gap(log: EventLog) -> None:
    given: list[int] = []
    for size in (1, 3, 1, 200, 2):
        given += log.append(follows(size))
    assert given == list(range(1, 208))
    assert log.head() == 207


def test_what_was_appended_is_there_at_once_with_its_place_time_and_order(log: EventLog) -> None:
    events = [*follows(3), PostLiked(user=1, post=2, author=3), UserDeleted(user=7, carried={"mood": "calm"})]
    assert log.append(events, [5, 6, 7, 8, 9]) == range(1, 6)
    assert log.read(0, 10) == [Recorded(n, n + 4, event) for n, event in enumerate(events, 1)]


def test_the_time_is_the_clock_s_unless_it_is_given(open_log: Callable[..., EventLog]) -> None:
    log = open_log(clock=iter([100, 90, 110]).__next__)
    log.append(follows(2))
    log.append(follows(1), [5])
    log.append(follows(1))
    assert [record.time_ms for record in log.read(0, 10)] == [100, 100, 5, 90]


def test_a_clock_that_jumps_back_changes_neither_order_nor_what_was_recorded(
    open_log: Callable[..., EventLog],
) -> None:
    hour_ms = 3_600_000
    times = [NOW_MS, NOW_MS - hour_ms, NOW_MS + hour_ms, NOW_MS]
    log = open_log(clock=iter(times).__next__)
    for number in range(1, 5):
        assert log.append(follows(1, first=number)) == range(number, number + 1)
    assert [(record.position, record.time_ms) for record in log.read(0, 10)] == list(enumerate(times, 1))


def test_an_empty_group_changes_nothing(log: EventLog) -> None:
    assert list(log.append([])) == []
    log.append(follows(2))
    assert log.append([]) == range(3, 3)
    assert log.head() == 2


def test_an_event_of_every_size_up_to_the_limit_is_read_back(log: EventLog) -> None:
    events: list[Event] = [
        RecordParked(position=1, reason="x" * size) for size in (0, 1, 100, 2000, 4000, 4096, 20_000, 65_000)
    ]
    log.append(events)
    for event in events:
        log.append([event])
    assert [record.event for record in log.read(0, 100)] == [*events, *events]


def test_the_largest_group_is_stored_whole(log: EventLog) -> None:
    assert log.append(follows(APPEND_EVENTS_MAX)) == range(1, APPEND_EVENTS_MAX + 1)
    assert log.read(APPEND_EVENTS_MAX - 1, 5) == recorded(follows(1, first=APPEND_EVENTS_MAX), first=APPEND_EVENTS_MAX)


# ---- all or nothing


@pytest.mark.parametrize("bad", [TOO_LARGE, NOT_TEXT, TOO_GREAT], ids=["too large", "not text", "over 64 bits"])
@pytest.mark.parametrize("index", [0, 1, 3])
def test_one_bad_event_keeps_its_whole_group_out_and_nothing_else(log: EventLog, bad: Event, index: int) -> None:
    log.append(follows(2))
    group = follows(3, first=10)
    group.insert(index, bad)
    with pytest.raises(UndecodableEvent):
        log.append(group)
    assert log.head() == 2
    assert log.append(follows(1, first=3)) == range(3, 4)
    assert log.read(0, 10) == recorded(follows(3))


@pytest.mark.parametrize("times", [[-1, 0], [0, TIME_MS_MAX + 1], [1], [1, 2, 3], [], [2**64, 1]])
def test_a_group_whose_times_cannot_be_recorded_is_kept_out(log: EventLog, times: list[int]) -> None:
    with pytest.raises(ValueError):
        log.append(follows(2), times)
    assert log.head() == 0
    assert log.append(follows(2), [0, TIME_MS_MAX]) == range(1, 3)
    assert [record.time_ms for record in log.read(0, 10)] == [0, TIME_MS_MAX]


def test_a_group_over_the_limit_is_refused_whole(log: EventLog) -> None:
    with pytest.raises(ValueError, match=str(APPEND_EVENTS_MAX)):
        log.append(follows(APPEND_EVENTS_MAX + 1))
    assert log.head() == 0


# ---- reading


@pytest.mark.parametrize("after", [0, 1, 2, 9, 10, 11, 100, 2**48, 2**63])
def test_a_read_is_of_what_lies_above_a_position_up_to_a_limit(log: EventLog, after: int) -> None:
    log.append(follows(10))
    for limit in (-1, 0, 1, 2, 9, 10, 11, 10**9):
        assert log.read(after, limit) == recorded(follows(10))[after : after + max(limit, 0)]


def test_a_record_that_this_version_cannot_read_stops_the_reader_with_its_position(
    open_log: Callable[..., EventLog],
) -> None:
    log = open_log(codec=Refusing())
    log.append([*follows(3), RecordParked(position=1, reason=""), *follows(2, first=5)])
    assert log.read(0, 10) == recorded(follows(3))
    assert log.read(2, 10) == recorded(follows(1, first=3), first=3)
    with pytest.raises(UnknownEventType, match="position 4: RecordParked is unknown"):
        log.read(3, 10)
    assert log.read(4, 10) == recorded(follows(2, first=5), first=5)
    assert log.head() == 6


def test_a_reader_is_given_an_event_of_its_own(log: EventLog) -> None:
    event = UserDeleted(user=1, carried={"list": [1]})
    log.append([event])
    assert event.carried is not None
    event.carried["list"].append(2)
    (first,), (second,) = log.read(0, 1), log.read(0, 1)
    assert first.event.carried == {"list": [1]}
    assert first.event is not second.event


# ---- waiting


def test_waiting_for_what_is_there_returns_at_once(log: EventLog) -> None:
    assert log.wait(0, 0.0)
    log.append(follows(3))
    assert log.wait(3, 0.0)


def test_waiting_for_what_does_not_come_ends_at_the_deadline(log: EventLog) -> None:
    log.append(follows(3))
    assert not log.wait(4, 0.0)
    assert not log.wait(4, 0.02)


def test_a_waiter_is_woken_by_the_append_that_it_waits_for(log: EventLog) -> None:
    woken: list[tuple[bool, int]] = []
    about_to_wait = threading.Event()

    def wait() -> None:
        about_to_wait.set()
        woken.append((log.wait(3, DEADLINE_S), log.head()))

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert about_to_wait.wait(DEADLINE_S)
    log.append(follows(2))
    log.append(follows(1))
    waiter.join(DEADLINE_S)
    assert woken == [(True, 3)]


# ---- many at once


def test_appends_from_many_threads_fall_into_one_order_each_in_its_own(log: EventLog) -> None:
    threads, rounds = 6, 25
    given: dict[int, list[int]] = {name: [] for name in range(threads)}
    start = threading.Barrier(threads)

    def append(name: int) -> None:
        start.wait(DEADLINE_S)
        for number in range(rounds):
            size = 1 + (name + number) % 3
            group: list[Event] = [PostLiked(user=name, post=number, author=index) for index in range(size)]
            given[name] += log.append(group)

    run_together([lambda name=name: append(name) for name in range(threads)])  # type: ignore[misc]

    assert sorted(position for positions in given.values() for position in positions) == list(range(1, log.head() + 1))
    records = {record.position: record.event for record in log.read(0, 10**6)}
    for name, positions in given.items():
        assert positions == sorted(positions)
        expected = [
            PostLiked(user=name, post=number, author=index)
            for number in range(rounds)
            for index in range(1 + (name + number) % 3)
        ]
        assert [records[position] for position in positions] == expected


def test_a_reader_beside_appenders_sees_a_growing_prefix_and_never_half_a_group(log: EventLog) -> None:
    size, rounds, appenders = 3, 30, 3
    whole = 1 if isinstance(log, KafkaEventLog) else size  # Kafka stores record by record
    total = size * rounds * appenders
    seen: list[Recorded] = []

    def append() -> None:
        for number in range(rounds):
            log.append([UserFollowed(follower=number, followee=index) for index in range(size)])

    def read() -> None:
        while len(seen) < total and log.wait(len(seen) + 1, DEADLINE_S):
            new = log.read(len(seen), total)
            assert len(new) % whole == 0
            seen.extend(new)

    run_together([read, *[append] * appenders])
    assert [record.position for record in seen] == list(range(1, total + 1))
    assert seen == log.read(0, total)


def test_a_bad_group_among_good_ones_harms_only_its_own_appender(log: EventLog) -> None:
    refused: list[Exception] = []
    start = threading.Barrier(4)

    def append_good() -> None:
        start.wait(DEADLINE_S)
        for number in range(20):
            log.append(follows(2, first=number))

    def append_bad() -> None:
        start.wait(DEADLINE_S)
        for times, bad in ((None, TOO_LARGE), ([-1], follows(1)[0])) * 10:
            try:
                log.append([bad], times)
            except ValueError as error:
                refused.append(error)

    run_together([append_bad, *[append_good] * 3])
    assert len(refused) == 20
    assert log.head() == 3 * 20 * 2


def run_together(jobs: Sequence[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * DEADLINE_S)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


# ---- two that must agree


class LogsAgree(RuleBasedStateMachine):
    """Memory is the oracle: LMDB, closed and opened again at any moment, answers every call as it does."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=ram_folder()))
        self.now_ms = NOW_MS
        self.memory = MemoryEventLog(self.clock, Refusing())
        self.lmdb = self.opened()

    def clock(self) -> int:
        return self.now_ms

    def opened(self) -> LmdbEventLog:
        return LmdbEventLog(self.folder / "log", clock=self.clock, codec=Refusing())

    def both(self, call: Callable[[EventLog], Any]) -> None:
        assert outcome(call, self.lmdb) == outcome(call, self.memory)

    @rule(by_ms=st.integers(-3_600_000, 3_600_000))
    def the_clock_moves(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule(group=st.lists(events(), max_size=4))
    def append(self, group: list[Event]) -> None:
        self.both(lambda log: log.append(group))

    @rule(size=st.integers(1, 300))
    def append_many(self, size: int) -> None:
        self.both(lambda log: log.append(follows(size)))

    @rule(size=st.integers(0, 3), times=st.lists(st.integers(-1, TIME_MS_MAX + 1), max_size=3))
    def append_with_times(self, size: int, times: list[int]) -> None:
        self.both(lambda log: log.append(follows(size), times))

    @rule(bad=st.sampled_from([TOO_LARGE, NOT_TEXT, TOO_GREAT]), before=st.integers(0, 2))
    def append_what_is_refused(self, bad: Event, before: int) -> None:
        self.both(lambda log: log.append([*follows(before), bad]))

    @rule(back=st.integers(0, 30), limit=st.integers(0, 20))
    def read_near_the_head(self, back: int, limit: int) -> None:
        after = max(self.memory.head() - back, 0)
        self.both(lambda log: log.read(after, limit))

    @rule(after=st.integers(0, 1000), limit=st.integers(0, 1000))
    def read_anywhere(self, after: int, limit: int) -> None:
        self.both(lambda log: log.read(after, limit))

    @rule(ahead=st.integers(-2, 1))
    def wait(self, ahead: int) -> None:
        position = self.memory.head() + ahead
        self.both(lambda log: log.wait(position, 0.0))

    @rule()
    def close_and_open_again(self) -> None:
        self.lmdb.close()
        self.lmdb = self.opened()

    @invariant()
    def the_heads_are_equal(self) -> None:
        assert self.lmdb.head() == self.memory.head()

    def teardown(self) -> None:
        self.both(lambda log: log.read(0, 10**6))
        self.lmdb.close()
        shutil.rmtree(self.folder)


def outcome(call: Callable[[EventLog], Any], log: EventLog) -> Any:
    try:
        return call(log)
    except ValueError as error:
        return type(error), str(error)


TestLogsAgree = LogsAgree.TestCase
TestLogsAgree.settings = settings(PATIENT, max_examples=100, stateful_step_count=25)
