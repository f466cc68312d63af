"""cluster.yaml and deploy/production.yaml are files that Ray's own launcher takes, and Darkroom's settings."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.autoscaler
import yaml
from commands_run import darkroom, environment, filled, registered
from ray.autoscaler._private.util import prepare_config, validate_config

from darkroom.gateway.settings import CLUSTER_KEYS, KEYS, SettingsError, load_settings

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster.yaml"
PRODUCTION = ROOT / "deploy/production.yaml"
STORES = ("kafka", "cassandra", "neo4j", "redis")
START_S = 120


@pytest.fixture(params=[CLUSTER, PRODUCTION], ids=lambda path: path.stem)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return loaded(request.param)


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def test_ray_validates_the_file_and_leaves_our_settings_as_they_are(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["metadata"] == cluster["metadata"]


def test_our_settings_anywhere_else_would_not_pass_rays_validation(cluster: dict[str, Any]) -> None:
    cluster["darkroom"] = cluster["metadata"]["darkroom"]
    with pytest.raises(Exception, match=r"not allowed \('darkroom' was unexpected\)"):
        validate_config(prepare_config(cluster))


def test_darkroom_reads_two_shards_on_ray_from_it() -> None:
    settings = load_settings({}, {}, CLUSTER)
    assert (settings.shards, settings.runtime) == (2, "ray")
    assert (settings.celebrity_threshold, settings.feed_ttl_days) == (10_000, None)
    assert [getattr(settings, store) for store in STORES] == [None] * len(STORES)


def test_production_names_every_server_of_the_compose_file_at_its_port() -> None:
    settings = load_settings({}, {}, PRODUCTION)
    composed = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    published = {name: port.rpartition(":")[0] for name in STORES for port in composed[name]["ports"]}
    assert {name: getattr(settings, name).removeprefix("bolt://") for name in STORES} == published
    assert (settings.runtime, settings.shards, settings.feed_ttl_days) == ("ray", 4, 90)
    [command] = loaded(PRODUCTION)["head_start_ray_commands"]
    [port] = re.findall(r"--port=(\d+)", command)
    assert f"127.0.0.1:{port}" not in published.values(), "Ray would take a server's port"


def test_production_takes_its_passwords_from_the_environment_alone() -> None:
    secrets = [name for name, key in KEYS.items() if "secret" in name or "password" in name]
    assert not set(secrets) & set(loaded(PRODUCTION)["metadata"]["darkroom"])
    given = {KEYS[name].variable: "hunter2" for name in secrets}
    settings = load_settings({}, given, PRODUCTION)
    assert {getattr(settings, name) for name in secrets} == {"hunter2"}
    assert settings.cassandra_user == "cassandra"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("kafka", "cassandra", "redis") for value in ("localhost", "a:0", 9092, None)),
        ("neo4j", "127.0.0.1:7687"),
        ("kafka_topic", "Darkroom"),
        ("cassandra_consistency", "TWO"),
        ("cassandra_replication", 0),
        ("cassandra_replication", "3 of 5"),
        ("ray_address", "here"),
        ("state", 7),
        ("shards", 0),
        ("shards", "never"),
        ("celebrity_threshold", -1),
        ("feed_ttl_days", 0),
        ("snapshot_minutes", 0),
        ("service_wait_s", -1),
        ("service_deadline_ms", 1),
    ],
)
def test_an_impossible_value_in_a_topology_is_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    message = refusal(tmp_path, {name: value})
    assert f"metadata.darkroom.{name}: " in message
    assert f"{name} must be {KEYS[name].rule.permitted}" in message


@pytest.mark.parametrize("name", ["kafka_servers", "Kafka", "cassandra_hosts", "store", "horizon", "threshold"])
def test_a_key_that_is_none_of_a_topologys_is_refused_by_name(tmp_path: Path, name: str) -> None:
    assert f"metadata.darkroom.{name}: there is no such setting" in refusal(tmp_path, {name: "localhost:9092"})


def refusal(tmp_path: Path, changed: dict[str, object]) -> str:
    """What production's file is refused for with these settings in it."""
    topology = loaded(PRODUCTION)
    topology["metadata"]["darkroom"] |= changed
    path = tmp_path / "production.yaml"
    path.write_text(yaml.safe_dump(topology))
    with pytest.raises(SettingsError) as refused:
        load_settings({}, {}, path)
    return str(refused.value)


def test_the_keys_that_we_permit_are_those_of_rays_schema() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    assert set(schema["properties"]) | {"min_workers"} == CLUSTER_KEYS


def test_the_prepared_start_commands_stop_no_other_ray_and_report_nothing(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    commands = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    for command in commands:
        assert "ray stop" not in command
        assert "RAY_USAGE_STATS_ENABLED=0 " in command
        assert "RAY_AUTH_MODE=token " in command


def test_the_head_listens_on_loopback_only(cluster: dict[str, Any]) -> None:
    assert cluster["provider"] == {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
    (command,) = cluster["head_start_ray_commands"]
    # Without the variable, Ray replaces 127.0.0.1 by the machine's own address and listens everywhere.
    for needed in (
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 ",
        "--node-ip-address=127.0.0.1 ",
        "--include-dashboard=false ",
        "--dashboard-host=127.0.0.1 ",
    ):
        assert needed in command


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory with a short path, for Ray's sockets; whatever runs for it is ended."""
    home = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))
    yield home
    mark = f"HOME={home}\0".encode()
    while found := [place for place in Path("/proc").glob("[0-9]*") if lives_with(place, mark)]:
        for place in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(place.name), signal.SIGKILL)
    shutil.rmtree(home)


def lives_with(place: Path, mark: bytes) -> bool:
    try:
        return mark in (place / "environ").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return False


@pytest.mark.ray
def test_the_head_that_ray_up_starts_runs_the_shards_of_the_file_that_it_leaves_there(
    home: Path, tmp_path: Path
) -> None:
    """All that `ray up` does on a head, but for ssh: its file in the home directory, and the command."""
    prepared = prepare_config(loaded(CLUSTER))
    left = home / "ray_bootstrap_config.yaml"
    left.write_text(json.dumps(prepared))
    [command] = prepared["head_start_ray_commands"]
    theirs = {"HOME": str(home), "RAY_TMPDIR": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    # The port is one that is free here.
    command = command.replace("--port=6379 ", "--port=0 ")
    with (tmp_path / "said").open("w+") as said:
        started = subprocess.run(
            ["bash", "-c", command], env=environment(theirs), stdout=said, stderr=subprocess.STDOUT, timeout=START_S
        )
        said.seek(0)
        assert started.returncode == 0, said.read()
    address = (home / ".darkroom-ray/ray/ray_current_cluster").read_text().strip()
    data = filled(tmp_path / "data", registered("ann", "bo"))
    ours = theirs | {"DARKROOM_RAY_ADDRESS": address}
    caught_up = darkroom("catch-up", "--runtime", "ray", "--config", left, data=data, settings=ours)
    assert (caught_up.status, caught_up.out) == (0, "2\n"), caught_up
    told = darkroom("status", "--json", data=data).object
    assert [shard["position"] for shard in told["shards"]] == [2, 2]
