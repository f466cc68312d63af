"""Appends from one event loop: gathered in groups, and yet each caller hears of its own event alone."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from event_strategies import PATIENT, events
from hypothesis import given
from hypothesis import strategies as st
from services.kafka_topics import dropped_topic
from services.services import Services
from waiting import until

from darkroom.events.codec import EVENT_BYTES_MAX, UndecodableEvent, encode
from darkroom.events.facts import Event, PostLiked, ProfileChanged, personal
from darkroom.events.log import (
    EventLog,
    LogBusy,
    LogError,
    LogFull,
    LogStopped,
    LogUnreachable,
    OutcomeUnknown,
)
from darkroom.events.log_adapters.kafka import KafkaEventLog
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.gateway import writes
from darkroom.gateway.writes import Appends

WAIT_S = 60.0
BAD = PostLiked(user=2**70, post=1, author=1)


def like(number: int) -> Event:
    return PostLiked(user=number, post=1, author=1)


class HeldLog(MemoryEventLog):
    """Its appends wait until they are let go; `groups` has the size of each, also of those that failed."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.failure: LogError | None = None
        self._begun = threading.Semaphore(0)
        self._may_go = threading.Semaphore(0)

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> range:
        self.groups.append(len(events))
        self._begun.release()
        assert self._may_go.acquire(timeout=WAIT_S)
        if self.failure is not None:
            raise self.failure
        return super().append(events, times_ms)

    async def begun(self) -> None:
        """Return once another append is under way."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=WAIT_S)

    def let_go(self, appends: int = 1) -> None:
        self._may_go.release(appends)


class Held:
    """A group of one, the event 0, under way on a log that holds it."""

    def __init__(self) -> None:
        self.log = HeldLog()
        self.appends = Appends(self.log)

    async def begin(self) -> None:
        self.first = (await self.call(like(0)))[0]
        await self.log.begun()

    async def call(self, *events: Event) -> list[asyncio.Task[int]]:
        """Callers who have all come as far as waiting, or have failed."""
        callers = [asyncio.create_task(self.appends.append(event)) for event in events]
        await asyncio.sleep(0)
        return callers

    def stored(self) -> list[Event]:
        return [record.event for record in self.log.read(0, 1000)]


def trial(steps: Callable[[Held], Coroutine[None, None, None]]) -> None:
    held = Held()

    async def run() -> None:
        await held.begin()
        try:
            await asyncio.wait_for(steps(held), WAIT_S)
        finally:
            held.log.let_go(1000)

    try:
        asyncio.run(run())
    finally:
        held.appends.close()


def heard(callers: Sequence[asyncio.Task[int]]) -> asyncio.Future[list[int | BaseException]]:
    return asyncio.gather(*callers, return_exceptions=True)


def test_what_comes_while_an_append_is_under_way_goes_to_the_log_in_one() -> None:
    async def steps(held: Held) -> None:
        callers = await held.call(*(like(number) for number in range(1, 100)))
        held.log.let_go(2)
        assert await heard([held.first, *callers]) == list(range(1, 101))
        assert held.log.groups == [1, 99]
        assert held.stored() == [like(number) for number in range(100)]

    trial(steps)


def test_an_event_that_cannot_be_stored_fails_its_own_caller_only() -> None:
    async def steps(held: Held) -> None:
        good, bad, other = await held.call(like(1), BAD, like(2))
        with pytest.raises(UndecodableEvent, match="64 bits"):
            await bad
        held.log.let_go(2)
        assert await heard([good, other]) == [2, 3]

    trial(steps)


def test_who_is_cancelled_while_waiting_has_appended_nothing_and_harms_nobody() -> None:
    async def steps(held: Held) -> None:
        gone, *others = await held.call(like(1), like(2), like(3))
        gone.cancel()
        held.first.cancel()
        held.log.let_go(2)
        assert await heard(others) == [2, 3]
        assert held.stored() == [like(0), like(2), like(3)], "what the log had already been given is stored"
        assert gone.cancelled()
        assert held.first.cancelled()

    trial(steps)


def test_after_all_who_waited_are_cancelled_the_next_is_appended() -> None:
    async def steps(held: Held) -> None:
        gone = await held.call(like(1))
        gone[0].cancel()
        held.log.let_go(2)
        await held.first
        assert await heard(await held.call(like(2))) == [2]
        assert held.log.groups == [1, 1]

    trial(steps)


@pytest.mark.parametrize("kind", [LogFull, LogBusy, LogStopped, LogUnreachable, OutcomeUnknown])
def test_what_kept_a_group_out_is_told_to_all_of_it_and_to_nobody_else(kind: type[LogError]) -> None:
    async def steps(held: Held) -> None:
        callers = await held.call(like(1), like(2), like(3))
        held.log.let_go()
        assert await held.first == 1
        await held.log.begun()
        held.log.failure = kind("on purpose")
        [later] = await held.call(like(4))
        held.log.let_go()
        assert [type(outcome) for outcome in await heard(callers)] == [kind] * 3
        await held.log.begun()
        held.log.failure = None
        held.log.let_go()
        assert await later == 2

    trial(steps)


def test_more_events_than_may_wait_are_refused_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "WAITING_EVENTS_MAX", 3)

    async def steps(held: Held) -> None:
        *callers, refused = await held.call(*(like(number) for number in range(1, 5)))
        with pytest.raises(LogBusy, match="3 events wait to be appended; the limit is 3"):
            await refused
        held.log.let_go(2)
        assert await heard(callers) == [2, 3, 4]
        held.log.let_go()
        assert await heard(await held.call(like(5))) == [5], "there is room again"

    trial(steps)


def test_more_bytes_than_may_wait_are_refused_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    large = ProfileChanged(user=1, bio=personal("x" * (EVENT_BYTES_MAX - 100)))
    size = len(encode(large))
    monkeypatch.setattr(writes, "WAITING_BYTES_MAX", 2 * size)

    async def steps(held: Held) -> None:
        *callers, refused = await held.call(large, large, like(1))
        with pytest.raises(LogBusy, match=f"{2 * size} bytes wait to be appended; the limit is {2 * size}"):
            await refused
        held.log.let_go(2)
        assert await heard(callers) == [2, 3]
        held.log.let_go()
        assert await heard(await held.call(like(2))) == [4], "there is room again"

    trial(steps)


def test_closing_waits_for_what_is_under_way_and_refuses_the_rest() -> None:
    async def steps(held: Held) -> None:
        behind = await held.call(like(1), like(2))
        closing = asyncio.create_task(asyncio.to_thread(held.appends.close))
        await asyncio.to_thread(until, lambda: held.appends._thread._shutdown, "no more is taken")
        assert not closing.done()
        held.log.let_go()
        await closing
        assert await held.first == 1
        [one, other, later] = await heard([*behind, *await held.call(like(3))])
        assert [type(outcome) for outcome in (one, other, later)] == [LogStopped] * 3
        assert held.stored() == [like(0)]

    trial(steps)


async def append_all(appends: Appends, writers: list[list[Event]]) -> list[list[int | None]]:
    """What each writer was told of its events, which it appends one after another; None of one that was refused."""

    async def write(mine: list[Event]) -> list[int | None]:
        told: list[int | None] = []
        for event in mine:
            try:
                told.append(await appends.append(event))
            except UndecodableEvent:
                told.append(None)
        return told

    return await asyncio.wait_for(asyncio.gather(*(write(mine) for mine in writers)), WAIT_S)


def check(log: EventLog, writers: list[list[Event]]) -> None:
    """Each is given the positions of its own events, ascending; all are there once, and nothing else is."""
    appends = Appends(log)
    try:
        told = asyncio.run(append_all(appends, writers))
    finally:
        appends.close()
    stored: dict[int, bytes] = {}
    for mine, positions in zip(writers, told, strict=True):
        good = [(position, event) for position, event in zip(positions, mine, strict=True) if position is not None]
        assert len(mine) - len(good) == mine.count(BAD)
        assert [position for position, _ in good] == sorted(position for position, _ in good)
        for position, event in good:
            assert position not in stored
            stored[position] = encode(event)
    assert {record.position: encode(record.event) for record in log.read(0, log.head() + 1)} == stored


@PATIENT
@given(st.lists(st.lists(events() | st.just(BAD), max_size=5), max_size=8))
def test_every_writer_is_told_the_positions_of_its_own_events(writers: list[list[Event]]) -> None:
    check(MemoryEventLog(), writers)


@contextmanager
def on_lmdb(service: Services, folder: Path) -> Iterator[EventLog]:  # noqa: ARG001
    log = LmdbEventLog(folder / "log")
    yield log
    log.close()


@contextmanager
def on_kafka(service: Services, folder: Path) -> Iterator[EventLog]:
    with dropped_topic(service("kafka"), deadline_s=WAIT_S) as address:
        log = KafkaEventLog(address, folder / "mirror")
        yield log
        log.close()


@pytest.mark.parametrize("opened", [on_lmdb, pytest.param(on_kafka, marks=pytest.mark.services)])
def test_so_it_is_on_every_log(
    opened: Callable[[Services, Path], AbstractContextManager[EventLog]], service: Services, tmp_path: Path
) -> None:
    writers = [[like(64 * turn + number) for turn in range(5)] for number in range(64)]
    with opened(service, tmp_path) as log:
        check(log, writers)
