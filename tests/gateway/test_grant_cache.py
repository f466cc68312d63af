"""Tokens that a gateway remembers: believed no longer than they may be, and never once they were revoked through it."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from darkroom.gateway.credentials import Credentials, CredentialsUnusable, Grant, StoredToken
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.grant_cache import REMEMBERED_MS, TRUSTED_MS, GrantCache
from darkroom.gateway.passwords import PasswordHashing

CHEAP = PasswordHashing(memory_kib=8, passes=1, lanes=1)
GRANT = Grant(1, frozenset({"read"}))
MOMENTS = (1, TRUSTED_MS - 1, TRUSTED_MS, REMEMBERED_MS - TRUSTED_MS, REMEMBERED_MS)


class RemoteStore(SqliteCredentialStore):
    """Stored credentials that can be out of reach, as a server's can. It notes when it was asked, and said yes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_silent = False
        self.now_ms = 0
        self.asked = 0
        self.failed_ms = -TRUSTED_MS
        self.heard_ms: dict[bytes, int] = {}
        self.before_answer: Callable[[], None] = lambda: None

    def token(self, token_hash: bytes) -> StoredToken | None:
        self.asked += 1
        self._must_answer()
        found = super().token(token_hash)
        self.heard_ms.pop(token_hash, None)
        if found is not None and not found.revoked:
            self.heard_ms[token_hash] = self.now_ms
        self.before_answer()
        return found

    def revoke(self, token_hash: bytes) -> None:
        self._must_answer()
        super().revoke(token_hash)

    def _must_answer(self) -> None:
        if self.is_silent:
            self.failed_ms = self.now_ms
            raise CredentialsUnusable("no answer")


class Site:
    """Two gateways over the same credentials. The one `here` remembers, and may have lost its way to them."""

    def __init__(self, folder: Path, tokens_max: int = 100) -> None:
        self.store = RemoteStore(folder)
        self.here = Credentials(GrantCache(self.store, self.now_ms, tokens_max), CHEAP, self.now_ms)
        self.elsewhere = Credentials(SqliteCredentialStore(folder), CHEAP, self.now_ms)
        self.elsewhere.bind(self.elsewhere.begin("ada", "correct horse battery").claim, GRANT.user)

    def now_ms(self) -> int:
        return self.store.now_ms

    def issued(self, lifetime_ms: int | None = None) -> str:
        return self.elsewhere.issue_token(GRANT.user, GRANT.scopes, lifetime_ms)

    def resolve(self, token: str) -> Grant | CredentialsUnusable | None:
        try:
            return self.here.resolve(token)
        except CredentialsUnusable as error:
            return error

    def is_unknown_without_an_answer(self, token: str) -> bool:
        self.store.is_silent = True
        return isinstance(self.resolve(token), CredentialsUnusable)

    def close(self) -> None:
        self.here.close()
        self.elsewhere.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data", tokens_max=2)
    yield site
    site.close()


class Remembering(RuleBasedStateMachine):
    """Every answer against what the store said last, and when."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="grants-"))
        self.site = Site(self.folder / "data")
        self.store = self.site.store
        self.made_up = 0

    def teardown(self) -> None:
        self.site.close()
        shutil.rmtree(self.folder)

    @rule(target=tokens)
    def issue(self) -> str:
        return self.site.issued()

    @rule(target=tokens)
    def make_one_up(self) -> str:
        self.made_up += 1
        return f"{self.made_up:043d}"

    @rule(ms=st.sampled_from(MOMENTS))
    def time_passes(self, ms: int) -> None:
        self.store.now_ms += ms

    @rule(is_silent=st.booleans())
    def credentials_come_or_go(self, is_silent: bool) -> None:
        self.store.is_silent = is_silent

    @rule(token=tokens)
    def revoke_elsewhere(self, token: str) -> None:
        self.site.elsewhere.revoke(token)

    @rule(token=consumes(tokens))
    def revoke_here(self, token: str) -> None:
        was_silent = self.store.is_silent
        if was_silent:
            with pytest.raises(CredentialsUnusable):
                self.site.here.revoke(token)
        else:
            self.site.here.revoke(token)
            assert self.site.resolve(token) is None
        assert self.site.is_unknown_without_an_answer(token)
        self.store.is_silent = was_silent

    @rule(token=tokens)
    def resolve(self, token: str) -> None:
        asked, now_ms = self.store.asked, self.store.now_ms
        heard_ms = self.store.heard_ms.get(hashlib.sha256(token.encode()).digest(), -REMEMBERED_MS)
        trusted_until_ms = max(heard_ms, self.store.failed_ms) + TRUSTED_MS
        answer = self.site.resolve(token)
        if self.store.asked > asked and not self.store.is_silent:
            assert answer == self.site.elsewhere.resolve(token)
            return
        if self.store.asked == asked:
            assert now_ms < trusted_until_ms
        if now_ms < heard_ms + REMEMBERED_MS:
            assert answer == GRANT
        else:
            assert isinstance(answer, CredentialsUnusable)


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_revocation_elsewhere_is_heard_of_after_the_time_for_which_a_token_is_trusted(site: Site) -> None:
    token = site.issued()
    assert site.resolve(token) == GRANT
    site.elsewhere.revoke(token)
    site.store.now_ms += TRUSTED_MS - 1
    assert site.resolve(token) == GRANT
    site.store.now_ms += 1
    assert site.resolve(token) is None
    assert site.is_unknown_without_an_answer(token)


def test_who_called_before_is_known_while_the_credentials_are_out_of_reach_and_others_are_not(site: Site) -> None:
    known, unknown = site.issued(), site.issued()
    assert site.resolve(known) == GRANT
    site.store.is_silent = True
    site.store.now_ms += REMEMBERED_MS - 1
    assert site.resolve(known) == GRANT
    assert isinstance(site.resolve(unknown), CredentialsUnusable)
    assert [site.here.remembered(token) for token in (known, unknown)] == [GRANT, None]
    site.store.now_ms += 1
    assert isinstance(site.resolve(known), CredentialsUnusable)
    assert site.here.remembered(known) is None


def test_only_one_waits_in_vain_for_credentials_that_do_not_answer(site: Site) -> None:
    token = site.issued()
    site.resolve(token)
    site.store.is_silent = True
    site.store.now_ms += TRUSTED_MS
    asked = site.store.asked
    for _ in range(5):
        assert site.resolve(token) == GRANT
    assert site.store.asked == asked + 1


def test_a_token_that_has_expired_is_not_remembered_as_good(site: Site) -> None:
    token = site.issued(lifetime_ms=100)
    assert site.resolve(token) == site.here.remembered(token) == GRANT
    site.store.now_ms += 100
    assert site.resolve(token) is None
    assert site.here.remembered(token) is None


def test_an_answer_that_a_revocation_has_overtaken_is_not_remembered(site: Site) -> None:
    token = site.issued()
    site.store.before_answer = lambda: site.here.revoke(token)
    site.resolve(token)
    site.store.before_answer = lambda: None
    assert site.resolve(token) is None


def test_a_user_who_was_dropped_is_forgotten_with_every_token(site: Site) -> None:
    tokens = [site.issued(), site.issued()]
    assert [site.resolve(token) for token in tokens] == [GRANT, GRANT]
    site.here.drop(GRANT.user)
    assert all(site.is_unknown_without_an_answer(token) for token in tokens)


def test_above_the_limit_whoever_did_not_call_for_longest_is_forgotten(site: Site) -> None:
    first, second, third = site.issued(), site.issued(), site.issued()
    for token in (first, second, first, third):
        assert site.resolve(token) == GRANT
    assert site.is_unknown_without_an_answer(second)
    assert [site.resolve(token) for token in (first, third)] == [GRANT, GRANT]
