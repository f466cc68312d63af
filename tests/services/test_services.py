"""The command starts real servers, finds them again, and ends nothing but what it started."""

import json
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka
import neo4j
import pytest
import redis
from cassandra import OperationTimedOut
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from services.services import (
    DONE,
    FAILED,
    FOLDER,
    TOOL_MISSING,
    Address,
    Services,
    address,
    control,
    own_folder,
    started,
)
from waiting import until

from darkroom.gateway.settings import load_settings

pytestmark = pytest.mark.services
NAMES = ["redis", "kafka", "cassandra", "neo4j"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of its own, so that nothing that others use is stopped."""
    yield tmp_path / "services"
    control("stop", folder=tmp_path / "services")


def ping(where: Address) -> bool:
    with redis.Redis(where["host"], where["port"], socket_timeout=10) as client:
        return bool(client.ping())


def ask_redis(where: Address) -> None:
    with redis.Redis(where["host"], where["port"], socket_timeout=10) as client:
        name = uuid.uuid4().hex
        client.set(name, "held", ex=60)
        assert client.get(name) == b"held"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


def ask_neo4j(where: Address) -> None:
    uri = f"bolt://{where['host']}:{where['port']}"
    with neo4j.GraphDatabase.driver(uri, auth=(where["user"], where["password"])) as driver:
        assert driver.execute_query("RETURN 1 AS one").records[0]["one"] == 1
    with (
        pytest.raises(neo4j.exceptions.AuthError),
        neo4j.GraphDatabase.driver(uri, auth=("neo4j", "neo4j")) as driver,
    ):
        driver.verify_connectivity()


def cluster(where: Address, password: str) -> Cluster:
    credentials = PlainTextAuthProvider(where["user"], password)
    return Cluster([where["host"]], port=where["port"], auth_provider=credentials, protocol_version=5)


def ask_cassandra(where: Address) -> None:
    with cluster(where, where["password"]) as client:
        row = client.connect().execute("SELECT release_version FROM system.local").one()
        assert row.release_version.startswith("5.0.")
    with pytest.raises((NoHostAvailable, OperationTimedOut)), cluster(where, "cassandra") as client:
        client.connect()


def ask_kafka(where: Address) -> None:
    with own_topic(where) as topic:
        assert [append(where, topic, text) for text in (b"first", b"second")] == [0, 1]
        assert read(where, topic, offset=1) == [b"second"]


def servers(where: Address) -> dict[str, str | int | float | bool]:
    return {"bootstrap.servers": f"{where['host']}:{where['port']}"}


@contextmanager
def own_topic(where: Address) -> Iterator[str]:
    topic = uuid.uuid4().hex
    admin = AdminClient(servers(where))  # what it promises is broken when it is collected
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    try:
        yield topic
    finally:
        admin.delete_topics([topic])[topic].result(30)


def append(where: Address, topic: str, value: bytes) -> int:
    """The offset that the idempotent producer was told."""
    offsets: list[int] = []

    def delivered(error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
        offset = message.offset()
        assert error is None
        assert offset is not None
        offsets.append(offset)

    producer = confluent_kafka.Producer({**servers(where), "enable.idempotence": True, "acks": "all"})
    producer.produce(topic, value, on_delivery=delivered)
    assert producer.flush(30) == 0
    return offsets[0]


def read(where: Address, topic: str, offset: int) -> list[bytes | None]:
    consumer = confluent_kafka.Consumer({**servers(where), "group.id": "unused", "enable.auto.commit": False})
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, offset)])
        _, end = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=30)
        messages = consumer.consume(end - offset, timeout=30)
        return [message.value() for message in messages]
    finally:
        consumer.close()


ASK: dict[str, Callable[[Address], None]] = {
    "redis": ask_redis,
    "kafka": ask_kafka,
    "cassandra": ask_cassandra,
    "neo4j": ask_neo4j,
}


@pytest.mark.parametrize("name", NAMES)
def test_each_server_answers_its_driver_and_no_known_password(service: Services, name: str) -> None:
    ASK[name](service(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_second_start_finds_what_runs(service: Services, name: str) -> None:
    first = service(name)
    status, words = control("start", name)
    assert (status, words) == (
        DONE,
        f"{name}: 127.0.0.1:{first['port']} (pid {first['process']['pid']}) runs already\n",
    )
    assert address(name) == first


@pytest.mark.parametrize("name", NAMES)
def test_a_server_listens_on_its_ports_of_the_loopback_interface_and_nowhere_else(service: Services, name: str) -> None:
    where = service(name)
    assert listening(where["process"]["pid"]) == {("127.0.0.1", port) for port in where["ports"].values()}


def listening(pid: int) -> set[tuple[str, int]]:
    """The addresses on which a process takes connections, of both families."""
    inodes = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                host, port = fields[1].split(":")
                words = [bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8)]
                found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


@pytest.mark.soak  # as test_kafka_faults.py has it, for the service alone
def test_what_kafka_acknowledged_outlives_a_kill_and_it_comes_back_on_its_port(folder: Path) -> None:
    before = started("kafka", own_folder(folder))
    with own_topic(before) as topic:
        assert append(before, topic, b"kept") == 0
        os.kill(before["process"]["pid"], signal.SIGKILL)
        after = started("kafka", folder)
        assert after["ports"] == before["ports"]
        assert after["process"] != before["process"]
        assert read(after, topic, offset=0) == [b"kept"]


def test_a_killed_server_is_started_again_by_the_next_start(folder: Path) -> None:
    before = started("redis", folder)
    os.kill(before["process"]["pid"], signal.SIGKILL)
    wait_until_free(before["port"])
    assert control("status", "redis", folder=folder) == (FAILED, "redis: does not run\n")
    after = started("redis", folder)
    assert (after["port"], ping(after)) == (before["port"], True)


def wait_until_free(port: int) -> None:
    """A killed process is not gone at once; its end is seen by connections being refused."""

    def is_refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(is_refused, f"nobody listens on {port}")


def test_a_server_that_was_stopped_by_a_signal_goes_on(folder: Path) -> None:
    before = started("redis", folder)
    os.kill(before["process"]["pid"], signal.SIGSTOP)
    assert started("redis", folder) == before
    assert ping(before)


def test_stop_ends_ours_and_no_other(folder: Path) -> None:
    ours = started("redis", folder)
    with foreign_redis(folder) as (other, port):
        assert control("stop", folder=folder)[0] == DONE
        assert control("status", "redis", folder=folder)[0] == FAILED
        assert other.poll() is None
        assert ping(ours | {"port": port})


def test_a_process_that_only_has_the_recorded_id_is_not_ended(folder: Path) -> None:
    started("redis", folder)
    assert control("stop", folder=folder)[0] == DONE
    with foreign_redis(folder) as (other, _):
        record = address("redis", folder) | {"process": {"pid": other.pid, "started_ticks": 1, "boot": "another"}}
        (folder / "services.json").write_text(json.dumps({"redis": record}), encoding="utf-8")
        assert control("stop", folder=folder) == (DONE, "".join(f"{name}: did not run\n" for name in NAMES))
        assert other.poll() is None


@contextmanager
def foreign_redis(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A Redis that somebody else started, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder.parent) as process:
        assert process.stdout is not None
        try:
            assert any("Ready to accept connections" in line for line in process.stdout)
            yield process, port
        finally:
            process.kill()


def test_what_a_start_left_unrecorded_is_ended_by_the_next(folder: Path) -> None:
    lost = started("redis", folder)
    (folder / "services.json").unlink()
    found = started("redis", folder)
    assert found["process"]["pid"] != lost["process"]["pid"]
    wait_until_free(lost["port"])


def test_a_port_that_another_took_meanwhile_is_given_up(folder: Path) -> None:
    before = started("redis", folder)
    assert control("stop", folder=folder)[0] == DONE
    with socket.create_server(("127.0.0.1", before["port"])):
        after = started("redis", folder)
    assert after["port"] != before["port"]
    assert ping(after)


def test_wipe_removes_the_data_and_the_password_with_it(folder: Path) -> None:
    started("redis", folder)
    assert control("stop", "redis", "--wipe", folder=folder) == (DONE, "redis: stopped, its data removed\n")
    assert not (folder / "redis").exists()
    assert json.loads((folder / "services.json").read_text(encoding="utf-8")) == {}


def test_only_the_owner_can_read_the_passwords(folder: Path) -> None:
    started("redis", folder)
    private = (folder, folder / "services.json", folder / "darkroom.yaml")
    assert [path.stat().st_mode & 0o077 for path in private] == [0, 0, 0]


def test_what_is_started_is_written_down_for_darkroom(service: Services) -> None:
    where = {name: service(name) for name in NAMES}
    settings = load_settings({}, {}, FOLDER / "darkroom.yaml")
    assert settings.redis == f"127.0.0.1:{where['redis']['port']}"
    assert settings.kafka == f"127.0.0.1:{where['kafka']['port']}"
    assert settings.neo4j == f"bolt://127.0.0.1:{where['neo4j']['port']}"
    assert settings.cassandra == f"127.0.0.1:{where['cassandra']['port']}"
    assert settings.neo4j_password == where["neo4j"]["password"]
    assert (settings.cassandra_user, settings.cassandra_password) == (
        where["cassandra"]["user"],
        where["cassandra"]["password"],
    )


def test_data_without_its_password_is_refused(folder: Path, service: Services) -> None:
    service("neo4j")  # its jars, and Java, are there
    folder.mkdir()
    (folder / "jars").symlink_to(Path(__file__).parents[2] / ".services/jars")
    (folder / "neo4j/data").mkdir(parents=True)
    status, words = control("start", "neo4j", folder=folder)
    assert status == FAILED
    assert "neo4j has data, and its password is lost" in words


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_program_is_named_with_its_own_exit_status(folder: Path, name: str) -> None:
    status, words = control("start", name, folder=folder, environment={"PATH": "/nowhere"})
    assert status == TOOL_MISSING
    assert ("redis-server is needed" if name == "redis" else "Java 17 is needed") in words


def test_a_java_of_another_version_is_named(folder: Path, tmp_path: Path) -> None:
    java = tmp_path / "bin/java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    status, words = control("start", "kafka", folder=folder, environment={"JAVA_HOME": str(tmp_path)})
    assert status == TOOL_MISSING
    assert words == f"error: Java 17 is needed, and {java} is 21; name another with JAVA_HOME\n"


def test_a_server_that_cannot_start_is_an_error_with_its_own_words(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin/redis-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho cannot >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    status, words = control("start", "redis", folder=folder, environment={"PATH": f"{program.parent}:/bin"})
    assert status == FAILED
    assert "redis ended while it started" in words
    assert words.endswith("ends with:\ncannot\n")


def test_an_unknown_name_is_refused_with_the_known_ones(folder: Path) -> None:
    status, words = control("start", "postgres", folder=folder)
    assert status == 2
    assert "'postgres' is none of redis, kafka, cassandra, neo4j" in words
    assert not folder.exists()


def test_a_damaged_record_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "services.json").write_text('{"redis": {}}', encoding="utf-8")
    status, words = control("start", "redis", folder=folder)
    assert status == FAILED
    assert "cannot be read" in words
    shutil.rmtree(folder)
