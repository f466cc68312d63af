"""The connection to Cassandra: what it says at the start, what it promises of requests, how tables are made once."""

import pickle
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from services.services import Services
from services.tcp_proxy import TcpProxy
from waiting import until

from darkroom.projections.cassandra_requests import BATCH_BYTES_MAX, BATCH_STATEMENTS_MAX, PAGE_ROWS, Request, batches
from darkroom.projections.cassandra_schema import SchemaMismatch, drop_schema, ensure_schema
from darkroom.projections.cassandra_session import (
    CassandraAddress,
    CassandraSession,
    UnknownDatacenter,
    UnknownKeyspace,
    _check_datacenter,
    open_session,
)
from darkroom.projections.store import StoreRefused, StoreUnavailable, WrongCredentials

pytestmark = pytest.mark.services

NUMBERS = "CREATE TABLE IF NOT EXISTS numbers (part bigint, number bigint, text text, PRIMARY KEY (part, number))"
OTHERS = "CREATE TABLE IF NOT EXISTS others (part bigint, number bigint, text text, PRIMARY KEY (part, number))"


@pytest.fixture(scope="module")
def address(service: Services) -> CassandraAddress:
    found = service("cassandra")
    return CassandraAddress(
        ((found["host"], found["port"]),), f"session_{uuid.uuid4().hex[:12]}", found["user"], found["password"]
    )


@pytest.fixture(scope="module")
def session(address: CassandraAddress) -> Iterator[CassandraSession]:
    opened = open_session(address, create=True, wait_s=60, tell=print)
    ensure_schema(opened, "numbers", 1, [NUMBERS, OTHERS])
    yield opened
    opened.define(f"DROP KEYSPACE {address.keyspace}")
    opened.close()


@pytest.fixture
def wire(address: CassandraAddress) -> Iterator[TcpProxy]:
    with TcpProxy(*address.contact_points[0]) as proxy:
        yield proxy


@pytest.fixture
def through_wire(session: CassandraSession, wire: TcpProxy) -> Iterator[CassandraSession]:
    """A second session to the same keyspace, over a wire that the test may cut, with a deadline of a second."""
    opened = open_session(
        replace(session.address, contact_points=(wire.address,), deadline_s=1.0), create=False, wait_s=60, tell=print
    )
    yield opened
    opened.close()


def opened_and_closed(address: CassandraAddress, wait_s: float = 0.0) -> None:
    open_session(address, create=False, wait_s=wait_s, tell=print).close()


# The start


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"contact_points": ()}, "contact_points is empty"),
        ({"keyspace": "Robert'); DROP"}, "keyspace .* must be 1 to 48"),
        ({"consistency": "SERIAL"}, "consistency 'SERIAL' is none of LOCAL_QUORUM"),
        ({"deadline_s": 0.0}, "deadline_s is 0; it must be above 0"),
    ],
)
def test_what_can_be_no_address_is_refused_by_field(
    address: CassandraAddress, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(address, **wrong)  # type: ignore[arg-type]


def test_an_address_travels_and_does_not_tell_the_password(address: CassandraAddress) -> None:
    assert pickle.loads(pickle.dumps(address)) == address
    assert address.password
    assert address.password not in repr(address) + str(address)


def test_wrong_credentials_are_named_at_once(address: CassandraAddress) -> None:
    with pytest.raises(WrongCredentials, match=f"does not let in the user {address.user}: mend user and password"):
        opened_and_closed(replace(address, password="wrong"), wait_s=600)
    with pytest.raises(WrongCredentials, match="nobody, for no user was named"):
        opened_and_closed(replace(address, user=""), wait_s=600)


def test_a_keyspace_that_is_not_there_is_named_and_not_made(address: CassandraAddress) -> None:
    missing = replace(address, keyspace="nowhere_at_all")
    for _ in range(2):
        with pytest.raises(UnknownKeyspace, match="no keyspace nowhere_at_all; make it first, or name another"):
            opened_and_closed(missing, wait_s=600)


def test_a_datacenter_that_is_not_there_is_named_with_those_that_are(address: CassandraAddress) -> None:
    with pytest.raises(UnknownDatacenter, match="no datacenter moon; it has datacenter1"):
        opened_and_closed(replace(address, local_datacenter="moon"), wait_s=600)


def test_of_several_datacenters_the_local_one_must_be_named(address: CassandraAddress) -> None:
    hosts = [SimpleNamespace(datacenter=name) for name in ("west", "east", "west")]
    cluster = SimpleNamespace(metadata=SimpleNamespace(all_hosts=lambda: hosts))
    with pytest.raises(
        UnknownDatacenter, match=r"the datacenters east, west; name the local one \(cassandra_datacenter"
    ):
        _check_datacenter(address, cluster)
    _check_datacenter(replace(address, local_datacenter="east"), cluster)


@pytest.mark.parametrize("copies", [2, {"datacenter1": 2}])
def test_the_copies_that_a_keyspace_has_decide_whether_one_may_answer(
    address: CassandraAddress, copies: int | dict[str, int]
) -> None:
    twice = replace(address, keyspace=f"{address.keyspace}_t", replication=copies)
    made = open_session(twice, create=True, wait_s=0, tell=print)
    try:
        for level in ("ONE", "LOCAL_ONE"):
            once = replace(twice, consistency=level, replication=1, local_datacenter="datacenter1")
            with pytest.raises(
                StoreRefused, match=f"has 2 copies, and {level} of them may miss what was published; name"
            ):
                opened_and_closed(once)
        once_only = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        made.define(f"ALTER KEYSPACE {twice.keyspace} WITH replication = {once_only}")
        opened_and_closed(once)
    finally:
        made.define(f"DROP KEYSPACE {twice.keyspace}")
        made.close()


def test_a_replication_that_the_cluster_cannot_keep_is_refused(address: CassandraAddress) -> None:
    there, elsewhere = ({"datacenter1": 1}, {"moon": 3})
    keyspace = f"{address.keyspace}_r"
    with pytest.raises(StoreRefused, match="moon"):
        open_session(replace(address, keyspace=keyspace, replication=elsewhere), create=True, wait_s=0, tell=print)
    made = open_session(replace(address, keyspace=keyspace, replication=there), create=True, wait_s=0, tell=print)
    made.define(f"DROP KEYSPACE {keyspace}")
    made.close()


def test_a_server_that_is_not_there_is_waited_for_visibly_and_not_for_ever(address: CassandraAddress) -> None:
    with TcpProxy(*address.contact_points[0], listening=False) as proxy:
        nobody, told = replace(address, contact_points=(proxy.address,)), list[str]()
        with pytest.raises(StoreUnavailable, match=r"waited 0.5 s for it. Is it running, and is this its address\?"):
            open_session(nobody, create=False, wait_s=0.5, tell=told.append)
        [message] = told
        assert message.startswith(f"waiting up to 0.5 s: Cassandra at 127.0.0.1:{proxy.address[1]} cannot be asked")


def test_a_server_that_comes_up_later_is_found(session: CassandraSession) -> None:
    with TcpProxy(*session.address.contact_points[0], listening=False) as proxy:
        later = open_session(
            replace(session.address, contact_points=(proxy.address,)),
            create=False,
            wait_s=60,
            tell=lambda _: proxy.listen(),
        )
        assert later.execute(later.prepare("SELECT number FROM numbers WHERE part = ?"), (-1,)) == []
        later.close()


# Requests


def test_rows_come_back_in_the_order_asked_for_however_many_pages_they_are(session: CassandraSession) -> None:
    insert = session.prepare("INSERT INTO numbers (part, number, text) VALUES (?, ?, ?)")
    rows = PAGE_ROWS * 2 + 1
    session.write_batches([(insert, (part, number, "x" * 9)) for number in range(rows)] for part in range(5))
    select = session.prepare("SELECT part, number FROM numbers WHERE part = ?")
    found = session.execute_all((select, (part,)) for part in (4, 0, 9, 2))
    assert found == [[(part, number) for number in range(rows if part < 5 else 0)] for part in (4, 0, 9, 2)]
    assert session.execute(select, (1,)) == [(1, number) for number in range(rows)]
    assert next(session.scan(select, (1,))) == (1, 0)


def test_a_batch_stays_within_its_limits(session: CassandraSession) -> None:
    insert = session.prepare("INSERT INTO numbers (part, number, text) VALUES (?, ?, ?)")
    other = session.prepare("INSERT INTO others (part, number, text) VALUES (?, ?, ?)")

    def sizes(group: list[Request]) -> list[int]:
        return [len(batch._statements_and_parameters) for batch, _ in batches(group)]

    small: list[Request] = [(insert, (7, number, "")) for number in range(2 * BATCH_STATEMENTS_MAX + 1)]
    assert sizes(small) == [BATCH_STATEMENTS_MAX, BATCH_STATEMENTS_MAX, 1]
    large: list[Request] = [
        (each, (7, number, "x" * (BATCH_BYTES_MAX // 4))) for number in range(6) for each in (insert, other)
    ]
    assert sizes(large) == [3, 3, 3, 3]
    huge: list[Request] = [(insert, (7, number, "x" * BATCH_BYTES_MAX)) for number in range(3)]
    assert sizes(huge) == [1, 1, 1]
    assert list(batches([])) == []
    assert list(batches(small[:1])) == small[:1]
    # A batch of two tables that is as large as may be is one that the server takes.
    session.write_batches([large, huge])


def test_the_first_failure_is_told_and_what_follows_is_not_asked_for(session: CassandraSession) -> None:
    insert = session.prepare("INSERT INTO others (part, number, text) VALUES (?, ?, ?)")
    impossible = session.prepare("INSERT INTO others (part, number, text) VALUES (?, ?, ?) USING TTL ?")
    asked = 0

    def requests() -> Iterator[Request]:
        nonlocal asked
        for asked in range(100_000):
            yield (impossible, (1, asked, "", -1)) if asked == 100 else (insert, (1, asked, ""))

    with pytest.raises(StoreRefused, match="TTL"):
        session.execute_all(requests(), concurrency=8)
    assert 100 <= asked < 99_999
    with pytest.raises(StoreRefused, match="no_such_table"):
        session.prepare("SELECT a FROM no_such_table")


def test_a_server_that_does_not_answer_is_given_up_by_the_deadline(
    through_wire: CassandraSession, wire: TcpProxy
) -> None:
    select = through_wire.prepare("SELECT number FROM numbers WHERE part = ?")
    assert through_wire.execute(select, (-1,)) == []
    wire.hold()
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield select, (-1,)

    for ask in (
        lambda: through_wire.execute(select, (-1,)),
        lambda: through_wire.execute_all(requests(), concurrency=5),
        lambda: through_wire.write_batches([[(select, (-1,))]]),
        lambda: through_wire.prepare("SELECT text FROM numbers"),
    ):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="Cassandra at"):
            ask()
        assert time.monotonic() - begun < 8, "the driver itself would wait for 10 s"
    assert taken == 6, "five are under way, and the sixth waits for a place"
    wire.go_on()
    # The same session goes on when the server does.
    until(lambda: through_wire.execute(select, (-1,)) == [], "an answer", meanwhile=StoreUnavailable)


def test_a_conditional_write_whose_answer_was_lost_is_asked_again_and_finds_its_own(
    through_wire: CassandraSession, wire: TcpProxy
) -> None:
    insert = through_wire.prepare("INSERT INTO numbers (part, number, text) VALUES (?, ?, ?) IF NOT EXISTS")
    assert through_wire.execute_if(insert, (-3, 1, "the first")) is None
    assert through_wire.execute_if(insert, (-3, 1, "another")) == {"part": -3, "number": 1, "text": "the first"}
    patient = CassandraSession(replace(through_wire.address, deadline_s=30), through_wire.cluster, through_wire.driver)
    wire.lose_answer_to(b"lost answer")
    assert patient.execute_if(insert, (-3, 2, "lost answer")) == {"part": -3, "number": 2, "text": "lost answer"}
    assert wire.answers_lost == 1


def test_a_closed_session_says_so_and_closing_again_is_nothing(session: CassandraSession) -> None:
    threads = threading.active_count()
    closed = open_session(session.address, create=False, wait_s=60, tell=print)
    select = closed.prepare("SELECT number FROM numbers WHERE part = ?")
    closed.close()
    closed.close()
    with pytest.raises(StoreUnavailable):
        closed.execute(select, (1,))
    with pytest.raises(StoreUnavailable):
        closed.execute_all([(select, (1,))])
    assert threading.active_count() <= threads


# Tables


def test_tables_of_another_version_are_refused_before_anything_is_made(session: CassandraSession) -> None:
    ensure_schema(session, "numbers", 1, [NUMBERS])
    with pytest.raises(
        SchemaMismatch, match="the tables of numbers are of version 1, and this program's are of version 2"
    ):
        ensure_schema(session, "numbers", 2, ["CREATE TABLE never (a int PRIMARY KEY)"])
    with pytest.raises(StoreRefused, match="never"):
        session.prepare("SELECT a FROM never")


def test_dropped_tables_may_be_made_again_in_another_version(session: CassandraSession) -> None:
    ensure_schema(session, "short", 1, ["CREATE TABLE IF NOT EXISTS short (a int PRIMARY KEY)"])
    for _ in range(2):
        drop_schema(session, "short", ["DROP TABLE IF EXISTS short"])
    ensure_schema(session, "short", 2, ["CREATE TABLE IF NOT EXISTS short (b int PRIMARY KEY)"])
    assert session.execute(session.prepare("SELECT b FROM short")) == []


def test_what_a_crash_left_half_made_is_made_by_the_next(session: CassandraSession) -> None:
    statements = [f"CREATE TABLE IF NOT EXISTS half_{number} (a int PRIMARY KEY)" for number in range(2)]
    with pytest.raises(StoreRefused, match="NONSENSE"):
        ensure_schema(session, "half", 1, [statements[0], "CREATE NONSENSE"])
    # The turn of the one that crashed is over after LEASE_S; here after two seconds to three, for
    # Cassandra counts a row's time to live from the whole second before it was written.
    begun = time.monotonic()
    session.execute(
        session.prepare("UPDATE darkroom_schema USING TTL 3 SET maker = uuid() WHERE name = 'half' IF EXISTS")
    )
    ensure_schema(session, "half", 1, statements)
    assert time.monotonic() - begun > 1.5
    assert session.execute(session.prepare("SELECT a FROM half_1")) == []


@pytest.fixture
def fresh(address: CassandraAddress) -> Iterator[CassandraAddress]:
    """The address of a keyspace that nobody has made yet."""
    yield (unmade := replace(address, keyspace=f"{address.keyspace}_2"))
    opened = open_session(unmade, create=True, wait_s=60, tell=print)
    opened.define(f"DROP KEYSPACE {unmade.keyspace}")
    opened.close()


def test_several_processes_that_start_at_once_make_the_tables_once(fresh: CassandraAddress) -> None:
    child, told = Path(__file__).parent / "children" / "make_tables.py", pickle.dumps(fresh)

    def make(_: int) -> bytes:
        return subprocess.run([sys.executable, child], input=told, stdout=subprocess.PIPE, timeout=120).stdout

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(make, range(5))) == [b"300\n"] * 5
    opened = open_session(fresh, create=False, wait_s=60, tell=print)
    made = opened.execute(opened.prepare("SELECT name, version, complete FROM darkroom_schema"))
    opened.close()
    assert made == [("raced", 1, True)]
