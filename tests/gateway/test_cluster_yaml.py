"""cluster.yaml is a file that Ray's own launcher takes, and one that Darkroom reads its settings from."""

import json
from pathlib import Path
from typing import Any

import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from darkroom.gateway.settings import CLUSTER_KEYS, load_settings

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CLUSTER.read_text())
    return loaded


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


def test_the_keys_that_we_permit_are_those_of_rays_schema() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    assert set(schema["properties"]) | {"min_workers"} == CLUSTER_KEYS


def test_the_prepared_start_commands_stop_no_other_ray_and_report_nothing(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    commands = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    for command in commands:
        assert "ray stop" not in command
        assert "RAY_USAGE_STATS_ENABLED=0 " in command


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
