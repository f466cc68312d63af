"""The port for renditions: re-encoded photos by the original's hash and their kind, the only thing that is served.

They are prints: whoever keeps them may lose them at any moment, and they are made again when asked for.
"""

from collections.abc import Mapping
from typing import Protocol

from darkroom.gateway.media_protocol import Kind


class RenditionsFull(Exception):
    """No room. Those that were kept before it ran out are whole."""


class RenditionsUnavailable(Exception):
    """Where they are kept does not answer by its deadline, or does not let us in; it may be tried again later."""


class Rendition(Protocol):
    """One that is kept; a Path is one."""

    def read_bytes(self) -> bytes:
        """The JPEG, whole."""


class Renditions(Protocol):
    """A hash has been checked to be one. Any number of threads may call; all methods raise RenditionsUnavailable."""

    def find(self, content_hash: str, kind: Kind) -> Rendition | None:
        """The rendition, or None where it is not kept."""

    def keep(self, content_hash: str, renditions: Mapping[Kind, bytes]) -> None:
        """Keep each of these, whole or not at all, in the place of what was there; RenditionsFull."""
