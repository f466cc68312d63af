"""When to stop waiting for shards: at a fault that nothing mends meanwhile, one that lasts, or a silence that does."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from darkroom.events.log import LogUnreachable
from darkroom.projections.store import StoreUnavailable

TRANSIENT = ("StoreUnavailable: ", "LogUnreachable: ", "ObjectStoreUnavailable: ")
TRANSIENT_S_MAX = 60.0
"""A server that does not answer is waited for so long while nothing moves; every other fault is told at once."""

SILENT_S_MAX = 600.0
"""No batch takes so long, so the node that runs the shard is gone, or has no room for it."""


T = TypeVar("T")


class ShardFaulted(Exception):
    """A shard stands still; the message says where and why."""


class Standstill:
    """Looks on while somebody waits for shards to go on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._positions: list[int] = []
        self._moved_s = clock()

    def check(self, positions: list[int], faults: Mapping[int, str]) -> None:
        """ShardFaulted where waiting on is in vain. `faults` are why shards stand still, of those that say so."""
        if positions != self._positions:
            self._positions, self._moved_s = positions, self._clock()
        still_s = self._clock() - self._moved_s
        for shard, fault in faults.items():
            if still_s > TRANSIENT_S_MAX or not fault.startswith(TRANSIENT):
                position = dict(enumerate(positions)).get(shard, 0)  # a new generation may have more shards
                raise ShardFaulted(f"shard {shard} stands still at position {position}: {fault}")
        if still_s > SILENT_S_MAX:
            raise ShardFaulted(
                f"no shard has moved for {still_s:.0f} s, and none says why; they are at positions {positions}. Do the "
                "nodes that run them live, and have they a free CPU each?"
            )


def patiently(ask: Callable[[], T], pause: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> T:
    """What `ask` answers: whoever waits for shards asks servers too, and waits for these no less than shards do.

    What it raises is passed on, but StoreUnavailable and LogUnreachable only after TRANSIENT_S_MAX.
    """
    began_s = clock()
    while True:
        try:
            return ask()
        except (StoreUnavailable, LogUnreachable):
            if clock() - began_s > TRANSIENT_S_MAX:
                raise
        pause()
