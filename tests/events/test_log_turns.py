"""Whose turn it is to commit, in the log on LMDB: who is interrupted is not waited for, and nobody is passed over."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from darkroom.events.facts import Event, PostLiked
from darkroom.events.log_adapters.lmdb import LmdbEventLog

DEADLINE_S = 30.0


class Turns:
    """A log whose commits begin only when they are let, and the threads that append to it."""

    def __init__(self, path: Path) -> None:
        self.log = LmdbEventLog(path)
        self._commit: Callable[[Any], None] = self.log._commit
        self._let, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self._threads = ThreadPoolExecutor(20)

    def commit(self, group: Any) -> None:
        self.begun.release()
        assert self._let.acquire(timeout=DEADLINE_S)
        self._commit(group)

    def let(self, commits: int = 1) -> None:
        self._let.release(commits)

    def append(self, user: int) -> "Future[range]":
        """In a thread of its own; returns when it commits or waits in line."""
        waiting = len(self.log._line)
        leads = self.log._has_turn is None
        future = self._threads.submit(self.log.append, [event(user)])
        if leads:
            assert self.begun.acquire(timeout=DEADLINE_S)
        else:
            until(lambda: len(self.log._line) == waiting + 1, f"{user} waits in line")
        return future

    def interrupt_once(self, ready: Callable[[], bool]) -> "Future[None]":
        """Send this process what Ctrl-C does, which is for the main thread."""

        def send() -> None:
            until(ready, "somebody waits in line")
            os.kill(os.getpid(), signal.SIGINT)

        return self._threads.submit(send)

    def users(self) -> list[int]:
        records = self.log.read(0, 100)
        return [record.event.user for record in records if isinstance(record.event, PostLiked)]

    def close(self) -> None:
        self.let(100)
        self._threads.shutdown()
        self.log.close()


def event(user: int) -> Event:
    return PostLiked(user=user, post=1, author=2)


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    turns = Turns(tmp_path / "log")
    monkeypatch.setattr(turns.log, "_commit", turns.commit)
    yield turns
    turns.close()


def test_all_who_wait_share_the_next_commit_in_the_order_in_which_they_came(turns: Turns) -> None:
    appends = [turns.append(user) for user in range(1, 6)]
    turns.let(2)
    assert [append.result(DEADLINE_S) for append in appends] == [range(n, n + 1) for n in range(1, 6)]
    assert turns.users() == [1, 2, 3, 4, 5]
    assert turns.log._environment.env.info()["last_txnid"] == 2


def test_who_is_interrupted_while_waiting_in_line_is_not_stored_and_holds_nobody_up(turns: Turns) -> None:
    first = turns.append(1)
    sent = turns.interrupt_once(lambda: len(turns.log._line) == 1)
    with pytest.raises(KeyboardInterrupt):
        turns.log.append([event(2)])
    sent.result(DEADLINE_S)
    third = turns.append(3)
    turns.let(2)
    assert (first.result(DEADLINE_S), third.result(DEADLINE_S)) == (range(1, 2), range(2, 3))
    assert turns.users() == [1, 3]


def test_who_is_interrupted_while_its_events_are_committed_by_another_leaves_no_gap_in_the_line(turns: Turns) -> None:
    first, second = turns.append(1), turns.append(2)

    def lead_by_the_second() -> None:
        until(lambda: len(turns.log._line) == 2, "the second and the third wait in line")
        others.append(turns.append(4))
        turns.let()
        assert turns.begun.acquire(timeout=DEADLINE_S)
        os.kill(os.getpid(), signal.SIGINT)

    others: list[Future[range]] = []
    led = turns._threads.submit(lead_by_the_second)
    with pytest.raises(KeyboardInterrupt):
        turns.log.append([event(3)])
    led.result(DEADLINE_S)
    turns.let()
    assert [append.result(DEADLINE_S) for append in (first, second, *others)] == [range(1, 2), range(2, 3), range(4, 5)]
    assert turns.users() == [1, 2, 3, 4]
    turns.let()
    assert turns.log.append([event(5)]) == range(5, 6)


def test_closing_waits_for_those_in_line_and_comes_before_those_who_come_later(turns: Turns) -> None:
    first, second = turns.append(1), turns.append(2)
    closing = turns._threads.submit(turns.log.close)
    until(lambda: len(turns.log._line) == 2, "closing waits in line")
    turns.let(2)
    closing.result(DEADLINE_S)
    assert (first.result(DEADLINE_S), second.result(DEADLINE_S)) == (range(1, 2), range(2, 3))
