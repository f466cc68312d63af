"""Turns at work that is dear: so many at once, so many waiting, and the next is told at once that it is too busy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooBusy(Exception):
    """Too many wait already, or the wait was too long. Nothing was begun; try again later (HTTP says 503)."""


class Turns:
    """At most `at_once` callers in `turn()`, at most `waiting_max` waiting for it, none for longer than `wait_s`."""

    def __init__(self, what: str, at_once: int, waiting_max: int, wait_s: float) -> None:
        self._what = what
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._places = threading.BoundedSemaphore(at_once + waiting_max)
        self._working = threading.BoundedSemaphore(at_once)

    @contextmanager
    def turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise TooBusy(f"{self._waiting_max} wait for {self._what} already; try again later")
        try:
            if not self._working.acquire(timeout=self._wait_s):
                raise TooBusy(f"{self._what} had no turn free in {self._wait_s:g} s; try again later")
            try:
                yield
            finally:
                self._working.release()
        finally:
            self._places.release()
