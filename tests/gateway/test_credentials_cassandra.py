"""What Cassandra adds to credentials: gateways that race, answers that are lost, crashes at every step, slow clocks."""

import contextlib
import hashlib
import itertools
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from services.keyspaces import empty_tables, own_keyspace
from services.services import Services
from services.tcp_proxy import TcpProxy
from waiting import until

from darkroom.gateway import credentials_cassandra
from darkroom.gateway.credentials import (
    AlreadyBound,
    CredentialsUnusable,
    Grant,
    Pending,
    StoredToken,
    TooManyPending,
    UnknownClaim,
    UnknownUser,
)
from darkroom.gateway.credentials_cassandra import CassandraCredentialStore
from darkroom.projections.cassandra_requests import Statement
from darkroom.projections.cassandra_schema import SchemaMismatch
from darkroom.projections.cassandra_session import CassandraSession, open_session
from darkroom.projections.store import StoreUnavailable

pytestmark = pytest.mark.services

HASH = "$argon2id$hash"
NOW_MS = 1_700_000_000_000
DAY_S = 24 * 60 * 60
TABLES = ("pending", "names", "claims", "accounts", "tokens")


@pytest.fixture(scope="module")
def keyspace(service: Services) -> Iterator[CassandraSession]:
    with own_keyspace(service) as session:
        CassandraCredentialStore(session)
        yield session


@pytest.fixture
def session(keyspace: CassandraSession) -> CassandraSession:
    empty_tables(keyspace)
    return keyspace


@pytest.fixture
def store(session: CassandraSession) -> CassandraCredentialStore:
    return CassandraCredentialStore(session)


def claim_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def token_hash_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def begin(store: CassandraCredentialStore, name: str, claim: str | None = None) -> str:
    store.add_pending(Pending(claim or claim_of(name), name, NOW_MS), HASH)
    return claim or claim_of(name)


def token_of(user: int, expires_ms: int | None = None) -> StoredToken:
    return StoredToken(Grant(user, frozenset({"read"})), NOW_MS, expires_ms)


def rows_left(session: CassandraSession) -> dict[str, int]:
    counts = {name: session.prepare(f"SELECT count(*) FROM credentials_{name}") for name in TABLES}
    return {name: count for name in TABLES if (count := session.execute(counts[name])[0][0])}


# Races


def test_of_several_gateways_that_bind_at_once_one_has_each_claim_and_one_each_name(
    store: CassandraCredentialStore, session: CassandraSession, tmp_path: Path
) -> None:
    gateways, rounds = 4, 12
    shared = [begin(store, f"shared_{turn}") for turn in range(rounds)]
    own = [
        [begin(store, f"raced_{turn}", claim_of(f"{turn} of {number}")) for turn in range(rounds)]
        for number in range(gateways)
    ]
    program = Path(__file__).parent / "children" / "race_for_a_name.py"

    def race(number: int) -> list[tuple[str, int]]:
        told = pickle.dumps((session.address, shared, own[number]))
        command: list[Any] = [sys.executable, program, str(number), tmp_path]
        done = subprocess.run(command, input=told, capture_output=True, timeout=120, check=True)
        return [(claim, user) for claim, user in json.loads(done.stdout)]

    with ThreadPoolExecutor(gateways) as threads:
        racing = [threads.submit(race, number) for number in range(gateways)]
        until(lambda: len(list(tmp_path.iterdir())) == gateways, "every gateway is ready")
        (tmp_path / "go").touch()
        bound = list(itertools.chain.from_iterable(each.result() for each in racing))
    assert sorted(claim for claim, _ in bound if claim in shared) == sorted(shared)
    for turn in range(rounds):
        [winner] = [user for claim, user in bound if claim in {claims[turn] for claims in own}]
        account = store.account(f"raced_{turn}")
        assert account is not None
        assert account.user == winner
    assert len(store.pending()) == (gateways - 1) * rounds, "who did not get the name is still to be settled"
    for claim, user in bound:
        store.bind(claim, user)
        with pytest.raises(AlreadyBound):
            store.bind(claim, user + 100)


def test_tokens_that_are_issued_to_one_user_at_once_are_all_listed_and_all_dropped(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    store.bind(begin(store, "alice"), 7)
    hashes = [token_hash_of(str(number)) for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda token_hash: store.add_token(token_hash, token_of(7)), hashes))
    assert all(store.token(token_hash) == token_of(7) for token_hash in hashes)
    numbers = session.execute(session.prepare("SELECT number FROM credentials_accounts WHERE user = 7"))
    assert numbers == [(number,) for number in range(1, 41)]
    store.drop(7)
    assert rows_left(session) == {}


def test_a_token_that_is_issued_while_its_user_is_dropped_does_not_outlive_them(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    def issue(turn: int) -> None:
        for number in range(20):
            with contextlib.suppress(UnknownUser):
                store.add_token(token_hash_of(f"{turn} {number}"), token_of(7))

    for turn in range(5):
        store.bind(begin(store, "alice", claim_of(str(turn))), 7)
        with ThreadPoolExecutor(2) as threads:
            issuing = threads.submit(issue, turn)
            until(lambda: rows_left(session).get("tokens"), "a token")
            store.drop(7)
            issuing.result()
        assert rows_left(session) == {}


# Crashes and lost answers


class Crashing(CassandraSession):
    """Goes to the server for so many requests; the next fails, before the server has it or after it has done it."""

    def __init__(self, session: CassandraSession, requests: int, *, done: bool) -> None:
        super().__init__(session.address, session.cluster, session.driver)
        self.left = requests
        self.done = done

    def _next(self, ask: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left >= 0:
            return ask()
        if self.left == -1 and self.done:
            ask()
        raise StoreUnavailable("the gateway has crashed")

    def execute(self, statement: Statement, parameters: Sequence[Any] = ()) -> list[Any]:
        rows: list[Any] = self._next(lambda: super(Crashing, self).execute(statement, parameters))
        return rows

    def execute_if(self, statement: Statement, parameters: Sequence[Any] = ()) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._next(lambda: super(Crashing, self).execute_if(statement, parameters))
        return found

    def execute_all(self, requests: Any, concurrency: int = 1) -> list[list[Any]]:
        rows: list[list[Any]] = self._next(lambda: super(Crashing, self).execute_all(requests, concurrency))
        return rows


def crashed_at_every_request(
    session: CassandraSession,
    prepare: Callable[[str, int], None],
    work: Callable[[Any, str, int], None],
    prefix: str = "user",
) -> Iterator[tuple[str, int]]:
    """Names and users of whom `prepare` began and `work` was cut off: before and after each of its requests."""
    for at in itertools.count():
        ended = 0
        for done in (False, True):
            name, user = f"{prefix}_{at}_{done}", 1000 + 2 * at + done
            prepare(name, user)
            crashing = CassandraCredentialStore(session)
            crashing._tables._session = Crashing(session, at, done=done)
            try:
                work(crashing, name, user)
                ended += 1
            except CredentialsUnusable:
                yield name, user
        if ended == 2:
            assert at > 2
            return


def test_a_binding_cut_off_anywhere_is_completed_by_binding_again(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    def bind(crashing: CassandraCredentialStore, name: str, user: int) -> None:
        crashing.bind(claim_of(name), user)

    for name, user in crashed_at_every_request(session, lambda name, _: void(begin(store, name)), bind):
        by_name, by_id = store.account(name), store.account(user)
        assert by_name in (None, by_id), "a name never leads to what is not there"
        with contextlib.suppress(AlreadyBound, UnknownClaim):
            store.bind(claim_of(name), user + 10_000)
            user += 10_000  # nothing was decided yet, so that another may be bound
        store.bind(claim_of(name), user)
        assert store.account(name) == store.account(user) is not None
        with pytest.raises(AlreadyBound):
            store.bind(claim_of(name), user + 20_000)
        assert store.pending() == []


def test_a_binding_cut_off_anywhere_and_then_discarded_is_whole_or_not_at_all(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    def bind(crashing: CassandraCredentialStore, name: str, user: int) -> None:
        crashing.bind(claim_of(name), user)

    outcomes = []
    for name, user in crashed_at_every_request(session, lambda name, _: void(begin(store, name)), bind):
        store.discard(claim_of(name))
        assert store.pending() == []
        outcomes.append(store.account(user) is not None)
        assert (store.account(name) is not None) == outcomes[-1]
        if outcomes[-1]:
            store.bind(claim_of(name), user)
            store.drop(user)
        store.bind(begin(store, name, claim_of(f"{name} again")), user + 10_000)
        store.drop(user + 10_000)
    assert set(outcomes) == {True, False}
    finish_all(store, session)


def test_a_drop_cut_off_anywhere_is_completed_by_dropping_again(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    def sign_in(name: str, user: int) -> None:
        store.bind(begin(store, name), user)
        for number in range(3):
            store.add_token(token_hash_of(f"{name} {number}"), token_of(user))

    for name, user in crashed_at_every_request(session, sign_in, lambda crashing, _, user: crashing.drop(user)):
        store.drop(user)
        assert store.account(user) is store.account(name) is None
        assert [store.token(token_hash_of(f"{name} {number}")) for number in range(3)] == [None] * 3
    finish_all(store, session)


def test_tokens_whose_issue_or_revocation_is_cut_off_anywhere_are_gone_with_their_user(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    def issue(crashing: CassandraCredentialStore, name: str, user: int) -> None:
        crashing.add_token(token_hash_of(name), token_of(user))

    def revoke(crashing: CassandraCredentialStore, name: str, _: int) -> None:
        crashing.revoke(token_hash_of(name))

    for name, user in crashed_at_every_request(session, lambda name, user: store.bind(begin(store, name), user), issue):
        assert store.token(token_hash_of(name)) in (None, token_of(user))
        store.add_token(token_hash_of(name), token_of(user))
        assert store.token(token_hash_of(name)) == token_of(user)
    finish_all(store, session)

    def sign_in(name: str, user: int) -> None:
        store.bind(begin(store, name), user)
        store.add_token(token_hash_of(name), token_of(user))

    for name, _ in crashed_at_every_request(session, sign_in, revoke, "another"):
        store.revoke(token_hash_of(name))
        assert store.token(token_hash_of(name)) is None
    finish_all(store, session)


def finish_all(store: CassandraCredentialStore, session: CassandraSession) -> None:
    """Drop everybody; then nothing at all is left."""
    for (user,) in session.execute(session.prepare("SELECT DISTINCT user FROM credentials_accounts")):
        store.drop(user)
    assert rows_left(session) == {}


def void(_: object) -> None:
    """For what a lambda should not return."""


def test_where_answers_are_lost_everything_is_decided_once(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    with TcpProxy(*session.address.contact_points[0]) as wire:
        address = replace(session.address, contact_points=(wire.address,), deadline_s=30)
        lossy = open_session(address, create=False, wait_s=60, tell=print)
        beside = CassandraCredentialStore(lossy)
        claim, token_hash = claim_of("alice"), token_hash_of("alice")
        begin(beside, "alice")
        beside.discard(claim)
        wire.lose_answer_to(HASH.encode())
        begin(beside, "alice")
        assert [each.claim for each in store.pending()] == [claim]
        wire.lose_answer_to(HASH.encode())  # opening the account
        beside.bind(claim, 7)
        assert store.account("alice") == store.account(7) is not None
        wire.lose_answer_to(token_hash)  # listing the token
        beside.add_token(token_hash, token_of(7))
        lossy.close()
        assert wire.answers_lost == 3
    assert store.token(token_hash) == token_of(7)
    assert rows_left(session) == {"names": 1, "claims": 1, "accounts": 1, "tokens": 1}


# Limits, clocks, and what is refused


def test_so_many_sign_ups_are_pending_and_each_is_found(
    store: CassandraCredentialStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_cassandra, "PENDING_MAX", 30)
    claims = [begin(store, f"user_{number}") for number in range(30)]
    begin(store, "user_0")
    assert len(store.pending()) == 30, "the same sign-up again is nothing"
    with pytest.raises(TooManyPending, match="limit is 30"):
        begin(store, "one_more")
    # Also where the limit has been changed since, and with it the places where they are looked for first.
    monkeypatch.setattr(credentials_cassandra, "PENDING_MAX", 31)
    for number, claim in enumerate(claims):
        store.bind(claim, number + 1)
    assert store.pending() == []
    assert all(store.account(f"user_{number}") == store.account(number + 1) is not None for number in range(30))


def test_a_token_expires_in_the_server_a_day_after_it_should_and_one_for_ever_never(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    store.bind(begin(store, "alice"), 7)
    lasting = {"hour": 3_600_000, "years": 10 * 366 * DAY_S * 1000, "ever": None}
    for name, lasts_ms in lasting.items():
        store.add_token(token_hash_of(name), token_of(7, None if lasts_ms is None else NOW_MS + lasts_ms))
    of_token = session.prepare("SELECT ttl(user) FROM credentials_tokens WHERE hash = ?")
    [(hour_s,)], [(years_s,)], [(ever_s,)] = (session.execute(of_token, (token_hash_of(name),)) for name in lasting)
    assert DAY_S + 3600 - 60 < hour_s <= DAY_S + 3600
    assert years_s is ever_s is None
    listed = session.execute(session.prepare("SELECT ttl(token_hash) FROM credentials_accounts WHERE user = 7"))
    assert [ttl_s is None for (ttl_s,) in listed] == [False, True, True]


def test_a_gateway_whose_clock_is_an_hour_behind_revokes_and_drops_all_the_same(
    store: CassandraCredentialStore, session: CassandraSession
) -> None:
    behind = open_session(session.address, create=False, wait_s=60, tell=print)
    behind.cluster.timestamp_generator = behind.driver.timestamp_generator = lambda: int((time.time() - 3600) * 1e6)
    slow = CassandraCredentialStore(behind)
    store.bind(begin(store, "alice"), 7)
    for name in ("revoked", "dropped"):
        store.add_token(token_hash_of(name), token_of(7))
    slow.revoke(token_hash_of("revoked"))
    assert store.token(token_hash_of("revoked")) is None
    assert store.token(token_hash_of("dropped")) == token_of(7)
    slow.drop(7)
    behind.close()
    assert rows_left(session) == {}


def test_what_a_dead_token_leaves_behind_is_nothing(store: CassandraCredentialStore, session: CassandraSession) -> None:
    store.revoke(token_hash_of("nobody's"))
    store.bind(begin(store, "alice"), 7)
    store.add_token(token_hash_of("a"), token_of(7))
    store.revoke(token_hash_of("a"))
    assert rows_left(session) == {"names": 1, "claims": 1, "accounts": 1}


def test_user_ids_that_no_log_can_have_are_nobodys(store: CassandraCredentialStore) -> None:
    assert [store.account(user) for user in (1 << 63, -(1 << 63) - 1, 1 << 200)] == [None] * 3


def test_tables_of_another_version_are_refused(store: CassandraCredentialStore, session: CassandraSession) -> None:
    begin(store, "alice")
    change = session.prepare("UPDATE darkroom_schema SET version = ? WHERE name = 'credentials' IF EXISTS")
    assert session.execute_if(change, (9,)) is None
    try:
        with pytest.raises(SchemaMismatch, match="credentials are of version 9, and this program's are of version 1"):
            CassandraCredentialStore(session)
    finally:
        session.execute_if(change, (credentials_cassandra.SCHEMA,))
    assert len(store.pending()) == 1


def test_a_server_that_does_not_answer_is_called_unusable_by_the_deadline(session: CassandraSession) -> None:
    with TcpProxy(*session.address.contact_points[0]) as wire:
        address = replace(session.address, contact_points=(wire.address,), deadline_s=0.5)
        opened = open_session(address, create=False, wait_s=60, tell=print)
        store = CassandraCredentialStore(opened)
        assert store.token(token_hash_of("nobody's")) is None
        wire.hold()
        begun = time.monotonic()
        with pytest.raises(CredentialsUnusable, match="Cassandra at"):
            store.token(token_hash_of("nobody's"))
        with pytest.raises(CredentialsUnusable, match="Cassandra at"):
            begin(store, "alice")
        assert time.monotonic() - begun < 12, "the driver itself would wait for 10 s each time"
        wire.go_on()
        opened.close()
