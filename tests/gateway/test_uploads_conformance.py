"""Uploads that wait to be posted: each its owner's, and none kept for longer or in greater number than it may be."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from services.keyspaces import empty_tables, own_keyspace
from services.services import Services
from services.tcp_proxy import TcpProxy

from darkroom.gateway.media import Photo
from darkroom.gateway.uploads import KEPT_MS, UPLOADS_PER_USER_MAX, Uploads, UploadsUnusable
from darkroom.gateway.uploads_cassandra import CassandraUploads
from darkroom.gateway.uploads_sqlite import FILE_NAME, SqliteUploads
from darkroom.projections.cassandra_session import CassandraSession, open_session

PHOTO = Photo("a" * 64, 640, 480, "LEHV6nWB2yk8")


class Hands:
    """A clock whose time is what it is set to."""

    time_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.time_ms


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture(scope="module")
def keyspace(service: Services) -> Iterator[CassandraSession]:
    with own_keyspace(service) as session:
        CassandraUploads(session)
        yield session


def in_sqlite(request: pytest.FixtureRequest, clock: Hands) -> Uploads:
    return SqliteUploads(request.getfixturevalue("tmp_path"), clock)


def in_cassandra(request: pytest.FixtureRequest, clock: Hands) -> Uploads:
    return CassandraUploads(request.getfixturevalue("keyspace"), clock)


@pytest.fixture(params=[in_sqlite, pytest.param(in_cassandra, marks=pytest.mark.services)])
def open_uploads(request: pytest.FixtureRequest, clock: Hands) -> Iterator[Callable[[], Uploads]]:
    """Opens the same stored uploads each time, as another gateway or a restart would."""
    opened: list[Uploads] = []
    if request.param is in_cassandra:
        empty_tables(request.getfixturevalue("keyspace"))

    def open_again() -> Uploads:
        opened.append(request.param(request, clock))
        return opened[-1]

    yield open_again
    for uploads in opened:
        uploads.close()


@pytest.fixture
def uploads(open_uploads: Callable[[], Uploads]) -> Uploads:
    return open_uploads()


def test_an_upload_is_found_by_its_owner_in_the_order_asked_for(uploads: Uploads) -> None:
    one, two = uploads.add(7, PHOTO, None), uploads.add(7, PHOTO, "described")
    assert uploads.find(7, [two.id, 1, one.id]) == [two, one]
    assert uploads.find(7, []) == uploads.find(9, [one.id]) == []
    assert uploads.find(8, [one.id]) == []
    assert one.id >= 1 << 62, "above every position of a log"


def test_a_description_is_replaced_by_its_owner_only(uploads: Uploads) -> None:
    one = uploads.add(7, PHOTO, "first")
    changed = uploads.describe(7, one.id, "now, too")
    assert changed is not None
    assert changed.description == "now, too"
    assert uploads.describe(8, one.id, "not mine") is None
    assert uploads.describe(7, 1, "not there") is None
    assert uploads.find(7, [one.id]) == [changed]
    assert uploads.find(7, [1]) == []
    cleared = uploads.describe(7, one.id, None)
    assert cleared is not None
    assert cleared.description is None
    assert uploads.find(7, [one.id]) == [cleared]


def test_above_the_limit_a_users_oldest_go_first(uploads: Uploads) -> None:
    other = uploads.add(8, PHOTO, None)
    mine = [uploads.add(7, PHOTO, str(number)).id for number in range(UPLOADS_PER_USER_MAX + 3)]
    assert [upload.id for upload in uploads.find(7, mine)] == mine[3:]
    assert uploads.find(8, [other.id]) == [other]


def test_after_a_day_an_upload_is_gone(uploads: Uploads, clock: Hands) -> None:
    old = uploads.add(7, PHOTO, None)
    clock.time_ms += KEPT_MS - 1
    assert uploads.find(7, [old.id]) == [old]
    clock.time_ms += 1
    assert uploads.find(7, [old.id]) == []
    assert uploads.describe(7, old.id, "too late") is None


def test_all_gateways_find_what_one_took_in_and_nothing_of_a_user_who_is_gone(
    open_uploads: Callable[[], Uploads],
) -> None:
    one, other = open_uploads(), open_uploads()
    kept, gone = one.add(7, PHOTO, "kept"), other.add(8, PHOTO, "gone")
    assert other.find(7, [kept.id]) == [kept]
    one.forget(8)
    one.forget(8)
    for each in (one, other, open_uploads()):
        assert each.find(7, [kept.id]) == [kept]
        assert each.find(8, [gone.id]) == []
    again = other.add(8, PHOTO, "again")
    assert one.find(8, [again.id]) == [again]


def test_uploads_at_the_same_time_are_all_kept_within_the_limit(open_uploads: Callable[[], Uploads]) -> None:
    both = [open_uploads(), open_uploads()]
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda number: both[number % 2].add(7, PHOTO, str(number)), range(60)))
    assert both[0].find(7, [upload.id for upload in made]) == made
    more = [both[1].add(7, PHOTO, None).id for _ in range(UPLOADS_PER_USER_MAX - 30)]
    left = both[0].find(7, [upload.id for upload in made] + more)
    assert len(left) == UPLOADS_PER_USER_MAX
    assert [upload.id for upload in left[30:]] == more


# What each store adds


def test_what_is_too_old_is_deleted_from_the_file_by_the_next_upload(tmp_path: Path, clock: Hands) -> None:
    uploads = SqliteUploads(tmp_path, clock)
    uploads.add(7, PHOTO, None)
    clock.time_ms += KEPT_MS
    uploads.add(8, PHOTO, None)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute("SELECT user FROM uploads").fetchall() == [(8,)]
    connection.close()
    uploads.close()


def test_it_is_in_the_file_after_reopening(tmp_path: Path, clock: Hands) -> None:
    before = SqliteUploads(tmp_path, clock)
    kept = before.add(7, PHOTO, "kept")
    before.close()
    after = SqliteUploads(tmp_path, clock)
    assert after.find(7, [kept.id]) == [kept]
    after.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UploadsUnusable, match="schema 99; this version knows 1"):
        SqliteUploads(tmp_path)


@pytest.mark.services
def test_every_cell_of_an_upload_in_cassandra_expires_within_the_day(keyspace: CassandraSession) -> None:
    uploads = CassandraUploads(keyspace)
    one = uploads.add(70, PHOTO, "first")
    assert uploads.describe(70, one.id, "second")
    lasting = keyspace.prepare("SELECT ttl(id), ttl(description), ttl(last_number) FROM uploads WHERE user = 70")
    [(row_s, description_s, number_s)] = keyspace.execute(lasting)
    assert KEPT_MS // 1000 - 60 < description_s <= row_s <= number_s <= KEPT_MS // 1000


@pytest.mark.services
def test_where_an_answer_was_lost_an_upload_is_stored_once(keyspace: CassandraSession, service: Services) -> None:
    found = service("cassandra")
    with TcpProxy(found["host"], found["port"]) as wire:
        address = replace(keyspace.address, contact_points=(wire.address,), deadline_s=30)
        session = open_session(address, create=False, wait_s=60, tell=print)
        uploads = CassandraUploads(session)
        uploads.add(71, PHOTO, "before")
        wire.lose_answer_to(b"the answer is lost")
        one = uploads.add(71, PHOTO, "the answer is lost")
        session.close()
        assert wire.answers_lost == 1
    assert CassandraUploads(keyspace).find(71, [one.id]) == [one]
    count = keyspace.prepare("SELECT count(id) FROM uploads WHERE user = 71")
    assert keyspace.execute(count) == [(2,)]


@pytest.mark.services
def test_a_server_that_is_gone_is_called_unusable(keyspace: CassandraSession) -> None:
    session = open_session(keyspace.address, create=False, wait_s=60, tell=print)
    uploads = CassandraUploads(session)
    session.close()
    with pytest.raises(UploadsUnusable, match="Cassandra at"):
        uploads.find(7, [1])
