"""Views on a real Cassandra: the served world is the oracle's, whatever is killed, repeated, lost or out of time.

What every store of views must do is in `test_views_conformance.py`; here is what is this one's own.
"""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cassandra_generation import GENERATION, places, small_reads
from forking import run_forked
from histories import HOUR_MS, START_MS, History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publishing import PublishingWorld
from services.keyspaces import own_keyspace
from services.services import Address, Services, control, own_folder, started
from waiting import until
from world import World, check_everything, check_feeds

from darkroom.events.facts import Event, PostPublished, UserDeleted, UserFollowed, UserRegistered, personal
from darkroom.projections import effects, feed_rows, pages
from darkroom.projections.cassandra_schema import SchemaMismatch
from darkroom.projections.cassandra_session import CassandraSession, open_session
from darkroom.projections.effects import ViewsLost
from darkroom.projections.feed_cache import LruFeedCache
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import DAY_MS, FoldSettings
from darkroom.projections.store import Checkpoint, Identity, StoreRefused, StoreUnavailable
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.view_adapters import cassandra_tables
from darkroom.projections.view_adapters.cassandra import CassandraViews
from darkroom.projections.view_adapters.cassandra_publisher import TRIES, TTL_SLACK_DAYS, CassandraPublisher
from darkroom.projections.view_adapters.cassandra_tables import create_generation, drop_generation, generations

pytestmark = pytest.mark.services

CHILD = Path(__file__).parent / "children" / "publish_and_die.py"
CHILD_S = 120

hurry = [HealthCheck.too_slow, HealthCheck.data_too_large]
some = settings(max_examples=12, deadline=None, suppress_health_check=hurry)


@pytest.fixture(scope="module")
def session(service: Services) -> Iterator[CassandraSession]:
    with own_keyspace(service) as session:
        create_generation(session, GENERATION)
        yield session


@pytest.fixture
def small() -> Iterator[None]:
    """So small that a handful of entries splits them."""
    with pytest.MonkeyPatch.context() as patch, small_reads():
        patch.setattr(pages, "PAGE_BYTES_MAX", 64)
        patch.setattr(feed_rows, "SEALED_ROWS", 2)
        patch.setattr(feed_rows, "HEAD_ROWS_MAX", 4)
        patch.setattr(effects, "BUCKET_BITS", 3)
        yield


_places = iter(range(1_000_000))


def world_of(
    session: CassandraSession, history: History, shards: int = 1, fold_settings: FoldSettings | None = None
) -> PublishingWorld:
    """A world whose shards publish in shards of the generation that nobody has used."""
    numbers = [next(_places) for _ in range(shards)]
    open_views = places(session)
    return PublishingWorld(history, shards, fold_settings or FoldSettings(), lambda shard: open_views(numbers[shard]))


# ---- the theorem


FOLD_SETTINGS = st.builds(
    FoldSettings,
    celebrity_threshold=st.sampled_from([2, 0, None]),
    feed_rows=st.sampled_from([3, 8, 1000]),
    feed_ttl_days=st.sampled_from([None, 1]),
)
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 15)), max_size=5)


@pytest.mark.usefixtures("small")
def test_with_all_shards_at_one_position_everything_served_is_what_the_log_says(session: CassandraSession) -> None:
    @some
    @given(histories(25), st.integers(1, 3), FOLD_SETTINGS, st.integers(1, 30))
    def holds(history: History, shards: int, fold_settings: FoldSettings, batch: int) -> None:
        world = world_of(session, history, shards, fold_settings)
        world.cache = LruFeedCache(3)
        world.catch_up(batch)
        check_everything(world)
        world.close()

    holds()


@pytest.mark.usefixtures("small")
def test_feeds_are_exact_at_their_position_while_shards_move(session: CassandraSession) -> None:
    @some
    @given(histories(30), st.integers(1, 3), FOLD_SETTINGS, STEPS)
    def holds(history: History, shards: int, fold_settings: FoldSettings, steps: list[tuple[int, int]]) -> None:
        world = world_of(session, history, shards, fold_settings)
        for shard, batch in steps:
            world.step(shard % shards, batch)
            check_feeds(world, limits=(1, 4))
        world.close()

    holds()


# ---- kills


def test_whatever_is_killed_between_data_and_position_the_end_is_what_the_log_says(
    session: CassandraSession, tmp_path: Path
) -> None:
    create_generation(session, 2)
    history = seeded_history(5, 120, users=6)
    path = tmp_path / "shard"
    LmdbShardStore(path, Identity(FORMAT, 2, 0, 1)).close()
    views, killed = CassandraViews(session, 2, 0), 0
    for requests in (1, 2, 3, 5, 8, 13, 20, 29, 40, 52, 65, 79, 1_000_000):
        status = publish_and_die(session, path, history, requests)
        killed += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL)
        assert views.checkpoint().position >= committed(path), "what is committed was published before"
    assert status == 0
    assert killed >= 10
    world = World(history, 1, FoldSettings(feed_rows=8))
    world.catch_up()
    world.views = [views]
    check_everything(world)


def publish_and_die(session: CassandraSession, path: Path, history: History, requests: int) -> int:
    told = pickle.dumps((session.address, 2, path, history, 7, requests))
    return run_forked([CHILD], stdin=told, timeout_s=CHILD_S).returncode


def committed(path: Path) -> int:
    store = LmdbShardStore(path)
    try:
        return store.checkpoint().position
    finally:
        store.close()


# ---- what is written with which position


def people_who_post(followers: int, posts: int) -> list[Event]:
    """User 1 is followed by all the others, and then posts."""
    people: list[Event] = [
        UserRegistered(username=personal(""), display_name=personal("")) for _ in range(followers + 1)
    ]
    follows: list[Event] = [UserFollowed(follower=user, followee=1) for user in range(2, followers + 2)]
    return [*people, *follows, *[PostPublished(author=1, caption=personal("")) for _ in range(posts)]]


def timed(events: list[Event], start_ms: int = START_MS, step_ms: int = 1) -> History:
    return [(start_ms + index * step_ms, event) for index, event in enumerate(events)]


def test_every_write_carries_the_position_of_the_record_that_caused_it(session: CassandraSession) -> None:
    events = [*people_who_post(2, 3 * feed_rows.SEALED_ROWS), UserDeleted(user=3)]
    create_generation(session, 3)
    publisher = CassandraPublisher(session, 3, 0)
    world = World(timed(events), 1, FoldSettings())
    world.shards[0] = type(world.shards[0])(world.log, world.stores[0], world.settings, [publisher])
    world.catch_up()
    keyspace, posts = session.address.keyspace, range(6, 6 + 3 * feed_rows.SEALED_ROWS)

    def written(columns: str, table: str, where: str = "") -> set[tuple[int, ...]]:
        cql = f"SELECT {columns} FROM {keyspace}.{table}_g000003 {where} ALLOW FILTERING"
        return {tuple(row) for row in session.execute(session.prepare(cql))}

    assert written("user, writetime(page)", "feed_heads") == {(1, posts[-1]), (2, posts[-1])}
    pages_of_one = {(posts[(n + 1) * feed_rows.SEALED_ROWS - 1],) for n in range(2)}
    assert written("writetime(rows)", "feed_pages", "WHERE user = 1") == pages_of_one
    assert written("key, writetime(w0)", "entries", "WHERE name = 'following'") == {(1, 4)}
    assert written("size, writetime(size)", "sizes", "WHERE name = 'timelines'") == {(len(posts), posts[-1])}
    assert written("size, writetime(size)", "sizes", "WHERE name = 'followers'") == {(1, len(events))}
    assert written("writetime(value)", "table_rows", "WHERE name = 'profiles'") == {(1,), (2,)}
    assert written("position, writetime(position)", "positions") == {(len(events), len(events))}


# ---- time to live


def test_feed_rows_live_longer_than_their_time_to_live_and_the_rest_for_ever(session: CassandraSession) -> None:
    create_generation(session, 4)
    publisher = CassandraPublisher(session, 4, 0, feed_ttl_days=3)
    world = World(timed(people_who_post(1, 2 * feed_rows.HEAD_ROWS_MAX)), 1, FoldSettings(feed_ttl_days=3))
    world.shards[0] = type(world.shards[0])(world.log, world.stores[0], world.settings, [publisher])
    world.catch_up()
    for table, column in (("feed_heads", "page"), ("feed_pages", "rows")):
        query = f"SELECT ttl({column}) FROM {session.address.keyspace}.{table}_g000004"
        lives = [ttl for (ttl,) in session.execute(session.prepare(query))]
        assert lives
        assert all((3 + TTL_SLACK_DAYS) * 86_400 - 600 < ttl <= (3 + TTL_SLACK_DAYS) * 86_400 for ttl in lives)
    for table, column in (("entries", "w0"), ("sizes", "size"), ("table_rows", "value"), ("positions", "position")):
        query = f"SELECT ttl({column}) FROM {session.address.keyspace}.{table}_g000004"
        assert {ttl for (ttl,) in session.execute(session.prepare(query))} == {None}


@pytest.mark.parametrize("log_day_ms", [0, 40 * DAY_MS], ids=["log time stands still", "log time runs ahead"])
def test_feeds_are_whole_when_the_store_has_forgotten_their_rows(session: CassandraSession, log_day_ms: int) -> None:
    shard, written_ms = next(_places), 20_000 * DAY_MS + HOUR_MS
    clock = [written_ms]
    publisher = CassandraPublisher(session, GENERATION, shard, feed_ttl_days=2, now_ms=lambda: clock[0])
    events = people_who_post(3, 40)
    history = timed(events, written_ms, log_day_ms // len(events))
    world = World(history, 1, FoldSettings(feed_ttl_days=2))
    world.shards[0] = type(world.shards[0])(world.log, world.stores[0], world.settings, [publisher])
    world.views = [CassandraViews(session, GENERATION, shard, now_ms=lambda: clock[0])]
    world.catch_up(20)
    check_feeds(world, limits=(7,))
    forget_feeds(session, shard)
    with pytest.raises(AssertionError):
        check_feeds(world, limits=(7,))  # they should still be there, and are not
    clock[0] += (2 + TTL_SLACK_DAYS) * DAY_MS
    check_feeds(world, limits=(7,))


def forget_feeds(session: CassandraSession, shard: int) -> None:
    """As the end of their time does."""
    keyspace = session.address.keyspace
    for table, place in (("feed_heads", "shard, slot, user"), ("feed_pages", "shard, user, bucket, word")):
        found = session.execute(session.prepare(f"SELECT {place} FROM {keyspace}.{table}_g{GENERATION:06}"))
        where = " = ? AND ".join(place.split(", ")) + " = ?"
        delete = session.prepare(f"DELETE FROM {keyspace}.{table}_g{GENERATION:06} WHERE {where}")
        session.execute_all([(delete, row) for row in found if row[0] == shard])


def test_what_was_written_under_a_shorter_time_to_live_is_not_answered_for_longer(session: CassandraSession) -> None:
    shard, clock = next(_places), [20_000 * DAY_MS]
    world = World(timed(people_who_post(1, 20)), 1, FoldSettings())
    for days, events in ((1, 10), (30, 8), (None, 5)):
        publisher = CassandraPublisher(session, GENERATION, shard, feed_ttl_days=days, now_ms=lambda: clock[0])
        world.shards[0] = type(world.shards[0])(world.log, world.stores[0], world.settings, [publisher])
        world.step(0, events)

    def expired(after_days: int) -> int:
        clock[0] = (20_000 + after_days) * DAY_MS
        with CassandraViews(session, GENERATION, shard, now_ms=lambda: clock[0]).view() as view:
            return view.expired()

    assert [expired(days) for days in (0, 1, 2, 3, 30, 31, 1000)] == [0, 0, 10, 10, 10, 18, 18]


@pytest.mark.parametrize("days", [0, -1, 10_000])
def test_a_time_to_live_that_cassandra_cannot_keep_is_refused(session: CassandraSession, days: int) -> None:
    with pytest.raises(ValueError, match="feed_ttl_days"):
        CassandraPublisher(session, GENERATION, 0, feed_ttl_days=days)


# ---- generations


def test_a_generation_is_made_again_dropped_whole_and_then_lost(session: CassandraSession) -> None:
    create_generation(session, 7)
    create_generation(session, 7)
    publisher = CassandraPublisher(session, 7, 0)
    publisher.open(0)
    publisher.reached(Checkpoint(5, 50))
    publisher.open(5)
    assert 7 in generations(session)
    drop_generation(session, 7)
    drop_generation(session, 7)
    assert 7 not in generations(session)
    with pytest.raises(ViewsLost, match="its tables are not there"):
        CassandraPublisher(session, 7, 0).open(5)
    create_generation(session, 7)
    with pytest.raises(ViewsLost, match="up to position 0, and 5 is committed"):
        CassandraPublisher(session, 7, 0).open(5)


def test_tables_of_another_version_are_refused(session: CassandraSession, monkeypatch: pytest.MonkeyPatch) -> None:
    create_generation(session, 8)
    monkeypatch.setattr(cassandra_tables, "SCHEMA_VERSION", cassandra_tables.SCHEMA_VERSION + 1)
    with pytest.raises(SchemaMismatch, match="views_g000008"):
        create_generation(session, 8)


# ---- a server that does not answer


DRIVER_S = 10.0
"""What the driver itself waits for an answer where nobody tells it for how long."""


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a Cassandra that may be stopped and killed; it shares only the jars."""
    folder = own_folder(tmp_path_factory.mktemp("cassandra") / "services")
    yield folder
    control("stop", folder=folder)


@pytest.fixture
def own_server(killable: Path) -> Address:
    return started("cassandra", killable)


def test_what_was_acknowledged_is_there_after_a_kill(killable: Path, own_server: Address) -> None:
    with own_keyspace(lambda name: own_server) as session:  # noqa: ARG005
        session.define("CREATE TABLE numbers (part bigint, number bigint, PRIMARY KEY (part, number))")
        insert = session.prepare("INSERT INTO numbers (part, number) VALUES (?, ?)")
        select = session.prepare("SELECT number FROM numbers WHERE part = ?")
        for number in range(50):
            session.execute(insert, (1, number))
        os.kill(own_server["process"]["pid"], signal.SIGKILL)
        started("cassandra", killable)
        found = until(lambda: [session.execute(select, (1,))], "an answer", meanwhile=StoreUnavailable)
        assert found == [[(number,) for number in range(50)]]


def test_a_server_that_stops_is_unavailable_by_the_deadline_and_goes_on_afterwards(own_server: Address) -> None:
    with own_keyspace(lambda name: own_server) as keyspace:  # noqa: ARG005
        session = open_session(replace(keyspace.address, deadline_s=2.0), create=False, wait_s=60, tell=print)
        world = world_of(session, timed(people_who_post(5, 10)))
        world.step(0, 8)
        pid = own_server["process"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            assert seconds_to_fail(lambda: world.shards[0].step(8)) < TRIES * DRIVER_S
            assert seconds_to_fail(lambda: Reading(world.views).shard(0)) < DRIVER_S
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: world.views[0].checkpoint().position, "an answer", meanwhile=StoreUnavailable)
        world.settle()
        check_everything(world)
        session.close()


def seconds_to_fail(ask: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        ask()
    return time.monotonic() - began


def test_a_dropped_generation_is_refused_by_its_readers(session: CassandraSession) -> None:
    create_generation(session, 9)
    views = CassandraViews(session, 9, 0)
    assert views.checkpoint() == Checkpoint()
    drop_generation(session, 9)
    with pytest.raises(StoreRefused):
        views.checkpoint()
