"""A supervisor beside whom things fail: the disk, the runtime, a server."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from darkroom.actors import supervisor as supervisors
from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.supervisor import RebuildAnswer, RebuildRequest, Supervisor, ask_for_rebuild, take_answer
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import UserRegistered, personal
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.settings import Settings
from darkroom.gateway.shard_wiring import ShardsOf
from darkroom.projections.generations import FolderGenerations, read_pointer
from darkroom.projections.shard_state import FoldSettings

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


class House:
    """A data directory with a few people and a supervisor."""

    def __init__(self, path: Path) -> None:
        self.directory = DataDirectory(path, create=True)
        self.log = LmdbEventLog(self.directory.log)
        self.log.append([UserRegistered(username=personal(f"u{n}"), display_name=personal("")) for n in range(PEOPLE)])
        self.runtime = FailingRuntime()
        self.generations = FolderGenerations(self.directory.generations)
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
