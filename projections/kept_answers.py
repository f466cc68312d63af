"""Answers kept whole, to be given again for as long as everything that they were made from stands.

What an answer asks of the views is noted while it is made (see `traces`), so nobody has to say what it depends on. Most
who look again see what they saw: of all that happens to others nothing concerns them.
"""

import threading
from collections.abc import Hashable
from typing import Any

from darkroom.projections.kept_rows import drop_eldest
from darkroom.projections.traces import Trace

KEPT_MAX = 4096
IDS_MAX = 512
"""An answer that is made of more is not kept: it would seldom stand, and takes a page's memory many times over."""

Traces = dict[int, Trace]
"""What was asked of each shard."""


class KeptAnswers:
    """Of one generation, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[Any, Traces]] = {}

    def find(self, key: Hashable) -> tuple[Any, Traces] | None:
        """What was kept under the key, and what it was made from."""
        return self._kept.get(key)

    def keep(self, key: Hashable, answer: Any, traces: Traces) -> None:
        """Unless it cannot be told when it no longer stands."""
        if not _can_be_told(traces):
            return
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = answer, traces
            drop_eldest(self._kept, KEPT_MAX)


def _can_be_told(traces: Traces) -> bool:
    """Shards at different positions show no more than the last of them could, and would show more without a change."""
    return (
        len({trace.position for trace in traces.values()}) == 1
        and all(trace.whole for trace in traces.values())
        and sum(len(trace.ids) for trace in traces.values()) <= IDS_MAX
    )
