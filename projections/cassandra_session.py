"""The connection to Cassandra that its adapters share: waiting for it, asking it, and what its failures are called.

Every request has a deadline and every fan-out a bounded window. An error never says that nothing was stored, for a
request whose answer was lost may still be carried out: so every write must be one that may be made again.
"""

import logging
import random
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    RequestValidationException,
    Unauthorized,
    protocol,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy, TokenAwarePolicy
from cassandra.query import BatchStatement, BatchType, tuple_factory

from darkroom.projections.cassandra_requests import PAGE_ROWS, UNTIMED, Request, Row, Statement, batches, run_all
from darkroom.projections.store import StoreError, StoreRefused, StoreUnavailable, WrongCredentials
from darkroom.projections.waiting import RETRY_S, waited_for

CONCURRENCY = 128
DEFINE_DEADLINE_S = 60.0

# Version 5 sums every frame's header in pure Python: 14,000 rows/s where version 4 makes 23,000.
_PROTOCOL = 4
_REPLICATION = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"
_KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}")
_CONSISTENCIES = ("LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL", "LOCAL_ONE", "ONE", "TWO", "THREE")
_CONNECT_S, _HEARTBEAT_S, _RECONNECT_S = 5.0, 10.0, 5.0


class UnknownKeyspace(StoreRefused):
    """The keyspace does not exist, and was not to be made."""


class UnknownDatacenter(StoreRefused):
    """The datacenter is not one of the cluster's, or none was named and there are several."""


@dataclass(frozen=True)
class CassandraAddress:
    """Where the cluster is, and how it is asked. ValueError for what can be no address.

    `replication` is used where the keyspace is made: so many copies, or so many in each datacenter.
    """

    contact_points: tuple[tuple[str, int], ...]
    keyspace: str
    user: str = ""
    password: str = field(default="", repr=False)
    local_datacenter: str | None = None
    consistency: str = "LOCAL_QUORUM"
    deadline_s: float = 10.0
    replication: int | Mapping[str, int] = 1

    def __post_init__(self) -> None:
        if not self.contact_points:
            raise ValueError("contact_points is empty; name at least one host and port")
        if not _KEYSPACE.fullmatch(self.keyspace):
            raise ValueError(f"keyspace {self.keyspace!r} must be 1 to 48 of a-z, 0-9 and _, and begin with a letter")
        if self.consistency not in _CONSISTENCIES:
            raise ValueError(f"consistency {self.consistency!r} is none of {', '.join(_CONSISTENCIES)}")
        if self.deadline_s <= 0:
            raise ValueError(f"deadline_s is {self.deadline_s:g}; it must be above 0")

    def __str__(self) -> str:
        return "Cassandra at " + ", ".join(f"{host}:{port}" for host, port in self.contact_points)


def open_session(
    address: CassandraAddress, *, create: bool, wait_s: float, tell: Callable[[str], None]
) -> "CassandraSession":
    """A session in the keyspace, which is made if need be where `create` says so.

    A server that does not answer is waited for, and `tell` is told so: StoreUnavailable after `wait_s`.
    WrongCredentials, UnknownDatacenter and UnknownKeyspace at once.
    """
    logging.getLogger("cassandra").addHandler(logging.NullHandler())  # what matters of it is raised, or told

    def connect() -> CassandraSession:
        cluster = _cluster(address)
        try:
            return CassandraSession(address, cluster, _connected(address, cluster, create))
        except BaseException:
            cluster.shutdown()
            raise

    return waited_for(connect, StoreUnavailable, wait_s=wait_s, tell=tell)


class CassandraSession:
    """Requests to one keyspace; any number of threads may call. StoreUnavailable or StoreRefused from whatever asks."""

    def __init__(self, address: CassandraAddress, cluster: Any, driver: Any) -> None:
        self.address = address
        self.cluster = cluster
        self.driver = driver
        self._prepared: dict[tuple[str, str | None], Statement] = {}

    def prepare(self, cql: str, consistency: str | None = None) -> Statement:
        """The statement, prepared once; at the address's consistency level unless another is named."""
        prepared = self._prepared.get((cql, consistency))
        if prepared is None:
            with errors_named(self.address):
                prepared = self.driver.prepare(cql)
            if consistency is not None:
                prepared.consistency_level = ConsistencyLevel.name_to_value[consistency]
            self._prepared[cql, consistency] = prepared
        return prepared

    def execute(self, statement: Statement, parameters: Sequence[Any] = ()) -> list[Row]:
        """All the rows, however many pages they are."""
        return list(self.scan(statement, parameters))

    def scan(self, statement: Statement, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows, fetched in pages of PAGE_ROWS as they are taken."""
        with errors_named(self.address):
            yield from self.driver.execute(statement, parameters)

    def execute_if(self, statement: Statement, parameters: Sequence[Any] = ()) -> dict[str, Any] | None:
        """A conditional write: None once it is applied, else what was found instead.

        Where the outcome is unknown it is asked for again, for as long as the deadline, and finds what the first did.
        So the write must carry something by which the caller knows its own.
        """
        try:
            return self._execute_if(statement, parameters, self.address.deadline_s)
        except StoreUnavailable:
            until = time.monotonic() + self.address.deadline_s
        while True:
            time.sleep(RETRY_S * (0.5 + random.random()))  # those that were in each other's way must not be so again
            try:
                return self._execute_if(statement, parameters, max(until - time.monotonic(), RETRY_S))
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise

    def execute_batch_if(self, requests: Sequence[Request]) -> dict[str, Any] | None:
        """As `execute_if`, of statements in one partition: all of them, if every condition among them holds."""
        batch = BatchStatement(BatchType.UNLOGGED)
        for statement, parameters in requests:
            batch.add(statement, parameters)
        return self.execute_if(batch)

    def execute_all(self, requests: Iterable[Request], concurrency: int = CONCURRENCY) -> list[list[Row]]:
        """The rows of each, in order. At most `concurrency` are under way; `requests` is taken from as they end.

        The first failure ends it, once those under way have ended: some of the rest are carried out and some not.
        """
        results: list[list[Row]] = []
        with errors_named(self.address):
            run_all(self.driver, requests, concurrency, self.address.deadline_s, results.append)
        return results

    def write_batches(self, groups: Iterable[Sequence[Request]], concurrency: int = CONCURRENCY) -> None:
        """Write groups of statements, each group of one partition: in as few unlogged batches as the limits allow."""
        requests = (batch for group in groups for batch in batches(group))
        with errors_named(self.address):
            run_all(self.driver, requests, concurrency, self.address.deadline_s)

    def define(self, cql: str) -> None:
        """Change the schema, and wait until every node has heard of it.

        All go through the same node, the lowest that is up: two nodes that make one table at once make two of it.
        """
        with errors_named(self.address):
            host = min((host for host in self.cluster.metadata.all_hosts() if host.is_up), key=str, default=None)
            result = self.driver.execute(cql, host=host, timeout=DEFINE_DEADLINE_S)
        if not result.response_future.is_schema_agreed:
            raise StoreUnavailable(f"{self.address}: the nodes do not agree on the schema; ask again when all are up")

    def close(self) -> None:
        """End every request; again is nothing."""
        self.cluster.shutdown()

    def _execute_if(self, statement: Statement, parameters: Sequence[Any], timeout_s: float) -> dict[str, Any] | None:
        with errors_named(self.address):
            result = self.driver.execute(statement, parameters, timeout=timeout_s)
            found = dict(zip(result.column_names, result.one(), strict=True))
        return None if found.pop("[applied]") else found


def _cluster(address: CassandraAddress) -> Any:
    def profile(deadline_s: float | None) -> Any:
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(address.local_datacenter or "")),
            consistency_level=ConsistencyLevel.name_to_value[address.consistency],
            serial_consistency_level=ConsistencyLevel.SERIAL,
            request_timeout=deadline_s,
            row_factory=tuple_factory,
        )

    with errors_named(address):
        return Cluster(
            list(address.contact_points),
            port=address.contact_points[0][1],
            auth_provider=PlainTextAuthProvider(address.user, address.password) if address.user else None,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile(address.deadline_s), UNTIMED: profile(None)},
            protocol_version=_PROTOCOL,
            connection_class=LibevConnection,
            compression=False,
            # The driver sends in pieces of 4 KB, and with Nagle's algorithm the second waits 40 ms for the first.
            sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            connect_timeout=min(_CONNECT_S, address.deadline_s),
            control_connection_timeout=address.deadline_s,
            idle_heartbeat_interval=_HEARTBEAT_S,
            idle_heartbeat_timeout=_HEARTBEAT_S,
            # Without None it gives up for good after 64 attempts.
            reconnection_policy=ExponentialReconnectionPolicy(RETRY_S, _RECONNECT_S, max_attempts=None),
            monitor_reporting_enabled=False,
        )


def _connected(address: CassandraAddress, cluster: Any, create: bool) -> Any:
    with errors_named(address):
        try:
            driver = cluster.connect()
        except NoHostAvailable:
            _check_datacenter(address, cluster)
            raise
        _check_datacenter(address, cluster)
        driver.default_fetch_size = PAGE_ROWS
        driver._default_timeout = address.deadline_s  # of preparing, which heeds no profile
        try:
            driver.set_keyspace(address.keyspace)
        except InvalidRequest:
            if not create:
                raise UnknownKeyspace(
                    f"{address} has no keyspace {address.keyspace}; make it first, or name another"
                ) from None
            driver.execute(_create_keyspace(address), timeout=DEFINE_DEADLINE_S)
            driver.set_keyspace(address.keyspace)
        _check_copies(address, driver)
        return driver


def _check_datacenter(address: CassandraAddress, cluster: Any) -> None:
    known = sorted({host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter})
    if address.local_datacenter is None and len(known) > 1:
        raise UnknownDatacenter(
            f"{address} has the datacenters {', '.join(known)}; name the local one (cassandra_datacenter)"
        )
    if address.local_datacenter is not None and known and address.local_datacenter not in known:
        raise UnknownDatacenter(f"{address} has no datacenter {address.local_datacenter}; it has {', '.join(known)}")


def _check_copies(address: CassandraAddress, driver: Any) -> None:
    """Whether reads and writes of the keyspace overlap, by the copies that it has: the address's are of a new one."""
    if address.consistency not in ("ONE", "LOCAL_ONE"):
        return
    [(replication,)] = driver.execute(_REPLICATION, (address.keyspace,))
    copies = {place: int(number.partition("/")[0]) for place, number in replication.items() if place != "class"}
    local = copies.get(address.local_datacenter or "") if address.consistency == "LOCAL_ONE" else None
    number = sum(copies.values()) if local is None else local
    if number > 1:
        raise StoreRefused(
            f"{address}: keyspace {address.keyspace} has {number} copies, and {address.consistency} of them may miss"
            " what was published; name LOCAL_QUORUM (cassandra_consistency), or another level that overlaps with itself"
        )


def _create_keyspace(address: CassandraAddress) -> str:
    copies = address.replication
    options = {"replication_factor": copies} if isinstance(copies, int) else dict(copies)
    strategy = "SimpleStrategy" if isinstance(copies, int) else "NetworkTopologyStrategy"
    settings = ", ".join(f"'{name}': '{value}'" for name, value in {"class": strategy, **options}.items())
    return f"CREATE KEYSPACE IF NOT EXISTS {address.keyspace} WITH replication = {{{settings}}}"


@contextmanager
def errors_named(address: CassandraAddress) -> Iterator[None]:
    """The driver's errors, which have no common root, as ours."""
    try:
        yield
    except NoHostAvailable as error:
        reasons = list(error.errors.values()) if isinstance(error.errors, dict) else []
        raise _named(address, next((each for each in reasons if _is_refusal(each)), error)) from error
    except (DriverException, ConnectionException, ConnectionBusy, protocol.ErrorMessage) as error:
        raise _named(address, error) from error


def _named(address: CassandraAddress, error: BaseException) -> StoreError:
    if not _is_refusal(error):
        return StoreUnavailable(f"{address} cannot be asked: {error}")
    if isinstance(error, AuthenticationFailed):
        who = f"the user {address.user}" if address.user else "nobody, for no user was named"
        return WrongCredentials(f"{address} does not let in {who}: mend user and password ({error})")
    if isinstance(error, (Unauthorized, protocol.UnauthorizedErrorMessage)):
        return StoreRefused(f"{address} does not permit it: grant it, or name another user, cassandra_user ({error})")
    return StoreRefused(f"{address} refuses: {error}")


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, AuthenticationFailed):
        # The server says so of everybody's password while it cannot read its own tables.
        return "Unable to perform authentication" not in str(error)
    return isinstance(error, (RequestValidationException, protocol.RequestValidationException))
