"""Photos in, renditions out. The original is kept as it came and never served; what is served is re-encoded from it.

Renditions are prints too: they lie in a folder by the original's hash, may be thrown away, and are made again when
asked for. They are JPEG, because every client shows it and photos need no transparency (which is flattened to white).
"""

import errno
import os
import secrets
from pathlib import Path

import msgspec

from darkroom.events.originals import OriginalMissing, Originals, OriginalsFull, is_content_hash
from darkroom.gateway.blurhash import encode_blurhash
from darkroom.gateway.media_pool import DecodingPool
from darkroom.gateway.media_protocol import FILE_BYTES_MAX, KINDS, DecodingLimits, Developed, Kind, MediaRefused
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
    """Any number of threads may call; `workers` of them decode at once, each in a process of its own."""

    def __init__(
        self,
        originals: Originals,
        renditions_dir: Path,
        workers: int = 1,
        limits: DecodingLimits = DecodingLimits(),  # noqa: B008 (an immutable value)
    ) -> None:
        self._originals = originals
        self._renditions_dir = renditions_dir
        self._pool = DecodingPool(workers, limits)
        self._remaking = Turns("re-making renditions", workers, REMAKING_WAITING_MAX, REMAKING_WAIT_S_MAX)

    def accept(self, data: bytes) -> Photo:
        """Decode, keep and print a photo; the same bytes give the same Photo. Blocks while it is decoded.

        MediaRefused 413 over a limit, 422 for what is no whole JPEG, PNG, WebP or GIF, 503 when too many wait: of
        these nothing is kept. 507 without room.
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
        self._keep(content_hash, photo)
        return Photo(content_hash, photo.width, photo.height, encode_blurhash(*photo.preview))

    def rendition(self, content_hash: str, kind: Kind) -> Path:
        """The file of one rendition, made again if it is missing; OriginalMissing, DamagedOriginal or MediaRefused.

        `thumbnail` is the middle square, 320 pixels at most; `feed` and `full` are whole, at most 1080 and 2048.
        """
        if kind not in KINDS or not is_content_hash(content_hash):
            raise OriginalMissing(f"there is no rendition {kind[:80]!r} of {content_hash[:80]!r}")
        path = self._path(content_hash, kind)
        if not path.is_file():
            self._remake(content_hash, path)
        return path

    def close(self) -> None:
        """End the decoding processes. The originals are their owner's to close."""
        self._pool.close()

    def _remake(self, content_hash: str, path: Path) -> None:
        try:
            with self._remaking.turn():
                # Many ask at once for a photo that went missing; whoever waited finds it made.
                if not path.is_file():
                    self._keep(content_hash, self._pool.develop(self._originals.read(content_hash)))
        except TooBusy as busy:
            raise MediaRefused(503, str(busy)) from None

    def _keep(self, content_hash: str, photo: Developed) -> None:
        try:
            for kind, data in photo.renditions.items():
                _write(self._path(content_hash, kind), data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise MediaRefused(507, f"no room for renditions in {self._renditions_dir}") from error
            raise

    def _path(self, content_hash: str, kind: Kind) -> Path:
        return self._renditions_dir / content_hash[:2] / f"{content_hash}.{kind}.jpg"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: synced before it is renamed, or a power cut could leave an empty file to be served."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{secrets.token_hex(8)}.temporary")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["DecodingLimits", "Kind", "MediaLibrary", "MediaRefused", "Photo"]
