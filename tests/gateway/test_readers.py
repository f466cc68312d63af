"""When a shard is left out of a read for lagging, and for whom a write waits."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from darkroom.actors.shard import Shard
from darkroom.events.facts import Event, PostLiked, UserRegistered, personal
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.gateway import readers as readers_module
from darkroom.gateway.credentials import Grant
from darkroom.gateway.http.call import Access, Call
from darkroom.gateway.readers import READ_THREADS, Readers
from darkroom.gateway.writes import Writer, Written
from darkroom.projections.generations import FolderGenerations, Generation, Pointer, write_pointer
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import StoreBusy, StoreUnavailable

LONG_AGO_MS = 1_700_000_000_000
USERS = range(1, 9)


class Small:
    """Eight people in two shards that fold when they are told to."""

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        self.log = MemoryEventLog()
        people: list[Event] = [UserRegistered(username=personal(f"u{n}"), display_name=personal("")) for n in USERS]
        self.log.append(people, [LONG_AGO_MS] * len(people))
        self.generation = Generation(folder, 1, 2, create=True)
        write_pointer(folder, Pointer(1, 2, 1))
        self.shards = [Shard(self.log, store, FoldSettings()) for store in self.generation.stores]
        self.readers = Readers(FolderGenerations(folder), self.log, max_lag_ms=1000, clock=clock)

    def lagging(self) -> set[int]:
        def touch_all(reading: Reading) -> set[int]:
            for shard in range(reading.shards):
                reading.shard(shard)
            return set(reading.lagging)

        return self.readers.read(touch_all)

    def close(self) -> None:
        self.readers.close()
        self.generation.close()


@pytest.fixture
def now_ms() -> list[int]:
    return [5_000]


@pytest.fixture
def small(tmp_path: Path, now_ms: list[int]) -> Iterator[Small]:
    world = Small(tmp_path, lambda: now_ms[0])
    yield world
    world.close()


def test_a_shard_lags_by_how_long_it_was_seen_waiting_not_by_the_times_of_its_records(
    small: Small, now_ms: list[int]
) -> None:
    small.shards[0].step(100)
    small.shards[1].step(3)
    assert small.lagging() == set(), "years old records, but nobody has waited yet"
    now_ms[0] += 999
    assert small.lagging() == set()
    now_ms[0] += 1
    assert small.lagging() == {1}
    small.shards[1].step(100)
    assert small.lagging() == set()
    small.log.append([PostLiked(user=1, post=1, author=1)], [LONG_AGO_MS])
    assert small.lagging() == set(), "the wait for a new head begins anew"


def test_what_was_answered_of_one_generation_is_not_of_the_next(small: Small, tmp_path: Path) -> None:
    made = 0

    def make(reading: Reading) -> tuple[int, ...]:
        nonlocal made
        made += 1
        return tuple(reading.shard(shard).sizes(("timelines",), [1])[0][0] for shard in range(reading.shards))

    def answered() -> tuple[int, ...]:
        return small.readers.read(lambda reading: reading.answer("who", 1, lambda: make(reading), len))

    assert [answered(), answered(), made] == [(0, 0), (0, 0), 1]
    Generation(tmp_path, 2, 1, create=True).close()
    write_pointer(tmp_path, Pointer(2, 1, 2))
    assert [answered(), answered(), made] == [(0,), (0,), 2]


def test_a_write_waits_for_the_shards_of_those_it_names_and_no_others(small: Small) -> None:
    one = next(user for user in USERS if shard_of(user, 2) == 0)
    other = next(user for user in USERS if shard_of(user, 2) == 1)
    for shard in small.shards:
        shard.step(100)
    writer = Writer(small.log, small.readers, wait_ms=0)
    position = asyncio.run(writer.write(PostLiked(user=one, post=1, author=one), {one})).position
    small.shards[0].step(100)
    assert small.readers.reached(position, {one})
    assert not small.readers.reached(position, {one, other})
    while shard_of(small.log.head() + 1, 2) == 0:
        small.log.append([PostLiked(user=one, post=1, author=one)])
    small.shards[0].step(100)

    async def fold_when_appended() -> bool:
        write = asyncio.create_task(writer_patient.write(PostLiked(user=one, post=1, author=one), {one}))
        head = small.log.head()
        while small.log.head() == head:
            await asyncio.sleep(0)
        small.shards[0].step(100)
        return (await write).visible

    writer_patient = Writer(small.log, small.readers, wait_ms=30_000)
    assert asyncio.run(fold_when_appended()), "its position would hash to the shard that stands still"
    writer.close()
    writer_patient.close()


class Unanswered(FolderGenerations):
    """Generations on a server that takes what it is asked, and answers when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers = threading.Event()

    def look(self) -> object:
        self.answers.wait()
        return super().look()


def test_a_write_is_answered_in_its_time_though_the_views_do_not_answer_at_all(small: Small, tmp_path: Path) -> None:
    generations = Unanswered(tmp_path)
    readers = Readers(generations, small.log, remote=True)
    writer = Writer(small.log, readers, wait_ms=20)

    async def written() -> Written:
        return await asyncio.wait_for(writer.write(PostLiked(user=1, post=1, author=1), {1}), 30)

    try:
        assert asyncio.run(written()) == Written(small.log.head(), visible=False)
    finally:
        generations.answers.set()
        writer.close()
        readers.close()


def test_a_look_up_that_nobody_waits_for_any_more_keeps_its_place_until_it_ends(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_module, "ASKED_MAX", 1)
    readers = Readers(FolderGenerations(tmp_path), small.log, remote=True)
    begun, answers = threading.Event(), threading.Event()

    def hang() -> bool:
        begun.set()
        return answers.wait()

    async def given_up() -> None:
        waiting = asyncio.create_task(readers.ask(hang))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        with pytest.raises(StoreBusy):
            await readers.ask(lambda: True)
        answers.set()
        while True:
            with suppress(StoreBusy):
                assert await readers.ask(lambda: True)
                return
            await asyncio.sleep(0.001)

    try:
        asyncio.run(asyncio.wait_for(given_up(), 30))
    finally:
        answers.set()
        readers.close()


class Hanging:
    """Readers of a server that takes what it is asked, and answers when it is told to."""

    def __init__(self, small: Small, folder: Path, deadline_s: float) -> None:
        self.readers = Readers(FolderGenerations(folder), small.log, remote=True, deadline_s=deadline_s)
        self.answers = threading.Event()
        self.begun = 0
        self._lock = threading.Lock()

    def hang(self) -> bool:
        with self._lock:
            self.begun += 1
        return self.answers.wait()

    def close(self) -> None:
        self.answers.set()
        self.readers.close()


@pytest.fixture
def hanging(small: Small, tmp_path: Path) -> Iterator[Hanging]:
    hanging = Hanging(small, tmp_path, deadline_s=0.05)
    yield hanging
    hanging.close()


def test_all_who_ask_a_server_that_hangs_are_answered_by_the_deadline_and_leave_the_queue(hanging: Hanging) -> None:
    async def asked() -> list[object]:
        askers = (hanging.readers.ask(hanging.hang) for _ in range(200))
        return await asyncio.gather(*askers, return_exceptions=True)

    async def asked_until_it_answers() -> bool:
        while True:
            with suppress(StoreUnavailable):
                return await hanging.readers.ask(lambda: True)

    answers = asyncio.run(asyncio.wait_for(asked(), 30))
    assert [type(answer) for answer in answers] == 200 * [StoreUnavailable]
    hanging.answers.set()
    assert asyncio.run(asyncio.wait_for(asked_until_it_answers(), 30))
    assert hanging.begun == READ_THREADS, "what nobody waits for any more is not begun"


def test_what_a_question_itself_runs_out_of_time_for_is_not_the_deadline(small: Small, tmp_path: Path) -> None:
    hanging = Hanging(small, tmp_path, deadline_s=30)

    def run_out_of_time() -> None:
        raise TimeoutError("of its own")

    try:
        with pytest.raises(TimeoutError, match="of its own"):
            asyncio.run(hanging.readers.ask(run_out_of_time))
    finally:
        hanging.close()


def test_who_called_before_is_known_where_no_thread_can_ask_for_their_token_in_time(hanging: Hanging) -> None:
    class Remembered:
        def resolve(self, token: str) -> Grant | None:  # noqa: ARG002
            hanging.hang()
            return None

        def remembered(self, token: str) -> Grant | None:
            return Grant(1, frozenset({"write"})) if token == "known" else None

    async def viewer(token: str) -> int | None:
        gateway = SimpleNamespace(settings=None, credentials=Remembered(), readers=hanging.readers)
        request = SimpleNamespace(query=b"", headers={"authorization": f"Bearer {token}"})
        call = Call(cast(Any, request), cast(Any, gateway), cast(Any, None))
        await call.admit(Access(("write",)))
        return call.viewer

    assert asyncio.run(viewer("known")) == 1
    with pytest.raises(StoreUnavailable):
        asyncio.run(viewer("unknown"))
