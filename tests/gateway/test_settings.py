"""Settings come from four sources in one order, and whatever is not permitted is an error that says where it stands."""

import pickle
from pathlib import Path

import pytest

from darkroom.gateway.servers import object_store_address
from darkroom.gateway.settings import CONFIG_BYTES_MAX, KEYS, Settings, SettingsError, load_settings, settings_table

ROOT = Path(__file__).parents[2]


def _written(folder: Path, text: str | bytes) -> Path:
    path = folder / "cluster.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _refusal(
    flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, config: Path | None = None
) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(flags or {}, environ or {}, config)
    return str(refused.value)


def test_nothing_given_means_the_defaults() -> None:
    assert load_settings({}, {"HOME": "/", "DARK": "1"}, None) == Settings()


def test_flags_override_environment_overrides_file_overrides_defaults(tmp_path: Path) -> None:
    config = _written(tmp_path, "metadata: {darkroom: {shards: 2, feed_rows: 20, port: 2000, batch_events: 7}}")
    environ = {"DARKROOM_SHARDS": "3", "DARKROOM_FEED_ROWS": "30"}
    flags = {"shards": "4", "port": None}
    settings = load_settings(flags, environ, config)
    assert (settings.shards, settings.feed_rows, settings.port, settings.batch_events) == (4, 30, 2000, 7)
    assert settings.activity_rows == Settings().activity_rows


def test_a_file_counts_only_when_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _written(tmp_path, "metadata: {darkroom: {shards: 5}}")
    monkeypatch.chdir(tmp_path)
    assert load_settings({}, {}, None).shards is None


def test_never_turns_off_what_another_source_has_set(tmp_path: Path) -> None:
    config = _written(tmp_path, "metadata: {darkroom: {celebrity_threshold: 5, feed_ttl_days: 3}}")
    environ = {"DARKROOM_FEED_TTL_DAYS": "never"}
    settings = load_settings({"celebrity_threshold": "never"}, environ, config)
    assert settings.celebrity_threshold is None
    assert settings.feed_ttl_days is None


def test_settings_are_frozen_and_travel_to_another_process() -> None:
    settings = load_settings({"data": "elsewhere", "runtime": "ray"}, {}, None)
    with pytest.raises(AttributeError):
        settings.shards = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("name", KEYS)
def test_every_default_is_itself_permitted(name: str) -> None:
    default = getattr(Settings(), name)
    assert default is None or KEYS[name].rule.parse(default) == default
    assert name in Settings.__struct_fields__


WHOLE = ["", " ", "x", "1.0", "1e3", " 1", "+1", "0x10", "1_000", "٣", "9" * 5000, True, 1.0, [1], {}, "-"]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("shards", 1, 1024),
        ("celebrity_threshold", 0, 2**48 - 1),
        ("feed_rows", 1, 2**48 - 1),
        ("feed_ttl_days", 1, 1_000_000),
        ("batch_events", 1, 1_000_000),
        ("port", 0, 65535),
    ],
)
def test_an_integer_outside_its_range_is_refused_by_name(name: str, low: int, high: int) -> None:
    for number in (low, high):
        assert getattr(load_settings({name: number}, {}, None), name) == number
        assert getattr(load_settings({name: str(number)}, {}, None), name) == number
    for value in [low - 1, high + 1, str(low - 1), str(high + 1), *WHOLE]:
        message = _refusal({name: value})
        assert message.startswith(f"--{name.replace('_', '-')}: ")
        assert f"{name} must be an integer from {low} to {high}" in message
        assert len(message) < 300


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shards", "never"),
        ("feed_rows", "never"),
        ("celebrity_threshold", "Never"),
        ("runtime", "Ray"),
        ("runtime", ["ray"]),
        ("host", "a b"),
        ("host", ""),
        ("host", 1),
        ("data", ""),
        ("data", "a\0b"),
        ("data", 1),
        ("data", "x" * 4097),
        ("kafka", ""),
        ("kafka", "localhost"),
        ("kafka", "localhost:"),
        ("kafka", "localhost:0"),
        ("kafka", "localhost:65536"),
        ("cassandra", "a:1,"),
        ("cassandra", "a b:1"),
        ("cassandra_keyspace", "Darkroom"),
        ("cassandra_keyspace", "1st"),
        ("cassandra_keyspace", "x" * 49),
        ("neo4j", "http://localhost:7687"),
        ("object_store", "bucket"),
        ("object_store", "s3://Bucket"),
        ("object_store_endpoint", "localhost:9000"),
        ("ray_address", "here"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(name: str, value: object) -> None:
    assert f"{name} must be {KEYS[name].rule.permitted}" in _refusal({name: value})


def test_servers_are_a_host_and_a_port_or_several() -> None:
    for servers in ("localhost:9092", "a.example:1,b-2:65535", "[::1]:9042"):
        assert load_settings({"kafka": servers}, {}, None).kafka == servers


def test_a_secret_is_never_shown() -> None:
    for name in ("cassandra_password", "neo4j_password", "redis_password", "object_store_secret_key"):
        assert load_settings({name: "hunter2"}, {}, None) != Settings()
        assert "hunter2" not in _refusal({name: "hunter2 "})


def test_errors_name_the_variable_or_the_place_in_the_file(tmp_path: Path) -> None:
    assert _refusal(environ={"DARKROOM_FEED_ROWS": "0"}).startswith(
        "DARKROOM_FEED_ROWS: '0' is not permitted; feed_rows"
    )
    config = _written(tmp_path, "metadata: {darkroom: {feed_rows: 0}}")
    assert _refusal(config=config).startswith(f"{config}: metadata.darkroom.feed_rows: 0 is not permitted; feed_rows")


def test_a_fault_in_one_source_is_not_hidden_by_another(tmp_path: Path) -> None:
    config = _written(tmp_path, "metadata: {darkroom: {feed_rows: 0}}")
    assert "metadata.darkroom.feed_rows" in _refusal({"feed_rows": 10}, {"DARKROOM_FEED_ROWS": "10"}, config)


@pytest.mark.parametrize(
    "variable", ["DARKROOM_SHARD", "DARKROOM_", "DARKROOM_shards", "DARKROOM_FEED-ROWS", "DARKROOM_CONFIG"]
)
def test_an_unknown_variable_is_refused(variable: str) -> None:
    message = _refusal(environ={variable: "hunter2"})
    assert message.startswith(f"{variable}: there is no such setting")
    assert "celebrity_threshold" in message
    assert "hunter2" not in message


def test_an_unknown_flag_is_refused() -> None:
    assert _refusal({"feed_row": 1}).startswith("--feed-row: there is no such setting")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("shards: 2", "'shards' is no key of a cluster file"),
        ("darkroom: {shards: 2}", "'darkroom' is no key of a cluster file"),
        ("metadata: {darkrom: {shards: 2}}", "metadata has 'darkrom' but no darkroom"),
        ("metadata: {darkroom: {shard: 2}}", "metadata.darkroom.shard: there is no such setting"),
        ("metadata: {darkroom: {1: 2}}", "metadata.darkroom.1: there is no such setting"),
        ("metadata: {darkroom: {shards: }}", "metadata.darkroom.shards: None is not permitted"),
        ("metadata: {darkroom: {shards: yes}}", "metadata.darkroom.shards: True is not permitted"),
        ("metadata: {darkroom: [shards]}", "metadata.darkroom is ['shards']; it must be a mapping"),
        ("metadata: darkroom", "metadata is 'darkroom'; it must be a mapping"),
        ("- 1", "the file is [1]; it must be a mapping"),
        ("metadata: {", "not YAML"),
        ("metadata: !!python/object:os.system {}", "not YAML"),
        ("metadata: 2024-13-01", "not YAML"),
        ("cluster_name: \0", "not YAML"),
        ("[" * 5000, "not YAML"),
        (b"metadata: \xff", "not UTF-8: invalid start byte at byte 10"),
        ("metadata: {darkroom: {shards: 0x" + "f" * 9000 + "}}", "a number of very many digits is not permitted"),
        ("#" * (CONFIG_BYTES_MAX + 1), "is larger than"),
    ],
)
def test_a_faulty_file_is_refused_by_name_and_place(tmp_path: Path, text: str | bytes, named: str) -> None:
    config = _written(tmp_path, text)
    message = _refusal(config=config)
    assert message.startswith(f"{config}: ")
    assert named in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert _refusal(config=missing) == f"{missing}: cannot be read: No such file or directory"
    assert _refusal(config=tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "metadata:", "metadata: {darkroom: }", "cluster_name: x", "metadata: {darkroom: {}, my: 1}"],
)
def test_a_file_may_leave_everything_at_its_default(tmp_path: Path, text: str) -> None:
    assert load_settings({}, {}, _written(tmp_path, text)) == Settings()


def test_the_documented_table_is_the_settings_own() -> None:
    assert settings_table() in (ROOT / "docs/operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("deadline_ms", "small_s", "content_s"), [(2_000, 2.0, 30.0), (45_000, 45.0, 45.0)])
def test_an_object_store_has_the_deadline_of_every_server_for_what_is_small(
    deadline_ms: int, small_s: float, content_s: float
) -> None:
    there = {"object_store": "s3://prints", "object_store_access_key": "key", "object_store_secret_key": "sesame"}
    address = object_store_address(load_settings({**there, "service_deadline_ms": deadline_ms}, {}, None))
    assert address is not None
    assert (address.deadline_s, address.content_deadline_s) == (small_s, content_s)
