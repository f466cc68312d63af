"""Where Redis is and how it is asked: with a deadline, without raising, and not again for a while once it failed.

So a Redis that is down, frozen or out of reach costs one deadline now and then, never one a request.
"""

import hashlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis import ConnectionError as ConnectionLost
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError
from redis.retry import Retry

_PREFIX = re.compile(r"[A-Za-z0-9:._-]{1,100}")

T = TypeVar("T")


class UnfitRedis(ValueError):
    """What answers at the address must not be used as it is; the message says what to change."""


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis is, and how it is asked. ValueError for what can be no address.

    `prefix` is of one log alone: two that shared it would answer for each other. A read waits for `deadline_s` at most,
    a shard for `tell_s`; after a failure, each asks nothing for `pauses` times as long.
    """

    host: str
    port: int
    prefix: str
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    deadline_s: float = 0.05
    tell_s: float = 0.5
    pauses: int = 20

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535:
            raise ValueError(f"{self.host!r}:{self.port} is no address of Redis; name a host and a port up to 65535")
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(f"prefix {self.prefix!r} must be 1 to 100 letters, digits and any of : . _ -")
        if self.db < 0 or self.pauses < 0:
            raise ValueError(f"db {self.db} and pauses {self.pauses} must be 0 or more")
        if self.deadline_s <= 0 or self.tell_s <= 0:
            raise ValueError(f"deadline_s {self.deadline_s:g} and tell_s {self.tell_s:g} must be above 0")


class RedisLink:
    """Asks one Redis, with a deadline. After a failure nothing is asked for a while, and then by one thread first."""

    def __init__(self, address: RedisAddress, deadline_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures = 0
        self._address = address
        self._deadline_s = deadline_s
        self._pause_s = address.pauses * deadline_s
        self._clock = clock
        self._lock = threading.Lock()
        self._resumes_at: float | None = None
        self._idle: deque[Redis] = deque()

    def ask(self, work: Callable[[Redis], T]) -> T | None:
        """What `work` answers; None where Redis failed, or did so lately and is not asked."""
        if self._resumes_at is not None and not self._may_try():
            return None
        try:
            client = self._take()
            answer = work(client)
        except (RedisError, OSError):
            self._failed()
            return None
        self._idle.append(client)
        self._resumes_at = None
        return answer

    def _take(self) -> Redis:
        """A connection of its own for one thread at a time: a pool's checks take as long as a third of a hit."""
        try:
            return self._idle.pop()
        except IndexError:
            return connected(self._address, self._deadline_s)

    def _may_try(self) -> bool:
        with self._lock:
            now = self._clock()
            if self._resumes_at is None:
                return True
            if now < self._resumes_at:
                return False
            self._resumes_at = now + self._pause_s
            return True

    def _failed(self) -> None:
        """The connection that failed is not used again: what still comes on it would be taken for another's answer."""
        with self._lock:
            self.failures += 1
            self._resumes_at = self._clock() + self._pause_s
        self.close()

    def close(self) -> None:
        """Close what is idle; it may be asked again."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last one
                return


def connected(address: RedisAddress, deadline_s: float) -> Redis:
    """A connection; RedisError. One that the server closed meanwhile is made again when it is used."""
    return Redis(
        host=address.host,
        port=address.port,
        db=address.db,
        username=address.user or None,
        password=address.password or None,
        socket_timeout=deadline_s,
        socket_connect_timeout=deadline_s,
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
        protocol=2,
        single_connection_client=True,
    )


def check_fit(address: RedisAddress) -> bool:
    """Whether Redis answers at all, which a cache need not. UnfitRedis where it answers and must not be used."""
    where = f"Redis at {address.host}:{address.port}"
    try:
        with connected(address, max(1.0, address.deadline_s)) as client:
            memory = client.info("memory")
            client.set(f"{address.prefix}:fit", b"", px=1)
    except AuthenticationError as error:
        raise UnfitRedis(f"{where} does not let us in ({error}); set its user and password") from error
    except ResponseError as error:
        raise UnfitRedis(f"{where} cannot be the feed cache: {error}") from error
    except (RedisError, OSError):
        return False
    if memory["maxmemory_policy"] == "noeviction" or not memory["maxmemory"]:
        raise UnfitRedis(
            f"{where} never drops anything (maxmemory {memory['maxmemory']}, maxmemory-policy "
            f"{memory['maxmemory_policy']}); set maxmemory, and maxmemory-policy allkeys-lru"
        )
    return True


class Script:
    """Lua that is sent once, and named by its hash from then on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Redis, keys: Sequence[bytes], *arguments: bytes | int) -> Any:
        try:
            return client.evalsha(self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self.text, len(keys), *keys, *arguments)
