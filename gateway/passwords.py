"""Passwords become argon2id hashes here and are kept nowhere. A hash takes 64 MiB and a fifth of a second on purpose,
so hashing has few turns at once and few may wait: without that, signing in would be a way to stop the service.
"""

import base64
import secrets
import unicodedata

import argon2

from darkroom.gateway.turns import Turns

PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX = 8, 256


class CredentialRefused(ValueError):
    """What was given cannot be part of a credential; the message names the field and the limit."""


class DamagedHash(Exception):
    """What is stored is no password hash, so nobody can say whether the password is right."""


class PasswordHashing:
    """Hashes and verifies, `at_once` at a time; TooBusy for one more than may wait. Any number of threads may call."""

    def __init__(
        self,
        memory_kib: int = 64 * 1024,
        passes: int = 3,
        lanes: int = 4,
        at_once: int = 2,
        waiting_max: int = 32,
        wait_s: float = 10.0,
    ) -> None:
        # The defaults are RFC 9106's second recommendation, for where memory is scarce.
        self._hasher = argon2.PasswordHasher(passes, memory_kib, lanes)
        self._turns = Turns("hashing passwords", at_once, waiting_max, wait_s)
        self._nobodys_hash = f"$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${_random(16)}${_random(32)}"

    def hash(self, password: str) -> str:
        """The password's hash with its salt and cost; CredentialRefused or TooBusy."""
        if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
            limits = f"{PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX}"
            raise CredentialRefused(f"password has {len(password)} characters; it must have {limits}")
        try:
            data = _normalised(password)
        except UnicodeEncodeError:
            raise CredentialRefused("password has a lone surrogate, which is not text") from None
        with self._turns.turn():
            return self._hasher.hash(data)

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the hash is the password's; TooBusy, DamagedHash. None, nobody's hash, takes as long and fails."""
        if len(password) > PASSWORD_CHARACTERS_MAX:
            return False
        try:
            data = _normalised(password)
            with self._turns.turn():
                return self._hasher.verify(self._nobodys_hash if password_hash is None else password_hash, data)
        except (UnicodeEncodeError, argon2.exceptions.VerifyMismatchError):
            return False
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError) as error:
            raise DamagedHash(f"a stored password hash is damaged: {error}") from None


def _normalised(password: str) -> bytes:
    """One keyboard writes é as one character and another as two; NIST SP 800-63B asks to treat them alike."""
    return unicodedata.normalize("NFKC", password).encode()


def _random(length: int) -> str:
    return base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")
