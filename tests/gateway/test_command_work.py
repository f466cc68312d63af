"""Who works in a directory, with which settings, and what the command line itself promises."""

import argparse
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands_run import (
    COMMAND,
    darkroom,
    done,
    environment,
    filled,
    lines,
    listening,
    refused,
    registered,
    served,
    views,
)
from histories import seeded_history

from darkroom.actors.worker import note_fault
from darkroom.events.data_directory import DataDirectory, WorkLock
from darkroom.events.json_lines import format_line
from darkroom.gateway.main import build_parser, main
from darkroom.projections import generations
from darkroom.projections.generations import FolderGenerations, Pointer
from darkroom.projections.stores import lmdb
from darkroom.projections.stores.lmdb import FORMAT

POST: dict[str, Any] = {"type": "PostPublished", "author": 1, "caption": ""}

# Root may do everything; without these capabilities it may do what a file's mode says, like everybody else.
ORDINARY = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def pointer(data: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((data / "generations" / "current.json").read_bytes())
    return found


@pytest.fixture(scope="module")
def log_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("log") / "data", [*registered("ada", "bo"), POST])


@pytest.fixture
def data(log_only: Path, tmp_path: Path) -> Path:
    return shutil.copytree(log_only, tmp_path / "data")


# The number of shards, and other settings


def test_shards_come_from_flags_then_environment_then_the_file(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text("metadata: {darkroom: {shards: 3}}")
    done("rebuild", "--config", config, data=data)
    assert pointer(data)["shards"] == 3
    done("rebuild", "--config", config, data=data, settings={"DARKROOM_SHARDS": "2"})
    assert pointer(data)["shards"] == 2
    done("rebuild", "--config", config, "--shards", "1", data=data, settings={"DARKROOM_SHARDS": "2"})
    assert pointer(data) == {"generation": 3, "shards": 1, "highest": 3}


def test_another_number_of_shards_needs_a_rebuild_and_is_no_matter_to_reads(data: Path) -> None:
    done("catch-up", data=data)
    assert pointer(data)["shards"] == 2, "of a new directory"
    for command in ("catch-up", "serve"):
        told = refused(command, "--shards", "1", "--runtime", "inline", data=data)
        assert told.endswith("has 2 shards, not 1; run rebuild (`darkroom rebuild --shards 1`)")
    one = {"DARKROOM_SHARDS": "1"}
    assert done("graph", "posts", "ada", "--json", data=data, settings=one)
    assert done("log", "append", "-", data=data, settings=one) == "3"
    assert done("rebuild", "--shards", "1", data=data) == "generation 2 serves"
    assert done("catch-up", data=data) == "3"
    assert sorted(path.name for path in (data / "generations").iterdir()) == ["000002", "current.json"]


def test_a_setting_that_is_unknown_or_not_permitted_is_named(data: Path, tmp_path: Path) -> None:
    assert refused("status", data=data, settings={"DARKROOM_SHARD": "2"}).startswith("DARKROOM_SHARD: ")
    assert refused("catch-up", "--shards", "0", data=data).startswith("--shards: '0' is not permitted")
    config = tmp_path / "cluster.yaml"
    config.write_text("metadata: {darkroom: {feed_row: 5}}")
    assert "metadata.darkroom.feed_row" in refused("feed", "ada", "--config", config, data=data)
    assert "cannot be read" in refused("feed", "ada", "--config", tmp_path / "none", data=data)


def test_no_feed_depends_on_thresholds_or_rows_nor_on_changing_them_between_runs(tmp_path: Path) -> None:
    written: list[bytes] = []
    time_ms = 0
    for at_ms, event in seeded_history(7, 1200, users=12):
        time_ms = max(time_ms, at_ms)
        written.append(format_line(event, time_ms))

    def feeds(name: str, *runs: dict[str, str]) -> list[dict[str, Any]]:
        data, size = tmp_path / name, len(written) // len(runs)
        for run, settings in enumerate(runs):
            done("log", "append", "-", data=data, stdin=b"".join(written[run * size : (run + 1) * size]))
            done("catch-up", data=data, settings=settings)
        users = "\n".join(map(str, range(1, 200)))
        found = darkroom("feed", "-", "--limit", "1000", "--json", data=data, stdin=users).objects
        return [answer for answer in found if "error" not in answer]

    threshold, rows = "DARKROOM_CELEBRITY_THRESHOLD", "DARKROOM_FEED_ROWS"
    pulled = feeds("pulled", {threshold: "0", "DARKROOM_SHARDS": "1"})
    assert len(pulled) > 5
    assert sum(len(answer["posts"]) for answer in pulled) > 50
    assert feeds("pushed", {threshold: "never"}) == pulled
    assert feeds("one-row", {threshold: "never", rows: "1", "DARKROOM_SHARDS": "1"}) == pulled
    assert feeds("changing", {threshold: "never"}, {threshold: "0"}, {threshold: "3", rows: "2"}) == pulled


# Data directories that cannot be used


def test_a_directory_that_is_no_data_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    strangers, file = tmp_path / "strangers", tmp_path / "file"
    strangers.mkdir()
    (strangers / "notes.txt").write_text("mine")
    file.write_text("mine")
    for command in (("feed", "ada"), ("catch-up",)):
        assert refused(*command, data=tmp_path / "none").endswith("none is not a Darkroom data directory")
    assert refused("status", data=strangers).endswith("strangers is not a Darkroom data directory")
    assert "holds other files" in refused("log", "append", "-", data=strangers, stdin=views(1))
    assert refused("status", data=file).endswith("file is not a directory")
    assert refused("log", "append", "-", data=file, stdin=views(1)).endswith("file is not a directory")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "notes.txt", "strangers"]


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        (b'{"format": 2}', "was made by a newer version (format 2, known: 1)"),
        (b'{"format": 0}', "is not what Darkroom writes"),
        (b"\xff\xfe", "is not what Darkroom writes"),
        (b"", "is not what Darkroom writes"),
    ],
)
def test_a_directory_of_another_format_is_refused(data: Path, marker: bytes, told: str) -> None:
    (data / "darkroom.json").write_bytes(marker)
    before = (data / "log" / "data.mdb").read_bytes()
    assert refused("log", "append", "-", data=data, stdin=views(1)).endswith(told)
    assert (data / "log" / "data.mdb").read_bytes() == before


def test_a_directory_being_made_by_another_is_no_strangers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "darkroom.4711").write_text("")  # left by one that was killed while it made the directory
    assert done("log", "append", "-", data=data, stdin=views(1)) == "1"


@pytest.mark.skipif(bool(ORDINARY) and shutil.which("setpriv") is None, reason="root may write anywhere")
def test_a_directory_that_is_not_writable_is_refused(data: Path) -> None:
    data.chmod(0o555)
    try:
        for command in (("log", "append", "-"), ("catch-up",), ("feed", "ada")):
            assert refused(*command, data=data, stdin=views(1), through=ORDINARY).endswith("data is not writable")
        assert "Permission denied" in refused("log", "append", "-", data=data / "new", through=ORDINARY)
    finally:
        data.chmod(0o755)
    assert done("log", "check", data=data) == "3 records, all whole"


def test_a_lost_log_is_not_replaced_by_an_empty_one(data: Path) -> None:
    done("catch-up", "--shards", "1", data=data)
    shutil.rmtree(data / "log")
    for command in (("feed", "ada"), ("log", "check"), ("log", "append", "-"), ("rebuild",)):
        assert refused(*command, data=data, stdin=views(1)).endswith("data has no log; restore it")
    assert not (data / "log").exists()


def test_shards_that_are_ahead_of_the_log_are_told_of_and_mended_by_a_rebuild(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "log", tmp_path / "earlier")
    filled(data, [POST, POST], shards=1)
    shutil.rmtree(data / "log")
    shutil.copytree(tmp_path / "earlier", data / "log")
    assert "the log ends at 3" in refused("catch-up", data=data)
    said = darkroom("graph", "posts", "ada", "--json", data=data)
    assert said.errors == "the log ends at 3, before the shards: it is not the log that they folded\n"
    assert done("rebuild", data=data) == "generation 2 serves"
    assert json.loads(done("graph", "posts", "ada", "--json", data=data))["ids"] == ["3"]


def test_a_server_does_not_start_on_stores_of_another_version(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.setattr(generations, "FORMAT", FORMAT - 1)
        then.setattr(lmdb, "FORMAT", FORMAT - 1)
        folder = FolderGenerations(data / "generations")
        folder.create(folder.allot(), 1).close()
        folder.serve(Pointer(1, 1, 1))
    for command in (("serve", "--runtime", "inline"), ("serve", "--runtime", "ray"), ("gateway",), ("catch-up",)):
        assert "shard-0000 was made by an older version (format 1, now 2); `darkroom rebuild`" in refused(
            *command, data=data
        )
    assert done("rebuild", data=data) == "generation 2 serves"


def test_a_damaged_generation_is_named_and_mended_by_a_rebuild(data: Path) -> None:
    done("catch-up", "--shards", "1", data=data)
    (data / "generations" / "000001" / "shard-0000" / "data.mdb").write_bytes(b"x" * 10_000)
    assert "shard-0000" in refused("feed", "ada", data=data)
    assert done("rebuild", data=data) == "generation 2 serves"
    assert json.loads(done("feed", "ada", "--json", data=data))["position"] == 3
    (data / "generations" / "current.json").write_text("{")
    assert "current.json" in refused("feed", "ada", data=data)


# Beside others


@pytest.fixture(scope="module")
def server(log_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int, str]]:
    """The directory, the process and the URL of a running server."""
    data = shutil.copytree(log_only, tmp_path_factory.mktemp("served") / "data")
    with served(data) as (process, url):
        yield data, process.pid, url


def test_a_second_server_is_refused_by_the_name_of_the_first(server: tuple[Path, int, str]) -> None:
    data, process, url = server
    holder = f"process {process} (darkroom serve, {url})"
    assert refused("serve", "--runtime", "inline", "--port", "0", data=data) == f"{data} is in use by {holder}"
    assert darkroom("status", "--json", data=data).object["worker"] == holder
    assert f"in use by {holder}" in darkroom("status", data=data).lines


def test_catching_up_beside_a_server_waits_until_its_shards_are_there(server: tuple[Path, int, str]) -> None:
    data = server[0]
    head = done("log", "append", "-", data=data, stdin=views(5_000) + lines(POST))
    assert done("catch-up", data=data) == head
    newest = json.loads(done("graph", "posts", "ada", "--limit", "1", "--json", data=data))
    assert newest == {"id": "1", "position": int(head), "ids": [head]}
    assert refused("catch-up", "--shards", "1000", data=data).endswith("not 1000; run rebuild")


def test_a_rebuild_beside_a_server_is_done_by_the_server(server: tuple[Path, int, str]) -> None:
    data = server[0]
    generation = pointer(data)["generation"]
    assert done("rebuild", "--shards", "3", data=data) == f"generation {generation + 1} serves"
    assert pointer(data) == {"generation": generation + 1, "shards": 3, "highest": generation + 1}
    assert json.loads(done("counters", "user", "bo", "--json", data=data))["id"] == "2"
    assert list((data / "requests").iterdir()) == []


def test_a_shard_that_stands_still_is_told_in_full_to_operators_alone(server: tuple[Path, int, str]) -> None:
    data, _, url = server
    generations, generation = data / "generations", pointer(data)["generation"]
    # As the server notes it of a shard on another node.
    note_fault(generations, generation, 0, "SettingsError: cassandra: db.internal has no port")
    try:
        told = httpx.get(f"{url}/api/darkroom/v1/status", timeout=30)
        assert [shard["fault"] for shard in told.json()["shards"]] == ["SettingsError", None, None]
        assert "db.internal" not in told.text
        said = refused("catch-up", data=data)
        assert re.fullmatch(r"shard 0 stands still at position \d+: SettingsError: cassandra: db.internal has.*", said)
    finally:
        note_fault(generations, generation, 0, None)
    assert [shard["fault"] for shard in httpx.get(told.url, timeout=30).json()["shards"]] == [None] * 3


def test_another_gateway_beside_a_server_serves_the_same_and_takes_writes(server: tuple[Path, int, str]) -> None:
    data, _, url = server
    with listening("gateway", data=data) as (process, other):
        person = {"username": "cy", "password": "correct horse battery"}
        signed_up = httpx.post(f"{url}/api/v1/accounts", json=person, timeout=30)
        token = {"Authorization": f"Bearer {signed_up.json()['access_token']}"}
        said = httpx.post(f"{other}/api/v1/statuses", json={"status": "from the other"}, headers=token, timeout=30)
        assert said.status_code == 200, said.text
        position = said.headers["darkroom-position"]
        home = httpx.get(f"{url}/api/v1/timelines/home?min_position={position}", headers=token, timeout=30).json()
        assert [status["id"] for status in home] == [said.json()["id"]]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_server_that_is_told_to_stop_does_so_and_gives_the_directory_back(data: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with served(data) as (process, _):
            process.send_signal(number)
            assert process.wait(30) == 0
        assert (data.parent / "serve-errors").read_text() == ""
        assert json.loads(done("status", "--json", data=data))["worker"] is None


def test_a_server_that_is_killed_gives_the_directory_back(data: Path) -> None:
    with served(data) as (process, _):
        process.kill()
        process.wait(30)
        done("log", "append", "-", data=data, stdin=views(1))
        assert darkroom("status", "--json", data=data).object["worker"] is None
        assert done("catch-up", data=data) == "4"


def test_a_server_that_cannot_listen_says_so_and_gives_the_directory_back(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "in use" in refused("serve", "--runtime", "inline", "--port", port, data=data)
    assert done("catch-up", data=data) == "3"


def test_another_command_at_work_is_named_and_not_waited_for(data: Path) -> None:
    lock = WorkLock(DataDirectory(data, create=False), "darkroom catch-up")
    try:
        for command in ("catch-up", "rebuild"):
            told = refused(command, data=data)
            assert told == f"{data} is in use by process {os.getpid()} (darkroom catch-up)"
        assert darkroom("feed", "zed", data=data).status == 1, "who reads needs no lock"
        assert done("log", "append", "-", data=data, stdin=views(1)) == "4"
    finally:
        lock.close()


# The command line itself


def _paths(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _paths(inner, (*path, name))


@pytest.mark.parametrize("path", list(_paths(build_parser())), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*path, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"usage: {' '.join(('darkroom', *path))} ")
    assert said.err == ""
    assert ("--data DIR" in said.out and "--config FILE" in said.out) or "COMMAND ..." in said.out


def test_what_is_not_understood_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    said = darkroom("feed", "ada", "--colour")
    assert (said.status, said.out) == (2, "")
    assert "--colour" in said.errors
    for arguments in (
        [],
        ["develop"],
        ["graph"],
        ["feed"],
        ["feed", "a", "--before", "-1"],
        ["log", "export", "--after", "x"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().out == ""


def test_a_reader_that_has_seen_enough_is_not_complained_of(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done("log", "append", "-", data=data, stdin=views(20_000))
    command = [*COMMAND, "log", "export", "--data", str(data)]
    export = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert export.stdout is not None
    assert export.stderr is not None
    assert export.stdout.readline()
    export.stdout.close()
    assert export.stderr.read() == b""
    export.stderr.close()
    assert export.wait(30) == 1


def test_standard_streams_may_be_full_or_closed(data: Path) -> None:
    def shell(script: str) -> tuple[str, ...]:
        return ("sh", "-c", f'exec "$@" {script}', "sh")

    said = darkroom("status", data=data, through=shell(">/dev/full"))
    assert (said.status, said.errors) == (1, "darkroom: No space left on device\n")
    said = darkroom("feed", "zed", "--json", data=data, through=shell("2>&-"))
    assert (said.status, len(said.objects)) == (1, 1)
    assert darkroom("log", "check", data=data, through=shell(">&-")).status == 0
    assert darkroom("counters", "user", "-", data=data, through=shell("<&-")).out == ""


def test_progress_is_shown_on_a_terminal_with_rate(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "many.jsonl"
    file.write_text(views(20_000))
    assert done("log", "append", file, data=data) == "20000", "nothing elsewhere"
    for command in (("log", "append", str(file)), ("log", "check"), ("catch-up",)):
        terminal, end = pty.openpty()
        ran = subprocess.run([*COMMAND, *command, "--data", str(data)], stderr=end, env=environment(), check=True)
        os.close(end)
        shown = b""
        with suppress(OSError):  # Linux ends a terminal whose other end is closed with an error
            while read := os.read(terminal, 65536):
                shown += read
        os.close(terminal)
        assert ran.returncode == 0
        assert b" of " in shown
        assert b"/s" in shown
        assert shown.endswith(b"\r\x1b[K"), "the line is cleared"
