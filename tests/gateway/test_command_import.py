"""`import follows` and `import favourites`: real graphs, once and again, and the line that is at fault."""

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands_run import done, exported, filled, refused, registered

FOLLOWS = "# follower\tfollowee\n1\t2\n\n3\t1\n2 1\n1\t2\n"
FAVOURITES = "# user\tphoto\n1\t100\n2\t100\n3\t7\n9\t7\t1700000000\n"


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def without_times(data: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "time_ms"} for record in exported(data)]


def test_follows_become_people_and_follows_and_the_same_file_again_adds_nothing(tmp_path: Path) -> None:
    file, data = written(tmp_path, "follows.tsv", FOLLOWS), tmp_path / "data"
    assert done("import", "follows", file, data=data) == "6"
    people = [{"type": "UserRegistered", "username": f"u{n}", "display_name": f"u{n}"} for n in (1, 2, 3)]
    follows = [{"type": "UserFollowed", "follower": a, "followee": b} for a, b in ((1, 2), (3, 1), (2, 1))]
    assert without_times(data) == people + follows
    assert done("import", "follows", file, data=data) == "6"
    longer = written(tmp_path, "longer.tsv", FOLLOWS + "4\t1\n")
    assert done("import", "follows", longer, data=data) == "8"


def test_a_gz_file_gives_the_same_as_a_plain_one(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    done("import", "follows", written(tmp_path, "follows.tsv", FOLLOWS), data=one)
    done("import", "follows", written(tmp_path, "follows.tsv.gz", gzip.compress(FOLLOWS.encode())), data=other)
    assert without_times(one) == without_times(other)


def test_people_are_found_by_reading_the_log(tmp_path: Path) -> None:
    data = filled(tmp_path / "data", registered("ada", "U2", "u02", "u1"))
    assert done("import", "follows", written(tmp_path, "follows.tsv", "1 2\n"), data=data) == "5"
    assert without_times(data)[4] == {"type": "UserFollowed", "follower": 4, "followee": 2}


def test_photos_are_posts_without_media_before_their_likes_and_the_same_file_again_adds_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done("import", "follows", written(tmp_path, "follows.tsv", FOLLOWS), data=data)
    file = written(tmp_path, "favourites.tsv", FAVOURITES)
    head = done("import", "favourites", file, data=data)
    records = without_times(data)
    counts = Counter(record["type"] for record in records)
    assert counts == {"UserRegistered": 4, "UserFollowed": 3, "PostPublished": 2, "PostLiked": 4}
    people = {position for position, record in enumerate(records, 1) if record["type"] == "UserRegistered"}
    for position, record in enumerate(records, 1):
        if record["type"] == "PostPublished":
            assert set(record) == {"type", "author", "caption", "key"}
            assert record["author"] in people
        if record["type"] == "PostLiked":
            post = records[record["post"] - 1]
            assert (record["post"] < position, post["author"]) == (True, record["author"])
    assert done("import", "favourites", file, data=data) == head == "13"


def test_the_authors_of_photos_are_drawn_by_seed_from_everybody(tmp_path: Path) -> None:
    people = written(tmp_path, "people.tsv", "".join(f"{number} {number + 1}\n" for number in range(50)))
    file = written(tmp_path, "favourites.tsv", "".join(f"1 {photo}\n" for photo in range(40)))

    def authors(name: str, *options: str) -> list[int]:
        data = tmp_path / name
        done("import", "follows", people, data=data)
        done("import", "favourites", file, *options, data=data)
        return [record["author"] for record in exported(data) if record["type"] == "PostPublished"]

    first = authors("one")
    assert first == authors("two", "--seed", "1")
    assert first != authors("three", "--seed", "2")
    assert len(set(first)) > 15


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("word", b"1 bo\n", "line 2: '1 bo' is not two numbers"),
        ("three", b"1 2 3\n", "line 2: '1 2 3' is not two numbers"),
        ("huge", b"1" * 5000 + b" 1\n", "line 2: a number is above 2147483647"),
        ("bytes", b"\xff\xfe 1\n", "line 2: "),
        ("plain.gz", b"1 2\n", "cannot be read"),
        ("cut.gz", gzip.compress(b"1 2\n" * 1000, mtime=0)[:-10], "cannot be read"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_appended(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = written(tmp_path, name, content if name.endswith(".gz") else b"3 4\n" + content)
    assert told in refused("import", "follows", path, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = refused("import", "favourites", tmp_path / "none.gz", data=tmp_path / "data")
    assert told.endswith("none.gz: cannot be read: No such file or directory")


def test_a_key_in_other_letters_is_another_key_and_not_the_import_s_photo(tmp_path: Path) -> None:
    post = {"type": "PostPublished", "author": 1, "caption": "mine", "key": "IMPORT/PHOTO/5"}
    data = filled(tmp_path / "data", [*registered("U0"), post])
    done("import", "favourites", written(tmp_path, "favourites", "0 5 1\n"), data=data)
    published, liked = exported(data)[-2:]
    assert (published["type"], published["key"], liked["post"]) == ("PostPublished", "import/photo/5", 3)
