"""Media originals in memory: the oracle of the conformance suite, and originals for tests. They survive nothing."""

import hashlib
import io
from typing import BinaryIO

from darkroom.events.originals import DamagedOriginal, OriginalMissing


class MemoryOriginals:
    """See `Originals`."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def put(self, content: bytes | BinaryIO) -> str:
        data = content if isinstance(content, bytes) else content.read()
        content_hash = hashlib.sha256(data).hexdigest()
        self._contents[content_hash] = data
        return content_hash

    def open(self, content_hash: str) -> BinaryIO:
        return io.BytesIO(self.read(content_hash))

    def read(self, content_hash: str) -> bytes:
        data = self._content(content_hash)
        if hashlib.sha256(data).hexdigest() != content_hash:
            raise DamagedOriginal(f"original {content_hash} is not what was stored")
        return data

    def has(self, content_hash: str) -> bool:
        return content_hash in self._contents

    def size(self, content_hash: str) -> int:
        return len(self._content(content_hash))

    def close(self) -> None:
        """Nothing is held."""

    def _content(self, content_hash: str) -> bytes:
        try:
            return self._contents[content_hash]
        except KeyError:
            raise OriginalMissing(f"there is no original {content_hash}") from None
