"""The clock, as a parameter: everything that needs the time of day is handed one of these."""

import time
from collections.abc import Callable

TIME_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999, the last that clients can print

Clock = Callable[[], int]
"""Returns milliseconds since the epoch. It may jump either way; whoever needs order takes a running maximum."""


def system_clock() -> int:
    return time.time_ns() // 1_000_000
