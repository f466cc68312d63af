"""Media originals in an S3-compatible object store: one object an original, named by its hash below the address's url.

An object appears whole or not at all, and is written over by the same content, so any number of processes may share
the store and nobody asks before storing. What is read is checked against its name.
"""

import errno
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from darkroom.events.object_store import (
    PART_BYTES,
    ObjectMissing,
    ObjectStore,
    ObjectStoreAddress,
    ObjectStoreError,
    ObjectStoreFull,
)
from darkroom.events.originals import (
    DamagedOriginal,
    OriginalMissing,
    OriginalsFull,
    OriginalsUnavailable,
    is_content_hash,
)

MEMORY_BYTES_MAX = 2 * PART_BYTES
"""Of one original; a larger one is put down in a temporary file without a name."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class S3Originals:
    """See `Originals`. Every method may also raise OriginalsUnavailable. Opens nothing before it is asked."""

    def __init__(self, address: ObjectStoreAddress) -> None:
        self._store = ObjectStore(address)
        self._where = address.url

    def put(self, content: bytes | BinaryIO) -> str:
        if isinstance(content, bytes):
            content_hash = hashlib.sha256(content).hexdigest()
            with self._told_in_our_words(content_hash):
                self._store.put(content_hash, content)
            return content_hash
        with _spool() as spool:
            content_hash, size = _copy(content, spool)
            spool.seek(0)
            with self._told_in_our_words(content_hash):
                if size <= PART_BYTES:
                    self._store.put(content_hash, spool.read())
                else:
                    self._store.put_parts(content_hash, _chunks(spool))
        return content_hash

    def open(self, content_hash: str) -> BinaryIO:
        spool, digest = _spool(), hashlib.sha256()
        try:
            for part in self._parts(content_hash):
                digest.update(part)
                _noting_no_room(spool.write, part)
            self._check(content_hash, digest.hexdigest())
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return spool

    def read(self, content_hash: str) -> bytes:
        data = b"".join(self._parts(content_hash))
        self._check(content_hash, hashlib.sha256(data).hexdigest())
        return data

    def has(self, content_hash: str) -> bool:
        try:
            self.size(content_hash)
        except OriginalMissing:
            return False
        return True

    def size(self, content_hash: str) -> int:
        if not is_content_hash(content_hash):
            raise OriginalMissing(f"{content_hash[:80]!r} is not the hash of an original")
        with self._told_in_our_words(content_hash):
            return self._store.size(content_hash)

    def close(self) -> None:
        """Nothing is held: connections are the library's, and close when they have been idle."""

    def _parts(self, content_hash: str) -> Iterator[bytes]:
        """Each part is a request with a deadline of its own, so that a large original may take longer than one."""
        size = self.size(content_hash)
        for start in range(0, size, PART_BYTES):
            with self._told_in_our_words(content_hash):
                yield self._store.get_range(content_hash, start, min(start + PART_BYTES, size))

    def _check(self, content_hash: str, found: str) -> None:
        if found != content_hash:
            raise DamagedOriginal(f"original {content_hash} in {self._where} is not what was stored")

    @contextmanager
    def _told_in_our_words(self, content_hash: str) -> Iterator[None]:
        try:
            yield
        except ObjectMissing:
            raise OriginalMissing(f"there is no original {content_hash} in {self._where}") from None
        except ObjectStoreFull as error:
            raise OriginalsFull(str(error)) from error
        except ObjectStoreError as error:
            raise OriginalsUnavailable(str(error)) from error


def _spool() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(MEMORY_BYTES_MAX))


def _copy(stream: BinaryIO, spool: BinaryIO) -> tuple[str, int]:
    """Take down all of `stream`; its hash and size."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(stream):
        digest.update(chunk)
        size += len(chunk)
        _noting_no_room(spool.write, chunk)
    return digest.hexdigest(), size


def _noting_no_room(write: Callable[[bytes], int], chunk: bytes) -> None:
    try:
        write(chunk)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OriginalsFull(f"no room for a temporary file in {tempfile.gettempdir()}") from error
        raise


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(1 << 20):
        yield chunk
