"""The port for media originals: bytes as they were uploaded, named by their content, never changed and never served.

An original holds what its owner never meant to publish (where a photo was taken, and by which camera), so only the
re-encoded renditions leave the house.
"""

import re
from typing import BinaryIO, Protocol

_HASH = re.compile(r"[0-9a-f]{64}")


class OriginalsError(Exception):
    """The originals could not do what was asked."""


class OriginalMissing(OriginalsError):
    """There is no original of this hash; a text that is no hash at all names none."""


class OriginalsFull(OriginalsError):
    """No room: nothing of it was stored. Storing goes on when there is room."""


class DamagedOriginal(OriginalsError):
    """What is stored is not what was put; storing the right bytes again mends it."""


class OriginalsUnavailable(OriginalsError):
    """The store did not answer by its deadline, or does not let us in; it may be tried again later."""


class Originals(Protocol):
    """A hash is the SHA-256 of the content in 64 lower-case hex digits. Any number of threads may call."""

    def put(self, content: bytes | BinaryIO) -> str:
        """Store it, durably, and return its hash; the same content again changes nothing. OriginalsFull otherwise.

        A stream is read from where it stands to its end; whatever it raises is passed on, and nothing is stored.
        """

    def open(self, content_hash: str) -> BinaryIO:
        """A seekable stream of the original, found intact first; OriginalMissing or DamagedOriginal."""

    def read(self, content_hash: str) -> bytes:
        """All of the original, found intact; OriginalMissing or DamagedOriginal."""

    def has(self, content_hash: str) -> bool:
        """Whether it is stored; whether it is intact is for whoever reads it to find."""

    def size(self, content_hash: str) -> int:
        """Its length in bytes; OriginalMissing."""

    def close(self) -> None:
        """Free what it holds."""


def is_content_hash(text: str) -> bool:
    """Whether `text` can name an original; what cannot must never become part of a path."""
    return _HASH.fullmatch(text) is not None
