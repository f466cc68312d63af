"""A real Kafka that lets in whom it knows, and nobody else."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands_run import done, lines, refused, registered
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from services.services import PROGRAM, control, own_folder, started

pytestmark = [pytest.mark.services, pytest.mark.own_servers]

Variables = dict[str, str]
SERVE = ("serve", "--runtime", "inline", "--shards", "1", "--port", "0")
CAROL = lines(*registered("carol"))
LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:$port,SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SASL_PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required user_ada="sesame";
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Variables]:
    """Kafka's place with a listener for those who log in, and who does."""
    place = tmp_path_factory.mktemp("kafka")
    folder, program = own_folder(place / "services"), place / "program"
    shutil.copytree(PROGRAM, program)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (program / "servers/kafka/server.properties").open("a") as properties:
        properties.write(LISTENERS.format(port=port))
    try:
        where = started("kafka", folder, program)
        admin = AdminClient({"bootstrap.servers": f"{where['host']}:{where['port']}"})
        mechanism = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsertion = UserScramCredentialUpsertion("bo", mechanism, b"open")
        admin.alter_user_scram_credentials([upsertion])["bo"].result(30)
        yield {"DARKROOM_KAFKA": f"127.0.0.1:{port}", "DARKROOM_KAFKA_PROTOCOL": "sasl_plaintext"}
    finally:
        control("stop", folder=folder, program=program)


@pytest.mark.parametrize(
    ("mechanism", "user", "password"), [("PLAIN", "ada", "sesame"), ("SCRAM-SHA-512", "bo", "open")]
)
def test_who_is_known_is_let_in_and_who_is_not_is_told_so(
    guarded: Variables, tmp_path: Path, mechanism: str, user: str, password: str
) -> None:
    right = guarded | {
        "DARKROOM_KAFKA_TOPIC": f"log_of_{user}",
        "DARKROOM_KAFKA_MECHANISM": mechanism,
        "DARKROOM_KAFKA_USER": user,
        "DARKROOM_KAFKA_PASSWORD": password,
    }
    for wrong in ({"DARKROOM_KAFKA_PASSWORD": "not-this-one"}, {"DARKROOM_KAFKA_USER": "eve"}):
        for command in (SERVE, ("log", "append", "-")):
            line = refused(*command, data=tmp_path / "data", stdin=CAROL, settings=right | wrong)
            assert "cannot be reached with these credentials: mend user, password and mechanism" in line
            assert not {"not-this-one", password} & set(line.split())
    assert not (tmp_path / "data").exists()
    assert done("log", "append", "-", data=tmp_path / "data", stdin=CAROL, settings=right) == "1"
    assert done("catch-up", "--shards", "1", data=tmp_path / "data", settings=right) == "1"
