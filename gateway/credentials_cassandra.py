"""Credentials in Cassandra, where any number of gateways share them.

Who holds a name, a user id or a claim is decided by lightweight transactions, each about one partition. What is stored
is in such an order that a crash leaves what doing it again completes. Rows that are written once and under a name
nobody can guess (tokens, bound claims) need no such decision: they carry small numbers as their timestamps, so that a
deletion is the last word whatever the gateways' clocks say.
"""

import hashlib
import random
from collections.abc import Iterator
from typing import NamedTuple

from darkroom.gateway.cassandra_tables import CassandraTables
from darkroom.gateway.credentials import (
    PENDING_MAX,
    TOKENS_PER_USER_MAX,
    Account,
    AlreadyBound,
    CredentialsUnusable,
    Grant,
    Pending,
    StoredToken,
    TooManyPending,
    UnknownClaim,
    UnknownUser,
)
from darkroom.gateway.turns import TooBusy
from darkroom.projections.cassandra_session import CassandraSession

SCHEMA = 1
PROBES = 8
ATTEMPTS_MAX = 50

# A token is there for a day after it has expired, for the clocks of gateways and servers differ. One that lasts for
# longer than a year is kept until it is one too many: older servers refuse to let anything expire after 2038.
_KEPT_EXPIRED_S, _EXPIRES_S_MAX = 24 * 60 * 60, 366 * 24 * 60 * 60
_WRITTEN, _DELETED = 1, 2

_TABLES = (
    # At most PENDING_MAX partitions: a sign-up takes one that is free, which its claim says where to look for. They do
    # not expire: one whose registration is in the log is somebody's password.
    """CREATE TABLE IF NOT EXISTS credentials_pending (
        slot int PRIMARY KEY, claim text, username text, password_hash text, begun_ms bigint
    )""",
    "CREATE TABLE IF NOT EXISTS credentials_names (username text PRIMARY KEY, user bigint, claim text)",
    "CREATE TABLE IF NOT EXISTS credentials_claims (claim text PRIMARY KEY, user bigint)",
    # A user's account, and the list of their tokens in the order in which they were issued.
    """CREATE TABLE IF NOT EXISTS credentials_accounts (
        user bigint, number bigint, token_hash blob, expires_ms bigint,
        username text STATIC, claim text STATIC, password_hash text STATIC, last_number bigint STATIC,
        PRIMARY KEY (user, number)
    )""",
    """CREATE TABLE IF NOT EXISTS credentials_tokens (
        hash blob PRIMARY KEY, user bigint, number bigint, scopes text, created_ms bigint, expires_ms bigint
    ) WITH compaction = {'class': 'LeveledCompactionStrategy'}""",
)

_ADD_PENDING = """INSERT INTO credentials_pending (slot, claim, username, password_hash, begun_ms)
    VALUES (?, ?, ?, ?, ?) IF NOT EXISTS"""
_PENDING = "SELECT claim, username, begun_ms, slot FROM credentials_pending"
_PENDING_IN = "SELECT slot, claim, username, password_hash FROM credentials_pending WHERE slot IN ?"
_END_PENDING = "DELETE FROM credentials_pending WHERE slot = ? IF claim = ?"

_TAKE_NAME = "INSERT INTO credentials_names (username, user, claim) VALUES (?, ?, ?) IF NOT EXISTS"
_NAME = "SELECT user, claim FROM credentials_names WHERE username = ?"
_LEAVE_NAME = "DELETE FROM credentials_names WHERE username = ? IF claim = ?"

_CLAIM = "SELECT user FROM credentials_claims WHERE claim = ?"
_ADD_CLAIM = f"INSERT INTO credentials_claims (claim, user) VALUES (?, ?) USING TIMESTAMP {_WRITTEN}"
_FORGET_CLAIM = f"DELETE FROM credentials_claims USING TIMESTAMP {_DELETED} WHERE claim = ?"

_OPEN_ACCOUNT = """UPDATE credentials_accounts SET username = ?, claim = ?, password_hash = ?, last_number = 0
    WHERE user = ? IF claim = null"""
_ACCOUNT = "SELECT claim, password_hash FROM credentials_accounts WHERE user = ? LIMIT 1"
_SHUT_ACCOUNT = "UPDATE credentials_accounts SET password_hash = null, last_number = null WHERE user = ? IF claim = ?"
_FORGET_ACCOUNT = """DELETE username, claim, password_hash, last_number FROM credentials_accounts
    WHERE user = ? IF claim = ?"""

_LISTED = "SELECT username, claim, last_number, number, token_hash, expires_ms FROM credentials_accounts WHERE user = ?"
_NUMBER = "UPDATE credentials_accounts SET last_number = ? WHERE user = ? IF last_number = ? AND claim = ?"
_LIST_TOKEN = "INSERT INTO credentials_accounts (user, number, token_hash, expires_ms) VALUES (?, ?, ?, ?) USING TTL ?"
_UNLIST_TOKEN = "DELETE FROM credentials_accounts WHERE user = ? AND number = ? IF EXISTS"
_UNLIST_ALL = "DELETE FROM credentials_accounts WHERE user = ? AND number > 0"

_ADD_TOKEN = f"""INSERT INTO credentials_tokens (hash, user, number, scopes, created_ms, expires_ms)
    VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP {_WRITTEN} AND TTL ?"""
_TOKEN = "SELECT user, scopes, created_ms, expires_ms, number FROM credentials_tokens WHERE hash = ?"
_FORGET_TOKEN = f"DELETE FROM credentials_tokens USING TIMESTAMP {_DELETED} WHERE hash = ?"


class _SignUp(NamedTuple):
    slot: int
    claim: str
    username: str
    password_hash: str


class _Listed(NamedTuple):
    """A row of an account: `number` and what follows are None where no token is listed."""

    username: str | None
    claim: str | None
    last_number: int | None
    number: int | None
    token_hash: bytes | None
    expires_ms: int | None


class CassandraCredentialStore:
    """See `CredentialStore`. The tables are made if need be; SchemaMismatch where they are of another version.

    A revoked token is forgotten at once. Deleted bytes leave the disks with the compaction after `gc_grace_seconds`.
    """

    def __init__(self, session: CassandraSession) -> None:
        self._tables = CassandraTables(session, "credentials", SCHEMA, _TABLES, CredentialsUnusable)

    def add_pending(self, pending: Pending, password_hash: str) -> None:
        row = (pending.claim, pending.username, password_hash, pending.begun_ms)
        for slot in self._slots_for(pending.claim):
            found = self._tables.decide(_ADD_PENDING, slot, *row)
            if found is None or found["claim"] == pending.claim:
                return
        raise TooManyPending(f"too many sign-ups are pending; the limit is {PENDING_MAX}")

    def pending(self) -> list[Pending]:
        found = [Pending(*row[:3]) for row in self._tables.read(_PENDING)]
        return sorted(found, key=lambda each: (each.begun_ms, each.claim))

    def bind(self, claim: str, user: int) -> None:
        sign_up = self._sign_up(claim)
        if sign_up is None:
            self._check_bound(claim, user)
            return
        held = self._tables.decide(_TAKE_NAME, sign_up.username, user, claim)
        if held and (held["claim"], held["user"]) != (claim, user):
            raise AlreadyBound(f"the name of claim {claim} is user {held['user']}'s, bound by claim {held['claim']}")
        found = self._tables.decide(_OPEN_ACCOUNT, sign_up.username, claim, sign_up.password_hash, user)
        if found and found["claim"] != claim:
            self._tables.decide(_LEAVE_NAME, sign_up.username, claim)
            raise AlreadyBound(f"user {user} is bound to another claim than {claim}")
        self._tables.write(_ADD_CLAIM, claim, user)
        self._tables.decide(_END_PENDING, sign_up.slot, claim)

    def discard(self, claim: str) -> None:
        sign_up = self._sign_up(claim)
        if sign_up is None:
            return
        for user, holder in self._tables.read_serially(_NAME, sign_up.username):
            if holder == claim and self._account_of(user, claim):
                self.bind(claim, user)  # it was bound but for its last steps
                return
        self._tables.decide(_LEAVE_NAME, sign_up.username, claim)
        self._tables.decide(_END_PENDING, sign_up.slot, claim)

    def account(self, login: str | int) -> Account | None:
        if isinstance(login, int):
            return self._account_of(login)
        for user, claim in self._tables.read(_NAME, login):
            return self._account_of(user, claim)
        return None

    def add_token(self, token_hash: bytes, token: StoredToken) -> None:
        user, expires_ms, expires_s = token.grant.user, token.expires_ms, _expires_s(token)
        number = self._list_token(user, token_hash, expires_ms, expires_s)
        scopes = " ".join(sorted(token.grant.scopes))
        self._tables.write(_ADD_TOKEN, token_hash, user, number, scopes, token.created_ms, expires_ms, expires_s)
        self._forget_tokens(user, token.created_ms)

    def token(self, token_hash: bytes) -> StoredToken | None:
        for user, scopes, created_ms, expires_ms, _ in self._tables.read(_TOKEN, token_hash):
            return StoredToken(Grant(user, frozenset(scopes.split())), created_ms, expires_ms)
        return None

    def remembered(self, token_hash: bytes) -> None:  # noqa: ARG002
        return None

    def revoke(self, token_hash: bytes) -> None:
        for user, _, _, _, number in self._tables.read(_TOKEN, token_hash):
            self._tables.write(_FORGET_TOKEN, token_hash)
            self._tables.decide(_UNLIST_TOKEN, user, number)

    def drop(self, user: int) -> None:
        for row in self._listed(user)[:1]:
            if row.claim is not None:
                self._drop(user, row.username, row.claim)

    def close(self) -> None:
        """Nothing is held: the session is closed by whoever opened it."""

    def _drop(self, user: int, username: str | None, claim: str) -> None:
        """First nothing can be added, then all that is known of them goes, and last that by which it is known."""
        sign_up = self._sign_up(claim)
        if sign_up is not None:  # bound but for its last steps, and not to be bound again
            self._tables.decide(_END_PENDING, sign_up.slot, claim)
        self._tables.decide(_SHUT_ACCOUNT, user, claim)
        listed = [row.token_hash for row in self._listed(user) if row.token_hash is not None]
        self._tables.write_all(_FORGET_TOKEN, [(token_hash,) for token_hash in listed])
        self._tables.decide(_LEAVE_NAME, username, claim)
        self._tables.write(_FORGET_CLAIM, claim)
        self._tables.decide_all((_FORGET_ACCOUNT, (user, claim)), (_UNLIST_ALL, (user,)))

    def _slots_for(self, claim: str) -> Iterator[int]:
        """Where to put it: where it is looked for first, or else anywhere that is free."""
        yield from _probes(claim)
        taken = {slot for *_, slot in self._tables.read(_PENDING)}
        free = [slot for slot in range(PENDING_MAX) if slot not in taken]
        yield from random.sample(free, len(free))

    def _sign_up(self, claim: str) -> _SignUp | None:
        """The pending sign-up of this claim."""
        probes = _probes(claim)
        found = self._in_slots(probes, claim)
        if found is None and (slots := [slot for other, _, _, slot in self._tables.read(_PENDING) if other == claim]):
            found = self._in_slots(slots, claim)
        return found

    def _in_slots(self, slots: list[int], claim: str) -> _SignUp | None:
        rows = [_SignUp(*row) for row in self._tables.read(_PENDING_IN, slots)]
        return next((row for row in rows if row.claim == claim), None)

    def _check_bound(self, claim: str, user: int) -> None:
        for (bound,) in self._tables.read(_CLAIM, claim):
            if bound != user:
                raise AlreadyBound(f"claim {claim} is user {bound}'s, not user {user}'s")
            return
        raise UnknownClaim(f"no sign-up of claim {claim} is pending")

    def _account_of(self, user: int, bound_by: str | None = None) -> Account | None:
        if not -(1 << 63) <= user < 1 << 63:
            return None
        for claim, password_hash in self._tables.read(_ACCOUNT, user):
            if password_hash is not None and bound_by in (None, claim):
                return Account(user, password_hash)
        return None

    def _listed(self, user: int) -> list[_Listed]:
        return [_Listed(*row) for row in self._tables.read_serially(_LISTED, user)]

    def _list_token(self, user: int, token_hash: bytes, expires_ms: int | None, expires_s: int) -> int:
        """The token's number: one more than the last, which is whose turn it is decided by."""
        for _ in range(ATTEMPTS_MAX):
            rows = self._listed(user)
            if not rows or rows[0].last_number is None:
                raise UnknownUser(f"no credential is bound to user {user}")
            listed = next((row.number for row in rows if row.token_hash == token_hash), None)
            if listed is not None:  # by an attempt whose answer was lost
                return listed
            number = rows[0].last_number + 1
            applied = self._tables.decide_all(
                (_NUMBER, (number, user, rows[0].last_number, rows[0].claim)),
                (_LIST_TOKEN, (user, number, token_hash, expires_ms, expires_s)),
            )
            if applied is None:
                return number
        raise TooBusy(f"user {user} is issued too many tokens at once; try again later")

    def _forget_tokens(self, user: int, now_ms: int) -> None:
        """Those above the limit, the dead first and then the oldest; from their own table before from the list."""
        rows = [row for row in self._listed(user) if row.number is not None]
        alive = [row for row in rows if row.expires_ms is None or now_ms < row.expires_ms]
        dead = [row for row in rows if row not in alive]
        excess = [*dead, *alive][: max(0, len(rows) - TOKENS_PER_USER_MAX)]
        self._tables.write_all(_FORGET_TOKEN, [(row.token_hash,) for row in excess])
        for row in excess:
            self._tables.decide(_UNLIST_TOKEN, user, row.number)


def _probes(claim: str) -> list[int]:
    """The slots in which a claim's sign-up is looked for first; others at the same time look in others."""
    digest = hashlib.blake2b(claim.encode(), digest_size=4 * PROBES).digest()
    words = [int.from_bytes(digest[start : start + 4], "big") for start in range(0, len(digest), 4)]
    return list(dict.fromkeys(word % PENDING_MAX for word in words))


def _expires_s(token: StoredToken) -> int:
    """After how long the server may forget it; 0 is never."""
    if token.expires_ms is None:
        return 0
    lasts_s = max(0, token.expires_ms - token.created_ms) // 1000 + _KEPT_EXPIRED_S
    return lasts_s if lasts_s <= _EXPIRES_S_MAX else 0
