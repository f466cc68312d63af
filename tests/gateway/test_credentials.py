"""Passwords, tokens and sign-ups: what their port promises, and what SQLite adds to it."""

import itertools
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import argon2
import pytest
from services.keyspaces import empty_tables, own_keyspace
from services.services import Services

from darkroom.gateway import credentials as credentials_module
from darkroom.gateway import credentials_cassandra, credentials_sqlite, sqlite_file
from darkroom.gateway.credentials import (
    SCOPES_MAX,
    TOKENS_PER_USER_MAX,
    AlreadyBound,
    CredentialRefused,
    Credentials,
    CredentialsFull,
    CredentialStore,
    CredentialsUnusable,
    Grant,
    TooManyPending,
    UnknownClaim,
    UnknownUser,
)
from darkroom.gateway.credentials_cassandra import CassandraCredentialStore
from darkroom.gateway.credentials_sqlite import FILE_NAME, SqliteCredentialStore
from darkroom.gateway.grant_cache import TRUSTED_MS, GrantCache
from darkroom.gateway.passwords import DamagedHash, PasswordHashing
from darkroom.gateway.turns import TooBusy
from darkroom.projections.cassandra_session import CassandraSession

PASSWORD = "correct horse battery"
NO_CLAIM = "0" * 64

# The least that argon2 does, so that the tests are about everything else.
CHEAP = PasswordHashing(memory_kib=8, passes=1, lanes=1)


class Hands:
    """A clock whose time is what it is set to."""

    def __init__(self) -> None:
        self.time_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.time_ms


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture(scope="module")
def keyspace(service: Services) -> Iterator[CassandraSession]:
    with own_keyspace(service) as session:
        CassandraCredentialStore(session)
        yield session


def in_sqlite(request: pytest.FixtureRequest) -> CredentialStore:
    return SqliteCredentialStore(request.getfixturevalue("tmp_path") / "data")


def in_sqlite_and_remembered(request: pytest.FixtureRequest) -> CredentialStore:
    """By a clock of which every look is so late that the store is asked each time."""
    return GrantCache(in_sqlite(request), itertools.count(0, TRUSTED_MS).__next__)


def in_cassandra(request: pytest.FixtureRequest) -> CredentialStore:
    return CassandraCredentialStore(request.getfixturevalue("keyspace"))


@pytest.fixture(params=[in_sqlite, in_sqlite_and_remembered, pytest.param(in_cassandra, marks=pytest.mark.services)])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[], CredentialStore]]:
    """Opens the same stored credentials each time, as another process or a restart would."""
    stores: list[CredentialStore] = []
    if request.param is in_cassandra:
        empty_tables(request.getfixturevalue("keyspace"))

    def opened() -> CredentialStore:
        stores.append(request.param(request))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def credentials(open_store: Callable[[], CredentialStore], clock: Hands) -> Credentials:
    return Credentials(open_store(), CHEAP, clock)


def signed_up(credentials: Credentials, username: str = "Alice", user: int = 7) -> int:
    credentials.bind(credentials.begin(username, PASSWORD).claim, user)
    return user


# Sign-up


def test_a_sign_up_is_pending_until_it_is_bound_and_cannot_sign_in_before(
    credentials: Credentials, clock: Hands
) -> None:
    first = credentials.begin("Alice", PASSWORD)
    clock.time_ms += 1
    second = credentials.begin("bob_2", PASSWORD)
    begun = [(pending.claim, pending.username, pending.begun_ms) for pending in credentials.pending()]
    assert begun == [(first.claim, "alice", clock.time_ms - 1), (second.claim, "bob_2", clock.time_ms)]
    assert credentials.verify("Alice", PASSWORD) is None
    credentials.bind(first.claim, 7)
    assert credentials.verify("Alice", PASSWORD) == 7
    assert [pending.claim for pending in credentials.pending()] == [second.claim]


def test_a_claim_is_the_hash_of_a_token_that_nobody_can_guess(credentials: Credentials) -> None:
    sign_ups = [credentials.begin("Alice", PASSWORD) for _ in range(20)]
    assert len({sign_up.token for sign_up in sign_ups} | {sign_up.claim for sign_up in sign_ups}) == 40
    assert all(re.fullmatch(r"[0-9a-f]{64}", sign_up.claim) for sign_up in sign_ups)


def test_binding_again_changes_nothing_and_binding_otherwise_is_refused(credentials: Credentials) -> None:
    claim = credentials.begin("alice", PASSWORD).claim
    credentials.bind(claim, 7)
    credentials.bind(claim, 7)
    with pytest.raises(AlreadyBound):
        credentials.bind(claim, 8)
    with pytest.raises(AlreadyBound):
        credentials.bind(credentials.begin("bob", "another password").claim, 7)
    with pytest.raises(AlreadyBound):
        credentials.bind(credentials.begin("ALICE", "another password").claim, 9)
    with pytest.raises(UnknownClaim):
        credentials.bind(NO_CLAIM, 9)
    assert credentials.verify("alice", PASSWORD) == 7
    assert credentials.verify(8, PASSWORD) is credentials.verify(9, "another password") is None


def test_a_discarded_sign_up_is_forgotten_and_a_bound_one_cannot_be_discarded(credentials: Credentials) -> None:
    lost = credentials.begin("alice", PASSWORD).claim
    credentials.discard(lost)
    credentials.discard(lost)
    assert credentials.pending() == []
    with pytest.raises(UnknownClaim):
        credentials.bind(lost, 7)
    won = credentials.begin("alice", PASSWORD).claim
    credentials.bind(won, 8)
    credentials.discard(won)
    assert credentials.verify("alice", PASSWORD) == 8


def test_no_more_sign_ups_are_pending_than_may_be(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    for adapter in (credentials_sqlite, credentials_cassandra):
        monkeypatch.setattr(adapter, "PENDING_MAX", 2)
    first = credentials.begin("a", PASSWORD)
    credentials.begin("b", PASSWORD)
    with pytest.raises(TooManyPending, match="limit is 2"):
        credentials.begin("c", PASSWORD)
    credentials.discard(first.claim)
    credentials.begin("c", PASSWORD)


@pytest.mark.parametrize(
    ("username", "password", "message"),
    [
        ("alice", "1234567", "password has 7 characters; it must have 8 to 256"),
        ("alice", "", "password has 0 characters"),
        ("alice", "x" * 257, "password has 257 characters"),
        ("alice", "lone \ud800 half", "password has a lone surrogate"),
        ("", PASSWORD, "username must be 1 to 30"),
        ("a" * 31, PASSWORD, "username must be 1 to 30"),
        ("12345", PASSWORD, "not only digits"),
        ("al ice", PASSWORD, "username"),
        ("alice\n", PASSWORD, "username"),
        ("älice", PASSWORD, "username"),
        ("\ud800", PASSWORD, "username"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_field_and_limit(
    credentials: Credentials, username: str, password: str, message: str
) -> None:
    with pytest.raises(CredentialRefused, match=message):
        credentials.begin(username, password)
    assert credentials.pending() == []
    assert credentials.verify(username, password) is None


@pytest.mark.parametrize("password", ["12345678", "x" * 256, "pässwörd \N{PILE OF POO}", "null \0 byte"])
def test_passwords_at_the_limits_and_beyond_ascii_are_taken(credentials: Credentials, password: str) -> None:
    credentials.bind(credentials.begin("alice", password).claim, 7)
    assert credentials.verify("alice", password) == 7
    assert credentials.verify("alice", password[:-1]) is None


# Signing in


def test_a_user_signs_in_by_name_in_any_case_or_by_id(credentials: Credentials) -> None:
    signed_up(credentials, "Alice_1", 7)
    for login in ("Alice_1", "alice_1", "ALICE_1", 7):
        assert credentials.verify(login, PASSWORD) == 7
        assert credentials.verify(login, PASSWORD.upper()) is None
        assert credentials.verify(login, "") is None
    for nobody in ("alice", "", "7", "x" * 10_000, 8, 0, -1):
        assert credentials.verify(nobody, PASSWORD) is None


def test_a_password_typed_on_another_keyboard_is_the_same(credentials: Credentials) -> None:
    credentials.bind(credentials.begin("alice", "caf\u00e9 secret").claim, 7)
    assert credentials.verify("alice", "cafe\u0301 secret") == 7


def test_signing_in_as_nobody_takes_the_same_work(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_up(credentials)
    outcomes: list[object] = []
    verify = argon2.PasswordHasher.verify

    def watched(hasher: argon2.PasswordHasher, password_hash: str, password: bytes) -> bool:
        outcomes.append(argon2.extract_parameters(password_hash))
        try:
            return bool(verify(hasher, password_hash, password))
        except Exception as error:
            outcomes.append(type(error))
            raise

    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    for login in ("alice", "nobody", 7, 8, "no name", "12345"):
        assert credentials.verify(login, "wrong password") is None
    # A mismatch is found after all of the work; a malformed hash would be found before any.
    assert outcomes == outcomes[:2] * 6
    assert outcomes[1] is argon2.exceptions.VerifyMismatchError


def test_passwords_are_hashed_with_argon2id_at_64_mib_and_three_passes() -> None:
    hashing = PasswordHashing()
    password_hash = hashing.hash(PASSWORD)
    assert password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert hashing.verify(password_hash, PASSWORD)
    assert not hashing.verify(password_hash, PASSWORD + " ")
    assert hashing.hash(PASSWORD) != password_hash


@pytest.mark.parametrize(
    "damaged", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$", "$argon2i$v=19$m=8,t=1,p=1$x$x"]
)
def test_a_damaged_hash_is_neither_right_nor_wrong(damaged: str) -> None:
    with pytest.raises(DamagedHash):
        CHEAP.verify(damaged, PASSWORD)


def test_more_who_sign_in_than_may_wait_are_told_so(open_store: Callable[[], CredentialStore]) -> None:
    hashing = PasswordHashing(memory_kib=8, passes=1, lanes=1, at_once=1, waiting_max=0)
    credentials = Credentials(open_store(), hashing)
    with hashing._turns.turn():
        for ask in (credentials.verify, credentials.begin):
            with pytest.raises(TooBusy, match="passwords"):
                ask("alice", PASSWORD)
    assert signed_up(credentials) == credentials.verify("alice", PASSWORD)


# Tokens


def test_a_token_resolves_to_its_user_and_scopes(credentials: Credentials) -> None:
    user = signed_up(credentials)
    token = credentials.issue_token(user, ["read", "write:media"])
    assert credentials.resolve(token) == Grant(user, frozenset({"read", "write:media"}))
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    assert len({credentials.issue_token(user, ["read"]) for _ in range(50)}) == 50


def test_wrong_tokens_resolve_to_nothing(credentials: Credentials) -> None:
    token = credentials.issue_token(signed_up(credentials), ["read"])
    sign_up = credentials.begin("bob", PASSWORD)
    changed = ("A" if token[0] != "A" else "B") + token[1:]
    wrong = [
        "",
        token[:-1],
        token + "A",
        changed,
        token.swapcase(),
        "x" * 10**6,
        "ä" * 43,
        "\ud800" * 43,
        sign_up.token,
    ]
    for other in wrong:
        assert credentials.resolve(other) is None
        credentials.revoke(other)
    assert credentials.resolve(token)


def test_an_expired_token_resolves_to_nothing_from_its_last_millisecond(credentials: Credentials, clock: Hands) -> None:
    user = signed_up(credentials)
    token, lasting = credentials.issue_token(user, ["read"], lifetime_ms=1000), credentials.issue_token(user, ["read"])
    clock.time_ms += 999
    assert credentials.resolve(token)
    clock.time_ms += 1
    assert credentials.resolve(token) is None
    clock.time_ms += 10**12
    assert credentials.resolve(token) is None
    assert credentials.resolve(lasting)


def test_a_revoked_token_resolves_to_nothing_and_the_others_go_on(credentials: Credentials) -> None:
    user = signed_up(credentials)
    token, other = credentials.issue_token(user, ["read"]), credentials.issue_token(user, ["read"])
    credentials.revoke(token)
    credentials.revoke(token)
    assert credentials.resolve(token) is None
    assert credentials.resolve(other)


@pytest.mark.parametrize(
    ("scopes", "allowed", "missing"),
    [
        ({"read"}, {"read", "read:accounts"}, {"write", "write:media", "readers", "follow", "", ":"}),
        ({"write:media"}, {"write:media"}, {"write", "write:statuses", "write:mediations", "read"}),
        ({"read", "write:statuses"}, {"read:search", "write:statuses"}, {"write:media", "push"}),
    ],
)
def test_a_grant_allows_its_scopes_and_what_is_below_them(
    scopes: set[str], allowed: set[str], missing: set[str]
) -> None:
    grant = Grant(7, frozenset(scopes))
    assert all(grant.allows(scope) for scope in allowed)
    assert not any(grant.allows(scope) for scope in missing)


@pytest.mark.parametrize(
    "scopes",
    [
        [],
        [""],
        ["read write"],
        ["read:"],
        ["Read"],
        ["read\n"],
        ["r" * 65],
        [f"a{'_' * n}" for n in range(SCOPES_MAX + 1)],
    ],
)
def test_scopes_that_are_none_are_refused(credentials: Credentials, scopes: list[str]) -> None:
    user = signed_up(credentials)
    with pytest.raises(CredentialRefused, match="scope"):
        credentials.issue_token(user, scopes)


def test_a_token_for_nobody_is_refused(credentials: Credentials) -> None:
    with pytest.raises(UnknownUser, match="9"):
        credentials.issue_token(9, ["read"])


def test_a_user_has_so_many_tokens_and_the_dead_then_the_oldest_go_first(
    credentials: Credentials, clock: Hands
) -> None:
    alice, bob = signed_up(credentials, "alice", 7), signed_up(credentials, "bob", 8)
    bobs = credentials.issue_token(bob, ["read"])
    oldest = credentials.issue_token(alice, ["read"])
    short = credentials.issue_token(alice, ["read"], lifetime_ms=1)
    revoked = credentials.issue_token(alice, ["read"])
    credentials.revoke(revoked)
    clock.time_ms += 5
    more = [credentials.issue_token(alice, ["read"]) for _ in range(TOKENS_PER_USER_MAX - 1)]
    assert all(credentials.resolve(token) for token in [oldest, *more])
    clock.time_ms -= 3_600_000
    newest = credentials.issue_token(alice, ["read"])
    assert credentials.resolve(oldest) is None
    assert credentials.resolve(short) is None
    assert all(credentials.resolve(token) for token in [bobs, *more, newest])


# Deletion, restart, threads


def test_all_of_a_deleted_user_is_dropped_and_nothing_of_another(credentials: Credentials) -> None:
    alice, bob = signed_up(credentials, "alice", 7), signed_up(credentials, "bob", 8)
    token, bobs = credentials.issue_token(alice, ["read"]), credentials.issue_token(bob, ["read"])
    credentials.drop(alice)
    credentials.drop(alice)
    assert credentials.verify("alice", PASSWORD) is credentials.verify(alice, PASSWORD) is None
    assert credentials.resolve(token) is None
    with pytest.raises(UnknownUser):
        credentials.issue_token(alice, ["read"])
    assert credentials.resolve(bobs) == Grant(bob, frozenset({"read"}))
    assert credentials.verify("bob", PASSWORD) == bob


def test_what_was_acknowledged_is_there_after_reopening(
    open_store: Callable[[], CredentialStore], clock: Hands
) -> None:
    before = Credentials(open_store(), CHEAP, clock)
    user = signed_up(before)
    token, revoked = before.issue_token(user, ["read"]), before.issue_token(user, ["read"])
    before.revoke(revoked)
    pending = before.begin("bob", PASSWORD)
    before.close()
    after = Credentials(open_store(), CHEAP, clock)
    assert after.verify("alice", PASSWORD) == user
    assert after.resolve(token) == Grant(user, frozenset({"read"}))
    assert after.resolve(revoked) is None
    assert [left.claim for left in after.pending()] == [pending.claim]


def test_two_who_share_the_credentials_see_each_others_writes(
    open_store: Callable[[], CredentialStore], clock: Hands
) -> None:
    one, other = Credentials(open_store(), CHEAP, clock), Credentials(open_store(), CHEAP, clock)
    user = signed_up(one)
    token = other.issue_token(user, ["read"])
    assert one.resolve(token) == other.resolve(token) == Grant(user, frozenset({"read"}))
    one.revoke(token)
    assert other.resolve(token) is None


def test_of_many_threads_that_bind_one_claim_one_succeeds(credentials: Credentials) -> None:
    claim, start = credentials.begin("alice", PASSWORD).claim, threading.Barrier(8)

    def bind(user: int) -> bool:
        start.wait(10)
        try:
            credentials.bind(claim, user)
        except AlreadyBound:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        bound = list(threads.map(bind, range(1, 9)))
    assert bound.count(True) == 1
    assert credentials.verify("alice", PASSWORD) == bound.index(True) + 1


def test_threads_that_sign_up_sign_in_and_out_do_not_disturb_each_other(
    open_store: Callable[[], CredentialStore],
) -> None:
    both = [Credentials(open_store(), CHEAP) for _ in range(2)]

    def live(user: int) -> list[bool]:
        mine, seen = both[user % 2], []
        signed_up(mine, f"user_{user}", user)
        for turn in range(10):
            token = mine.issue_token(user, ["read"])
            seen.append(mine.resolve(token) == Grant(user, frozenset({"read"})))
            seen.append(both[turn % 2].verify(f"user_{user}", PASSWORD) == user)
            mine.revoke(token)
            seen.append(mine.resolve(token) is None)
        if user % 3 == 0:
            mine.drop(user)
        return seen

    with ThreadPoolExecutor(8) as threads:
        assert all(all(seen) for seen in threads.map(live, range(1, 25)))
    left = [user for user in range(1, 25) if both[0].verify(user, PASSWORD)]
    assert left == [user for user in range(1, 25) if user % 3]
    assert both[1].pending() == []


# What SQLite adds


def stored_bytes(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    return b"".join(path.read_bytes() for path in files)


def test_no_secret_is_in_the_files_and_nothing_of_a_dropped_user_is(tmp_path: Path, clock: Hands) -> None:
    credentials = Credentials(SqliteCredentialStore(tmp_path / "data"), CHEAP, clock)
    user = signed_up(credentials, "alice_in_the_files")
    password_hash = credentials._store.account(user)
    assert password_hash is not None
    token = credentials.issue_token(user, ["read"], lifetime_ms=1000)
    sign_up = credentials.begin("bob_in_the_files", PASSWORD)
    token_hash = credentials_module._token_hash(token)
    data = stored_bytes(tmp_path / "data")
    for secret in (PASSWORD, token, sign_up.token):
        assert secret.encode() not in data
    hidden = [b"alice_in_the_files", password_hash.password_hash.encode(), token_hash]
    assert all(trace in data for trace in hidden)
    credentials.drop(user)
    assert not any(trace in stored_bytes(tmp_path / "data") for trace in hidden)
    assert b"bob_in_the_files" in stored_bytes(tmp_path / "data")
    credentials.close()


def test_every_commit_is_synced_to_a_write_ahead_log(tmp_path: Path) -> None:
    store = SqliteCredentialStore(tmp_path)
    values = [store._file.writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert values == ["wal", 2]
    store.close()


KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from darkroom.gateway.credentials import Credentials
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.passwords import PasswordHashing

credentials = Credentials(SqliteCredentialStore(Path(sys.argv[1])), PasswordHashing(memory_kib=8, passes=1, lanes=1))
claim = credentials.begin("alice", "correct horse battery").claim
if sys.argv[2] == "bind":
    credentials.bind(claim, 7)
print(claim, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("after", ["begin", "bind"])
def test_a_sign_up_cut_off_by_a_crash_is_settled_at_the_next_start(tmp_path: Path, after: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER, str(tmp_path), after], capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    claim = child.stdout.strip()
    credentials = Credentials(SqliteCredentialStore(tmp_path), CHEAP)
    assert [pending.claim for pending in credentials.pending()] == ([claim] if after == "begin" else [])
    credentials.bind(claim, 7)
    assert credentials.pending() == []
    assert credentials.verify("alice", PASSWORD) == 7
    credentials.close()


def test_a_file_cut_short_or_changed_anywhere_is_refused_or_answers_as_before(tmp_path: Path) -> None:
    credentials = Credentials(SqliteCredentialStore(tmp_path), CHEAP)
    user = signed_up(credentials)
    token = credentials.issue_token(user, ["read"])
    credentials.close()
    whole, chance = (tmp_path / FILE_NAME).read_bytes(), random.Random(1)
    for _ in range(60):
        damaged = bytearray(whole[: chance.randrange(1, len(whole))] if chance.random() < 0.5 else whole)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        (tmp_path / FILE_NAME).write_bytes(damaged)
        try:
            reopened = Credentials(SqliteCredentialStore(tmp_path), CHEAP)
        except CredentialsUnusable:
            continue
        try:
            # A flipped bit may lose a row, but never lets a wrong password or token in.
            assert reopened.verify("alice", "wrong password") is None
            assert reopened.resolve("A" * 43) is None
            reopened.resolve(token)
        except (CredentialsUnusable, DamagedHash):
            pass
        finally:
            reopened.close()


def test_a_database_of_another_schema_or_program_is_left_alone(tmp_path: Path) -> None:
    def written(*statements: str) -> None:
        (tmp_path / FILE_NAME).unlink(missing_ok=True)
        with sqlite3.connect(tmp_path / FILE_NAME) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    SqliteCredentialStore(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as newer:
        newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(CredentialsUnusable, match="schema 9; this version knows 1"):
        SqliteCredentialStore(tmp_path)
    for statements in (["PRAGMA application_id = 5"], ["CREATE TABLE theirs (x)"], ["PRAGMA user_version = 1"]):
        written(*statements)
        with pytest.raises(CredentialsUnusable, match="another program's"):
            SqliteCredentialStore(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"This is no database at all. " * 100)
    with pytest.raises(CredentialsUnusable, match=FILE_NAME):
        SqliteCredentialStore(tmp_path)


def test_a_full_disk_stores_nothing_and_storing_goes_on_afterwards(tmp_path: Path) -> None:
    store = SqliteCredentialStore(tmp_path)
    credentials = Credentials(store, CHEAP)
    token = credentials.issue_token(signed_up(credentials), ["read"])
    (pages,) = store._file.writer.execute("PRAGMA page_count").fetchone()
    store._file.writer.execute(f"PRAGMA max_page_count = {pages}")
    begun = 0

    def begin_many() -> None:
        nonlocal begun
        while begun < 1000:
            credentials.begin(f"user_{begun}", PASSWORD)
            begun += 1

    with pytest.raises(CredentialsFull):
        begin_many()
    assert len(credentials.pending()) == begun
    assert credentials.resolve(token)
    store._file.writer.execute("PRAGMA max_page_count = 1000000")
    credentials.begin("one_more", PASSWORD)
    assert len(credentials.pending()) == begun + 1
    credentials.close()


def test_tokens_resolve_while_another_process_writes_and_a_write_that_waits_too_long_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "WRITE_LOCK_TIMEOUT_S", 0.05)
    credentials = Credentials(SqliteCredentialStore(tmp_path), CHEAP)
    token = credentials.issue_token(signed_up(credentials), ["read"])
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM tokens")
    assert credentials.resolve(token)
    with pytest.raises(TooBusy, match="write lock"):
        credentials.revoke(token)
    other.execute("ROLLBACK")
    other.close()
    credentials.revoke(token)
    assert credentials.resolve(token) is None
    credentials.close()


def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from darkroom.gateway.credentials_sqlite import SqliteCredentialStore;"
        "sys.stdin.read(); SqliteCredentialStore(Path(sys.argv[1])).pending()"
    )
    command: list[Any] = [sys.executable, "-c", program, tmp_path]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    for child in children:
        assert child.stdin
        child.stdin.close()
    failures = [child.stderr.read().decode() for child in children if child.stderr]
    assert [child.wait() for child in children] == [0] * 6, failures
    for child in children:
        assert child.stderr
        child.stderr.close()


def test_closed_credentials_say_so(tmp_path: Path) -> None:
    credentials = Credentials(SqliteCredentialStore(tmp_path), CHEAP)
    credentials.close()
    with pytest.raises(CredentialsUnusable):
        credentials.pending()
    assert not os.path.lexists(tmp_path / f"{FILE_NAME}-wal")
