"""A shard's worker: the thread that pulls, with what to do when something fails.

Recovery is one of two policies. *Retry* keeps the shard where it is and tries again, visibly, and with smaller batches
where a store did not answer in time. *Exit* ends this incarnation, for another has taken over.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from darkroom.actors.runtime import NOT_BEGUN, ShardSpec
from darkroom.actors.shard import FoldFailed, Shard
from darkroom.projections.fold import RUN_MIN
from darkroom.projections.generations import generation_path, shard_path
from darkroom.projections.store import StoreUnavailable, Superseded

WAIT_S = 0.5
RETRY_S_MIN, RETRY_S_MAX = 0.1, 1.0
SHRINK, GROW, BATCH_EVENTS_MIN = 4, 2, 100
"""A batch that a store could not take in by its deadline would not fit the next time either."""


class Worker:
    """Works from `nudge` until `stop`. `on_superseded` is called when another incarnation has committed."""

    def __init__(self, spec: ShardSpec, on_superseded: Callable[[], None]) -> None:
        # Opens nothing: an exception in the constructor of a restarting actor kills the actor for good.
        self.fault: str | None = NOT_BEGUN
        self._spec = spec
        self._on_superseded = on_superseded
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._pause_s = RETRY_S_MIN
        self._batch_events_max = spec.batch_events
        self._poison = range(0)  # positions of records of which one could not be folded in

    def nudge(self) -> None:
        """Start the pulling thread, unless it runs already."""
        with self._starting:
            if self._thread is None and not self._stopping.is_set():
                name = f"shard-{self._spec.generation}-{self._spec.shard}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def stop_soon(self) -> None:
        """Begin to stop, for whoever stops several and would otherwise wait for each in turn."""
        with self._starting:
            self._stopping.set()

    def stop(self) -> None:
        """No commit happens after this returns."""
        self.stop_soon()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._pull()
            except Superseded:
                self._on_superseded()
                return
            except Exception as failure:
                if isinstance(failure, FoldFailed):
                    self._poison = range(failure.position, failure.last + 1)
                if isinstance(failure, StoreUnavailable):
                    self._shrink_batches()
                # Poison, a full disk, a log that is not ours: the shard stands still, says so, and tries again, for
                # each of these is mended from outside.
                self._report(f"{type(failure).__name__}: {failure}")
                self._stopping.wait(self._pause_s)
                self._pause_s = min(2 * self._pause_s, RETRY_S_MAX)

    def _pull(self) -> None:
        """Fold until told to stop or something fails. Everything is opened anew after a failure."""
        spec = self._spec
        with spec.wiring.open(spec) as parts:
            log = parts.log
            shard = Shard(log, parts.store, spec.settings, parts.publishers)
            well = False
            while not self._stopping.is_set():
                folded = shard.step(self._batch_events(shard.position))
                if not well:
                    self._report(None)
                    self._pause_s = RETRY_S_MIN
                    well = True
                self._batch_events_max = min(GROW * self._batch_events_max, self._spec.batch_events)
                if not folded:
                    log.wait(shard.position + 1, WAIT_S)
                elif parts.committed is not None:
                    parts.committed(shard.position)

    def _batch_events(self, position: int) -> int:
        """A batch is committed whole, so what lies before a record that failed is made a batch of its own."""
        before = self._poison.start - position - 1
        if before > 0:
            return min(self._batch_events_max, before)
        if position + 1 in self._poison:
            return min(self._batch_events_max, RUN_MIN - 1)  # too few to be folded together, so the one is found
        return self._batch_events_max

    def _shrink_batches(self) -> None:
        least = min(BATCH_EVENTS_MIN, self._spec.batch_events)
        self._batch_events_max = max(least, self._batch_events_max // SHRINK)

    def _report(self, fault: str | None) -> None:
        note_fault(self._spec.generations, self._spec.generation, self._spec.shard, fault)
        self.fault = fault


def note_fault(generations: Path, generation: int, shard: int, fault: str | None) -> None:
    """Write down why the shard stands still, or that it does not, whole: others look at any time.

    A fault that cannot be written down is passed over, for it must not stop what is to mend it.
    """
    path = fault_path(generations, generation, shard)
    with contextlib.suppress(OSError):
        if fault is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)  # the store itself may be what cannot be opened
        part = path.with_name(f"fault.{os.getpid()}")
        part.write_text(fault)
        part.replace(path)


def fault_path(generations: Path, generation: int, shard: int) -> Path:
    return shard_path(generations, generation, shard) / "fault"


def fault_of(generations: Path, generation: int, shard: int) -> str | None:
    """Why the shard stands still, as this node knows; None where it does not."""
    try:
        return fault_path(generations, generation, shard).read_text()
    except FileNotFoundError:
        return None


def faults_of(generations: Path, generation: int) -> dict[int, str]:
    """Shard → why it stands still, as this node knows, of the generation's shards that do."""
    paths = generation_path(generations, generation).glob("shard-*/fault")
    shards = sorted(int(path.parent.name.removeprefix("shard-")) for path in paths)
    return {shard: fault for shard in shards if (fault := fault_of(generations, generation, shard)) is not None}
