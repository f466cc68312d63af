"""The runtime's port: where shard workers live. Inline runs them in threads of this process, Ray in actors.

Nothing that matters travels through it: workers pull the log. Calls carry questions and nudges, which may be lost.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from darkroom.events.log import EventLog
from darkroom.projections.effects import Publisher
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import ShardStore


@dataclass(frozen=True)
class ShardParts:
    """What a shard works with, opened where it runs. `committed` is told of each position that it commits."""

    log: EventLog
    store: ShardStore
    publishers: Sequence[Publisher] = ()
    committed: Callable[[int], None] | None = None


class ShardWiring(Protocol):
    """Names the concrete parts. It travels to the worker's process, so it can be pickled and holds nothing open."""

    def open(self, spec: "ShardSpec") -> AbstractContextManager[ShardParts]:
        """Open everything for one shard, waiting for nothing; what keeps it from being opened is raised."""


@dataclass(frozen=True)
class ShardSpec:
    """All that a worker needs to find its work; it is handed over once and survives restarts.

    `generations` is the folder of this node's generations: state, and the fault that keeps a shard from going on.
    """

    wiring: ShardWiring
    generations: Path
    generation: int
    shard: int
    shards: int
    settings: FoldSettings
    batch_events: int


NOT_BEGUN = "has not begun yet"
"""What is told of a shard that has neither folded nor failed since its worker was started."""


class RuntimeFailed(Exception):
    """The runtime cannot be started or has been lost."""


class Runtime(Protocol):
    """Runs one worker a shard. Workers of several generations may run side by side."""

    def start(self, spec: ShardSpec) -> None:
        """Have a worker for the shard. It does nothing until it is nudged. RuntimeFailed where it cannot be."""

    def nudge(self) -> None:
        """Remind every worker of its work. Harmless to repeat, harmless to lose."""

    def faults(self) -> Mapping[tuple[int, int], str | None]:
        """(generation, shard) → why it stands still, NOT_BEGUN, or None where it goes on; of the workers that answer,
        on whichever node."""

    def stop(self, generation: int) -> None:
        """End the generation's workers; when it returns none commits any more. RuntimeFailed where that is not seen."""

    def close(self) -> None:
        """End everything."""
