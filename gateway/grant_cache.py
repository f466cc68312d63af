"""Tokens as this gateway last heard of them: not asked for at every request, and known where nobody can be asked.

A token is believed unasked for TRUSTED_MS after the credentials said so, or were asked in vain, but for no longer than
REMEMBERED_MS after they said so. It is kept under its hash, as they keep it. What they do not know is never kept, and
what is revoked or dropped through this gateway is forgotten at once.
"""

import threading
from collections import OrderedDict
from typing import NamedTuple

from darkroom.events.clock import Clock
from darkroom.gateway.credentials import Account, CredentialStore, CredentialsUnusable, Pending, StoredToken
from darkroom.gateway.readers import monotonic_ms

TRUSTED_MS = 5_000
"""So long another gateway's revocation may go unnoticed."""

REMEMBERED_MS = 600_000
"""So long writes go on without the credentials, for those who called before."""

TOKENS_MAX = 20_000
"""Some 17 MB."""


class _Known(NamedTuple):
    token: StoredToken
    asked_ms: int


class GrantCache:
    """See `CredentialStore`: what `store` says, its tokens remembered. `clock` must never jump."""

    def __init__(self, store: CredentialStore, clock: Clock = monotonic_ms, tokens_max: int = TOKENS_MAX) -> None:
        self._store = store
        self._clock = clock
        self._tokens_max = tokens_max
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Known] = OrderedDict()  # by hash; whoever called last is last
        self._silent_until_ms = clock()
        self._forgotten = 0

    def token(self, token_hash: bytes) -> StoredToken | None:
        """As the store, but CredentialsUnusable only for a token that is not remembered."""
        with self._lock:
            asked_ms, forgotten = self._clock(), self._forgotten
            known = self._remembered(token_hash, asked_ms)
            if known is not None and asked_ms < max(known.asked_ms + TRUSTED_MS, self._silent_until_ms):
                return known.token
        try:
            token = self._store.token(token_hash)
        except CredentialsUnusable:
            known = self._known_in_silence(token_hash)
            if known is None:
                raise
            return known.token
        with self._lock:
            self._silent_until_ms = asked_ms
            if self._forgotten == forgotten:  # or else this answer may be older than a revocation
                self._note(token_hash, token, asked_ms)
        return token

    def remembered(self, token_hash: bytes) -> StoredToken | None:
        with self._lock:
            known = self._remembered(token_hash, self._clock())
            return None if known is None else known.token

    def revoke(self, token_hash: bytes) -> None:
        try:
            self._store.revoke(token_hash)
        finally:
            with self._lock:
                self._forget([token_hash])

    def drop(self, user: int) -> None:
        try:
            self._store.drop(user)
        finally:
            with self._lock:
                self._forget([each for each, known in self._known.items() if known.token.grant.user == user])

    def add_pending(self, pending: Pending, password_hash: str) -> None:
        self._store.add_pending(pending, password_hash)

    def pending(self) -> list[Pending]:
        return self._store.pending()

    def bind(self, claim: str, user: int) -> None:
        self._store.bind(claim, user)

    def discard(self, claim: str) -> None:
        self._store.discard(claim)

    def account(self, login: str | int) -> Account | None:
        return self._store.account(login)

    def add_token(self, token_hash: bytes, token: StoredToken) -> None:
        self._store.add_token(token_hash, token)

    def close(self) -> None:
        self._store.close()

    def _known_in_silence(self, token_hash: bytes) -> _Known | None:
        """What is remembered; for a while nobody asks again, for not everybody has to wait in vain."""
        with self._lock:
            now_ms = self._clock()
            self._silent_until_ms = now_ms + TRUSTED_MS
            return self._remembered(token_hash, now_ms)

    def _remembered(self, token_hash: bytes, now_ms: int) -> _Known | None:
        known = self._known.get(token_hash)
        if known is None or now_ms >= known.asked_ms + REMEMBERED_MS:
            return None
        self._known.move_to_end(token_hash)
        return known

    def _note(self, token_hash: bytes, token: StoredToken | None, asked_ms: int) -> None:
        self._known.pop(token_hash, None)
        if token is None or token.revoked:
            return
        self._known[token_hash] = _Known(token, asked_ms)
        if len(self._known) > self._tokens_max:
            self._known.popitem(last=False)

    def _forget(self, token_hashes: list[bytes]) -> None:
        for token_hash in token_hashes:
            self._known.pop(token_hash, None)
        self._forgotten += 1
