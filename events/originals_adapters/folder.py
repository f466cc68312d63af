"""Media originals in a local folder: `ab/cd/<hash>`, whole and durable or not there at all.

Content goes to a temporary name in the same tree, is synced, renamed, and the folders are synced: a crash at any point
leaves the original or nothing that anybody sees. Any number of processes may share the folder.
"""

import errno
import fcntl
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from darkroom.events.originals import DamagedOriginal, OriginalMissing, OriginalsFull, is_content_hash

CHUNK_BYTES = 1024 * 1024

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderOriginals:
    """See `Originals`. `path` is made if it is missing; only its owner may look into it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._incoming = path / "incoming"
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(path.absolute().parent)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        self._sweep()

    def put(self, content: bytes | BinaryIO) -> str:
        stream = io.BytesIO(content) if isinstance(content, bytes) else content
        try:
            with self._temporary() as (temporary, file):
                content_hash = _copy(stream, file)
                os.fsync(file)
                # Also where it is stored already: renaming over it mends a damaged one, and asks nothing first.
                self._rename(temporary, self._place(content_hash))
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OriginalsFull(f"no room in {self._path}: {error.strerror}") from error
            raise
        return content_hash

    def open(self, content_hash: str) -> BinaryIO:
        file = self._opened(content_hash)
        try:
            self._check(content_hash, hashlib.file_digest(file, "sha256").hexdigest())
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def read(self, content_hash: str) -> bytes:
        with self._opened(content_hash) as file:
            data = file.read()
        self._check(content_hash, hashlib.sha256(data).hexdigest())
        return data

    def has(self, content_hash: str) -> bool:
        return is_content_hash(content_hash) and self._place(content_hash).is_file()

    def size(self, content_hash: str) -> int:
        with self._opened(content_hash) as file:
            return os.fstat(file.fileno()).st_size

    def close(self) -> None:
        """Nothing is held."""

    def _place(self, content_hash: str) -> Path:
        return self._path / content_hash[:2] / content_hash[2:4] / content_hash

    def _opened(self, content_hash: str) -> io.BufferedReader:
        if not is_content_hash(content_hash):
            raise OriginalMissing(f"{content_hash[:80]!r} is not the hash of an original")
        try:
            return self._place(content_hash).open("rb")
        except FileNotFoundError:
            raise OriginalMissing(f"there is no original {content_hash} in {self._path}") from None

    def _check(self, content_hash: str, found: str) -> None:
        if found != content_hash:
            raise DamagedOriginal(f"original {content_hash} in {self._path} is not what was stored")

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, int]]:
        """A new file to write to, gone afterwards if it was not renamed."""
        path, file = self._new_file()
        try:
            yield path, file
        finally:
            path.unlink(missing_ok=True)
            os.close(file)

    def _new_file(self) -> tuple[Path, int]:
        """Locked for as long as it is open, which tells sweepers that its writer lives."""
        while True:
            path = self._incoming / secrets.token_hex(16)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:
                return path, file
            os.close(file)  # a sweeper came between the two calls above

    def _rename(self, temporary: Path, place: Path) -> None:
        for folder in (place.parent.parent, place.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        temporary.replace(place)
        for folder in (place.parent, place.parent.parent, self._path):
            _sync_folder(folder)

    def _sweep(self) -> None:
        """Remove what crashed writers left. A writer that lives holds its file's lock, whichever process it is in."""
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                path.unlink()


def _copy(stream: BinaryIO, file: int) -> str:
    """Write all of `stream` and return its hash."""
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(file, rest) :]
    return digest.hexdigest()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
