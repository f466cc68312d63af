"""The clock, as a parameter: everything that needs the time of day is handed one of these."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns milliseconds since the epoch. It may jump either way; whoever needs order takes a running maximum."""


def system_clock() -> int:
    return time.time_ns() // 1_000_000
