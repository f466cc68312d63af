"""So many at once, so many waiting, and no more."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom.gateway.turns import TooBusy, Turns


def test_as_many_as_allowed_work_at_once_and_the_rest_wait_their_turn() -> None:
    turns, both_in = Turns("work", at_once=2, waiting_max=10, wait_s=10), threading.Barrier(2, timeout=10)
    lock, now, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with turns.turn():
            with lock:
                now += 1
                most = max(most, now)
            both_in.wait()
            with lock:
                now -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(12)))
    assert most == 2


def test_one_more_than_may_wait_is_told_at_once_and_places_are_given_back() -> None:
    turns = Turns("work", at_once=1, waiting_max=0, wait_s=10)
    for _ in range(3):
        with turns.turn(), pytest.raises(TooBusy, match="work"), turns.turn():
            pass


def test_nobody_waits_for_longer_than_the_limit() -> None:
    turns = Turns("work", at_once=1, waiting_max=1, wait_s=0.01)
    for _ in range(3):
        with turns.turn(), pytest.raises(TooBusy, match=r"0\.01 s"), turns.turn():
            pass


def test_a_turn_that_fails_is_given_back() -> None:
    turns = Turns("work", at_once=1, waiting_max=0, wait_s=10)
    for _ in range(3):
        with pytest.raises(KeyError), turns.turn():
            raise KeyError
