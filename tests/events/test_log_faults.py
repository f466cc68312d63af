"""The log on LMDB when things break: kills, lost writes, damaged bytes, failing and full disks, several writers.

Each trial prints how many points it tried and how many held (`pytest -rP` shows it); docs/reliability.md has figures.
"""

import json
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import numpy
import pytest
from log_disk import Disk, crashes
from log_trials import (
    WRITES,
    acknowledged,
    child,
    child_environment,
    ends,
    expected,
    group_of,
    ram_folder,
    run,
    strace_works,
    time_of,
)

from darkroom.events.facts import PostLiked, Recorded, UserFollowed
from darkroom.events.lmdb_environments import EnvironmentUnusable, close_environment, open_environment
from darkroom.events.log import DamagedRecord, LogStopped
from darkroom.events.log_adapters.lmdb import LmdbEventLog

SEED = 20261123
WORKERS = 4  # processes at a time
PAGE_BYTES = 4096
META_BYTES = 16 + 136  # a page's header and LMDB's meta struct; the rest of a meta page is never read

needs_strace = pytest.mark.skipif(not strace_works(), reason="strace is not there, or may not trace")

Edits = list[list[Any]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=ram_folder(), prefix="darkroom-log-") as name:
        yield Path(name)


def report(trial: str, tried: int, held: int, **more: object) -> None:
    print(f"{trial}: {tried} tried, {held} held", *(f"{name} {value}" for name, value in more.items()), sep="; ")


def stored_groups(path: Path) -> list[Recorded]:
    """Everything in the log at `path`, opened as if nothing had happened; it must end where a group ends."""
    log = LmdbEventLog(path)
    try:
        records = log.read(0, 10**6)
        assert len(records) == log.head()
        return records
    finally:
        log.close()


def assert_holds(path: Path, acknowledged_head: int, groups: int) -> None:
    """The log is a prefix of the workload in whole groups, has all that was acknowledged, and goes on."""
    records = stored_groups(path)
    assert records == expected(groups)[: len(records)]
    assert len(records) in ends(groups)
    assert acknowledged_head <= len(records)
    log = LmdbEventLog(path)
    assert log.append([UserFollowed(follower=1, followee=2)], [0]) == range(len(records) + 1, len(records) + 2)
    log.close()


# ---- R1: killed at every write point


@needs_strace
@pytest.mark.parametrize("groups", [9, pytest.param(60, marks=pytest.mark.soak)], ids=lambda groups: f"{groups} groups")
def test_killed_at_any_write_every_acknowledged_event_is_there_once_and_the_log_goes_on(
    folder: Path, groups: int
) -> None:
    calls = write_calls(folder / "counted", groups)

    def kill_at(call: tuple[str, int]) -> int:
        name, number = call
        path = folder / f"killed-{name}-{number}"
        options = ["-o", os.devnull, "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}"]
        done = run(child("append_groups", path, groups, strace=options))
        assert done.returncode != 0, "it was not killed"
        assert_holds(path, acknowledged(done.stdout), groups)
        shutil.rmtree(path)
        return acknowledged(done.stdout)

    heads = in_parallel(kill_at, calls)
    assert set(heads) == set(ends(groups)[:-1])
    report("R1 killed at a write", len(calls), len(heads), **Counter(name for name, _ in calls))


def write_calls(path: Path, groups: int) -> list[tuple[str, int]]:
    """Every write and sync of a child that appends the workload: the call's name, and how many of that name it was."""
    trace = path.with_suffix(".trace")
    done = run(child("append_groups", path, groups, strace=["-o", str(trace), "-e", f"trace={WRITES}"]))
    assert acknowledged(done.stdout) == ends(groups)[-1], done.stderr
    names = Counter(call[1] for line in trace.read_text().splitlines() if (call := re.match(r"\d+ +(\w+)\(", line)))
    return [(name, number) for name, count in sorted(names.items()) for number in range(1, count + 1)]


def in_parallel(job: Callable[[Any], Any], points: Iterable[Any], workers: int = WORKERS) -> list[Any]:
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(job, points))


# ---- R1b: the same when the disk has lost what was not synced


@needs_strace
@pytest.mark.parametrize(
    ("groups", "subsets"),
    [(9, 4), pytest.param(40, 40, marks=pytest.mark.soak)],
    ids=["9 groups", "40 groups"],
)
def test_after_a_power_cut_every_acknowledged_event_is_there_whichever_unsynced_writes_were_lost(
    folder: Path, groups: int, subsets: int
) -> None:
    trace = traced(folder, groups)
    tried = crash_trials(folder, trace, groups, subsets)
    whole = [trial for trial in tried if trial["outcome"] != "refused while made"]
    assert Counter(trial["outcome"] for trial in whole) == {"held": len(whole)}
    report("R1b power cut", len(tried), len(whole), refused_before_the_first_acknowledgement=len(tried) - len(whole))


@needs_strace
def test_the_power_cut_trial_itself_would_notice_a_missing_sync(folder: Path) -> None:
    trace = [line for line in traced(folder, 9) if "fdatasync(" not in line]
    outcomes = Counter(trial["outcome"] for trial in crash_trials(folder, trace, 9, 4))
    assert outcomes["lost"] > 0


@needs_strace
def test_the_folder_s_entries_are_synced_before_the_first_acknowledgement(folder: Path) -> None:
    disk = Disk(folder)
    for line in traced(folder, 1):
        disk.apply(line)
        if disk.acknowledged:
            break
    assert disk.acknowledged
    assert {folder, folder / "traced", folder / "traced" / "log"} <= disk.synced_folders


def traced(folder: Path, groups: int) -> list[str]:
    """What a child that appends the workload asked of the system, with every byte."""
    path, trace = folder / "traced" / "log", folder / "calls.trace"
    calls = f"trace={WRITES},openat,close,lseek,ftruncate,fallocate,mkdir"
    options = ["-o", str(trace), "-xx", "-s", str(1 << 24), "-e", calls]
    done = run(child("append_groups", path, groups, strace=options))
    assert acknowledged(done.stdout) == ends(groups)[-1], done.stderr
    return trace.read_text().splitlines()


def crash_trials(folder: Path, trace: Sequence[str], groups: int, subsets: int) -> list[dict[str, Any]]:
    """Build the files of every crash, open each in a process of its own, and judge what it finds."""
    intact = folder / "intact"
    intact.mkdir(exist_ok=True)
    cases, heads = [], []
    for number, crash in enumerate(crashes(Disk(folder), trace, subsets=subsets, seed=SEED)):
        image = folder / "images" / str(number)
        image.mkdir(parents=True)
        for name, content in crash.files.items():
            (image / name).write_bytes(content)
        cases.append([["image", str(image)]])
        heads.append(crash.acknowledged)
    found = read_damaged(folder, intact, groups, cases)
    return [judged(trial, head, groups) for trial, head in zip(found, heads, strict=True)]


def judged(trial: dict[str, Any], head: int, groups: int) -> dict[str, Any]:
    if trial["outcome"] == "prefix" and trial["records"] in ends(groups):
        return trial | {"outcome": "held" if trial["records"] >= head else "lost"}
    if trial["outcome"] == "refused" and head == 0:
        return trial | {"outcome": "refused while made"}
    return trial | {"outcome": "lost"}


# ---- R2 and R3: truncated files and flipped bits


def read_damaged(folder: Path, intact: Path, groups: int, cases: Sequence[Edits]) -> list[dict[str, Any]]:
    """What becomes of a reader of each damaged copy; see children/read_damaged.py."""

    def part(worker: int) -> list[dict[str, Any]]:
        scratch = folder / f"scratch-{worker}"
        scratch.mkdir(exist_ok=True)
        done = subprocess.run(
            child("read_damaged", intact, groups, scratch),
            input="".join(json.dumps(case) + "\n" for case in cases[worker::WORKERS]),
            capture_output=True,
            text=True,
            timeout=7200,
            check=False,
            env=child_environment(),
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    found: list[dict[str, Any]] = [{}] * len(cases)
    for worker, answers in enumerate(in_parallel(part, range(WORKERS))):
        found[worker::WORKERS] = answers
    return found


@pytest.fixture
def intact(folder: Path) -> Path:
    return made(folder, GROUPS)


GROUPS = 13


def made(folder: Path, groups: int) -> Path:
    """A log of the workload as a process that has ended left it."""
    path = folder / "intact"
    done = run(child("append_groups", path, groups))
    assert acknowledged(done.stdout) == ends(groups)[-1], done.stderr
    return path


def size_of(intact: Path) -> int:
    return (intact / "data.mdb").stat().st_size


def assert_never_silent(trial: str, found: Sequence[dict[str, Any]], cases: Sequence[Edits]) -> None:
    """Held: everything is read, or an error says so, or the reader died; also after more was appended."""
    outcomes = Counter(answer["outcome"] for answer in found)
    afterwards = Counter(answer["afterwards"]["outcome"] for answer in found if "afterwards" in answer)
    silent = [
        (case, answer)
        for case, answer in zip(cases, found, strict=True)
        for each in (answer, answer.get("afterwards", answer))
        if each["outcome"] not in ("intact", "refused", "damaged", "died")
    ]
    report(trial, len(found), len(found) - len(silent), **outcomes, after_appending=dict(afterwards))
    assert not silent, silent[:3]


def test_a_file_cut_short_is_refused_whole(folder: Path, intact: Path) -> None:
    size = size_of(intact)
    edges = {edge + by for edge in range(0, size + 1, PAGE_BYTES) for by in (-1, 0, 1)}
    lengths = sorted(length for length in {*edges, *range(0, size, 509)} if 0 <= length < size)
    assert_cut_is_refused(folder, intact, lengths)


@pytest.mark.soak
def test_a_file_cut_short_at_any_byte_is_refused_whole(folder: Path, intact: Path) -> None:
    assert_cut_is_refused(folder, intact, range(size_of(intact)))


def assert_cut_is_refused(folder: Path, intact: Path, lengths: Iterable[int]) -> None:
    cases: list[Edits] = [[["cut", length]] for length in lengths]
    found = read_damaged(folder, intact, GROUPS, cases)
    assert_never_silent("R2 cut short", found, cases)
    assert {answer["outcome"] for answer in found} == {"refused"}


def test_a_bit_flipped_in_a_record_stops_the_reader_at_its_position(folder: Path, intact: Path) -> None:
    chosen = random.Random(SEED).sample(record_bytes(intact), 600)
    assert_found_at_its_position(folder, intact, chosen)


@pytest.mark.soak
def test_a_bit_flipped_in_any_byte_of_any_record_stops_the_reader_at_its_position(folder: Path, intact: Path) -> None:
    assert_found_at_its_position(folder, intact, record_bytes(intact))


def assert_found_at_its_position(folder: Path, intact: Path, chosen: Sequence[tuple[int, int]]) -> None:
    bits = random.Random(SEED)
    cases: list[Edits] = [[["flip", offset, bits.randrange(8)]] for offset, _ in chosen]
    found = read_damaged(folder, intact, GROUPS, cases)
    assert_never_silent("R3 flipped in a record", found, cases)
    for (_, position), answer in zip(chosen, found, strict=True):
        assert (answer["outcome"], answer["position"]) == ("damaged", position)


def record_bytes(intact: Path) -> list[tuple[int, int]]:
    """Every byte of every record that is in use, as its offset in the file and its position in the log."""
    with lmdb.open(str(intact), readonly=True, lock=False, lib_version=0) as env, env.begin(buffers=True) as view:
        start = map_start(intact / "data.mdb")
        return [
            (numpy.frombuffer(value, numpy.uint8).__array_interface__["data"][0] - start + index, position)
            for position, (_, value) in enumerate(view.cursor(), 1)
            for index in range(len(value))
        ]


def map_start(file: Path) -> int:
    (line,) = (line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file)))
    return int(line.split("-")[0], 16)


def test_a_bit_flipped_in_a_meta_page_never_changes_what_is_read_without_an_error(folder: Path, intact: Path) -> None:
    cases = random.Random(SEED).sample(meta_flips(range(META_BYTES)), 800)
    assert_never_silent("R3 flipped in a meta page", read_damaged(folder, intact, GROUPS, cases), cases)


@pytest.mark.parametrize("groups", [1, 2, 3, 7, 11])
def test_a_transaction_number_flipped_is_refused_even_without_its_witness(folder: Path, groups: int) -> None:
    intact = made(folder, groups)
    (intact / "writer.lock").unlink()
    cases = meta_flips(range(16 + 128, 16 + 136))
    found = read_damaged(folder, intact, groups, cases)
    assert_never_silent("R3 flipped in a transaction number, witness lost", found, cases)
    assert {answer["outcome"] for answer in found} == {"refused"}


def test_a_bit_flipped_in_a_meta_page_is_never_silent_even_without_its_witness(folder: Path) -> None:
    groups = 30  # over 256 records, so that a flag that reverses the order of the keys' bytes tells
    intact = made(folder, groups)
    (intact / "writer.lock").unlink()
    flags = meta_flips(range(16 + 76, 16 + 78))
    cases = flags + random.Random(SEED).sample(meta_flips(range(META_BYTES)), 200)
    assert_never_silent("R3 flipped in a meta page, witness lost", read_damaged(folder, intact, groups, cases), cases)


def meta_flips(in_page: Iterable[int]) -> list[Edits]:
    """Every bit of these bytes of both meta pages."""
    return [[["flip", page * PAGE_BYTES + byte, bit]] for page in (0, 1) for byte in in_page for bit in range(8)]


def test_a_bit_flipped_in_a_page_s_header_or_index_never_changes_what_is_read_without_an_error(
    folder: Path, intact: Path
) -> None:
    chosen = random.Random(SEED)
    places = [(page * PAGE_BYTES + chosen.randrange(120), chosen.randrange(8)) for page in pages_of(intact, 900)]
    cases: list[Edits] = [[["flip", *place]] for place in places]
    assert_never_silent("R3 flipped in a page's header", read_damaged(folder, intact, GROUPS, cases), cases)


def pages_of(intact: Path, count: int) -> list[int]:
    pages = size_of(intact) // PAGE_BYTES
    return [2 + number % (pages - 2) for number in range(count)]


@pytest.mark.soak
@pytest.mark.parametrize(("groups", "every"), [(GROUPS, 1), (100, 29)], ids=["every byte", "a larger log, sampled"])
def test_a_bit_flipped_in_any_byte_never_changes_what_is_read_without_an_error(
    folder: Path, groups: int, every: int
) -> None:
    intact, bits = made(folder, groups), random.Random(SEED)
    cases: list[Edits] = [[["flip", byte, bits.randrange(8)]] for byte in range(0, size_of(intact), every)]
    assert_never_silent("R3 flipped anywhere", read_damaged(folder, intact, groups, cases), cases)


def test_a_log_whose_data_file_is_gone_or_empty_is_refused_and_not_begun_anew(intact: Path) -> None:
    data = intact / "data.mdb"
    data.write_bytes(b"")
    for create in (True, False):
        with pytest.raises(EnvironmentUnusable, match=r"it is empty, but was not|holds no data"):
            LmdbEventLog(intact, create=create)
    data.unlink()
    for create in (True, False):
        with pytest.raises(EnvironmentUnusable, match=r"it is empty, but was not|holds no data"):
            LmdbEventLog(intact, create=create)


def test_an_older_copy_of_the_file_is_refused_until_its_witness_is_removed(folder: Path) -> None:
    path = made(folder, 3)
    older = (path / "data.mdb").read_bytes()
    run(child("append_groups", path, 9))
    (path / "data.mdb").write_bytes(older)
    with pytest.raises(EnvironmentUnusable, match=r"was committed, but its newest is .* remove writer.lock"):
        LmdbEventLog(path)
    (path / "writer.lock").unlink()
    assert stored_groups(path) == expected(3)


# ---- R4: writes and syncs that fail


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_write_or_sync_that_fails_is_never_acknowledged_and_opening_again_finds_all_that_was(
    folder: Path, error: str
) -> None:
    groups = 6
    calls = [call for call in write_calls(folder / "counted", groups) if call[0] != "write"]

    def fail_at(call: tuple[str, int]) -> list[dict[str, Any]]:
        name, number = call
        path = folder / f"failed-{name}-{number}"
        options = ["-o", os.devnull, "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={number}"]
        done = run(child("fail_writes", path, groups, strace=options))
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert_honest(told, groups, error)
        assert stored_groups(path) == expected(groups), done.stderr
        return told

    told = in_parallel(fail_at, calls)
    kinds = Counter(fact["event"] for facts in told for fact in facts)
    report(f"R4 failed with {error}", len(calls), len(told), stopped=kinds["stopped"], full=kinds["full"])
    assert kinds["stopped" if error == "EIO" else "full"] >= groups


def assert_honest(told: list[dict[str, Any]], groups: int, error: str) -> None:
    """Acknowledged positions only grow, reads show just them, and a log that stopped takes nothing more."""
    head = 0
    for fact in told:
        match fact["event"]:
            case "stored":
                assert fact["position"] == ends(groups)[ends(groups).index(head) + 1]
                head = fact["position"]
            case "full":
                assert error == "ENOSPC"
                # A meta page that cannot be written is more than a full disk: LMDB then reads no more either.
                assert fact["reads"] in (str(head), "LogStopped")
            case "stopped":
                assert fact["again"] == "LogStopped"
                assert fact["reads"] in (str(head), "LogStopped")
            case "opened":
                assert int(fact["reads"]) in ends(groups)
                assert int(fact["reads"]) >= head
                head = int(fact["reads"])
            case "not opened":
                assert head == 0
    assert told[-1] == {"event": "done", "reads": str(ends(groups)[-1])}


@needs_strace
def test_after_a_failed_sync_nothing_is_appended_but_reads_go_on(folder: Path) -> None:
    options = ["-o", os.devnull, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=5"]
    done = run(child("fail_writes", folder / "log", 6, strace=options))
    (stopped,) = (fact for line in done.stdout.splitlines() if (fact := json.loads(line))["event"] == "stopped")
    assert "Input/output error" in stopped["detail"]
    assert "check the disk" in stopped["detail"]
    assert stopped["again"] == "LogStopped"
    assert stopped["reads"] == str(ends(6)[3])


def test_an_interrupted_append_is_acknowledged_to_nobody_and_stops_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LmdbEventLog(folder / "log")
    log.append(group_of(0))

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    waiting = threading.Semaphore(0)
    is_mine = log._is_mine_to_commit

    def count(ticket: Any) -> bool:
        waiting.release()
        return is_mine(ticket)

    monkeypatch.setattr(log, "_is_mine_to_commit", count)
    monkeypatch.setattr(log, "_commit", interrupt)
    outcomes: Counter[object] = Counter()

    def append() -> None:
        try:
            outcomes[log.append(group_of(1))] += 1
        except (LogStopped, KeyboardInterrupt) as error:
            outcomes[type(error)] += 1

    threads = [threading.Thread(target=append) for _ in range(3)]
    assert is_mine(None)  # until all three have come, so that one of them commits for all
    for thread in threads:
        thread.start()
    for _ in threads:
        assert waiting.acquire(timeout=20)
    log._let_the_next_commit()
    for thread in threads:
        thread.join(20)
    assert outcomes == {KeyboardInterrupt: 1, LogStopped: 2}
    monkeypatch.undo()
    with pytest.raises(LogStopped, match="interrupted"):
        log.append(group_of(1))
    log.close()
    assert len(stored_groups(folder / "log")) == 1


# ---- R5: a full disk


def test_a_limit_on_the_file_s_size_is_a_full_log_that_goes_on_when_there_is_room(folder: Path) -> None:
    done = run(child("fill_disk", folder, "limit", 80, 1777))
    assert_full_and_goes_on("R5 file size limited", done, 80)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not there")
def test_a_full_disk_is_a_full_log_that_goes_on_when_there_is_room(folder: Path) -> None:
    mount = f'mount -t tmpfs -o size=2m none "{folder}"'
    if run(["unshare", "-rm", "sh", "-c", mount]).returncode:
        pytest.skip("mounting is not permitted")
    command = child("fill_disk", folder, "disk", 80, 2048)
    done = run(["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *command])
    assert_full_and_goes_on("R5 disk full", done, 80)


def assert_full_and_goes_on(trial: str, done: "subprocess.CompletedProcess[str]", steps: int) -> None:
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    held = [fact for fact in told if fact["reads go on"] and fact["goes on"] and fact["refused"] == 2]
    report(trial, steps, len(held), heads_when_full=sorted({fact["head"] for fact in told}))
    assert len(told) == len(held) == steps


# ---- R8: several appending processes


@pytest.mark.parametrize("writers", [2, 3])
def test_processes_that_append_at_once_make_one_order_in_which_no_event_is_lost_or_repeated(
    folder: Path, writers: int
) -> None:
    path, rounds = folder / "log", 300
    given = in_parallel(
        lambda name: json.loads(run(child("append_beside", path, name, writers, rounds)).stdout),
        range(writers),
        workers=writers,
    )

    records = stored_groups(path)
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    assert sorted(position for positions in given for position in positions) == list(range(1, len(records) + 1))
    for name, positions in enumerate(given):
        assert positions == sorted(positions)
        assert [records[position - 1].event for position in positions] == [
            PostLiked(user=name, post=number, author=index)
            for number in range(rounds)
            for index in range(1 + (name + number) % 4)
        ]
    changes = sum(1 for before, after in pairwise(records) if user(before) != user(after))
    report(f"R8 {writers} appending processes", len(records), len(records), changes_of_writer=changes)
    assert changes >= rounds // 4


def user(record: Recorded) -> int:
    assert isinstance(record.event, PostLiked)
    return record.event.user


# ---- R14: gaps


@pytest.mark.parametrize("missing", [1, 2, 50, 95])
def test_a_gap_in_positions_is_never_crossed(folder: Path, missing: int) -> None:
    path = made(folder, 9)
    log = LmdbEventLog(path)
    environment = open_environment(path)
    with environment.write() as transaction:
        assert transaction.delete(struct.pack(">Q", missing))
    assert log.read(0, 10**6) == expected(9)[: missing - 1] if missing > 1 else True
    for after in range(missing - 1):
        assert log.read(after, 10**6) == expected(9)[after : missing - 1]
    with pytest.raises(DamagedRecord, match=f"position {missing}") as caught:
        log.read(missing - 1, 10)
    assert caught.value.position == missing
    with pytest.raises(DamagedRecord):
        log.append([UserFollowed(follower=1, followee=2)])
    close_environment(environment)
    log.close()


@pytest.mark.parametrize("missing", [1, 2, 50, 95])
def test_a_log_with_a_gap_is_refused_with_the_position_that_is_missing(folder: Path, missing: int) -> None:
    path = made(folder, 9)
    (path / "writer.lock").unlink()
    with lmdb.open(str(path), map_size=1 << 30, lib_version=0) as env:
        with env.begin(write=True) as transaction:
            transaction.delete(struct.pack(">Q", missing))
        for number in range(2):  # so that it is not the meta pages that tell
            with env.begin(write=True) as transaction:
                transaction.put(struct.pack(">Q", 97 + number), b"")
    with pytest.raises(DamagedRecord) as caught:
        LmdbEventLog(path)
    assert caught.value.position == missing


def test_a_record_under_another_s_position_is_damage(folder: Path) -> None:
    log = LmdbEventLog(folder / "log")
    log.append(group_of(1) + group_of(1))
    environment = open_environment(folder / "log")
    with environment.write() as transaction:
        other = transaction.get(struct.pack(">Q", 2))
        assert other is not None
        transaction.put(struct.pack(">Q", 5), other)
    assert len(log.read(0, 10)) == 4
    with pytest.raises(DamagedRecord, match="position 5: its checksum does not match"):
        log.read(4, 10)
    close_environment(environment)
    log.close()


# ---- R20: the clock


def test_a_clock_that_jumps_an_hour_either_way_is_recorded_as_it_told_and_survives_opening_again(folder: Path) -> None:
    hour_ms, now_ms = 3_600_000, time_of(0)
    told = [now_ms, now_ms - hour_ms, now_ms + hour_ms, now_ms + 1, 0]
    for time_ms in told:
        log = LmdbEventLog(folder / "log", clock=[time_ms].pop)
        log.append(group_of(0))
        log.close()
    assert [record.time_ms for record in stored_groups(folder / "log")] == told
    running = [max(told[: index + 1]) for index in range(len(told))]
    assert running == sorted(running)
