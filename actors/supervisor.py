"""The supervisor: keeps the workers of the serving generation going, and fills, switches to and drops generations.

Whoever holds a directory's work lock runs one. It needs nobody's memory: it nudges every worker a few times a second,
so a restarted one goes on. A process without the lock asks for a rebuild by leaving a request in a folder.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from darkroom.actors.runtime import NOT_BEGUN, Runtime, ShardSpec, ShardWiring
from darkroom.actors.standstill import ShardFaulted, Standstill, patiently
from darkroom.actors.worker import fault_of, faults_of, note_fault
from darkroom.events.data_directory import DataDirectory
from darkroom.events.log import EventLog
from darkroom.projections.generations import Generations, OpenGeneration, Pointer
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import StoreUnavailable

NUDGE_S = 0.25
CHORES_S = 5.0
POLL_S_MIN, POLL_S_MAX, POLL_SHARE = 0.005, 0.1, 1 / 20
"""Who waits for a position looks again after a share of the time that it has waited: a look takes the interpreter from
whoever answers readers in this process."""


T = TypeVar("T")


class OtherShardCount(Exception):
    """The serving generation has another number of shards than was asked for."""


class RebuildRequest(msgspec.Struct, frozen=True):
    """What is asked of the process that works in the directory; `shards` None keeps their number."""

    shards: int | None = None


class RebuildAnswer(msgspec.Struct, frozen=True):
    """How it went: the generation that serves now, or why none does."""

    generation: int | None = None
    error: str | None = None


Progress = Callable[[int, int], None]
"""(records folded by the slowest shard, records to fold)"""


def no_progress(folded: int, total: int) -> None:
    """Tells nobody."""


class Supervisor:
    """Owns the runtime's workers. `shards` None is the directory's own number, or `shards_default` for a new one."""

    def __init__(
        self,
        directory: DataDirectory,
        log: EventLog,
        runtime: Runtime,
        wiring: ShardWiring,
        generations: Generations,
        settings: FoldSettings,
        *,
        batch_events: int,
        shards: int | None = None,
        shards_default: int = 2,
    ) -> None:
        self._directory = directory
        self._log = log
        self._runtime = runtime
        self._wiring = wiring
        self._generations = generations
        self._settings = settings
        self._batch_events = batch_events
        self._shards = shards
        self._shards_default = shards_default
        self._noted: dict[tuple[int, int], str] = {}  # of shards elsewhere, for those here write theirs themselves
        self._answers: dict[Path, RebuildAnswer] = {}  # to requests, as long as they could not be written down
        self._closing = threading.Event()
        self._rebuilding = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Have workers for the serving generation, which is made if there is none. OtherShardCount."""
        pointer = self._generations.pointer()
        if pointer.generation and self._shards not in (None, pointer.shards):
            raise OtherShardCount(
                f"shards: {self._directory.path} has {pointer.shards} shards, not {self._shards}; "
                f"run rebuild (`darkroom rebuild --shards {self._shards}`)"
            )
        if not pointer.generation:
            pointer = self._found(self._shards or self._shards_default)
        self._generations.drop_others({pointer.generation})
        self._start_workers(pointer.generation, pointer.shards)

    def _found(self, shards: int) -> Pointer:
        """The first generation, which serves from the beginning: there is nothing better to serve."""
        number = self._generations.allot()
        self._generations.create(number, shards).close()
        pointer = Pointer(number, shards, number)
        self._generations.serve(pointer)
        return pointer

    def _start_workers(self, generation: int, shards: int) -> None:
        for shard in range(shards):
            note_fault(self._directory.generations, generation, shard, None)  # it says so if it still stands still
            self._runtime.start(
                ShardSpec(
                    wiring=self._wiring,
                    generations=self._directory.generations,
                    generation=generation,
                    shard=shard,
                    shards=shards,
                    settings=self._settings,
                    batch_events=self._batch_events,
                )
            )
        self._runtime.nudge()

    def catch_up(self, progress: Progress = no_progress) -> int:
        """Wait until the serving generation has reached the log's present head and no shard of it stands still; the
        head. ShardFaulted.
        """
        generation = self._patiently(self._generations.open_serving)
        assert generation is not None, "started supervisors have a generation"
        try:
            self._patiently(lambda: self._refuse_rewound(generation))
            return self._wait_for(generation, self._patiently(self._log.head), progress)
        finally:
            generation.close()

    def _refuse_rewound(self, generation: OpenGeneration) -> None:
        positions = generation.positions()
        head = self._log.head()  # after the positions, for all of them rise
        if max(positions) > head:
            raise ShardFaulted(
                f"the shards are at position {max(positions)}, but the log ends at {head}: it is not the log that they "
                "folded; restore that, or run rebuild"
            )

    def rebuild(self, shards: int | None, progress: Progress = no_progress) -> int:
        """Fill a new generation from position 0, switch to it in one step, drop the old one; the new number.

        The old one serves until the switch, and goes on serving if anything fails before it. ShardFaulted.
        """
        with self._rebuilding:
            return self._rebuild(shards, progress)

    def _rebuild(self, shards: int | None, progress: Progress) -> int:
        old = self._generations.pointer()
        shards = shards or old.shards or self._shards or self._shards_default
        number = self._generations.allot()
        generation = self._generations.create(number, shards)
        try:
            self._start_workers(number, shards)
            self._wait_for(generation, self._patiently(self._log.head), progress)
            self._switch(old, generation, Pointer(number, shards, number), progress)
        except BaseException:
            try:
                self._runtime.stop(number)
            finally:
                generation.close()
                # Whatever the pointer names stays: that it was replaced may not have been heard of.
                self._generations.drop_others({old.generation, self._generations.pointer().generation})
            raise
        generation.close()
        # The new one serves, whatever becomes of the old: chores and the next start drop what is left of it.
        with contextlib.suppress(Exception):
            self._patiently(lambda: self._generations.drop_others({number}))
        return number

    def _switch(self, old: Pointer, generation: OpenGeneration, pointer: Pointer, progress: Progress) -> None:
        """The old generation stands still before the switch, so that no position ever served is taken back."""
        try:
            self._runtime.stop(old.generation)
            self._wait_for(generation, self._patiently(self._old_position), progress)
            self._serve(pointer)
        except BaseException:
            if old.generation and not self._closing.is_set():
                self._start_workers(old.generation, old.shards)
            raise

    def _serve(self, pointer: Pointer) -> None:
        """Where a server did not say whether the pointer was replaced, it is looked at."""
        try:
            self._patiently(lambda: self._generations.serve(pointer))
        except StoreUnavailable:
            if self._patiently(self._generations.pointer) != pointer:
                raise

    def _old_position(self) -> int:
        """How far answers were given from it; 0 where it cannot be read, which is what a rebuild is to mend."""
        head = self._log.head()
        try:
            old = self._generations.open_serving()
            if old is None:
                return 0
            try:
                return min(max(old.positions()), head)
            finally:
                old.close()
        except StoreUnavailable:
            raise  # it may well be there, and no position that was served may be taken back
        except Exception:
            return 0

    def _wait_for(self, generation: OpenGeneration, position: int, progress: Progress) -> int:
        """Until each shard is there, and has gone on since its worker was started: only then it knows what it lost."""
        began = nudged = time.monotonic()
        standstill = Standstill()
        while True:
            faults = faults_of(self._directory.generations, generation.number)  # first: whoever has one moves no more
            positions = self._patiently(generation.positions)
            if (slowest := min(positions)) >= position and self._all_go_on(generation.number, positions):
                progress(position, position)
                return position
            standstill.check(positions, faults)
            if self._closing.is_set():
                raise ShardFaulted("the supervisor is closing")
            if time.monotonic() - nudged > NUDGE_S:
                self._runtime.nudge()
                self._note_faults()
                progress(slowest, position)
                nudged = time.monotonic()
            waited_s = time.monotonic() - began
            time.sleep(min(max(POLL_S_MIN, POLL_SHARE * waited_s), POLL_S_MAX))

    def _patiently(self, ask: Callable[[], T]) -> T:
        return patiently(ask, self._pause)

    def _pause(self) -> None:
        """Before a server that gave no answer is asked again. Workers are nudged, for nobody else may do it."""
        if self._closing.wait(NUDGE_S):
            raise ShardFaulted("the supervisor is closing")
        self._runtime.nudge()

    def _all_go_on(self, generation: int, positions: list[int]) -> bool:
        told = self._runtime.faults()
        return all(told.get((generation, shard), NOT_BEGUN) is None for shard in range(len(positions)))

    def run(self) -> None:
        """Keep everything going from a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        chores_at = time.monotonic()
        while not self._closing.wait(NUDGE_S):
            chores = [self._runtime.nudge, self._answer_requests]
            if time.monotonic() >= chores_at:
                chores += [self._note_faults, self._free]
                chores_at = time.monotonic() + CHORES_S
            for chore in chores:
                # What keeps it from being done is told by the worker that it stops; the nudges must go on.
                with contextlib.suppress(Exception):
                    chore()

    def _note_faults(self) -> None:
        """Write down beside those of this node's shards why shards on other nodes stand still."""
        folder = self._directory.generations
        for (generation, shard), fault in self._runtime.faults().items():
            if fault is None and self._noted.pop((generation, shard), None) is not None:
                note_fault(folder, generation, shard, None)
            elif fault not in (None, NOT_BEGUN, fault_of(folder, generation, shard)):
                note_fault(folder, generation, shard, fault)
                self._noted[generation, shard] = fault

    def _free(self) -> None:
        """Free what killed readers and finished ones left."""
        pointer = self._generations.pointer()
        self._generations.drop_others({pointer.generation})
        self._log.release_dead_readers()
        generation = self._generations.open_serving()
        if generation is not None:
            generation.release_dead_readers()
            generation.close()

    def _answer_requests(self) -> None:
        for path in sorted(self._directory.requests.glob("*.rebuild")):
            if path not in self._answers:
                self._answers[path] = self._answer(path)
            # Where there is no room for an answer it is written later; what was asked for is not done again for it.
            with contextlib.suppress(OSError):
                _write(path.with_suffix(".answer"), msgspec.json.encode(self._answers[path]))
                path.unlink(missing_ok=True)
                del self._answers[path]

    def _answer(self, path: Path) -> RebuildAnswer:
        try:
            request = msgspec.json.decode(path.read_bytes(), type=RebuildRequest)
            return RebuildAnswer(generation=self.rebuild(request.shards))
        except Exception as error:
            return RebuildAnswer(error=f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Stop the workers and the thread. What is under way is finished or left for the next start."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._runtime.close()


def ask_for_rebuild(directory: DataDirectory, name: str, request: RebuildRequest) -> Path:
    """Leave a request for the process that works in the directory; where its answer will be."""
    directory.requests.mkdir(exist_ok=True)
    path = directory.requests / f"{name}.rebuild"
    _write(path, msgspec.json.encode(request))
    return path.with_suffix(".answer")


def take_answer(path: Path) -> RebuildAnswer | None:
    """The answer, which is removed; None while there is none."""
    with contextlib.suppress(FileNotFoundError):
        answer = msgspec.json.decode(path.read_bytes(), type=RebuildAnswer)
        path.unlink(missing_ok=True)
        return answer
    return None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.replace(path)
