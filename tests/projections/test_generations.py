"""Generations: the pointer is whole or refused, numbers are given once, and nothing is dropped that somebody reads."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from darkroom.events.lmdb_environments import EnvironmentUnusable
from darkroom.projections import generations
from darkroom.projections.generations import (
    Generation,
    Pointer,
    PointerDamaged,
    allot,
    drop_others,
    generation_path,
    open_serving,
    read_pointer,
    serving,
    shard_path,
    write_pointer,
)
from darkroom.projections.routing import SHARDS_MAX
from darkroom.projections.store import Checkpoint, Identity
from darkroom.projections.stores.lmdb import FORMAT

DEADLINE_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "generations"


def make(folder: Path, shards: int = 2, *, serve: bool = True) -> int:
    """Make a generation, and have it serve; its number."""
    number = allot(folder)
    Generation(folder, number, shards, create=True).close()
    if serve:
        write_pointer(folder, Pointer(number, shards, number))
    return number


# ---- the pointer


def test_without_a_pointer_nothing_serves(folder: Path) -> None:
    assert read_pointer(folder) == Pointer(0, 0, 0)
    assert open_serving(folder) is None
    with serving(folder) as generation:
        assert generation is None


def test_a_pointer_is_read_as_it_was_written(folder: Path) -> None:
    for pointer in (Pointer(1, 1, 1), Pointer(3, SHARDS_MAX, 7), Pointer(0, 0, 4)):
        write_pointer(folder, pointer)
        assert read_pointer(folder) == pointer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[1, 2, 3]",
        b'{"generation": 1',
        b'{"generation": "1", "shards": 2, "highest": 1}',
        b'{"generation": 2, "shards": 2, "highest": 1}',
        b'{"generation": -1, "shards": 2, "highest": 1}',
        b'{"generation": 1, "shards": -2, "highest": 1}',
        b'{"generation": 1, "shards": 1025, "highest": 1}',
        b'{"generation": 1, "shards": 2, "highest": 1, "mood": "calm"}',
        b"\xff\xfe",
    ],
)
def test_a_pointer_that_makes_no_sense_is_refused_and_never_replaced_unread(folder: Path, data: bytes) -> None:
    make(folder)
    (folder / "current.json").write_bytes(data)
    for use in (read_pointer, open_serving, allot):
        with pytest.raises(PointerDamaged, match=r"current\.json"):
            use(folder)
    assert (folder / "current.json").read_bytes() == data


def test_a_pointer_cut_short_anywhere_is_refused(folder: Path) -> None:
    write_pointer(folder, Pointer(3, 2, 4))
    data = (folder / "current.json").read_bytes()
    for length in range(len(data) - 1):
        (folder / "current.json").write_bytes(data[:length])
        with pytest.raises(PointerDamaged):
            read_pointer(folder)
    (folder / "current.json").write_bytes(data[:-1])  # only the line's end is missing
    assert read_pointer(folder) == Pointer(3, 2, 4)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_pointer_that_could_not_be_written_leaves_the_old_one(
    folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pointer(folder, Pointer(1, 2, 1))

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync" if step == "fsync" else "pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_pointer(folder, Pointer(2, 3, 2))
    monkeypatch.undo()
    assert read_pointer(folder) == Pointer(1, 2, 1)
    write_pointer(folder, Pointer(2, 3, 2))
    assert read_pointer(folder) == Pointer(2, 3, 2)


def test_readers_see_the_old_pointer_or_the_new_one_and_nothing_between(folder: Path) -> None:
    pointers = [Pointer(number, number % 7 + 1, number) for number in range(1, 150)]
    write_pointer(folder, pointers[0])
    done, seen = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            seen.append(read_pointer(folder))

    thread = threading.Thread(target=read)
    thread.start()
    for pointer in pointers:
        write_pointer(folder, pointer)
    done.set()
    thread.join(DEADLINE_S)
    assert set(seen) <= set(pointers)
    assert [pointer.generation for pointer in seen] == sorted(pointer.generation for pointer in seen)


# ---- numbers


def test_a_number_is_given_once_whatever_became_of_it(folder: Path) -> None:
    assert [allot(folder), allot(folder)] == [1, 2]
    assert make(folder) == 3
    assert make(folder, serve=False) == 4
    drop_others(folder, {3})
    assert allot(folder) == 5
    write_pointer(folder, Pointer(5, 2, 5))
    assert allot(folder) == 6
    assert read_pointer(folder) == Pointer(5, 2, 6)


def test_a_number_is_noted_before_it_is_used_and_serves_only_when_it_is_told(folder: Path) -> None:
    first = make(folder)
    second = allot(folder)
    assert read_pointer(folder) == Pointer(first, 2, second)
    with serving(folder) as generation:
        assert generation is not None
        assert generation.number == first


# ---- opening


def test_a_generation_is_its_shards_stores(folder: Path) -> None:
    number = make(folder, shards=3)
    with serving(folder) as generation:
        assert generation is not None
        assert [store.identity for store in generation.stores] == [Identity(FORMAT, number, s, 3) for s in range(3)]
        generation.stores[1].commit(0, Checkpoint(7), {})
        assert generation.positions() == [0, 7, 0]


def test_a_generation_without_one_of_its_shards_is_refused(folder: Path) -> None:
    number = make(folder)
    (shard_path(folder, number, 1) / "data.mdb").unlink()
    with pytest.raises(EnvironmentUnusable, match="holds no data"):
        open_serving(folder)
    # Nothing of the half that could be opened is held.
    assert drop_others(folder, set()) == []


def test_a_generation_that_was_dropped_between_the_look_and_the_opening_is_looked_up_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(folder), make(folder)
    assert drop_others(folder, {second}) == []
    stale = [Pointer(first, 2, second)]
    real = read_pointer
    monkeypatch.setattr(generations, "read_pointer", lambda folder: stale.pop() if stale else real(folder))
    with serving(folder) as generation:
        assert generation is not None
        assert generation.number == second


# ---- dropping


HOLD = """
import sys
from pathlib import Path
from darkroom.projections.generations import Generation
generation = Generation(Path(sys.argv[1]), int(sys.argv[2]), 2)
print("held", flush=True)
sys.stdin.read()
"""


def test_others_are_dropped_and_what_is_kept_is_left_alone(folder: Path) -> None:
    numbers = [make(folder) for _ in range(4)]
    assert drop_others(folder, {numbers[1], numbers[3]}) == []
    assert [generation_path(folder, number).exists() for number in numbers] == [False, True, False, True]
    assert read_pointer(folder) == Pointer(4, 2, 4)


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_what_another_process_reads_is_left_until_it_ends_however_it_ends(folder: Path, end: str) -> None:
    old, new = make(folder), make(folder)
    reader = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(old)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"held\n"
    for _ in range(2):
        assert drop_others(folder, {new}) == [old]
        assert shard_path(folder, old, 1).exists()
    if end == "killed":
        reader.kill()
    reader.stdin.close()
    reader.wait(DEADLINE_S)
    reader.stdout.close()
    assert drop_others(folder, {new}) == []
    assert not generation_path(folder, old).exists()


def test_what_this_process_reads_is_left_too(folder: Path) -> None:
    old = make(folder)
    with serving(folder) as generation:
        assert generation is not None
        new = make(folder)
        assert drop_others(folder, {new}) == [old]
        assert generation.positions() == [0, 0]
    assert drop_others(folder, {new}) == []


def test_a_generation_of_which_only_a_part_was_made_or_dropped_is_dropped(folder: Path) -> None:
    number = make(folder)
    generation_path(folder, 7).mkdir()
    (generation_path(folder, 8) / "shard-0000").mkdir(parents=True)
    assert drop_others(folder, {number}) == []
    assert sorted(path.name for path in folder.glob("0*")) == ["000001"]
