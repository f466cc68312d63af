"""Renditions in a local folder: `ab/<hash>.<kind>.jpg`, whole or not there at all."""

import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from darkroom.gateway.media_protocol import Kind
from darkroom.gateway.media_renditions import RenditionsFull


class FolderRenditions:
    """See `Renditions`. The folder is made when the first is kept, and may be removed at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, content_hash: str, kind: Kind) -> Path | None:
        place = self._place(content_hash, kind)
        return place if place.is_file() else None

    def keep(self, content_hash: str, renditions: Mapping[Kind, bytes]) -> None:
        try:
            for kind, data in renditions.items():
                _write(self._place(content_hash, kind), data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise RenditionsFull(f"no room for renditions in {self._path}") from error
            raise

    def _place(self, content_hash: str, kind: Kind) -> Path:
        return self._path / content_hash[:2] / f"{content_hash}.{kind}.jpg"


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
