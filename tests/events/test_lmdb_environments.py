"""LMDB environments: one a path and process, and every way in which one cannot be had is an error that says why."""

import contextlib
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lmdb
import pytest
from log_trials import child, child_environment, run

from darkroom.events.facts import UserFollowed
from darkroom.events.lmdb_environments import (
    READERS_MAX,
    EnvironmentUnusable,
    LmdbEnvironment,
    WriteLockTimeout,
    close_environment,
    open_environment,
)
from darkroom.events.log import LogBusy
from darkroom.events.log_adapters.lmdb import LmdbEventLog

SHORT_S = 0.05
DEADLINE_S = 20.0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[LmdbEnvironment]:
    environment = open_environment(path)
    try:
        yield environment
    finally:
        close_environment(environment)


@contextlib.contextmanager
def beside(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Another process, once it has said that it is ready; killed at last, if it still runs."""
    process = subprocess.Popen(
        child(program, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


# ---- one environment a path and process


def test_a_path_opened_twice_is_one_environment_until_the_last_use_is_given_back(tmp_path: Path) -> None:
    first, second = open_environment(tmp_path / "here"), open_environment(tmp_path / "here")
    assert first is second
    close_environment(first)
    with second.write() as transaction:
        transaction.put(b"key", b"value")
    close_environment(second)
    with pytest.raises(lmdb.Error), second.read():
        pass
    with opened(tmp_path / "here") as third, third.read() as transaction:
        assert third is not second
        assert transaction.get(b"key") == b"value"


@pytest.mark.parametrize("spelling", ["other/../here", "./here", "link"])
def test_one_folder_under_two_spellings_is_one_environment(
    tmp_path: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    with opened(tmp_path / "here") as first, opened(Path(spelling)) as second:
        assert first is second


def test_different_folders_are_different_environments(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as first, opened(tmp_path / "b") as second:
        assert first is not second


def test_an_environment_is_opened_once_by_many_threads_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    found: list[LmdbEnvironment] = []

    def use() -> None:
        start.wait(DEADLINE_S)
        for _ in range(20):
            with opened(tmp_path / "here") as environment, environment.read():
                found.append(environment)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len(found) == 160


def test_closing_waits_for_those_who_read(tmp_path: Path) -> None:
    environment = open_environment(tmp_path / "here")
    with environment.write() as transaction:
        transaction.put(b"key", b"value" * 100)
    reading, closing = threading.Event(), threading.Event()
    seen: list[bytes | None] = []

    def read() -> None:
        with environment.read() as transaction:
            reading.set()
            assert closing.wait(DEADLINE_S)
            seen.append(transaction.get(b"key"))

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(DEADLINE_S)
    closer = threading.Thread(target=close_environment, args=(environment,))
    closer.start()
    closing.set()
    closer.join(DEADLINE_S)
    reader.join(DEADLINE_S)
    assert seen == [b"value" * 100]


# ---- the write lock


def test_a_write_lock_held_by_another_process_is_an_error_that_names_it(tmp_path: Path) -> None:
    with opened(tmp_path / "here") as environment, beside("hold", tmp_path / "here", "write") as holder:
        named = pytest.raises(WriteLockTimeout, match=f"process {holder.pid} has held the write lock")
        with named, environment.write(SHORT_S):
            pass
        with environment.read() as transaction:  # which needs no lock
            assert transaction.get(b"key") is None


def test_a_log_whose_lock_another_process_holds_is_busy_and_goes_on_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LmdbEventLog(tmp_path / "here")
    monkeypatch.setattr(log._environment, "write", partial(log._environment.write, SHORT_S))
    with beside("hold", tmp_path / "here", "write") as holder, pytest.raises(LogBusy, match=f"process {holder.pid}"):
        log.append([UserFollowed(follower=1, followee=2)])
    assert log.append([UserFollowed(follower=1, followee=2)]) == range(1, 2)
    log.close()


def test_a_write_lock_held_by_another_thread_is_an_error_that_says_so(tmp_path: Path) -> None:
    with opened(tmp_path / "here") as environment, environment.write():
        refused: list[str] = []

        def write() -> None:
            try:
                with environment.write(SHORT_S):
                    pass
            except WriteLockTimeout as error:
                refused.append(str(error))

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(DEADLINE_S)
        assert len(refused) == 1
        assert f"another thread of process {os.getpid()}" in refused[0]


def test_the_lock_of_a_killed_writer_is_free_and_its_transaction_never_was(tmp_path: Path) -> None:
    with opened(tmp_path / "here") as environment:
        with beside("hold", tmp_path / "here", "write") as holder:
            holder.send_signal(signal.SIGKILL)
            holder.wait(DEADLINE_S)
        with environment.write() as transaction:
            assert transaction.get(b"key") is None
            transaction.put(b"key", b"mine")


def test_a_write_that_fails_leaves_the_lock_free_and_nothing_written(tmp_path: Path) -> None:
    with opened(tmp_path / "here") as environment:
        with pytest.raises(ZeroDivisionError), environment.write() as transaction:
            assert transaction.put(b"key", b"value") / 0
        with environment.write(SHORT_S) as transaction:
            assert transaction.get(b"key") is None


# ---- readers


def test_the_slot_of_a_killed_reader_is_freed(tmp_path: Path) -> None:
    log = LmdbEventLog(tmp_path / "here")
    with beside("hold", tmp_path / "here", "read") as reader:
        assert log.release_dead_readers() == 0
        reader.send_signal(signal.SIGKILL)
        reader.wait(DEADLINE_S)
    assert log.release_dead_readers() == 1
    assert log.release_dead_readers() == 0
    log.close()


def test_opening_frees_the_slots_of_killed_readers(tmp_path: Path) -> None:
    with beside("hold", tmp_path / "here", "read"), beside("hold", tmp_path / "here", "read") as other:
        other.send_signal(signal.SIGKILL)
        other.wait(DEADLINE_S)
        with opened(tmp_path / "here") as environment:
            assert environment.env.reader_check() == 0
            assert environment.env.readers().count("\n") == 2  # a heading, and the one that lives


def test_every_reader_slot_has_its_blocks_before_it_is_used(tmp_path: Path) -> None:
    with opened(tmp_path / "here") as environment:
        assert environment.env.max_readers() >= READERS_MAX
        table = (tmp_path / "here" / "lock.mdb").stat()
        assert table.st_blocks * 512 >= table.st_size


def test_a_map_that_another_process_has_grown_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.events.lmdb_environments.MAP_BYTES", 1 << 20)
    with opened(tmp_path / "here") as environment:
        grown = run(child("grow", tmp_path / "here"))
        assert grown.returncode == 0, grown.stderr
        with pytest.raises(lmdb.MapResizedError):
            environment.env.begin()
        seen: list[int] = []

        def read() -> None:
            with environment.read() as transaction:
                seen.append(transaction.stat()["entries"])

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert seen == [1000] * 4


def test_a_writer_takes_a_grown_map_over_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.events.lmdb_environments.MAP_BYTES", 1 << 20)
    with opened(tmp_path / "here") as environment:
        assert run(child("grow", tmp_path / "here")).returncode == 0
        with environment.write() as transaction:
            transaction.put(struct.pack(">Q", 1001), b"x" * 4000)


def test_what_this_process_had_in_memory_does_not_end_up_in_the_file(tmp_path: Path) -> None:
    with opened(tmp_path / "here") as environment:
        for number in range(50):
            secrets = [b"a password in memory" * 200 for _ in range(50)]
            del secrets
            with environment.write() as transaction:
                transaction.put(struct.pack(">Q", number), b"x")
    assert b"password" not in (tmp_path / "here" / "data.mdb").read_bytes()


# ---- what cannot be opened


def test_a_log_that_is_not_there_is_a_clear_error_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnusable, match="holds no data"):
        LmdbEventLog(tmp_path / "absent" / "log", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path: Path, create: bool) -> None:
    (tmp_path / "here").write_text("not a folder")
    with pytest.raises(EnvironmentUnusable, match="here"):
        open_environment(tmp_path / "here", create=create)
    with pytest.raises(EnvironmentUnusable, match="here/below"):
        open_environment(tmp_path / "here" / "below", create=create)


@pytest.mark.parametrize("name", ["data.mdb", "writer.lock", "lock.mdb"])
def test_a_folder_in_the_place_of_a_file_is_a_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "here" / name).mkdir(parents=True)
    with pytest.raises(EnvironmentUnusable, match="here"):
        open_environment(tmp_path / "here")


@pytest.mark.parametrize("content", [b"not lmdb", b"\0" * 8192, b"x" * 8192])
def test_a_file_that_is_not_lmdb_s_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data.mdb").write_bytes(content)
    with pytest.raises(EnvironmentUnusable, match="damaged"):
        open_environment(tmp_path / "here")


def test_a_file_of_lmdb_s_later_format_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with lmdb.open(str(tmp_path / "here"), lib_version=1) as env, env.begin(write=True) as transaction:
        transaction.put(b"key", b"value")
    with pytest.raises(EnvironmentUnusable, match="not one of this format"):
        open_environment(tmp_path / "here")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_a_folder_that_may_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir(mode=0o500)
    with pytest.raises(EnvironmentUnusable, match="Permission denied"):
        open_environment(tmp_path / "here")


def test_what_could_not_be_opened_can_be_opened_when_the_fault_is_gone(tmp_path: Path) -> None:
    (tmp_path / "here" / "writer.lock").mkdir(parents=True)
    with pytest.raises(EnvironmentUnusable):
        open_environment(tmp_path / "here")
    (tmp_path / "here" / "writer.lock").rmdir()
    files = open_files()
    with opened(tmp_path / "here") as environment, environment.write() as transaction:
        transaction.put(b"key", b"value")
    assert open_files() == files


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
