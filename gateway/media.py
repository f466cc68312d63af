"""Photos in, renditions out. The original is kept as it came and never served; what is served is re-encoded from it.

Renditions are prints too: they are kept by the original's hash, may be thrown away, and are made again when asked
for. They are JPEG, because every client shows it and photos need no transparency (which is flattened to white).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from darkroom.events.originals import (
    DamagedOriginal,
    OriginalMissing,
    Originals,
    OriginalsError,
    OriginalsFull,
    is_content_hash,
)
from darkroom.gateway.blurhash import encode_blurhash
from darkroom.gateway.media_pool import DecodingPool
from darkroom.gateway.media_protocol import FILE_BYTES_MAX, KINDS, DecodingLimits, Developed, Kind, MediaRefused
from darkroom.gateway.media_renditions import Rendition, Renditions, RenditionsFull, RenditionsUnavailable
from darkroom.gateway.media_renditions_folder import FolderRenditions
from darkroom.gateway.turns import TooBusy, Turns

REMAKING_WAITING_MAX = 32
REMAKING_WAIT_S_MAX = 30.0


class Photo(msgspec.Struct, frozen=True):
    """An accepted photo: its original's hash, its upright size in pixels, its blurhash."""

    hash: str
    width: int
    height: int
    placeholder: str


class MediaLibrary:
    """Any number of threads may call; `workers` of them decode at once, each in a process of its own.

    `renditions` is where they are kept; a path is a local folder.
    """

    def __init__(
        self,
        originals: Originals,
        renditions: Renditions | Path,
        workers: int = 1,
        limits: DecodingLimits = DecodingLimits(),  # noqa: B008 (an immutable value)
    ) -> None:
        self._originals = originals
        self._renditions = FolderRenditions(renditions) if isinstance(renditions, Path) else renditions
        self._pool = DecodingPool(workers, limits)
        self._remaking = Turns("re-making renditions", workers, REMAKING_WAITING_MAX, REMAKING_WAIT_S_MAX)

    def accept(self, data: bytes) -> Photo:
        """Decode, keep and print a photo; the same bytes give the same Photo. Blocks while it is decoded.

        MediaRefused 413 over a limit, 422 for what is no whole JPEG, PNG, WebP or GIF, 503 when too many wait: of
        these nothing is kept. 507 without room, 503 where photos are kept elsewhere and nobody answers there.
        """
        if len(data) > FILE_BYTES_MAX:
            raise MediaRefused(413, f"file is {len(data)} bytes; the limit is {FILE_BYTES_MAX}")
        if not data:
            raise MediaRefused(422, "file is empty")
        photo = self._pool.develop(data)
        try:
            content_hash = self._originals.put(data)
        except OriginalsFull as error:
            raise MediaRefused(507, f"file could not be kept: {error}") from error
        except OriginalsError as error:
            raise MediaRefused(503, "photos cannot be kept right now; try again later") from error
        self._keep(content_hash, photo)
        return Photo(content_hash, photo.width, photo.height, encode_blurhash(*photo.preview))

    def rendition(self, content_hash: str, kind: Kind) -> Rendition:
        """One rendition, made again if it is missing; OriginalMissing, DamagedOriginal or MediaRefused.

        `thumbnail` is the middle square, 320 pixels at most; `feed` and `full` are whole, at most 1080 and 2048.
        """
        if kind not in KINDS or not is_content_hash(content_hash):
            raise OriginalMissing(f"there is no rendition {kind[:80]!r} of {content_hash[:80]!r}")
        return self._find(content_hash, kind) or self._remade(content_hash, kind)

    def close(self) -> None:
        """End the decoding processes. The originals are their owner's to close."""
        self._pool.close()

    def _remade(self, content_hash: str, kind: Kind) -> Rendition:
        try:
            with self._remaking.turn():
                # Many ask at once for a photo that went missing; whoever waited finds it made.
                found = self._find(content_hash, kind)
                if found is None:
                    self._keep(content_hash, self._pool.develop(self._original(content_hash)))
                    found = self._find(content_hash, kind)
        except TooBusy as busy:
            raise MediaRefused(503, str(busy)) from None
        if found is None:
            raise MediaRefused(503, "renditions are thrown away as they are made; try again later")
        return found

    def _original(self, content_hash: str) -> bytes:
        try:
            return self._originals.read(content_hash)
        except (OriginalMissing, DamagedOriginal):
            raise
        except OriginalsError as error:
            raise MediaRefused(503, "photos cannot be read right now; try again later") from error

    def _find(self, content_hash: str, kind: Kind) -> Rendition | None:
        with _refusing():
            return self._renditions.find(content_hash, kind)

    def _keep(self, content_hash: str, photo: Developed) -> None:
        with _refusing():
            self._renditions.keep(content_hash, photo.renditions)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except RenditionsFull as error:
        raise MediaRefused(507, str(error)) from error
    except RenditionsUnavailable as error:
        raise MediaRefused(503, "photos cannot be shown or kept right now; try again later") from error


__all__ = ["DecodingLimits", "Kind", "MediaLibrary", "MediaRefused", "Photo"]
