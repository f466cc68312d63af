"""The connection to Neo4j that every adapter on it shares: waiting for it, asking it, and what its failures are called.

The driver gives no deadline to reading from its socket, and can be interrupted only where it is asynchronous: so it
runs in an event loop of its own, in a thread, and whoever asks waits no longer than the address allows.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import AuthError, ClientError, DriverError, Neo4jError, TokenExpired

from darkroom.projections.store import StoreError, StoreRefused, StoreUnavailable, WrongCredentials
from darkroom.projections.waiting import waited_for

T = TypeVar("T")
Row = tuple[Any, ...]
Work = Callable[["Transaction"], Awaitable[T]]
"""What is done in one transaction. It is begun again where the server gave it up (a deadlock, a lost connection)."""

_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,47}")
_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
_CONNECT_S, _CLOSE_S = 5.0, 5.0
_CONNECTIONS_MAX = 50
_UNKNOWN_DATABASE = "Neo.ClientError.Database.DatabaseNotFound"
_TIMED_OUT = "Neo.ClientError.Transaction.TransactionTimedOut"
_RATE_LIMIT = "Neo.ClientError.Security.AuthenticationRateLimit"


class UnknownDatabase(StoreRefused):
    """The server has no database of that name."""


@dataclass(frozen=True)
class Neo4jAddress:
    """Where the server is, and how it is asked. ValueError for what can be no address.

    `deadline_s` is that of each transaction, with all its attempts. What is one Darkroom's bears its `namespace`.
    """

    uri: str
    user: str
    password: str = field(repr=False)
    database: str = "neo4j"
    deadline_s: float = 10.0
    namespace: str = "darkroom"

    def __post_init__(self) -> None:
        parts = urlsplit(self.uri)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(f"uri must be one of {', '.join(_SCHEMES)}, then ://host:port")
        if parts.username is not None:
            raise ValueError("uri must not hold a user or a password; they have settings of their own")
        if not self.database:
            raise ValueError("database is empty; Neo4j's own name for its first one is neo4j")
        if self.deadline_s <= 0:
            raise ValueError(f"deadline_s is {self.deadline_s:g}; it must be above 0")
        if not _NAMESPACE.fullmatch(self.namespace):
            raise ValueError(f"namespace {self.namespace!r} must be 1 to 48 of a-z, 0-9 and _, and begin with a letter")

    def __str__(self) -> str:
        return f"Neo4j at {self.uri}, database {self.database}"


def open_neo4j(address: Neo4jAddress, *, wait_s: float, tell: Callable[[str], None]) -> "Neo4j":
    """A connection that answers.

    A server that does not is waited for, and `tell` is told so: StoreUnavailable after `wait_s`. WrongCredentials and
    UnknownDatabase at once.
    """
    logging.getLogger("neo4j").addHandler(logging.NullHandler())  # what matters of it is raised, or told
    connection = Neo4j(address)
    try:
        waited_for(lambda: connection.run("RETURN 1"), StoreUnavailable, wait_s=wait_s, tell=tell)
        return connection
    except BaseException:
        connection.close()
        raise


class Transaction:
    """One transaction, for the work that is done in it."""

    def __init__(self, driver_transaction: neo4j.AsyncManagedTransaction) -> None:
        self._transaction = driver_transaction

    async def run(self, cypher: str, **parameters: Any) -> list[Row]:
        """The rows, all of them."""
        result = await self._transaction.run(cypher, parameters)
        return [tuple(record.values()) async for record in result]


class Neo4j:
    """Transactions in one database; any number of threads may call. StoreUnavailable or StoreRefused from all.

    After StoreUnavailable what was written may be stored or not: so all that is written must be repeatable.
    """

    def __init__(self, address: Neo4jAddress) -> None:
        self.address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="neo4j", daemon=True)
        self._thread.start()
        self._driver = self._wait(self._open(), address.deadline_s)

    def read(self, work: Work[T]) -> T:
        """Do the work in a transaction that writes nothing."""
        return self._wait(self._transact(work, neo4j.READ_ACCESS), self.address.deadline_s)

    def write(self, work: Work[T]) -> T:
        """Do the work in a transaction that is committed, whole, or not."""
        return self._wait(self._transact(work, neo4j.WRITE_ACCESS), self.address.deadline_s)

    def run(self, cypher: str, **parameters: Any) -> list[Row]:
        """One statement, tried once, in a transaction of its own."""

        async def run() -> list[Row]:
            async with self._driver.session(database=self.address.database) as session:
                query = neo4j.Query(cypher, timeout=self.address.deadline_s)
                result = await session.run(query, parameters)
                return [tuple(record.values()) async for record in result]

        return self._wait(run(), self.address.deadline_s)

    def close(self) -> None:
        """End every transaction; again is nothing."""
        if self._loop.is_closed():
            return
        try:
            self._wait(self._driver.close(), _CLOSE_S)
        except StoreError:
            pass  # the sockets go with the loop
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _open(self) -> neo4j.AsyncDriver:
        address = self.address
        return neo4j.AsyncGraphDatabase.driver(
            address.uri,
            auth=(address.user, address.password),
            connection_timeout=min(_CONNECT_S, address.deadline_s),
            connection_acquisition_timeout=address.deadline_s,
            max_connection_pool_size=_CONNECTIONS_MAX,
            max_transaction_retry_time=address.deadline_s,
            notifications_min_severity="OFF",
            telemetry_disabled=True,
        )

    async def _transact(self, work: Work[T], access: str) -> T:
        @neo4j.unit_of_work(timeout=self.address.deadline_s)
        async def attempt(driver_transaction: neo4j.AsyncManagedTransaction) -> T:
            return await work(Transaction(driver_transaction))

        async with self._driver.session(database=self.address.database, default_access_mode=access) as session:
            if access == neo4j.READ_ACCESS:
                return await session.execute_read(attempt)
            return await session.execute_write(attempt)

    def _wait(self, answer: Coroutine[Any, Any, T], deadline_s: float) -> T:
        with errors_named(self.address):
            return asyncio.run_coroutine_threadsafe(asyncio.wait_for(answer, deadline_s), self._loop).result()


@contextmanager
def errors_named(address: Neo4jAddress) -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except TimeoutError as error:
        raise StoreUnavailable(f"{address} gave no answer in {address.deadline_s:g} s") from error
    except (Neo4jError, DriverError) as error:
        raise _named(address, error) from error


def _named(address: Neo4jAddress, error: Neo4jError | DriverError) -> StoreError:
    code = error.code or "" if isinstance(error, Neo4jError) else ""
    if code == _UNKNOWN_DATABASE:
        return UnknownDatabase(f"{address}: there is no such database; make it first, or name another")
    if isinstance(error, AuthError) and not isinstance(error, TokenExpired) and code != _RATE_LIMIT:
        return WrongCredentials(f"{address} does not let in the user {address.user}: mend user and password ({error})")
    if isinstance(error, ClientError) and not error.is_retryable() and not code.startswith((_TIMED_OUT, _RATE_LIMIT)):
        return StoreRefused(f"{address} refuses: {error}")
    return StoreUnavailable(f"{address} cannot be asked: {error}")
