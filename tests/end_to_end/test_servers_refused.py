"""What is wrong with servers or their settings is said in one line when a command starts; nothing is written before."""

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from commands_run import COMMAND, Said, darkroom, done, environment, lines, listening, refused, registered
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from redis import Redis
from services import kafka_topics
from services.object_store import Buckets, ObjectStoreServer
from services.services import Address, Services, control, own_folder, started
from services.stack import own_stack
from services.tcp_proxy import TcpProxy

from darkroom.events.log_adapters.kafka_address import KafkaAddress, TopicRefused
from darkroom.events.log_adapters.kafka_topic import Topic
from darkroom.gateway.servers import Servers, cassandra_address, kafka_address, neo4j_address
from darkroom.gateway.settings import load_settings
from darkroom.projections.cassandra_session import CassandraSession, UnknownKeyspace, open_session
from darkroom.projections.graph_adapters.neo4j_connection import open_neo4j
from darkroom.projections.graph_adapters.neo4j_schema import create_generation, drop_generation, generations

pytestmark = pytest.mark.services

Variables = dict[str, str]
Published = tuple[Variables, Path]
SERVE = ("serve", "--runtime", "inline", "--shards", "1", "--port", "0")
EVERY = (SERVE, ("catch-up",), ("status",), ("feed", "1"))
BRIEFLY = {"DARKROOM_SERVICE_WAIT_S": "3", "DARKROOM_SERVICE_DEADLINE_MS": "1000"}
CAROL, DAVE = lines(*registered("carol")), lines(*registered("dave"))


@pytest.fixture
def stack(service: Services) -> Iterator[Variables]:
    with own_stack(service) as variables:
        yield variables


@pytest.fixture
def cassandra(service: Services) -> Iterator[Variables]:
    with own_stack(service, "kafka", "neo4j", "redis") as variables:
        yield variables


@pytest.fixture
def neo4j(service: Services) -> Iterator[Variables]:
    with own_stack(service, "kafka", "cassandra", "redis") as variables:
        yield variables


@pytest.fixture
def kafka(service: Services) -> Iterator[Variables]:
    with own_stack(service, "cassandra", "neo4j", "redis") as variables:
        yield variables


@pytest.fixture(scope="module")
def published(service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """The settings and the directory of a node whose first record is published, for tests that leave it as it is."""
    data = tmp_path_factory.mktemp("published") / "first"
    with own_stack(service) as variables:
        filled(variables, data)
        yield variables, data


@contextmanager
def keyspace_of(variables: Variables) -> Iterator[CassandraSession]:
    address = cassandra_address(load_settings({}, variables, None))
    assert address is not None
    with closing(open_session(address, create=False, wait_s=60, tell=print)) as session:
        yield session


def check_nothing_written(variables: Variables, data: Path, *, but: str = "", graphs: Sequence[int] = ()) -> None:
    """In none of the servers, and not on the disk; the test itself made what is at the server `but`, and `graphs`."""
    settings = load_settings({}, variables, None)
    assert not data.exists()
    if settings.cassandra is not None and but != "cassandra":
        with pytest.raises(UnknownKeyspace), keyspace_of(variables):
            pass
    if (topic := kafka_address(settings)) is not None and but != "kafka":
        with pytest.raises(TopicRefused, match="is not there"):
            Topic(topic).identity()
    if (address := neo4j_address(settings)) is not None:
        with closing(open_neo4j(address, wait_s=60, tell=print)) as connection:
            assert generations(connection) == [*graphs]


@contextmanager
def another(variables: Variables, *settings: str) -> Iterator[Variables]:
    """The settings with other names for these, of what is not there yet."""
    other = variables | {f"DARKROOM_{name}": f"{variables[f'DARKROOM_{name}'][:-2]}_b" for name in settings}
    try:
        yield other
    finally:
        if (topic := kafka_address(load_settings({}, other, None))) is not None:
            kafka_topics.drop(topic)


def filled(variables: Variables, data: Path, records: str = CAROL) -> None:
    """Its first records are in the log, and everything is published."""
    done("log", "append", "-", data=data, stdin=records, settings=variables)
    done("catch-up", "--shards", "1", data=data, settings=variables)


# Credentials


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("DARKROOM_CASSANDRA_PASSWORD", "does not let in the user cassandra: mend user and password"),
        ("DARKROOM_NEO4J_PASSWORD", "does not let in the user neo4j: mend user and password"),
    ],
)
def test_a_wrong_password(stack: Variables, tmp_path: Path, setting: str, said: str) -> None:
    data = tmp_path / "data"
    line = refused(*SERVE, data=data, settings=stack | {setting: "not-this-one"})
    assert said in line
    assert "not-this-one" not in line
    check_nothing_written(stack, data)


def test_every_command_is_refused_alike(published: Published) -> None:
    stack, data = published
    wrong = stack | {"DARKROOM_CASSANDRA_PASSWORD": "not-this-one"}
    for command in EVERY:
        assert "does not let in the user cassandra" in refused(*command, data=data, settings=wrong)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A server that is set up as a test wants it."""
    folder = tmp_path_factory.mktemp("redis")
    folder.chmod(0o700)
    try:
        yield started("redis", folder)
    finally:
        control("stop", folder=folder)


def test_a_redis_that_never_forgets_or_wants_a_password(own_redis: Address, tmp_path: Path) -> None:
    variables = {"DARKROOM_REDIS": f"{own_redis['host']}:{own_redis['port']}"}
    data = tmp_path / "data"
    with Redis(host=own_redis["host"], port=own_redis["port"]) as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        line = refused(*SERVE, data=data, settings=variables)
        assert line.startswith("redis: ")
        assert "set maxmemory, and maxmemory-policy allkeys-lru" in line
        redis.config_set("maxmemory-policy", "allkeys-lru")
        redis.config_set("requirepass", "sesame")
        for wrong in ({}, {"DARKROOM_REDIS_PASSWORD": "not-this-one"}):
            line = refused(*SERVE, data=data, settings=variables | wrong)
            assert re.match("redis: .* does not let us in .*; set its user and password", line)
            assert "not-this-one" not in line
        assert not data.exists()
        with listening(*SERVE[:-2], data=data, settings=variables | {"DARKROOM_REDIS_PASSWORD": "sesame"}):
            pass


def test_a_wrong_bucket_or_key(object_store: Buckets, tmp_path: Path) -> None:
    data, right = tmp_path / "data", object_store()
    variables = {
        "DARKROOM_OBJECT_STORE": right.url,
        "DARKROOM_OBJECT_STORE_ENDPOINT": right.server,
        "DARKROOM_OBJECT_STORE_ACCESS_KEY": right.access_key,
    }
    line = refused(*SERVE, data=data, settings=variables)
    assert re.match("object_store: .* needs an access key and a secret: name both", line)
    variables["DARKROOM_OBJECT_STORE_SECRET_KEY"] = right.secret
    line = refused(*SERVE, data=data, settings=variables | {"DARKROOM_OBJECT_STORE": "s3://no-such-bucket/prints"})
    assert line.startswith("object_store: there is no bucket 'no-such-bucket' at ")
    with closing_server() as server:
        bucket = server.bucket()
        server.refuse_strangers()
        there = {"DARKROOM_OBJECT_STORE": bucket.url, "DARKROOM_OBJECT_STORE_ENDPOINT": bucket.server}
        line = refused(*SERVE, data=data, settings=variables | there)
        assert "object_store: " in line
        assert "does not let this access key into bucket" in line
    assert not data.exists()


@contextmanager
def closing_server() -> Iterator[ObjectStoreServer]:
    server = ObjectStoreServer()
    try:
        yield server
    finally:
        server.stop()


def test_a_datacenter_that_is_not_there(stack: Variables, tmp_path: Path) -> None:
    data = tmp_path / "data"
    line = refused(*SERVE, data=data, settings=stack | {"DARKROOM_CASSANDRA_DATACENTER": "moon"})
    assert "has no datacenter moon; it has datacenter1" in line
    check_nothing_written(stack, data)
    right = stack | {"DARKROOM_CASSANDRA_DATACENTER": "datacenter1"}
    filled(right, data)
    with keyspace_of(right) as session:
        statement = session.prepare("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?")
        [(replication,)] = session.execute(statement, (session.address.keyspace,))
    assert dict(replication) == {
        "class": "org.apache.cassandra.locator.NetworkTopologyStrategy",
        "datacenter1": "1",
    }


# Nobody there


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address where nobody listens, and nobody will."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{nobody.getsockname()[1]}"


@pytest.mark.parametrize("server", ["kafka", "cassandra", "neo4j", "object_store"])
def test_a_server_that_is_not_there_is_waited_for_aloud(nowhere: str, tmp_path: Path, server: str) -> None:
    data = tmp_path / "data"
    variables = {f"DARKROOM_{server.upper()}": f"bolt://{nowhere}" if server == "neo4j" else nowhere}
    if server == "object_store":
        variables = {
            "DARKROOM_OBJECT_STORE": "s3://bucket/prints",
            "DARKROOM_OBJECT_STORE_ENDPOINT": f"http://{nowhere}",
            "DARKROOM_OBJECT_STORE_ACCESS_KEY": "key",
            "DARKROOM_OBJECT_STORE_SECRET_KEY": "sesame",
        }
    said = darkroom(*SERVE, data=data, settings=variables | BRIEFLY)
    assert (said.status, said.out) == (1, "")
    waiting, line = said.errors.splitlines()
    assert waiting.startswith("waiting up to 3 s: ")
    assert nowhere in waiting
    assert line.startswith("darkroom: ")
    assert line.endswith("; waited 3 s for it. Is it running, and is this its address?")
    assert not data.exists()


def test_a_cache_that_is_not_there_is_told_of_and_not_needed(nowhere: str, tmp_path: Path) -> None:
    done("log", "append", "-", data=tmp_path / "data", stdin=CAROL)
    said = darkroom("catch-up", data=tmp_path / "data", settings={"DARKROOM_REDIS": nowhere})
    told = f"redis: no answer from {nowhere}; feeds are read without a cache until there is one\n"
    assert said == Said(0, "1\n", told)


@pytest.mark.parametrize(
    "server", ["kafka", *(pytest.param(name, marks=pytest.mark.soak) for name in ("cassandra", "neo4j"))]
)
def test_a_server_that_comes_up_later_is_gone_on_with(published: Published, server: str) -> None:
    (stack, data), name = published, f"DARKROOM_{server.upper()}"
    host, _, port = stack[name].removeprefix("bolt://").rpartition(":")
    with TcpProxy(host, int(port), listening=False) as wire:
        late = "{}:{}".format(*wire.address)
        variables = stack | {name: f"bolt://{late}" if server == "neo4j" else late}
        command = [*COMMAND, "feed", "carol", "--json", "--data", str(data)]
        pipe = subprocess.PIPE
        variables |= {"DARKROOM_SERVICE_DEADLINE_MS": "2000"}
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(variables)) as waiting:
            assert waiting.stderr is not None
            assert waiting.stderr.readline().startswith("waiting up to 60 s: ")
            wire.listen()
            out, errors = waiting.communicate(timeout=60)
    assert (waiting.returncode, errors) == (0, "")
    assert json.loads(out)["position"] == 1


# Other data


def test_a_keyspace_in_which_this_node_never_published(published: Published) -> None:
    stack, data = published
    other = stack | {"DARKROOM_CASSANDRA_KEYSPACE": stack["DARKROOM_CASSANDRA_KEYSPACE"][:-1]}
    for command in EVERY:
        line = refused(*command, data=data, settings=other)
        assert line.startswith(
            "cassandra_keyspace: nothing of Darkroom's is there, and this node has state of generation 1"
        )
    with pytest.raises(UnknownKeyspace), keyspace_of(other):
        pass


def test_a_keyspace_with_tables_of_somebody_else(stack: Variables, tmp_path: Path) -> None:
    data, settings = tmp_path / "data", load_settings({}, stack, None)
    with closing(Servers(settings, print, wait_s=60)) as servers:
        assert servers.cassandra is not None
        servers.cassandra.define("CREATE TABLE invoices (number int PRIMARY KEY)")
        line = refused(*SERVE, data=data, settings=stack)
        assert "holds other tables: invoices. Name a keyspace of Darkroom's own (cassandra_keyspace)" in line
        check_nothing_written(stack, data, but="cassandra")
        assert tables_of(servers.cassandra) == {"invoices"}


def test_tables_of_another_version(published: Published) -> None:
    stack, data = published
    with of_another_version(stack) as session:
        before = tables_of(session)
        for command in (SERVE, ("feed", "1")):
            line = refused(*command, data=data, settings=stack)
            assert "the tables of credentials are of version 99, and this program's are of version 1. Run" in line
        assert tables_of(session) == before


def test_tables_of_another_version_before_anything_is_made(published: Published, tmp_path: Path) -> None:
    stack, _ = published
    with of_another_version(stack), another(stack, "KAFKA_TOPIC", "NEO4J_NAMESPACE") as other:
        line = refused(*SERVE, data=tmp_path / "new", settings=other)
        assert "the tables of credentials are of version 99" in line
        check_nothing_written(other, tmp_path / "new", but="cassandra")


@contextmanager
def of_another_version(variables: Variables) -> Iterator[CassandraSession]:
    """The tables of credentials are, for a while."""
    change = "INSERT INTO darkroom_schema (name, version, complete) VALUES ('credentials', {}, true)"
    with keyspace_of(variables) as session:
        session.define(change.format(99))
        try:
            yield session
        finally:
            session.define(change.format(1))


def tables_of(session: CassandraSession) -> set[str]:
    statement = session.prepare("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?")
    return {name for (name,) in session.execute(statement, (session.address.keyspace,))}


def test_a_graph_that_this_log_never_gave(stack: Variables, tmp_path: Path) -> None:
    data, address = tmp_path / "data", neo4j_address(load_settings({}, stack, None))
    assert address is not None
    with closing(open_neo4j(address, wait_s=60, tell=print)) as connection:
        create_generation(connection, 3, 1)
        line = refused(*SERVE, data=data, settings=stack)
        assert "has generation 3, which was never given here: another log's graph is there" in line
        check_nothing_written(stack, data, graphs=[3])
        drop_generation(connection, 3)


@pytest.mark.soak  # a Neo4j of its own
def test_a_neo4j_with_other_data(stack: Variables, tmp_path: Path) -> None:
    folder, data = own_folder(tmp_path / "neo4j"), tmp_path / "data"
    try:
        where = started("neo4j", folder)
        variables = stack | {
            "DARKROOM_NEO4J": f"bolt://{where['host']}:{where['port']}",
            "DARKROOM_NEO4J_PASSWORD": where["password"],
        }
        address = neo4j_address(load_settings({}, variables, None))
        assert address is not None
        with closing(open_neo4j(address, wait_s=60, tell=print)) as connection:
            connection.run("CREATE (:Invoice {number: 1})")
            line = refused(*SERVE, data=data, settings=variables)
            assert "holds other data: a node with the labels Invoice. Name a database of Darkroom's own" in line
            assert connection.run("MATCH (n) RETURN labels(n)") == [(["Invoice"],)]
            check_nothing_written(variables, data)
    finally:
        control("stop", folder=folder)


# Topics


def foreign(address: KafkaAddress) -> None:
    kafka_topics.make(address)
    producer = Producer({"bootstrap.servers": address.servers})
    producer.produce(address.topic, b"an invoice")
    assert producer.flush(30) == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda address: kafka_topics.make(address, partitions=2), "has 2 partitions, and a log's order needs one"),
        (
            lambda address: kafka_topics.make(address, settings={"cleanup.policy": "compact"}),
            "has cleanup.policy=compact, under which records are removed. Set it to delete",
        ),
        (
            lambda address: kafka_topics.make(address, settings={"retention.ms": "86400000"}),
            "has retention.ms=86400000, after which records are removed. Set it to -1",
        ),
        (foreign, "holds records that are not Darkroom's. Name another topic"),
    ],
    ids=["partitions", "compacted", "retention", "foreign"],
)
def test_a_topic_that_cannot_be_the_log(
    stack: Variables, tmp_path: Path, make: Callable[[KafkaAddress], None], said: str
) -> None:
    data, address = tmp_path / "data", kafka_address(load_settings({}, stack, None))
    assert address is not None
    make(address)
    before = Topic(address).reach() if "partitions" not in said else None
    for command in (SERVE, ("gateway",), ("log", "append", "-")):
        line = refused(*command, data=data, stdin=CAROL, settings=stack)
        assert line.startswith(f"Kafka topic {address.topic} {said}")
        check_nothing_written(stack, data, but="kafka")
    assert before is None or Topic(address).reach() == before


def test_a_topic_that_was_made_again_or_truncated(kafka: Variables, tmp_path: Path) -> None:
    data, address = tmp_path / "data", kafka_address(load_settings({}, kafka, None))
    assert address is not None
    filled(kafka, data, CAROL + DAVE)
    admin = AdminClient({"bootstrap.servers": address.servers})
    for future in admin.delete_records([TopicPartition(address.topic, 0, 1)]).values():
        future.result(30)
    for command in (SERVE, ("catch-up",)):
        line = refused(*command, data=data, settings=kafka)
        assert "has lost its records before position 2. Restore it from a backup" in line
    kafka_topics.drop(address)
    kafka_topics.make(address)
    for command in (SERVE, ("catch-up",)):
        line = refused(*command, data=data, settings=kafka)
        assert "was deleted and made again since its mirror was filled" in line


# Two logs


def test_a_keyspace_is_of_one_log(published: Published, tmp_path: Path) -> None:
    stack, _ = published
    topic = stack["DARKROOM_KAFKA_TOPIC"]
    with keyspace_of(stack) as session:
        before = rows_of(session)
        embedded = {name: value for name, value in stack.items() if "KAFKA" not in name}
        line = refused(*SERVE, data=tmp_path / "new", settings=embedded)
        assert f"belongs to Kafka topic {topic} (id " in line
        done("log", "append", "-", data=tmp_path / "second", stdin=DAVE, settings=embedded)
        for command in EVERY:
            line = refused(*command, data=tmp_path / "second", settings=embedded)
            assert f"belongs to another log, Kafka topic {topic} (id " in line
            assert "begins with another record. Name that log, or another place for this one" in line
        assert not (tmp_path / "second" / "log" / "identity").exists()
        assert rows_of(session) == before


def test_what_is_another_logs_is_refused_before_anything_is_made(published: Published, tmp_path: Path) -> None:
    stack, _ = published
    new, topic = tmp_path / "new", stack["DARKROOM_KAFKA_TOPIC"]
    with another(stack, "KAFKA_TOPIC", "NEO4J_NAMESPACE") as other:
        assert "is not there. Name the right one" in refused(*SERVE, data=new, settings=other)
        check_nothing_written(other, new, but="cassandra")
    with another(stack, "KAFKA_TOPIC", "CASSANDRA_KEYSPACE") as other:
        line = refused(*SERVE, data=new, settings=other)
        assert f"generation 1 belongs to another log, Kafka topic {topic} (id " in line
        assert "this one, Kafka topic " in line
        assert ", which is still to be made, has another identity" in line
        check_nothing_written(other, new, graphs=[1])
        done("log", "append", "-", data=tmp_path / "second", stdin=DAVE, settings=other)
        line = refused(*SERVE, data=new, settings=other)
        assert "begins with another record. Name that log, or another place for this one (neo4j_namespace)" in line
        check_nothing_written(other, new, but="kafka", graphs=[1])


def test_another_node_of_the_same_log_is_let_in(published: Published, tmp_path: Path) -> None:
    stack, _ = published
    with listening("gateway", data=tmp_path / "second", settings=stack):
        pass


def rows_of(session: CassandraSession) -> list[object]:
    keyspace = session.address.keyspace
    tables = sorted(tables_of(session))
    return [session.execute(session.prepare(f"SELECT * FROM {keyspace}.{table}")) for table in tables]


def test_a_nodes_state_is_of_one_log(published: Published, tmp_path: Path) -> None:
    stack, first = published
    filled({}, tmp_path / "embedded", DAVE)
    line = refused(*SERVE, data=tmp_path / "embedded", settings=stack)
    assert line.endswith("/embedded has a log of its own, and kafka names another. Name another directory")
    (tmp_path / "moved").mkdir()
    (tmp_path / "embedded" / "generations").rename(tmp_path / "moved" / "generations")
    (tmp_path / "embedded" / "darkroom.json").rename(tmp_path / "moved" / "darkroom.json")
    line = refused(*SERVE, data=tmp_path / "moved", settings=stack)
    assert "has state that was not made with these servers. Name another directory, or remove it" in line
    state = {"DARKROOM_STATE": str(first)}
    embedded = {name: value for name, value in stack.items() if "KAFKA" not in name} | state
    done("log", "append", "-", data=tmp_path / "second", stdin=DAVE)
    line = refused("catch-up", data=tmp_path / "second", settings=embedded)
    assert line.startswith(f"the state in {first}/generations belongs to another log, Kafka topic ")


def test_a_keyspace_is_of_one_log_before_there_is_a_record(cassandra: Variables, tmp_path: Path) -> None:
    with listening(*SERVE[:-2], data=tmp_path / "first", settings=cassandra):
        pass
    line = refused(*SERVE, data=tmp_path / "new", settings=cassandra)
    assert f"belongs to the log in {tmp_path / 'first'}/log" in line
    done("log", "append", "-", data=tmp_path / "second", stdin=DAVE)
    assert "has another identity" in refused("status", data=tmp_path / "second", settings=cassandra)
    done("log", "append", "-", data=tmp_path / "first", stdin=CAROL)
    done("catch-up", data=tmp_path / "first", settings=cassandra)


def test_a_graph_is_of_one_log(neo4j: Variables, tmp_path: Path) -> None:
    filled(neo4j, tmp_path / "first")
    done("log", "append", "-", data=tmp_path / "second", stdin=DAVE)
    done("catch-up", data=tmp_path / "second")  # it has a generation 1 too, without a graph
    for command in (SERVE, ("status",)):
        line = refused(*command, data=tmp_path / "second", settings=neo4j)
        assert f"generation 1 belongs to another log, the log in {tmp_path / 'first'}/log" in line
        assert line.endswith("(neo4j_namespace)")


def test_a_graph_of_another_log_is_refused_before_a_keyspace_is_made(published: Published, tmp_path: Path) -> None:
    stack, _ = published
    other = {name: value for name, value in stack.items() if "KAFKA" not in name}
    other["DARKROOM_CASSANDRA_KEYSPACE"] = stack["DARKROOM_CASSANDRA_KEYSPACE"][:-1]
    done("log", "append", "-", data=tmp_path / "second", stdin=DAVE)
    line = refused(*SERVE, data=tmp_path / "second", settings=other)
    assert "generation 1 belongs to another log, Kafka topic " in line
    assert line.endswith("(neo4j_namespace)")
    with pytest.raises(UnknownKeyspace), keyspace_of(other):
        pass


def test_a_cache_is_shared_without_mixing(service: Services, tmp_path: Path) -> None:
    with own_stack(service, "kafka", "cassandra", "neo4j") as variables:
        for name, records in (("first", CAROL), ("second", DAVE)):
            filled(variables, tmp_path / name, records)
        where = service("redis")
        with Redis(host=where["host"], port=where["port"]) as redis:
            keys = [str(key) for key in redis.scan_iter(f"{variables['DARKROOM_REDIS_PREFIX']}:lmdb-*")]
    assert len(keys) == 2


def test_a_log_that_was_restored_goes_on(cassandra: Variables, tmp_path: Path) -> None:
    lost, restored = tmp_path / "lost", tmp_path / "restored"
    filled(cassandra, lost, CAROL + DAVE)
    backup = done("log", "export", data=lost)
    done("log", "append", "-", data=restored, stdin=backup + "\n")
    said = darkroom("rebuild", "--shards", "1", data=restored, settings=cassandra)
    assert (said.status, said.out) == (0, "generation 2 serves\n")
    [line] = said.errors.splitlines()
    assert line.endswith(f"/lost/log's, and is the log in {restored}/log's now: it begins with the same record")
    assert done("catch-up", data=restored, settings=cassandra) == "2"


# Settings


def test_a_driver_that_is_not_installed(nowhere: str, tmp_path: Path) -> None:
    drivers = {"kafka": "confluent_kafka", "cassandra": "cassandra", "neo4j": "neo4j", "redis": "redis"}
    for server, driver in drivers.items():
        (tmp_path / f"{driver}.py").write_text(f"raise ModuleNotFoundError('no {driver}', name='{driver}')\n")
        place = f"bolt://{nowhere}" if server == "neo4j" else nowhere
        variables = {f"DARKROOM_{server.upper()}": place, "PYTHONPATH": str(tmp_path)}
        line = refused(*SERVE, data=tmp_path / "data", settings=variables)
        assert line == f"{server}: its driver is not installed ({driver}); install darkroom[servers]"
        (tmp_path / f"{driver}.py").unlink()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "cassandra_keyspce: prints",
            "metadata.darkroom.cassandra_keyspce: there is no such setting; the settings",
        ),
        ("kafka: nowhere", "kafka: 'nowhere' is not permitted; kafka must be HOST:PORT, or several"),
        ("cassandra_replication: 0", "0 is not permitted; cassandra_replication must be an integer from 1 to 9"),
        ("neo4j: http://here:7474", "neo4j must be a URL with bolt, bolt+s, neo4j or neo4j+s"),
        ("redis: here:6379,there:6379", "redis: names several servers; a cache is one"),
        ("object_store: ftp://bucket", "object_store must be s3://BUCKET or s3://BUCKET/PREFIX"),
        ("service_wait_s: -1", "-1 is not permitted; service_wait_s must be an integer from 0 to 3600"),
        (
            "{cassandra: 'here:9042', cassandra_replication: 3, cassandra_consistency: ONE}",
            "cassandra_consistency: ONE of 3 copies may miss what was published",
        ),
    ],
)
def test_a_cluster_file_with_a_key_or_value_that_cannot_be(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"cluster_name: darkroom\nmetadata:\n  darkroom:\n    {written}\n")
    assert said in refused(*SERVE, "--config", file, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()
