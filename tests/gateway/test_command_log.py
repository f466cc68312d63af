"""`log append`, `export` and `check`: all or nothing, by line and position, and the way there and back."""

import json
import subprocess
from pathlib import Path

import pytest
from commands_run import COMMAND, darkroom, done, environment, exported, filled, lines, refused, registered, views

from darkroom.events.codec import EVENT_BYTES_MAX
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import FeedViewed
from darkroom.events.json_lines import LINE_BYTES_MAX
from darkroom.events.log_adapters.lmdb import LmdbEventLog


def view(**more: object) -> dict[str, object]:
    return {"type": "FeedViewed", "user": 1, "newest": 1, **more}


def test_append_makes_the_directory_and_prints_the_last_position(tmp_path: Path) -> None:
    data, file = tmp_path / "not" / "yet" / "there", tmp_path / "two.jsonl"
    file.write_text("\n" + lines(view(), view()).rstrip("\n"))
    assert done("log", "append", file, data=data) == "2"
    assert done("log", "append", "-", data=data, stdin=views(3)) == "5"
    assert done("log", "append", "-", data=data) == "5", "nothing to append"
    assert done("log", "check", data=data) == "5 records, all whole"


def test_blocks_of_10_000_lines_are_all_or_nothing(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "many.jsonl"
    file.write_text(views(14_999) + "{}\n" + views(10_000))
    assert refused("log", "append", file, data=data) == "line 15000: type is missing; the last position is 10000"
    assert done("log", "check", data=data) == "10000 records, all whole"
    assert done("log", "append", "-", data=data, stdin=views(20_001)) == "30001"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{not json}", "not JSON"),
        (b'{"type": "\xff"}', "not UTF-8"),
        (b'{"type": "UserTeleported"}', "type 'UserTeleported' is unknown"),
        (b'{"type": "FeedViewed", "user": "1", "newest": 1}', "user"),
        (b'{"type": "FeedViewed", "user": 1, "newest": 99999999999999999999}', "newest"),
        (b'{"type": "FeedViewed", "user": 1, "newest": 1, "time_ms": "now"}', "time_ms"),
        (b'{"type": "UserRegistered", "username": "\\ud800", "display_name": ""}', "surrogate"),
        (json.dumps(view(note="x" * EVENT_BYTES_MAX)).encode(), f"the limit is {EVENT_BYTES_MAX}"),
        (b" " * LINE_BYTES_MAX + b'{"type": "FeedViewed"}', f"the limit is {LINE_BYTES_MAX}"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_decoded_is_refused_by_line_and_nothing_of_its_block_is_stored(
    tmp_path: Path, line: bytes, told: str
) -> None:
    said = refused("log", "append", "-", data=tmp_path / "data", stdin=views(2).encode() + line + b"\n")
    assert said.startswith("line 3: ")
    assert told in said
    assert said.endswith("; the last position is 0")


def test_records_that_break_rules_are_appended(tmp_path: Path) -> None:
    records = [
        {"type": "PostLiked", "user": 7, "post": 8, "author": 9},
        {"type": "UserFollowed", "follower": 1, "followee": 1},
        {"type": "UserDeleted", "user": -5},
        {"type": "PostPublished", "author": 1, "caption": "x" * 10_000, "tags": ["a"] * 100},
        *registered("", "not a name", "x" * 100),
        {"type": "RecordParked", "position": 1, "reason": "an example"},
    ]
    data = filled(tmp_path / "data", records, shards=1)
    assert [record["type"] for record in exported(data)] == [record["type"] for record in records]


def test_times_must_not_go_back_from_line_to_line_but_may_be_below_the_head(tmp_path: Path) -> None:
    data = tmp_path / "data"
    two = lines(view(time_ms=1000), view(time_ms=999))
    told = refused("log", "append", "-", data=data, stdin=two)
    assert told == "line 2: time_ms 999 is below the previous line's, 1000; the last position is 0"
    assert done("log", "append", "-", data=data, stdin=lines(view(time_ms=1000), view(time_ms=1000))) == "2"
    assert done("log", "append", "-", data=data, stdin=lines(view(time_ms=5))) == "3"
    assert done("log", "append", "-", data=data, stdin=lines(view())) == "4"
    assert exported(data)[3]["time_ms"] > 1_700_000_000_000, "a time that is left out is the present"


def test_times_go_back_across_blocks_no_more_than_within_one(tmp_path: Path) -> None:
    many = lines(view(time_ms=2000)) * 10_000 + lines(view(time_ms=1000))
    told = refused("log", "append", "-", data=tmp_path / "data", stdin=many)
    assert told == "line 10001: time_ms 1000 is below the previous line's, 2000; the last position is 10000"


def test_a_file_that_is_not_there_makes_no_directory(tmp_path: Path) -> None:
    assert refused("log", "append", tmp_path / "none", data=tmp_path / "data").endswith(
        "none: No such file or directory"
    )
    assert refused("log", "append", tmp_path, data=tmp_path / "data").endswith("Is a directory")
    assert not (tmp_path / "data").exists()


def test_two_first_appends_at_once_are_both_stored(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text(views(100))
    command = [*COMMAND, "log", "append", str(file), "--data", str(tmp_path / "data")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) for _ in range(2)]
    assert [(one.communicate()[1], one.returncode) for one in both] == [(b"", 0)] * 2
    assert done("log", "check", data=tmp_path / "data") == "200 records, all whole"


def test_an_export_is_cut_by_after_and_limit(tmp_path: Path) -> None:
    data = filled(tmp_path / "data", [view(newest=number) for number in range(1, 7)])
    for options, found in (
        ((), [1, 2, 3, 4, 5, 6]),
        (("--after", "4"), [5, 6]),
        (("--after", "1", "--limit", "3"), [2, 3, 4]),
        (("--after", "999999999999999999"), []),
        (("--limit", "0"), []),
    ):
        assert [record["newest"] for record in exported(data, *options)] == found


def test_an_export_can_be_appended_even_of_a_log_whose_times_go_back(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    log = LmdbEventLog(DataDirectory(one, create=True).log)
    log.append([FeedViewed(user=1, newest=number) for number in range(4)], [1000, 999, 5, 2000])
    log.close()
    whole = done("log", "export", data=one)
    assert [json.loads(line)["time_ms"] for line in whole.splitlines()] == [1000, 1000, 1000, 2000]
    assert done("log", "append", "-", data=other, stdin=whole) == "4"
    assert done("log", "export", data=other) == whole


def test_a_damaged_record_is_named_by_its_position(tmp_path: Path) -> None:
    posts = [{"type": "PostPublished", "author": 1, "caption": f"caption {number}"} for number in range(1, 5)]
    data = filled(tmp_path / "data", posts, shards=1)
    file = data / "log" / "data.mdb"
    file.write_bytes(file.read_bytes().replace(b"caption 3", b"caption X"))
    assert refused("log", "check", data=data) == "log is damaged at position 3: its checksum does not match"
    said = darkroom("log", "export", data=data)
    assert (said.status, [json.loads(line)["caption"] for line in said.lines]) == (1, ["caption 1", "caption 2"])
    assert said.errors == "darkroom: log is damaged at position 3: its checksum does not match\n"
    assert "position 3" in refused("rebuild", data=data)
    assert darkroom("status", "--json", data=data).object["generation"] == 1, "the old one serves on"


def test_a_log_that_is_no_longer_one_is_refused(tmp_path: Path) -> None:
    data = filled(tmp_path / "data", [view()])
    (data / "log" / "data.mdb").write_bytes(b"not a log" * 1000)
    for command in (("log", "check"), ("log", "export"), ("feed", "1"), ("catch-up",), ("log", "append", "-")):
        assert "is damaged" in refused(*command, data=data)
