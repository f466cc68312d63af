"""A supervisor beside whom things fail: the disk, the runtime, a server."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from darkroom.actors import standstill
from darkroom.actors import supervisor as supervisors
from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.supervisor import RebuildAnswer, RebuildRequest, Supervisor, ask_for_rebuild, take_answer
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import UserRegistered, personal
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.settings import Settings
from darkroom.gateway.shard_wiring import ShardsOf
from darkroom.projections.generations import FolderGenerations, Generation, Pointer, open_serving, read_pointer
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import StoreUnavailable

PEOPLE = 10


class FailingRuntime(InlineRuntime):
    """Its nudges fail for so many times as `failures` says."""

    failures = 0
    nudges = 0

    def nudge(self) -> None:
        self.nudges += 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no answer from the cluster")
        super().nudge()


class Unsteady(FolderGenerations):
    """Generations on a server that gives each question no answer the first time, once it `is_unsteady`."""

    is_unsteady = False
    says_nothing = False  # of having replaced the pointer
    loses_pointer = False  # from then on
    pointer_is_lost = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.unanswered: set[str] = set()

    def create(self, number: int, shards: int) -> Generation:
        return self._unsteady(super().create(number, shards), f"positions of {number}")

    def open_serving(self) -> Generation | None:
        self.answer("open")
        generation = super().open_serving()
        return generation and self._unsteady(generation, f"positions of {generation.number}, which serves")

    def pointer(self) -> Pointer:
        if self.pointer_is_lost:
            raise StoreUnavailable("pointer")
        return super().pointer()

    def serve(self, pointer: Pointer) -> None:
        self.answer("serve")
        super().serve(pointer)
        if self.says_nothing:
            self.pointer_is_lost = self.loses_pointer
            raise StoreUnavailable("it is replaced, but who knows")

    def drop_others(self, keep: set[int]) -> list[int]:
        self.answer("drop")
        return super().drop_others(keep)

    def answer(self, question: str) -> None:
        """StoreUnavailable, the first time."""
        if self.is_unsteady and question not in self.unanswered:
            self.unanswered.add(question)
            raise StoreUnavailable(question)

    def _unsteady(self, generation: Generation, question: str) -> Generation:
        positions = generation.positions

        def first_unanswered() -> list[int]:
            self.answer(question)
            return positions()

        generation.positions = first_unanswered  # type: ignore[method-assign]
        return generation


class House:
    """A data directory with a few people and a supervisor."""

    def __init__(self, path: Path) -> None:
        self.directory = DataDirectory(path, create=True)
        self.log = LmdbEventLog(self.directory.log)
        self.log.append([UserRegistered(username=personal(f"u{n}"), display_name=personal("")) for n in range(PEOPLE)])
        self.runtime = FailingRuntime()
        self.generations = Unsteady(self.directory.generations)
        self.supervisor = Supervisor(
            self.directory,
            self.log,
            self.runtime,
            ShardsOf(Settings(), self.directory.log),
            self.generations,
            FoldSettings(),
            batch_events=100,
            shards=1,
        )

    def close(self) -> None:
        self.supervisor.close()
        self.log.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(supervisors, "NUDGE_S", 0.01)
    house = House(tmp_path / "data")
    house.supervisor.start()
    house.supervisor.catch_up()
    yield house
    house.close()


def test_an_answer_that_the_disk_has_no_room_for_is_written_later_and_ends_no_supervisor(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ask_for_rebuild(house.directory, "one", RebuildRequest())
    other = ask_for_rebuild(house.directory, "other", RebuildRequest(shards=2))
    write = supervisors._write
    refused: list[Path] = []

    def write_with_room(path: Path, data: bytes) -> None:
        if path == answer and len(refused) < 3:
            refused.append(path)
            raise OSError(errno.ENOSPC, "no space left on device")
        write(path, data)

    monkeypatch.setattr(supervisors, "_write", write_with_room)
    house.supervisor.run()
    until(lambda: answer.exists() and other.exists(), "both answers")
    assert len(refused) == 3
    assert [take_answer(path) for path in (answer, other)] == [RebuildAnswer(2), RebuildAnswer(3)]
    until(lambda: list(house.directory.requests.iterdir()) == [], "no request is left")
    assert read_pointer(house.directory.generations).highest == 3, "neither was done twice"


def test_nudges_go_on_after_one_has_failed(house: House) -> None:
    house.runtime.nudges, house.runtime.failures = 0, 2
    house.supervisor.run()
    until(lambda: house.runtime.nudges > 2, "a nudge after those that failed")


def test_no_question_that_a_server_leaves_unanswered_once_ends_a_rebuild_or_a_catching_up(house: House) -> None:
    house.generations.is_unsteady = True
    assert house.supervisor.rebuild(None) == 2
    assert house.generations.unanswered == {"positions of 2", "open", "positions of 1, which serves", "serve", "drop"}
    house.generations.unanswered.clear()
    assert house.supervisor.catch_up() == PEOPLE
    assert house.generations.unanswered == {"open", "positions of 2, which serves"}


def test_a_switch_whose_success_is_not_told_of_is_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "TRANSIENT_S_MAX", 0.0)
    house.generations.says_nothing = True
    assert house.supervisor.rebuild(None) == 2
    assert read_pointer(house.directory.generations).generation == 2
    assert house.supervisor.catch_up() == PEOPLE


def test_what_cannot_be_dropped_after_the_switch_is_dropped_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standstill, "TRANSIENT_S_MAX", 0.0)
    old = house.directory.generations / "000001"
    with monkeypatch.context() as while_it_fails:

        def refuse(keep: set[int]) -> list[int]:
            raise StoreUnavailable(f"all but {keep} stay")

        while_it_fails.setattr(house.generations, "drop_others", refuse)
        assert house.supervisor.rebuild(None) == 2
    assert old.exists()
    assert house.supervisor.catch_up() == PEOPLE
    house.supervisor.run()
    until(lambda: not old.exists(), "the old generation is gone")


def test_a_generation_that_may_serve_is_not_dropped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "TRANSIENT_S_MAX", 0.0)
    house.generations.says_nothing = house.generations.loses_pointer = True
    with pytest.raises(StoreUnavailable, match="pointer"):
        house.supervisor.rebuild(None)
    assert {path.name for path in house.directory.generations.glob("0*")} == {"000001", "000002"}
    serving = open_serving(house.directory.generations)
    assert serving is not None
    assert (serving.number, serving.positions()) == (2, [PEOPLE])
    serving.close()
