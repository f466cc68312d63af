"""Renditions in an S3-compatible object store: `<hash>.<kind>.jpg` below the address, shared by all gateways."""

from collections.abc import Mapping
from typing import NamedTuple

from darkroom.events.object_store import (
    ObjectMissing,
    ObjectStore,
    ObjectStoreAddress,
    ObjectStoreError,
    ObjectStoreFull,
)
from darkroom.gateway.media_protocol import Kind
from darkroom.gateway.media_renditions import RenditionsFull, RenditionsUnavailable


class FetchedRendition(NamedTuple):
    """See `Rendition`."""

    data: bytes

    def read_bytes(self) -> bytes:
        return self.data


class S3Renditions:
    """See `Renditions`. Opens nothing before it is asked."""

    def __init__(self, address: ObjectStoreAddress) -> None:
        self._store = ObjectStore(address)

    def find(self, content_hash: str, kind: Kind) -> FetchedRendition | None:
        try:
            return FetchedRendition(self._store.get(_key(content_hash, kind)))
        except ObjectMissing:
            return None
        except ObjectStoreError as error:
            raise RenditionsUnavailable(str(error)) from error

    def keep(self, content_hash: str, renditions: Mapping[Kind, bytes]) -> None:
        try:
            for kind, data in renditions.items():
                self._store.put(_key(content_hash, kind), data)
        except ObjectStoreFull as error:
            raise RenditionsFull(str(error)) from error
        except ObjectStoreError as error:
            raise RenditionsUnavailable(str(error)) from error


def _key(content_hash: str, kind: Kind) -> str:
    return f"{content_hash}.{kind}.jpg"
