"""Waiting for a server that does not answer yet, as every adapter does it: aloud, and not for ever."""

import time
from collections.abc import Callable
from typing import TypeVar

RETRY_S = 0.2

T = TypeVar("T")


def waited_for(ask: Callable[[], T], unreachable: type[Exception], *, wait_s: float, tell: Callable[[str], None]) -> T:
    """What `ask` answers once it does. While it raises `unreachable` it is asked again, and `tell` is told so once.

    `unreachable`, with how long was waited, after `wait_s`; any other error at once.
    """
    until, told = time.monotonic() + wait_s, False
    while True:
        try:
            return ask()
        except unreachable as error:
            if not wait_s:
                raise
            if time.monotonic() + RETRY_S > until:
                waited = f"waited {wait_s:g} s for it. Is it running, and is this its address?"
                raise unreachable(f"{error}; {waited}") from None
            if not told:
                tell(" ".join(f"waiting up to {wait_s:g} s: {error}".split()))  # a driver may tell in several lines
                told = True
        time.sleep(RETRY_S)
