"""The settings: one frozen value from defaults, then the file given with --config, the environment and the flags.

`Settings` is the one table of keys: type, permitted values, default and help. Parsing, errors and the documented table
derive from it. What is unknown or not permitted is a SettingsError that says where it was written; nothing is guessed.
"""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_type_hints

import msgspec
import yaml

from darkroom.events.log import POSITION_MAX
from darkroom.gateway.media_protocol import FILE_BYTES_MAX
from darkroom.gateway.setting_rules import (
    BOLT_URL,
    DATACENTER,
    FILE,
    HTTP_URL,
    LOGIN,
    NAME,
    OBJECT_URL,
    RAY_ADDRESS,
    SECRET,
    Address,
    Folder,
    OneOf,
    Rule,
    Servers,
    Text,
    Whole,
)
from darkroom.projections.routing import SHARDS_MAX

VARIABLE_PREFIX = "DARKROOM_"
CONFIG_BYTES_MAX = 1_000_000


class SettingsError(ValueError):
    """A setting is unknown or not permitted, or the file cannot be read; the message names key, source and range."""


@dataclass(frozen=True)
class Help:
    """What a setting does, in a line, and what None means where that is its default."""

    line: str
    none: str = "never"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One run's settings, as `name: Annotated[type, what is permitted, help] = default`."""

    # fmt: off
    data: Annotated[Path, Folder(), Help("Where everything is kept.")] = Path("darkroom-data")
    host: Annotated[str, Address(), Help("The address that HTTP is served on.")] = "127.0.0.1"
    port: Annotated[int, Whole(0, 65535), Help("The port that HTTP is served on; 0 takes a free one.")] = 8321
    gateways: Annotated[int, Whole(1, 64), Help("How many processes serve HTTP, all on that port.")] = 1
    runtime: Annotated[
        str | None, OneOf(("ray", "inline")),
        Help("Where shards run: in Ray's actors or in the command's own process.", none="the command's own"),
    ] = None
    shards: Annotated[
        int | None, Whole(1, SHARDS_MAX),
        Help("How many shards there are; another number needs a rebuild.", none="the directory's own"),
    ] = None
    batch_events: Annotated[
        int, Whole(1, 1_000_000),
        Help("The most events that a shard takes in one transaction."),
    ] = 100_000
    celebrity_threshold: Annotated[
        int | None, Whole(0, POSITION_MAX, never=True),
        Help("From so many followers on, an author's posts are pulled when read; 0 pulls all."),
    ] = 10_000
    feed_rows: Annotated[
        int, Whole(1, POSITION_MAX),
        Help("How many rows a home feed keeps; what is older is pulled when read."),
    ] = 1000
    feed_ttl_days: Annotated[
        int | None, Whole(1, 1_000_000, never=True),
        Help("For how long, in log time, a home feed keeps a row; what is older is pulled when read."),
    ] = None
    feed_cache_entries: Annotated[
        int, Whole(0, 10_000_000),
        Help("How many first pages are kept in memory; 0 turns the cache off."),
    ] = 10_000
    activity_rows: Annotated[
        int, Whole(1, 1_000_000),
        Help("How many rows back a list of activity goes."),
    ] = 1000
    write_wait_ms: Annotated[
        int, Whole(0, 60_000),
        Help("How long a write waits until it can be read, before it answers 202."),
    ] = 1000
    read_wait_ms: Annotated[
        int, Whole(0, 60_000),
        Help("How long a read waits for the position that it names, before it answers 503."),
    ] = 5000
    max_read_lag_ms: Annotated[
        int, Whole(0, 86_400_000),
        Help("A shard that is further behind no longer holds back what the others answer."),
    ] = 10_000
    caption_chars: Annotated[
        int, Whole(1, 10_000),
        Help("The longest caption or comment."),
    ] = 2200
    photos_per_post: Annotated[int, Whole(1, 20), Help("The most photos of one post.")] = 10
    upload_bytes: Annotated[int, Whole(1000, FILE_BYTES_MAX), Help("The largest upload.")] = 10_000_000
    kafka: Annotated[
        str | None, Servers(), Help("Kafka's brokers; the log is a topic there.", none="the log is in `data`"),
    ] = None
    kafka_topic: Annotated[str, NAME, Help("The topic that is the log.")] = "darkroom"
    kafka_protocol: Annotated[
        str, OneOf(("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")),
        Help("How brokers are spoken to: with ssl encrypted, with sasl by who logs in."),
    ] = "plaintext"
    kafka_mechanism: Annotated[
        str, OneOf(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")), Help("How they are shown the password, with sasl."),
    ] = "PLAIN"
    kafka_user: Annotated[str | None, LOGIN, Help("Who logs in.", none="nobody")] = None
    kafka_password: Annotated[str | None, SECRET, Help("With which password.", none="without one")] = None
    kafka_ca: Annotated[
        str | None, FILE, Help("Who signs the brokers' certificates, with ssl.", none="whom the system trusts"),
    ] = None
    cassandra: Annotated[
        str | None, Servers(),
        Help("Cassandra's nodes; views, credentials and uploads are there.", none="they are in `data`"),
    ] = None
    cassandra_keyspace: Annotated[str, NAME, Help("The keyspace.")] = "darkroom"
    cassandra_user: Annotated[str | None, LOGIN, Help("Who logs in.", none="nobody")] = None
    cassandra_password: Annotated[str | None, SECRET, Help("With which password.", none="without one")] = None
    cassandra_datacenter: Annotated[
        str | None, DATACENTER, Help("The datacenter that is asked, where there are several.", none="the only one"),
    ] = None
    cassandra_consistency: Annotated[
        str, OneOf(("LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL", "LOCAL_ONE", "ONE")),
        Help("How many replicas answer for a read or a write."),
    ] = "LOCAL_QUORUM"
    cassandra_replication: Annotated[
        int, Whole(1, 9), Help("How many copies there are, in that datacenter, where the keyspace is made."),
    ] = 1
    neo4j: Annotated[
        str | None, BOLT_URL, Help("Neo4j; the social graph is there too.", none="the graph is read from the views"),
    ] = None
    neo4j_user: Annotated[str, LOGIN, Help("Who logs in.")] = "neo4j"
    neo4j_password: Annotated[str | None, SECRET, Help("With which password.", none="without one")] = None
    neo4j_namespace: Annotated[
        str, NAME, Help("What its labels begin with; no two logs may share one in a database."),
    ] = "darkroom"
    neo4j_database: Annotated[str, NAME, Help("The database.")] = "neo4j"
    redis: Annotated[
        str | None, Servers(), Help("Redis; active users' feeds are cached there.", none="they are cached in memory"),
    ] = None
    redis_user: Annotated[str | None, LOGIN, Help("Who logs in.", none="Redis's own default")] = None
    redis_password: Annotated[str | None, SECRET, Help("With which password.", none="without one")] = None
    redis_prefix: Annotated[str, NAME, Help("What its keys begin with; no two logs may share one.")] = "darkroom"
    object_store: Annotated[
        str | None, OBJECT_URL,
        Help("A bucket; photos and snapshots of the shards' state are there.", none="photos are in `data`"),
    ] = None
    object_store_endpoint: Annotated[
        str | None, HTTP_URL, Help("Where the bucket is served.", none="the region's own"),
    ] = None
    object_store_region: Annotated[str, LOGIN, Help("The bucket's region.")] = "us-east-1"
    object_store_access_key: Annotated[str | None, LOGIN, Help("Who reads and writes it.", none="nobody")] = None
    object_store_secret_key: Annotated[str | None, SECRET, Help("With which secret.", none="without one")] = None
    snapshot_minutes: Annotated[
        int, Whole(1, 10_080), Help("How often each shard's state is copied to the bucket."),
    ] = 15
    state: Annotated[
        Path | None, Folder(),
        Help("Where shards keep their state on each node.", none="`data`"),
    ] = None
    ray_address: Annotated[
        str, RAY_ADDRESS, Help("Which Ray runs the shards: one of its own, the one of this machine, or that one."),
    ] = "local"
    service_wait_s: Annotated[
        int, Whole(0, 3600), Help("How long a command waits for servers that do not answer when it starts."),
    ] = 60
    service_deadline_ms: Annotated[
        int, Whole(10, 60_000), Help("How long a server may take to answer."),
    ] = 5000
    # fmt: on


@dataclass(frozen=True)
class Key:
    """One setting, as commands, errors and docs tell of it."""

    name: str
    rule: Rule
    help: str
    default: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()


def _key(name: str, rule: Rule, text: Help) -> Key:
    default = getattr(Settings(), name)
    return Key(name, rule, text.line, text.none if default is None else str(default))


KEYS: Mapping[str, Key] = {
    name: _key(name, *hint.__metadata__) for name, hint in get_type_hints(Settings, include_extras=True).items()
}

# Ray's launcher refuses any other, and so do we, for a key at the wrong depth would otherwise be silently ignored.
# A test compares them with Ray's own schema; min_workers is one that Ray moves elsewhere before it validates.
CLUSTER_KEYS = frozenset(
    {
        "auth",
        "available_node_types",
        "cluster_name",
        "cluster_synced_files",
        "docker",
        "file_mounts",
        "file_mounts_sync_continuously",
        "head_node_type",
        "head_setup_commands",
        "head_start_ray_commands",
        "idle_timeout_minutes",
        "initialization_commands",
        "max_workers",
        "metadata",
        "min_workers",
        "no_restart",
        "provider",
        "rsync_exclude",
        "rsync_filter",
        "setup_commands",
        "upscaling_speed",
        "worker_setup_commands",
        "worker_start_ray_commands",
    }
)


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str], config: Path | None) -> Settings:
    """The settings of one run; a flag that is None was not given. SettingsError for the first fault in any source."""
    values: dict[str, object] = {}
    if config is not None:
        values |= _parsed(
            (f"{config}: metadata.darkroom.{name if isinstance(name, str) else _shown(name)}", name, value)
            for name, value in _read_file(config).items()
        )
    values |= _parsed(
        (variable, _name_of(variable), value)
        for variable, value in environ.items()
        if variable.startswith(VARIABLE_PREFIX)
    )
    values |= _parsed(
        (f"--{name.replace('_', '-')}", name, value) for name, value in flags.items() if value is not None
    )
    return Settings(**values)  # type: ignore[arg-type]  # each value came from its own key's rule


def settings_table() -> str:
    """The table of docs/operations.md, in Markdown."""
    rows = [f"| `{key.name}` | {key.rule.permitted} | {key.default} | {key.help} |\n" for key in KEYS.values()]
    return "| key | permitted | default | what it does |\n|---|---|---|---|\n" + "".join(rows)


def _name_of(variable: str) -> str | None:
    return next((key.name for key in KEYS.values() if key.variable == variable), None)


def _parsed(written: Iterable[tuple[str, object, object]]) -> dict[str, object]:
    """Values by key, from triples of where each was written, its key, and what was written."""
    values: dict[str, object] = {}
    for source, name, value in written:
        key = KEYS.get(name) if isinstance(name, str) else None
        if key is None:
            raise SettingsError(f"{source}: there is no such setting; the settings are {', '.join(KEYS)}")
        try:
            values[str(name)] = key.rule.parse(value)
        except ValueError:
            shown = "what it holds" if isinstance(key.rule, Text) and key.rule.secret else _shown(value)
            message = f"{source}: {shown} is not permitted; {name} must be {key.rule.permitted}"
            raise SettingsError(message) from None
    return values


def _read_file(path: Path) -> Mapping[object, object]:
    """What `metadata: darkroom:` of a cluster file holds; nothing where the file has no metadata."""
    cluster = _mapping(path, "the file", _load_yaml(path))
    for key in cluster:
        if key not in CLUSTER_KEYS:
            permitted = ", ".join(sorted(CLUSTER_KEYS))
            raise SettingsError(f"{path}: {_shown(key)} is no key of a cluster file; permitted are {permitted}")
    metadata = _mapping(path, "metadata", cluster.get("metadata"))
    if metadata and "darkroom" not in metadata:
        # The rest of metadata belongs to whoever wrote it, but without ours the nearest thing to it is a misspelling.
        found = ", ".join(_shown(key) for key in metadata)
        raise SettingsError(f"{path}: metadata has {found} but no darkroom, which is where the settings belong")
    return _mapping(path, "metadata.darkroom", metadata.get("darkroom"))


def _mapping(path: Path, where: str, value: object) -> Mapping[object, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(f"{path}: {where} is {_shown(value)}; it must be a mapping of keys to values")
    return value


def _load_yaml(path: Path) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > CONFIG_BYTES_MAX:
        raise SettingsError(f"{path}: is larger than {CONFIG_BYTES_MAX} bytes")
    try:
        return yaml.safe_load(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: PyYAML lets out what datetime says of a date such as 2024-13-01.
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no decimal number of over 4,300 digits, and YAML reads hexadecimal ones.
        return "a number of very many digits"
