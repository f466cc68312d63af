"""The servers that the settings name: their addresses, and this process's connections to them.

Their drivers are installed only where servers are used (`darkroom[servers]`), so each is imported where it is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.events.facts import Event
from darkroom.events.log import EventLog, LogUnreachable
from darkroom.gateway.settings import Settings, SettingsError
from darkroom.projections.waiting import waited_for

if TYPE_CHECKING:
    from darkroom.events.log_adapters.kafka_address import KafkaAddress
    from darkroom.events.object_store import ObjectStoreAddress
    from darkroom.projections.cassandra_session import CassandraAddress, CassandraSession
    from darkroom.projections.graph_adapters.neo4j_connection import Neo4j, Neo4jAddress
    from darkroom.projections.redis_link import RedisAddress

REDIS_DEADLINE_S = 0.05
"""A cache that takes longer is slower than what it caches."""

CONTENT_DEADLINE_S = 30.0
"""Of a part of a photo or a snapshot, 8 MiB at most: how long that takes is the line's doing more than the server's."""

Tell = Callable[[str], None]


class Servers:
    """Connections of this process: each serves every thread. None is opened that the settings do not name."""

    def __init__(self, settings: Settings, tell: Tell, *, wait_s: float, make: bool = True) -> None:
        """Servers that do not answer are waited for, and `tell` is told so; StoreError after `wait_s`.

        Without `make` nothing is written: a keyspace that is not there is left so until `make_keyspace`.
        """
        self._settings = settings
        with ExitStack() as stack:
            self.neo4j = _neo4j(settings, tell, wait_s, stack)
            self.cassandra = _cassandra(settings, tell, wait_s, stack, make=make)
            self._stack = stack.pop_all()

    @property
    def lacks_keyspace(self) -> bool:
        return self.cassandra is None and self._settings.cassandra is not None

    def make_keyspace(self, tell: Tell) -> None:
        """Make the keyspace that the settings name, unless it is there."""
        if self.lacks_keyspace:
            self.cassandra = _cassandra(self._settings, tell, 0, self._stack, make=True)

    def close(self) -> None:
        self._stack.close()


def _cassandra(
    settings: Settings, tell: Tell, wait_s: float, stack: ExitStack, *, make: bool
) -> "CassandraSession | None":
    """None also where the keyspace is not there and is not to be made."""
    address = cassandra_address(settings)
    if address is None:
        return None
    from darkroom.projections.cassandra_session import UnknownKeyspace, open_session

    try:
        session = open_session(address, create=make, wait_s=wait_s, tell=tell)
    except UnknownKeyspace:
        return None
    stack.callback(session.close)
    return session


def _neo4j(settings: Settings, tell: Tell, wait_s: float, stack: ExitStack) -> "Neo4j | None":
    address = neo4j_address(settings)
    if address is None:
        return None
    from darkroom.projections.graph_adapters.neo4j_connection import open_neo4j

    neo4j = open_neo4j(address, wait_s=wait_s, tell=tell)
    stack.callback(neo4j.close)
    return neo4j


def open_log(settings: Settings, path: Path, *, create: bool, tell: Tell, wait_s: float) -> EventLog:
    """The log: Kafka's topic, of which `path` is this node's copy, or the one in the folder `path`.

    Brokers that do not answer are waited for, and `tell` is told so; LogUnreachable after `wait_s`.
    """
    address = kafka_address(settings)
    if address is None:
        from darkroom.events.log_adapters.lmdb import LmdbEventLog

        return LmdbEventLog(path, create=create)
    from darkroom.events.log_adapters.kafka import KafkaEventLog

    return waited_for(lambda: KafkaEventLog(address, path, create=create), LogUnreachable, wait_s=wait_s, tell=tell)


def foreseen_topic(
    settings: Settings, *, create: bool, tell: Tell, wait_s: float
) -> tuple[str, tuple[int, Event] | None] | None:
    """The id of Kafka's topic, and its first record's time and event; None where it is still to be made.

    TopicRefused where `open_log` would refuse it, but nothing is written. It is waited for as there.
    """
    address = kafka_address(settings)
    assert address is not None
    from darkroom.events.log_adapters.kafka_records import record_of
    from darkroom.events.log_adapters.kafka_topic import Topic

    found = waited_for(lambda: Topic(address).foresee(create=create), LogUnreachable, wait_s=wait_s, tell=tell)
    if found is None:
        return None
    identity, body = found
    return identity, None if body is None else record_of(body)


def check_cache(settings: Settings, tell: Tell) -> None:
    """Whether Redis may be the cache: SettingsError. One that does not answer is told of, for nothing needs it."""
    address = redis_address(settings)
    if address is None:
        return
    from darkroom.projections.redis_link import UnfitRedis, check_fit

    try:
        answers = check_fit(address)
    except UnfitRedis as error:
        raise SettingsError(f"redis: {error}") from None
    if not answers:
        tell(f"redis: no answer from {settings.redis}; feeds are read without a cache until there is one")


def check_bucket(settings: Settings, tell: Tell, *, wait_s: float) -> None:
    """Whether the bucket is there and lets us in: SettingsError. A store that does not answer is waited for."""
    address = object_store_address(settings)
    if address is None:
        return
    from darkroom.events.object_store import ObjectStore, ObjectStoreError, ObjectStoreUnavailable

    store = ObjectStore(address)
    try:
        waited_for(store.check, ObjectStoreUnavailable, wait_s=wait_s, tell=tell)
    except ObjectStoreError as error:
        raise SettingsError(f"object_store: {error}") from None


def check_addresses(settings: Settings) -> None:
    """Whether each server's settings go together, and its driver is installed; nobody is asked. SettingsError."""
    for address in (kafka_address, cassandra_address, neo4j_address, redis_address, object_store_address):
        address(settings)


def is_remote(settings: Settings) -> bool:
    """Whether a read may cross a network."""
    return any((settings.kafka, settings.cassandra, settings.neo4j, settings.redis))


def kafka_address(settings: Settings) -> "KafkaAddress | None":
    if settings.kafka is None:
        return None
    with _named("kafka"):
        from darkroom.events.log_adapters.kafka_address import KafkaAddress

        security = tuple(_kafka_security(settings))
        return KafkaAddress(settings.kafka, settings.kafka_topic, max(1.0, _deadline_s(settings)), security)


def _kafka_security(settings: Settings) -> Iterator[tuple[str, str]]:
    """In librdkafka's own names. SettingsError for what does not go together, for it would be silently ignored."""
    protocol, user, password = settings.kafka_protocol, settings.kafka_user, settings.kafka_password
    if not protocol.startswith("sasl_") and (user or password):
        named = "kafka_user" if user else "kafka_password"
        raise SettingsError(f"{named}: with kafka_protocol {protocol} nobody logs in; name sasl_ssl or sasl_plaintext")
    if not protocol.endswith("ssl") and settings.kafka_ca:
        raise SettingsError(f"kafka_ca: with kafka_protocol {protocol} there are no certificates; name ssl or sasl_ssl")
    if protocol == "plaintext":
        return
    yield "security.protocol", protocol
    if settings.kafka_ca:
        if not Path(settings.kafka_ca).is_file():
            raise SettingsError(f"kafka_ca: there is no file {settings.kafka_ca}")
        yield "ssl.ca.location", settings.kafka_ca
    if protocol.startswith("sasl_"):
        if not user or not password:
            raise SettingsError(f"kafka_protocol: {protocol} needs kafka_user and kafka_password: name both")
        yield from {
            "sasl.mechanism": settings.kafka_mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }.items()


def cassandra_address(settings: Settings) -> "CassandraAddress | None":
    if settings.cassandra is None:
        return None
    with _named("cassandra"):
        from darkroom.projections.cassandra_session import CassandraAddress

        if settings.cassandra_consistency in ("ONE", "LOCAL_ONE") and settings.cassandra_replication > 1:
            raise SettingsError(
                f"cassandra_consistency: {settings.cassandra_consistency} of {settings.cassandra_replication} copies"
                " may miss what was published; name LOCAL_QUORUM, or another level that overlaps with itself"
            )
        datacenter, copies = settings.cassandra_datacenter, settings.cassandra_replication
        return CassandraAddress(
            tuple(_places(settings.cassandra)),
            settings.cassandra_keyspace,
            settings.cassandra_user or "",
            settings.cassandra_password or "",
            datacenter,
            consistency=settings.cassandra_consistency,
            deadline_s=_deadline_s(settings),
            replication={datacenter: copies} if datacenter else copies,
        )


def neo4j_address(settings: Settings) -> "Neo4jAddress | None":
    if settings.neo4j is None:
        return None
    with _named("neo4j"):
        from darkroom.projections.graph_adapters.neo4j_connection import Neo4jAddress

        return Neo4jAddress(
            settings.neo4j,
            settings.neo4j_user,
            settings.neo4j_password or "",
            settings.neo4j_database,
            _deadline_s(settings),
            settings.neo4j_namespace,
        )


def redis_address(settings: Settings) -> "RedisAddress | None":
    if settings.redis is None:
        return None
    with _named("redis"):
        from darkroom.projections.redis_link import RedisAddress

        [(host, port), *others] = _places(settings.redis)
        if others:
            raise SettingsError("redis: names several servers; a cache is one, or one address of a cluster's proxy")
        return RedisAddress(
            host,
            port,
            settings.redis_prefix,
            user=settings.redis_user or "",
            password=settings.redis_password or "",
            deadline_s=min(REDIS_DEADLINE_S, _deadline_s(settings)),
        )


def object_store_address(settings: Settings) -> "ObjectStoreAddress | None":
    if settings.object_store is None:
        return None
    with _named("object_store"):
        from darkroom.events.object_store import ObjectStoreAddress, ObjectStoreMisconfigured

        try:
            return ObjectStoreAddress(
                settings.object_store,
                settings.object_store_endpoint,
                settings.object_store_region,
                settings.object_store_access_key or "",
                settings.object_store_secret_key or "",
                deadline_s=_deadline_s(settings),
                content_deadline_s=max(CONTENT_DEADLINE_S, _deadline_s(settings)),
            )
        except ObjectStoreMisconfigured as error:
            raise SettingsError(f"object_store: {error}") from None


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """What is wrong with an address, by the name of its setting."""
    try:
        yield
    except ImportError as error:
        missing = f"its driver is not installed ({error.name}); install darkroom[servers]"
        raise SettingsError(f"{setting}: {missing}") from None
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}") from None


def _places(servers: str) -> Iterator[tuple[str, int]]:
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        yield host.strip("[]"), int(port)


def _deadline_s(settings: Settings) -> float:
    return settings.service_deadline_ms / 1000
