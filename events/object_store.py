"""An S3-compatible object store: its address, and its library (obstore) in one place, with deadlines and named errors.

Nothing is opened before it is asked. An object is there whole or not at all: what is sent in parts appears when the
last part has arrived, and a sender that fails or is killed leaves no object.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

if TYPE_CHECKING:  # of the library's type stubs, not of the library
    from obstore.store import S3Credential

PART_BYTES = 8 << 20
PARTS_MAX = 10_000
"""What S3 takes for one object; so one object is 78 GiB at most."""
PARTS_AT_ONCE = 4
SMALL_BYTES = 1 << 20
"""Up to so much content a request counts as small: it takes as long as the server does, whatever the line carries."""

KEYS_MAX = 100_000
RETRIES_MAX = 3

_NO_ROOM = ("507 Insufficient Storage", "QuotaExceeded", "StorageFull")
_NOT_LET_IN = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "401 Unauthorized", "403 Forbidden")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint", "301 Moved")
_Result = TypeVar("_Result")


class ObjectStoreError(Exception):
    """The object store did not do what was asked."""


class ObjectMissing(ObjectStoreError):
    """There is no object of this name."""


class ObjectStoreUnavailable(ObjectStoreError):
    """It did not answer within its deadline, or said that it cannot now. It may be asked again."""


class ObjectStoreMisconfigured(ObjectStoreError):
    """Address, bucket or credentials are wrong; the message says which, and what to do."""


class ObjectStoreFull(ObjectStoreError):
    """It has no room for the object, of which nothing was stored."""


@dataclass(frozen=True)
class ObjectStoreAddress:
    """Where objects are kept: `url` is s3://bucket or s3://bucket/prefix, `endpoint` the server (None: Amazon's, of the
    region). Nothing is taken from the environment.

    `deadline_s` bounds every request with all its repetitions, but `content_deadline_s`, where it is given, one that
    may carry more than SMALL_BYTES. What goes in parts makes a request for each part.
    """

    url: str
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    deadline_s: float = 30.0
    content_deadline_s: float | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "s3" or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ObjectStoreMisconfigured(
                "the object store's url must be s3://bucket or s3://bucket/prefix; endpoint and credentials have "
                "fields of their own"
            )
        if self.endpoint is not None and urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise ObjectStoreMisconfigured(f"the object store's endpoint {self.endpoint!r} must be http:// or https://")
        if not self.access_key or not self.secret:
            raise ObjectStoreMisconfigured(f"{self.url} needs an access key and a secret: name both")
        for deadline_s in (self.deadline_s, self.content_deadline_s):
            if deadline_s is not None and not deadline_s > 0:
                raise ObjectStoreMisconfigured(f"the object store's deadline is {deadline_s} s; it must be above 0")

    @property
    def bucket(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """Without slashes around it; empty for the whole bucket."""
        return urlsplit(self.url).path.strip("/")

    @property
    def server(self) -> str:
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"

    def below(self, name: str) -> "ObjectStoreAddress":
        """The same store, one prefix deeper."""
        return replace(self, url=f"{self.url.rstrip('/')}/{name}")


class ObjectStore:
    """Objects by key below an address. Any number of threads may call; any method may raise ObjectStoreUnavailable."""

    def __init__(self, address: ObjectStoreAddress) -> None:
        self.address = address

    def check(self) -> None:
        """Look at the bucket, and write nothing: ObjectStoreMisconfigured or ObjectStoreUnavailable."""
        self._asked(lambda: next(obstore.list(self._small, chunk_size=1), None))

    def put(self, key: str, content: bytes) -> None:
        """Store it, in the place of what was there; ObjectStoreFull."""
        self._asked(lambda: obstore.put(self._for(len(content)), key, content, use_multipart=False))

    def put_parts(self, key: str, chunks: Iterable[bytes], part_bytes: int = PART_BYTES) -> None:
        """Store what `chunks` add up to, sent in parts; whatever they raise is passed on, and nothing is stored."""
        self._asked(
            lambda: obstore.put(
                self._store,
                key,
                iter(chunks),
                use_multipart=True,
                chunk_size=part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            )
        )

    def get(self, key: str) -> bytes:
        """All of it, which is small; ObjectMissing. What may be large is fetched by ranges."""
        return self._asked(lambda: bytes(obstore.get(self._small, key).bytes()))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Its bytes from `start` to before `stop`, fewer where it ends earlier; ObjectMissing."""
        store = self._for(stop - start)
        return self._asked(lambda: bytes(obstore.get_range(store, key, start=start, end=stop)))

    def size(self, key: str) -> int:
        """Its length in bytes; ObjectMissing."""
        return self._asked(lambda: obstore.head(self._small, key)["size"])

    def keys(self, prefix: str) -> list[str]:
        """The keys of all objects below the folder `prefix`, ascending; ObjectStoreError beyond KEYS_MAX."""
        return self._asked(lambda: self._listed(prefix))

    def delete(self, keys: list[str]) -> None:
        """Remove these; one that is not there is no error."""
        if keys:
            self._asked(lambda: obstore.delete(self._small, keys))

    def _listed(self, prefix: str) -> list[str]:
        found: list[str] = []
        for page in obstore.list(self._small, prefix, chunk_size=1000):
            found += [meta["path"] for meta in page]
            if len(found) > KEYS_MAX:
                raise ObjectStoreError(f"there are more than {KEYS_MAX} objects below {prefix!r} in {self.address.url}")
        return sorted(found)

    def _for(self, content_bytes: int) -> S3Store:
        return self._small if content_bytes <= SMALL_BYTES else self._store

    @cached_property
    def _small(self) -> S3Store:
        return self._client(self.address.deadline_s)

    @cached_property
    def _store(self) -> S3Store:
        return self._client(self.address.content_deadline_s or self.address.deadline_s)

    def _client(self, deadline_s: float) -> S3Store:
        """The library keeps deadlines by client, not by request."""
        address = self.address
        # A third of the deadline a try: a server that is silent is asked three times, one that refuses four times.
        try_s = timedelta(seconds=deadline_s / 3)
        return S3Store(
            address.bucket,
            prefix=address.prefix or None,
            endpoint=address.server,
            region=address.region,
            # Not as keys: the library would add a session token that it found in the environment.
            credential_provider=partial(_credential, address),
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": try_s, "connect_timeout": min(try_s, timedelta(seconds=5))},
            retry_config={
                "max_retries": RETRIES_MAX,
                "retry_timeout": 2 * try_s,
                "backoff": {"init_backoff": try_s / 100, "max_backoff": try_s / 10, "base": 2},
            },
        )

    def _asked(self, ask: Callable[[], _Result]) -> _Result:
        try:
            return ask()
        except (BaseError, FileNotFoundError) as error:
            raise _named(error, self.address) from error


def _credential(address: ObjectStoreAddress) -> "S3Credential":
    return {"access_key_id": address.access_key, "secret_access_key": address.secret, "expires_at": None}


def _named(error: Exception, address: ObjectStoreAddress) -> ObjectStoreError:
    """The library has one error for most of what a server says, so the server's own code decides."""
    text = str(error)
    where = address.server
    if "NoSuchBucket" in text:
        return ObjectStoreMisconfigured(
            f"there is no bucket {address.bucket!r} at {where}; make it, or correct the object store's url"
        )
    if isinstance(error, FileNotFoundError):
        return ObjectMissing(_first_line(text))
    if _says(text, _ELSEWHERE):
        return ObjectStoreMisconfigured(
            f"bucket {address.bucket!r} at {where} is not in region {address.region!r}; correct the region"
        )
    if _says(text, _NO_ROOM):
        return ObjectStoreFull(f"there is no room in {address.url}: {_first_line(text)}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _says(text, _NOT_LET_IN):
        return ObjectStoreMisconfigured(
            f"{where} does not let this access key into bucket {address.bucket!r}; check access key, secret, and what "
            "they permit (get, put, delete and list)"
        )
    return ObjectStoreUnavailable(f"{address.url} at {where}: {_first_line(text)}")


def _says(text: str, codes: tuple[str, ...]) -> bool:
    return any(code in text for code in codes)


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:300]
