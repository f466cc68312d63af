"""compose.yaml starts what `python deploy/services` starts: the same versions and settings, on loopback only."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVERS = DEPLOY / "services/servers"


@pytest.fixture
def composed() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded["services"]  # type: ignore[no-any-return]


def properties(name: str) -> dict[str, str]:
    lines = (SERVERS / name).read_text(encoding="utf-8").splitlines()
    return {key: value for key, mark, value in (line.partition("=") for line in lines if line[:1] != "#") if mark}


def version(name: str) -> str:
    found = re.search(r"<dependency>.*?<version>([\d.]+)</version>", pom(name), re.DOTALL)
    assert found, name
    return found[1]


def pom(name: str) -> str:
    return (SERVERS / name / "pom.xml").read_text(encoding="utf-8")


def test_every_server_is_composed_from_a_pinned_image_of_the_same_version(composed: dict[str, Any]) -> None:
    images = {name: service["image"].rpartition(":")[2] for name, service in composed.items()}
    assert images.pop("redis").startswith("7.0.")
    assert images == {
        "cassandra": version("cassandra"),
        "kafka": version("kafka"),
        "neo4j": f"{version('neo4j')}-community",
    }


def test_every_server_has_a_health_check_and_is_published_on_loopback_only(composed: dict[str, Any]) -> None:
    for service in composed.values():
        assert service["healthcheck"]["test"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_kafka_has_the_same_settings(composed: dict[str, Any]) -> None:
    environment = composed["kafka"]["environment"]
    for key, value in properties("kafka/server.properties").items():
        composed_value = str(environment[f"KAFKA_{key.replace('.', '_').upper()}"])
        assert composed_value == value or "$" in value, key


def test_neo4j_has_the_same_settings(composed: dict[str, Any]) -> None:
    environment = composed["neo4j"]["environment"]
    for key, value in properties("neo4j/neo4j.conf").items():
        if not key.endswith("listen_address") and not key.endswith("auth_enabled"):
            name = f"NEO4J_{key.replace('_', '__').replace('.', '_')}"
            assert str(environment[name]) == value or "$" in value, key


def test_cassandra_has_the_same_settings(composed: dict[str, Any]) -> None:
    text = re.sub(r"\$\w+", "1", (SERVERS / "cassandra/cassandra.yaml").read_text(encoding="utf-8"))
    settings = yaml.safe_load(text)
    options = composed["cassandra"]["environment"]["JVM_EXTRA_OPTS"]
    for key, value in re.findall(r"-Dcassandra\.settings\.(\w+)=(\S+)", options):
        assert yaml.safe_load(value) == settings[key], key
    ours = (SERVERS / "cassandra/jvm.options").read_text(encoding="utf-8").split()
    assert {option for option in ours if option.startswith("-Dcassandra.")} <= set(options.split())


def test_redis_has_the_same_settings(composed: dict[str, Any]) -> None:
    words = composed["redis"]["command"]
    given = {words[i].removeprefix("--"): words[i + 1] for i in range(1, len(words), 2)}
    lines = (SERVERS / "redis/redis.conf").read_text(encoding="utf-8").splitlines()
    ours = dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))
    assert given == {key: value.strip('"') for key, value in ours.items() if key in given}


def test_the_poms_name_nothing_but_pinned_releases() -> None:
    for path in SERVERS.glob("*/pom.xml"):
        tree = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        versions = [found.text or "" for found in tree.iter("{http://maven.apache.org/POM/4.0.0}version")]
        assert all(re.fullmatch(r"[\d.]+", found) for found in versions), path
