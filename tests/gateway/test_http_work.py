"""How many may wait for the threads that touch files, and for how long."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from darkroom.gateway.http.errors import Refused
from darkroom.gateway.http.limits import Limits
from darkroom.gateway.http.work import FILE_THREADS, Work

AT_ONCE = FILE_THREADS + 4
WorkOf = Callable[[Limits], Work]


class Hanging:
    """What is done on a thread, until it is told to go on. It notes how often it was begun."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.begun = threading.Semaphore(0)
        self.begun_count = 0
        self._lock = threading.Lock()

    def __call__(self) -> bool:
        with self._lock:
            self.begun_count += 1
        self.begun.release()
        return self.goes_on.wait()

    def await_begun(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=30)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.goes_on.set()


@pytest.fixture
def work_of(hanging: Hanging) -> Iterator[WorkOf]:
    made: list[Work] = []

    def make(limits: Limits) -> Work:
        made.append(Work(cast(Any, None), limits))
        return made[-1]

    yield make
    hanging.goes_on.set()
    for work in made:
        work.close()


def refused(outcome: object) -> bool:
    return isinstance(outcome, Refused) and outcome.status == 503 and outcome.headers["Retry-After"] == "1"


def test_one_more_than_may_is_refused_until_a_place_is_free(hanging: Hanging, work_of: WorkOf) -> None:
    work = work_of(Limits(files_at_once=AT_ONCE, file_wait_s=60))

    async def one_too_many() -> None:
        under_way = [asyncio.create_task(work.on_file_thread(hanging)) for _ in range(AT_ONCE)]
        await asyncio.to_thread(hanging.await_begun, FILE_THREADS)
        with pytest.raises(Refused, match="too many photos") as error:
            await work.on_file_thread(hanging)
        assert refused(error.value)
        hanging.goes_on.set()
        assert await asyncio.gather(*under_way) == AT_ONCE * [True]
        assert await work.on_file_thread(hanging)

    asyncio.run(asyncio.wait_for(one_too_many(), 60))


def test_what_waits_too_long_for_a_thread_is_refused_and_never_begun(hanging: Hanging, work_of: WorkOf) -> None:
    work = work_of(Limits(files_at_once=AT_ONCE, file_wait_s=0.05))

    async def waited() -> None:
        tasks = [asyncio.create_task(work.on_file_thread(hanging)) for _ in range(AT_ONCE)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(hanging.await_begun, FILE_THREADS)
        while sum(task.done() for task in tasks) < AT_ONCE - FILE_THREADS:
            await asyncio.sleep(0.001)
        hanging.goes_on.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(map(refused, outcomes)) == AT_ONCE - FILE_THREADS
        assert outcomes.count(True) == FILE_THREADS, "what was begun is waited for"

    asyncio.run(asyncio.wait_for(waited(), 60))
    assert hanging.begun_count == FILE_THREADS


def test_what_fails_on_a_thread_fails_for_whoever_asked(work_of: WorkOf) -> None:
    work = work_of(Limits())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(work.on_file_thread(divmod, 1, 0))
