"""The log on Kafka while its server is frozen, killed and started again: on a server of its own, not the shared one."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from services.kafka_topics import dropped_topic
from services.services import Address, control, own_folder, started
from waiting import until

from darkroom.events.facts import Event, PostLiked, PostPublished, Recorded, UserDeleted, personal
from darkroom.events.log import APPEND_EVENTS_MAX, LogBusy, LogError, LogUnreachable, OutcomeUnknown
from darkroom.events.log_adapters.kafka import KafkaAddress, KafkaEventLog
from darkroom.events.log_adapters.kafka_appender import WAITING_EVENTS_MAX

pytestmark = [pytest.mark.services, pytest.mark.own_servers]
DEADLINE_S = 60.0
SENT_S = 10.0
OURS_S = 3.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a Kafka that these tests may kill; it shares only the jars."""
    folder = own_folder(tmp_path_factory.mktemp("kafka") / "services")
    started("kafka", folder)
    yield folder
    control("stop", folder=folder)


@pytest.fixture
def where(server: Path) -> Address:
    return started("kafka", server)


@pytest.fixture
def address(where: Address) -> Iterator[KafkaAddress]:
    with dropped_topic(where, deadline_s=DEADLINE_S) as address:
        yield address


@pytest.fixture
def patient(address: KafkaAddress, server: Path, tmp_path: Path) -> Iterator[KafkaEventLog]:
    """A log of one event, which waits for as long as a slow machine may need."""
    with opened(address, tmp_path / "patient") as log:
        log.append([UserDeleted(user=1)])
        yield log
        started("kafka", server)


@pytest.fixture
def log(address: KafkaAddress, patient: KafkaEventLog, tmp_path: Path) -> Iterator[KafkaEventLog]:  # noqa: ARG001
    """The same with a short deadline."""
    with opened(replace(address, deadline_s=OURS_S), tmp_path / "mirror") as log:
        yield log


class opened:  # noqa: N801
    """A log that is closed at the end."""

    def __init__(self, address: KafkaAddress, mirror: Path) -> None:
        self._log = KafkaEventLog(address, mirror)

    def __enter__(self) -> KafkaEventLog:
        return self._log

    def __exit__(self, *exception: object) -> None:
        self._log.close()


def freeze(where: Address) -> None:
    os.kill(where["process"]["pid"], signal.SIGSTOP)


def thaw(where: Address) -> None:
    os.kill(where["process"]["pid"], signal.SIGCONT)


def users(log: KafkaEventLog) -> list[int]:
    return [record.event.user for record in log.read(0, 10**6) if isinstance(record.event, UserDeleted)]


def until_it_answers(log: KafkaEventLog) -> None:
    until(lambda: log.append([UserDeleted(user=0)]), "an append", meanwhile=LogUnreachable)


class Appending:
    """An append on a thread of its own: `outcome` is its positions or its error."""

    def __init__(self, log: KafkaEventLog, events: list[Event]) -> None:
        self.outcome: list[int] | LogError | None = None
        self._log = log
        self._events = events
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = list(self._log.append(self._events))
        except LogError as error:
            self.outcome = error

    def join(self) -> "list[int] | LogError | None":
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return self.outcome


def test_an_append_to_a_server_that_pauses_is_stored_once_when_it_goes_on(
    patient: KafkaEventLog, where: Address
) -> None:
    freeze(where)
    appending = Appending(patient, [UserDeleted(user=2), UserDeleted(user=3)])
    threading.Timer(OURS_S / 2, thaw, [where]).start()
    assert appending.join() == [2, 3]
    assert users(patient) == [1, 2, 3]


def test_a_server_that_stays_frozen_is_told_by_the_deadline_and_nothing_is_stored_twice(
    log: KafkaEventLog, where: Address
) -> None:
    assert users(log) == [1]
    freeze(where)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown, match=r"did not acknowledge an append within 3 s.*it may yet be stored"):
        log.append([UserDeleted(user=2)])
    assert time.monotonic() - began < OURS_S + 20

    began = time.monotonic()
    for _ in range(10):
        with pytest.raises(LogUnreachable, match="has not acknowledged an earlier append for over 3 s"):
            log.append([UserDeleted(user=3)])
    assert time.monotonic() - began < 10 * OURS_S, "what cannot succeed was waited for"
    assert users(log) == [1], "what is on the node can be read all the time"
    with pytest.raises(LogUnreachable, match="has not answered for"):
        until(lambda: log.head() < 0, "an error")

    thaw(where)
    until_it_answers(log)
    assert log.append([UserDeleted(user=4)])
    assert users(log) == [1, 2, 0, 4]


def test_what_would_wait_beyond_the_limit_is_refused_and_what_waits_is_stored(
    patient: KafkaEventLog, where: Address
) -> None:
    freeze(where)
    group: list[Event] = [UserDeleted(user=2)] * APPEND_EVENTS_MAX
    appending = [Appending(patient, group) for _ in range(WAITING_EVENTS_MAX // APPEND_EVENTS_MAX)]
    line = line_of(patient)
    until(lambda: sum(ticket.count for ticket in list(line._waiting)) == WAITING_EVENTS_MAX, "a full line")
    with pytest.raises(LogBusy, match="400000 events wait to be appended; the limit is 400000"):
        patient.append([UserDeleted(user=3)])
    thaw(where)
    for one in appending:
        one.join()
    assert Counter(record.event for record in read_all(patient))[UserDeleted(user=2)] == WAITING_EVENTS_MAX


def test_what_the_producer_cannot_tell_is_found_in_the_topic_by_its_token(
    patient: KafkaEventLog, where: Address
) -> None:
    long = PostPublished(author=1, caption=personal("x" * 10_000))
    for head in range(1, 9, 2):  # beside other work nothing was sent at times, and why is not known
        freeze(where)
        appending = Appending(patient, [long, long])
        if lie_unread(where):
            break
        thaw(where)
        assert appending.join() == [head + 1, head + 2]
    assert lie_unread(where), "a server that has been sent both, and does not read them"
    line_of(patient).condemn()
    thaw(where)
    assert appending.join() == [head + 1, head + 2]
    assert patient.append([UserDeleted(user=4)]) == range(head + 3, head + 4), "another producer goes on"
    found = [record.event for record in read_all(patient)]
    assert found == [UserDeleted(user=1), *([long] * (head + 1)), UserDeleted(user=4)]


def lie_unread(where: Address) -> bool:
    """Whether two long events, or more, are soon where the frozen server has been sent them and has not read them."""
    with suppress(AssertionError):
        return until(lambda: unread_bytes(where["port"]) > 20_000, "both sent", SENT_S)
    return False


def unread_bytes(port: int) -> int:
    """The most that any connection to the port holds for its reader, as the kernel tells it."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return max(int(row[4].partition(":")[2], 16) for row in rows if int(row[1].partition(":")[2], 16) == port)


def line_of(log: KafkaEventLog) -> Any:
    """The producer of a log that is appended to."""
    return until(lambda: log._appender._line, "a producer")


def test_what_is_not_found_by_the_deadline_is_neither_success_nor_failure(log: KafkaEventLog, where: Address) -> None:
    freeze(where)
    appending = Appending(log, [UserDeleted(user=2)])
    line = line_of(log)
    until(lambda: line._waiting, "an append under way")
    line.condemn()
    outcome = appending.join()
    assert isinstance(outcome, OutcomeUnknown)
    assert "0 of 1 appended records were found" in str(outcome)
    thaw(where)
    until_it_answers(log)
    assert users(log) in ([1, 0], [1, 2, 0])


def kill(server: Path) -> None:
    os.kill(started("kafka", server)["process"]["pid"], signal.SIGKILL)
    started("kafka", server)


def freeze_for(seconds: float, server: Path) -> None:
    where = started("kafka", server)
    freeze(where)
    threading.Event().wait(seconds)
    thaw(where)


@pytest.mark.parametrize(
    ("harm", "times"),
    [
        pytest.param(kill, 1, id="killed"),
        pytest.param(partial(freeze_for, 2 * OURS_S), 1, id="frozen for 6 s", marks=pytest.mark.soak),
        pytest.param(kill, 5, id="killed five times", marks=pytest.mark.soak),
        pytest.param(partial(freeze_for, 60.0), 1, id="frozen for 60 s", marks=pytest.mark.soak),
    ],
)
def test_harmed_under_load_every_acknowledged_event_is_there_once_in_its_order(
    log: KafkaEventLog, server: Path, harm: Callable[[Path], None], times: int
) -> None:
    acknowledged: dict[int, list[tuple[int, int]]] = {name: [] for name in range(4)}
    unknown, refused = Counter[int](), Counter[int]()
    stopping = threading.Event()

    def load(name: int) -> None:
        serial = 0
        while not stopping.is_set():
            events: list[Event] = [PostLiked(user=name, post=serial + index, author=1) for index in range(1 + name)]
            try:
                positions = log.append(events)
                acknowledged[name] += [(position, serial + index) for index, position in enumerate(positions)]
            except OutcomeUnknown:
                unknown[name] += len(events)
            except LogUnreachable:
                refused[name] += 1
                stopping.wait(0.05)
            serial += len(events)

    threads = [threading.Thread(target=load, args=(name,)) for name in acknowledged]
    for thread in threads:
        thread.start()
    for _ in range(times):
        await_progress(acknowledged)
        harm(server)
    await_progress(acknowledged)
    stopping.set()
    for thread in threads:
        thread.join(DEADLINE_S)

    until(lambda: log.wait(log.head(), 1.0), "all of the log")
    stored = {record.position: record.event for record in read_all(log)}
    assert sorted(stored) == list(range(1, len(stored) + 1))
    stored_times = Counter((e.user, e.post) for e in stored.values() if isinstance(e, PostLiked))
    assert set(stored_times.values()) == {1}, "an event was stored twice"
    for name, done in acknowledged.items():
        assert [position for position, _ in done] == sorted(position for position, _ in done)
        for position, serial in done:
            assert stored[position] == PostLiked(user=name, post=serial, author=1)
    total = sum(len(done) for done in acknowledged.values())
    print(
        f"R18 Kafka harmed {times} times under load: {total} acknowledged, all there once and in order;",
        f"{unknown.total()} of unknown outcome, {len(stored_times) - total} of them stored; {refused.total()} refused",
    )
    assert len(stored_times) - total <= unknown.total()


def await_progress(acknowledged: dict[int, list[tuple[int, int]]], events: int = 200) -> None:
    before = {name: len(done) for name, done in acknowledged.items()}
    until(lambda: all(len(acknowledged[name]) > count + events for name, count in before.items()), "appends")


def read_all(log: KafkaEventLog) -> list[Recorded]:
    found: list[Recorded] = []
    while records := log.read(len(found), 10_000):
        found += records
    return found
