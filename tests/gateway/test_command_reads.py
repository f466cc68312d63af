"""The commands that read: shapes, order, limits, what is not there, and that nothing but the answer is printed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from commands_run import darkroom, done, exported, filled, lines, refused, registered

from darkroom.projections.routing import shard_of, shard_of_text

WORLD: list[dict[str, Any]] = [
    *registered("ada", "Bo", "cy", "di"),
    {"type": "UserFollowed", "follower": 2, "followee": 1},
    {"type": "UserFollowed", "follower": 3, "followee": 1},
    {"type": "UserFollowed", "follower": 3, "followee": 2},
    {"type": "PostPublished", "author": 1, "caption": "Low tide"},
    {"type": "PostPublished", "author": 1, "caption": "High tide"},
    {"type": "PostPublished", "author": 2, "caption": "Harbour"},
    {"type": "PostLiked", "user": 3, "post": 8, "author": 1},
    {"type": "PostLiked", "user": 2, "post": 8, "author": 1},
    {"type": "CommentAdded", "user": 3, "post": 8, "author": 1, "text": "Where?"},
    {"type": "CommentAdded", "user": 2, "post": 8, "author": 1, "text": "Here."},
    {"type": "CommentAdded", "user": 2, "post": 9, "author": 1, "text": "Oh."},
    {"type": "CommentDeleted", "user": 2, "comment": 15, "post": 9, "author": 1},
    {"type": "PostPublished", "author": 3, "caption": "A mistake"},
    {"type": "PostDeleted", "author": 3, "post": 17},
    {"type": "UserDeleted", "user": 4},
    *registered("ADA"),
    {"type": "FeedViewed", "user": 2, "newest": 9},
    {"type": "UserFollowed", "follower": 1, "followee": 1},
    {"type": "PostLiked", "user": 2, "post": 99, "author": 1},
]
HEAD = len(WORLD)
PEOPLE, POSTS = 1100, 1050


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("world") / "data", WORLD, shards=3)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """User 1 with 1,100 followers and 1,050 posts."""
    records = [
        *registered("star", *(f"fan{number}" for number in range(PEOPLE))),
        *({"type": "UserFollowed", "follower": number + 2, "followee": 1} for number in range(PEOPLE)),
        *({"type": "PostPublished", "author": 1, "caption": str(number)} for number in range(POSTS)),
    ]
    return filled(tmp_path_factory.mktemp("crowd") / "data", records, shards=2)


def asked(*arguments: str, data: Path, stdin: str | bytes = b"") -> list[dict[str, Any]]:
    """The answers of a command that had nothing but JSON to say."""
    said = darkroom(*arguments, "--json", data=data, stdin=stdin)
    assert (said.status, said.errors) == (0, ""), said
    return said.objects


def feed_of(user: str, *posts: tuple[str, str]) -> dict[str, Any]:
    return {"user": user, "position": HEAD, "posts": [{"id": post, "author": author} for post, author in posts]}


def test_a_feed_has_the_resolved_id_the_position_and_posts_with_authors_newest_first(data: Path) -> None:
    everything = (("10", "2"), ("9", "1"), ("8", "1"))
    assert asked("feed", "cy", "2", "ADA", data=data) == [
        feed_of("3", *everything),
        feed_of("2", *everything),
        feed_of("1", *everything[1:]),
    ]


@pytest.mark.parametrize(("before", "posts"), [("0", 0), ("8", 0), ("9", 1), ("23", 3), ("9" * 18, 3)])
def test_before_is_exclusive_and_any_position(data: Path, before: str, posts: int) -> None:
    all_posts = (("10", "2"), ("9", "1"), ("8", "1"))
    assert asked("feed", "bo", "--before", before, data=data) == [feed_of("2", *all_posts[3 - posts :])]


def test_graph_answers_have_id_position_and_ids_as_strings(data: Path) -> None:
    def ids(*arguments: str) -> dict[str, Any]:
        [answer] = asked("graph", *arguments, data=data)
        assert answer.pop("position") == HEAD
        return answer

    assert ids("followers", "ADA") == {"id": "1", "ids": ["2", "3"]}
    assert ids("following", "cy") == {"id": "3", "ids": ["1", "2"]}
    assert ids("posts", "1") == {"id": "1", "ids": ["9", "8"]}
    assert ids("likers", "8") == {"id": "8", "ids": ["2", "3"]}
    assert ids("comments", "8") == {"id": "8", "ids": ["13", "14"]}
    assert ids("comments", "9") == {"id": "9", "ids": []}
    assert ids("commented", "ada", "BO") == {"id": "1", "commenter": "2", "ids": ["8"]}
    assert ids("commented", "1", "1") == {"id": "1", "commenter": "1", "ids": []}


def test_counters_are_numbers(data: Path) -> None:
    assert asked("counters", "user", "bo", "1", data=data) == [
        {"id": "2", "position": HEAD, "followers": 1, "following": 1, "posts": 1},
        {"id": "1", "position": HEAD, "followers": 2, "following": 0, "posts": 2},
    ]
    assert asked("counters", "post", "9", "8", data=data) == [
        {"id": "9", "position": HEAD, "likes": 0, "comments": 0},
        {"id": "8", "position": HEAD, "likes": 2, "comments": 2},
    ]


def test_activity_tells_what_was_done_and_received_newest_first(data: Path) -> None:
    assert asked("activity", "Bo", data=data) == [
        {
            "id": "2",
            "position": HEAD,
            "did": [
                {"position": 14, "kind": "comment", "actor": "2", "post": "8"},
                {"position": 12, "kind": "like", "actor": "2", "post": "8"},
                {"position": 10, "kind": "post", "actor": "2", "post": "10"},
                {"position": 5, "kind": "follow", "actor": "2", "user": "1"},
            ],
            "received": [{"position": 7, "kind": "follow", "actor": "3", "user": "2"}],
        }
    ]


def test_ids_come_from_standard_input_in_the_place_of_the_dash(data: Path) -> None:
    answers = asked("counters", "user", "3", "-", "1", data=data, stdin="bo\r\n\n  ADA \n2")
    assert [answer["id"] for answer in answers] == ["3", "2", "1", "2", "1"]
    assert asked("feed", "-", data=data) == [], "nothing asked, nothing answered"


def test_what_does_not_exist_is_an_error_in_its_place_and_the_others_are_answered(data: Path) -> None:
    users = ["ada", "di", "4", "20", "zoë", "", "-1", "8", "0", "1" * 15, "1" * 5000, "a b", "١", "bo"]
    said = darkroom("feed", *users, "--json", data=data)
    assert (said.status, said.errors) == (1, "")
    found = ["error" not in answer for answer in said.objects]
    assert found == [user in ("ada", "20", "bo") for user in users]
    for user, answer in zip(users, said.objects, strict=True):
        if "error" in answer:
            assert set(answer) == {"id", "error"}
            assert answer["id"] == user
    assert said.objects[3] == feed_of("20"), "the second to claim a name is a user without one"


def test_a_post_that_is_deleted_unknown_or_malformed_is_an_error_in_its_place(data: Path) -> None:
    posts = ["8", "17", "1", "13", "0", "99", "281474976710656", "ada", "8.0", "0x8", "+8", "10"]
    said = darkroom("counters", "post", "-", "--json", data=data, stdin="\n".join(posts))
    assert (said.status, said.errors) == (1, "")
    assert [answer["id"] for answer in said.objects] == posts
    assert [post for post, answer in zip(posts, said.objects, strict=True) if "error" not in answer] == ["8", "10"]
    said = darkroom("graph", "commented", "ada", "di", "--json", data=data)
    assert (said.status, said.object) == (1, {"id": "ada", "error": "there is no user di"})


def test_what_is_not_utf8_is_unknown_and_no_more(data: Path) -> None:
    said = darkroom("counters", "user", "b\udcff", "-", "--json", data=data, stdin=b"\xff\xfe\nbo\n")
    assert said.status == 1
    assert [answer["id"] for answer in said.objects] == ["b\ufffd", "\ufffd\ufffd", "2"]


def test_output_is_utf8_in_any_locale(data: Path) -> None:
    said = darkroom("feed", "日本", "--json", data=data, settings={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert said.object["id"] == "日本"


def test_people_are_answered_in_lines(data: Path) -> None:
    assert done("feed", "bo", "--limit", "2", data=data).splitlines() == [
        f"user 2, position {HEAD}",
        "  id 10, author 2",
        "  id 9, author 1",
    ]
    assert darkroom("graph", "posts", "nobody", data=data).out == "nobody: there is no user nobody\n"


def test_a_feed_has_20_posts_unless_told_and_at_most_1000(crowd: Path) -> None:
    newest = 1 + 2 * PEOPLE + POSTS
    for options, wanted in (((), 20), (("--limit", "1"), 1), (("--limit", "1000"), 1000)):
        [answer] = asked("feed", "fan7", *options, data=crowd)
        assert [post["id"] for post in answer["posts"]] == [str(newest - number) for number in range(wanted)]
    for limit in ("0", "1001"):
        assert refused("feed", "fan7", "--limit", limit, data=crowd) == "--limit must be from 1 to 1000"


def test_a_graph_answer_has_1000_ids_unless_told_and_0_is_all(crowd: Path) -> None:
    fans = [str(number + 2) for number in range(PEOPLE)]
    for options, wanted in (
        ((), 1000),
        (("--limit", "3"), 3),
        (("--limit", "0"), PEOPLE),
        (("--limit", "1" * 18), PEOPLE),
    ):
        [answer] = asked("graph", "followers", "star", *options, data=crowd)
        assert answer["ids"] == fans[:wanted]
    [answer] = asked("graph", "posts", "star", "--limit", "0", data=crowd)
    assert len(answer["ids"]) == POSTS
    assert answer["ids"] == sorted(answer["ids"], key=int, reverse=True)


def test_a_directory_that_has_only_a_log_is_empty_and_says_how_far_it_is_behind(tmp_path: Path) -> None:
    data = filled(tmp_path / "data", WORLD)
    said = darkroom("feed", "ada", "1", "--json", data=data)
    assert said.status == 1
    assert said.objects == [{"id": one, "error": f"there is no user {one}"} for one in ("ada", "1")]
    assert said.errors == f"{HEAD} records behind; run catch-up\n"
    said = darkroom("status", "--json", data=data)
    assert (said.status, said.errors) == (0, f"{HEAD} records behind; run catch-up\n")
    assert said.object == {
        "head": HEAD,
        "log_bytes": (data / "log" / "data.mdb").stat().st_size,
        "generation": None,
        "shards": [],
        "worker": None,
        "silent": {},
    }
    assert "no generation yet" in darkroom("status", data=data).lines


def test_lag_is_a_notice_and_no_failure(data: Path, tmp_path: Path) -> None:
    behind = tmp_path / "data"
    shutil.copytree(data, behind)
    done("log", "append", "-", data=behind, stdin=lines({"type": "PostPublished", "author": 1, "caption": "New"}))
    for command in (("feed", "ada", "--json"), ("status", "--json")):
        said = darkroom(*command, data=behind)
        assert (said.status, said.errors) == (0, "1 records behind; run catch-up\n")
        assert len(said.objects) == 1
    assert [shard["lag"] for shard in said.object["shards"]] == [1, 1, 1]
    assert done("catch-up", data=behind) == str(HEAD + 1)
    assert asked("graph", "posts", "ada", data=behind) == [{"id": "1", "position": HEAD + 1, "ids": ["24", "9", "8"]}]


def test_an_answer_of_one_shard_is_of_that_shards_position_whoever_keeps_the_name(tmp_path: Path) -> None:
    names = [f"person{number}" for number in range(20)]
    apart = next(user for user in range(1, 21) if shard_of(user, 2) == 0 and shard_of_text(names[user - 1], 2) == 1)
    data = filled(tmp_path / "data", registered(*names), shards=2)
    lagging = data / "generations" / "000001" / "shard-0001"
    shutil.copytree(lagging, tmp_path / "earlier")
    filled(data, [{"type": "PostPublished", "author": apart, "caption": ""}], shards=2)
    shutil.rmtree(lagging)
    shutil.copytree(tmp_path / "earlier", lagging)
    for user in (str(apart), names[apart - 1]):
        said = darkroom("graph", "posts", user, "--json", data=data)
        assert said.object == {"id": str(apart), "position": 21, "ids": ["21"]}
        assert (said.status, said.errors) == (0, "1 records behind; run catch-up\n")


def test_status_tells_of_every_shard(data: Path) -> None:
    said = darkroom("status", "--json", data=data)
    assert (said.status, said.errors) == (0, "")
    told = said.object
    assert (told["head"], told["generation"], told["worker"]) == (HEAD, 1, None)
    assert [shard.pop("bytes") > 0 for shard in told["shards"]] == [True] * 3
    assert told["shards"] == [{"shard": shard, "position": HEAD, "lag": 0, "fault": None} for shard in range(3)]
    text = done("status", data=data).splitlines()
    assert text[:2] == [f"head {HEAD}, log {told['log_bytes']} bytes", "generation 1"]
    assert [line.partition(" bytes")[0].rpartition(",")[0] for line in text[2:5]] == [
        f"shard {shard}: position {HEAD}, lag 0" for shard in range(3)
    ]
    assert text[5:] == ["nobody works here"]


def test_reading_catching_up_and_rebuilding_append_nothing(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    before = (copy / "log" / "data.mdb").read_bytes()
    asked("feed", "ada", data=copy)
    asked("activity", "ada", data=copy)
    done("log", "check", data=copy)
    done("catch-up", data=copy)
    assert done("rebuild", "--shards", "2", data=copy) == "generation 2 serves"
    assert (copy / "log" / "data.mdb").read_bytes() == before
    assert len(exported(copy)) == HEAD
