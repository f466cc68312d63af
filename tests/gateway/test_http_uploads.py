"""Uploads that wait to be posted: each its owner's, and none kept for longer or in greater number than it may be."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom.gateway.media import Photo
from darkroom.gateway.uploads import FILE_NAME, KEPT_MS, UPLOADS_PER_USER_MAX, Uploads, UploadsUnusable

PHOTO = Photo("a" * 64, 640, 480, "LEHV6nWB2yk8")


class Hands:
    """A clock whose time is what it is set to."""

    time_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.time_ms


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def uploads(tmp_path: Path, clock: Hands) -> Iterator[Uploads]:
    opened = Uploads(tmp_path, clock)
    yield opened
    opened.close()


def test_an_upload_is_found_by_its_owner_in_the_order_asked_for(uploads: Uploads) -> None:
    one, two = uploads.add(7, PHOTO, None), uploads.add(7, PHOTO, "described")
    assert uploads.find(7, [two.id, 1, one.id]) == [two, one]
    assert uploads.find(8, [one.id]) == []
    assert one.id >= 1 << 62, "above every position of a log"
    changed = uploads.describe(7, one.id, "now, too")
    assert changed is not None
    assert changed.description == "now, too"
    assert uploads.describe(8, one.id, "not mine") is None
    assert uploads.find(7, [one.id]) == [changed]


def test_above_the_limit_a_users_oldest_go_first(uploads: Uploads) -> None:
    other = uploads.add(8, PHOTO, None)
    mine = [uploads.add(7, PHOTO, str(number)).id for number in range(UPLOADS_PER_USER_MAX + 3)]
    assert [upload.id for upload in uploads.find(7, mine)] == mine[3:]
    assert uploads.find(8, [other.id]) == [other]


def test_after_a_day_an_upload_is_gone(uploads: Uploads, clock: Hands, tmp_path: Path) -> None:
    old = uploads.add(7, PHOTO, None)
    clock.time_ms += KEPT_MS - 1
    assert uploads.find(7, [old.id]) == [old]
    clock.time_ms += 1
    assert uploads.find(7, [old.id]) == []
    uploads.add(8, PHOTO, None)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute("SELECT count(*) FROM uploads").fetchone() == (1,), "the next upload forgets it"


def test_it_is_there_after_reopening_and_gone_with_its_user(tmp_path: Path, uploads: Uploads) -> None:
    kept, gone = uploads.add(7, PHOTO, "kept"), uploads.add(8, PHOTO, "gone")
    uploads.forget(8)
    uploads.close()
    again = Uploads(tmp_path, Hands())
    assert again.find(7, [kept.id]) == [kept]
    assert again.find(8, [gone.id]) == []
    again.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UploadsUnusable, match="schema 99"):
        Uploads(tmp_path)
