"""Answers kept whole, to be given again for as long as everything that they were made from stands.

What an answer asks of the views is noted while it is made (see `traces`), so nobody has to say what it depends on. Most
who look again see what they saw: of all that happens to others nothing concerns them.
"""

import threading
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from darkroom.projections.traces import Trace

BYTES_MAX = 128_000_000
"""Of all answers together, as if they shared nothing."""

IDS_MAX = 512
"""An answer that is made of more is not kept: it would seldom stand, and takes a page's memory many times over."""

TRACE_BYTES, ID_BYTES = 2_000, 100
"""What a trace weighs, and each id in it."""


class KeptAnswer(NamedTuple):
    """What was asked and answered, what was asked of each shard for it, in the order of the first questions, and what
    all that weighs.
    """

    question: Hashable
    answer: Any
    traces: Mapping[int, Trace]
    size: int


class KeptAnswers:
    """Of one generation, for any number of threads; of each asker the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, KeptAnswer] = {}
        self._size = 0

    def find(self, asker: Hashable, question: Hashable) -> KeptAnswer | None:
        """What was answered to that, whether or not it stands."""
        kept = self._kept.get(asker)
        return kept if kept is not None and kept.question == question else None

    def keep(self, asker: Hashable, question: Hashable, answer: Any, size: int, traces: Mapping[int, Trace]) -> None:
        """In place of what the asker was answered before; nothing, where it could not be told whether it stands."""
        ids = sum(len(trace.ids) for trace in traces.values())
        with self._lock:
            self._forget(asker)
            if ids <= IDS_MAX and _can_be_told(traces):
                size += TRACE_BYTES * len(traces) + ID_BYTES * ids
                self._kept[asker] = KeptAnswer(question, answer, traces, size)
                self._size += size
                if self._size > BYTES_MAX:
                    self._make_room()

    def _make_room(self) -> None:
        """Forget an eighth at once: the first of a dictionary is looked for behind all that was dropped before."""
        for asker in list(self._kept):
            if self._size <= BYTES_MAX * 7 // 8:
                break
            self._forget(asker)

    def _forget(self, asker: Hashable) -> None:
        kept = self._kept.pop(asker, None)
        if kept is not None:
            self._size -= kept.size


def _can_be_told(traces: Mapping[int, Trace]) -> bool:
    """Shards at different positions show no more than the last of them could, and would show more without a change."""
    return len({trace.position for trace in traces.values()}) == 1 and all(trace.whole for trace in traces.values())
