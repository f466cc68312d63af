"""Who may sign in, and with which token. Secrets are never events, so they are kept here, and only as hashes.

Sign-up begins before the log knows of it: a pending credential is stored under a claim, UserRegistered carries that
claim, and once the log has given a user id the two are bound. What a crash leaves pending is settled later.
"""

import hashlib
import re
import secrets
from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from darkroom.events.clock import Clock, system_clock
from darkroom.gateway.passwords import CredentialRefused, PasswordHashing
from darkroom.projections.people import folded_name

SCOPES_MAX, SCOPE_CHARACTERS_MAX = 32, 64
PENDING_MAX = 10_000
TOKENS_PER_USER_MAX = 100

_SCOPE = re.compile(r"[a-z_]+(:[a-z_]+)*")
_TOKEN_CHARACTERS = 43  # 256 bits in URL-safe base64


class CredentialsError(Exception):
    """The credentials could not do what was asked."""


class UnknownClaim(CredentialsError):
    """No sign-up of this claim is pending or bound."""


class AlreadyBound(CredentialsError):
    """The claim, the name or the user id is bound otherwise. The first binding stands."""


class UnknownUser(CredentialsError):
    """No credential is bound to this user id: it was never bound, or was dropped with its user."""


class TooManyPending(CredentialsError):
    """More sign-ups are pending than may be. Settling them makes room."""


class CredentialsFull(CredentialsError):
    """No room: nothing was stored. Storing goes on when there is room."""


class CredentialsUnusable(CredentialsError):
    """The stored credentials cannot be opened, read or written; the message names where they are."""


class SignUp(NamedTuple):
    """A sign-up begun: a secret for whoever signs up, and its hash, which UserRegistered carries for all to see."""

    token: str
    claim: str


class Pending(msgspec.Struct, frozen=True):
    """A sign-up that is neither bound nor discarded yet."""

    claim: str
    username: str
    begun_ms: int


class Account(msgspec.Struct, frozen=True):
    user: int
    password_hash: str


class Grant(msgspec.Struct, frozen=True):
    """What a token allows: to act as a user, within scopes."""

    user: int
    scopes: frozenset[str]

    def allows(self, scope: str) -> bool:
        """A scope allows all below it: `read` allows `read:accounts`."""
        parts = scope.split(":")
        return any(":".join(parts[:length]) in self.scopes for length in range(1, len(parts) + 1))


class StoredToken(msgspec.Struct, frozen=True):
    grant: Grant
    created_ms: int
    expires_ms: int | None
    revoked: bool = False


class CredentialStore(Protocol):
    """Where credentials are kept: each call is durable and all or nothing. CredentialsFull, CredentialsUnusable."""

    def add_pending(self, pending: Pending, password_hash: str) -> None:
        """TooManyPending above PENDING_MAX."""

    def pending(self) -> list[Pending]:
        """All that wait to be settled, oldest first."""

    def bind(self, claim: str, user: int) -> None:
        """Turn a pending credential into the user's; again is nothing. UnknownClaim or AlreadyBound."""

    def discard(self, claim: str) -> None:
        """Forget a pending credential; nothing where there is none, and nothing to one that is bound."""

    def account(self, login: str | int) -> Account | None:
        """Whose case-folded name or user id it is."""

    def add_token(self, token_hash: bytes, token: StoredToken) -> None:
        """UnknownUser. Above TOKENS_PER_USER_MAX the user's dead ones are forgotten first, then the oldest."""

    def token(self, token_hash: bytes) -> StoredToken | None:
        """What was stored, revoked and expired or not."""

    def remembered(self, token_hash: bytes) -> StoredToken | None:
        """What can be said of it without asking anybody; never blocks."""

    def revoke(self, token_hash: bytes) -> None:
        """Nothing where there is none."""

    def drop(self, user: int) -> None:
        """Forget the user's credential and tokens, and leave none of their bytes."""

    def close(self) -> None:
        """Free what it holds."""


class Credentials:
    """Any number of threads may call. TooBusy from whatever hashes a password."""

    def __init__(
        self, store: CredentialStore, hashing: PasswordHashing | None = None, clock: Clock = system_clock
    ) -> None:
        self._store = store
        self._hashing = hashing or PasswordHashing()
        self._clock = clock

    def begin(self, username: str, password: str) -> SignUp:
        """Store a pending credential, before UserRegistered is appended; CredentialRefused or TooManyPending."""
        name = folded_name(username)
        if name is None:
            raise CredentialRefused("username must be 1 to 30 of A-Z, a-z, 0-9 and _, and not only digits")
        password_hash = self._hashing.hash(password)
        token = secrets.token_urlsafe(32)
        claim = hashlib.sha256(token.encode()).hexdigest()
        self._store.add_pending(Pending(claim, name, self._clock()), password_hash)
        return SignUp(token, claim)

    def bind(self, claim: str, user: int) -> None:
        """The log made `user` of this claim; only whoever got the name is bound. UnknownClaim or AlreadyBound."""
        self._store.bind(claim, user)

    def pending(self) -> list[Pending]:
        """What must be settled by what the log says, if nobody is at work on it: bound or discarded."""
        return self._store.pending()

    def discard(self, claim: str) -> None:
        self._store.discard(claim)

    def verify(self, login: str | int, password: str) -> int | None:
        """The user id whose name (in any case) or id this is and whose password it is; None, as slowly, otherwise."""
        known_by = login if isinstance(login, int) else folded_name(login)
        account = None if known_by is None else self._store.account(known_by)
        correct = self._hashing.verify(account.password_hash if account else None, password)
        return account.user if account and correct else None

    def issue_token(self, user: int, scopes: Collection[str], lifetime_ms: int | None = None) -> str:
        """A new bearer token, for ever or for so long; it is told here and never again. UnknownUser."""
        if not 1 <= len(scopes) <= SCOPES_MAX:
            raise CredentialRefused(f"scope names {len(scopes)} scopes; it must name 1 to {SCOPES_MAX}")
        for scope in scopes:
            if len(scope) > SCOPE_CHARACTERS_MAX or not _SCOPE.fullmatch(scope):
                raise CredentialRefused(f"scope {scope[:SCOPE_CHARACTERS_MAX]!r} is no scope")
        token, now_ms = secrets.token_urlsafe(32), self._clock()
        expires_ms = None if lifetime_ms is None else now_ms + lifetime_ms
        self._store.add_token(_token_hash(token), StoredToken(Grant(user, frozenset(scopes)), now_ms, expires_ms))
        return token

    def resolve(self, token: str) -> Grant | None:
        """What the token allows now; None for one that is wrong, expired or revoked."""
        if len(token) != _TOKEN_CHARACTERS or not token.isascii():
            return None
        return self._allowed(self._store.token(_token_hash(token)))

    def remembered(self, token: str) -> Grant | None:
        """As `resolve`, without asking anybody, so None also where they would have to be asked; never blocks."""
        return self._allowed(self._store.remembered(_token_hash(token))) if token.isascii() else None

    def _allowed(self, stored: StoredToken | None) -> Grant | None:
        if stored is None or stored.revoked:
            return None
        return stored.grant if stored.expires_ms is None or self._clock() < stored.expires_ms else None

    def revoke(self, token: str) -> None:
        """The token allows nothing any more; nothing is said about one that never did."""
        if token.isascii():
            self._store.revoke(_token_hash(token))

    def drop(self, user: int) -> None:
        """Forget all about a deleted user; again is nothing."""
        self._store.drop(user)

    def close(self) -> None:
        self._store.close()


def _token_hash(token: str) -> bytes:
    # A token has 256 random bits, so unlike a password it needs no slow hash.
    return hashlib.sha256(token.encode()).digest()


__all__ = ["CredentialRefused", "Credentials", "CredentialStore", "Grant", "Pending", "SignUp"]
