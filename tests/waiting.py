"""Waiting for what another thread, process or server brings about: no longer than it takes, and never for ever."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...]
WAIT_S, POLL_S = 60.0, 0.01


def until(condition: Callable[[], T], what: str, timeout_s: float = WAIT_S, *, meanwhile: Errors = ()) -> T:
    """What the condition says, as soon as that is true of it. `meanwhile` are errors that only say: not yet."""
    ends_at, last = time.monotonic() + timeout_s, ""
    while True:
        try:
            found = condition()
            if found:
                return found
        except meanwhile as error:
            last = f"; {error!r}"
        assert time.monotonic() < ends_at, f"in vain for {timeout_s:g} s: {what}{last}"
        time.sleep(POLL_S)
