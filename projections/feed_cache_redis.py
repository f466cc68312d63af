"""The feed cache on Redis. An entry is a feed's head, the position of whoever read it, and its shard's epoch.

One key a shard, the *marker*, holds the epoch, the position up to which the shard has told which feeds changed, and a
step that only rises. A reader at P is given an entry of the marker's epoch if entry's position <= P <= told. Whoever
told too little begins a new epoch, so losing Redis, or a part of what it held, costs speed only (docs/decisions/0005).
"""

import secrets
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis import Redis

from darkroom.projections.effects import Effects
from darkroom.projections.feed_cache import NOTHING_TO_FILL, CacheCounts, FeedKey, Lease
from darkroom.projections.redis_link import RedisAddress, RedisLink, Script
from darkroom.projections.store import Checkpoint
from darkroom.projections.views import FeedHead

ENTRY_BYTES_MAX = 4096
LEASE_MS = 5_000
KEPT_MS = 24 * 3_600_000
"""Nothing lies in Redis for longer, so a generation that is dropped needs no sweeping."""

FEEDS_A_STEP = 1_000
FEEDS_TOLD_MAX = 20_000

_ENTRY = struct.Struct("<c16sQQ")  # what it is, epoch, position of the reader, horizon; then the rows
_VALUE, _LEASE = b"V", b"L"

# Keys: marker, entry. Arguments: the marker and how its epoch begins an entry, the lease, for how long.
_GRANT = Script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
    "if redis.call('GETRANGE', KEYS[2], 1, 16) == ARGV[2] then return 0 end "
    "redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) return 1"
)

# Key: entry. Arguments: the lease, the value, for how long.
_FILL = Script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
    "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1"
)

# Keys: marker, entries that end. Arguments: the marker that the step before left, the one that this step leaves, for
# how long. The chain of markers is what makes a lost, repeated, late or forgotten step show.
_TELL = Script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
    "if #KEYS > 1 then redis.call('DEL', unpack(KEYS, 2)) end "
    "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1"
)


class _Marker(NamedTuple):
    """`epoch` is 16 hexadecimal digits, never used twice; `step` counts what its one owner has told under it."""

    epoch: bytes
    told: int
    step: int

    def encode(self) -> bytes:
        return b"%s %d %d" % self


def _read_marker(data: bytes | None) -> _Marker | None:
    """None where there is none, or something else lies there."""
    try:
        epoch, told, step = (data or b"").split(b" ")
        return _Marker(epoch, int(told), int(step))
    except ValueError:
        return None


def _marker_key(address: RedisAddress, generation: int, shard: int) -> bytes:
    # The braces keep all keys of a shard together where Redis is a cluster.
    return f"{address.prefix}:{{{generation}.{shard}}}".encode()


class RedisFeedCache:
    """See `FeedCache`. A hit is one round trip."""

    def __init__(self, address: RedisAddress, *, link: RedisLink | None = None) -> None:
        self.counts = CacheCounts()
        self._address = address
        self._link = link or RedisLink(address, address.deadline_s)
        self._lock = threading.Lock()

    def get(self, key: FeedKey, version: Callable[[], int], position: int) -> FeedHead | Lease:  # noqa: ARG002
        marker_key, entry_key = self._keys(key)
        found = self._link.ask(lambda client: _both(client, marker_key, entry_key))
        marker, entry = (None, b"") if found is None else (_read_marker(found[0]), found[1] or b"")
        if marker is None:
            return self._missed(NOTHING_TO_FILL)
        head = _head_for(entry, marker, position)
        if head is not None:
            with self._lock:
                self.counts.hits += 1
            return head
        if position < marker.told or entry[1:17] == marker.epoch:
            return self._missed(NOTHING_TO_FILL)  # it has not seen all that was told, or somebody else fills
        return self._missed(self._lease([marker_key, entry_key], marker, position))

    def _lease(self, keys: Sequence[bytes], marker: _Marker, position: int) -> Lease:
        """A lease, if the marker is still what it was and nobody else was quicker."""
        lease = Lease(1 + secrets.randbits(63), marker.epoch, position)
        granted = self._link.ask(
            lambda client: _GRANT.run(client, keys, marker.encode(), marker.epoch, _lease_entry(lease), LEASE_MS)
        )
        return lease if granted == 1 else NOTHING_TO_FILL

    def put(self, key: FeedKey, lease: Lease, head: FeedHead) -> None:
        entry = _ENTRY.pack(_VALUE, lease.epoch, lease.position, head.horizon) + head.rows
        if not lease.token or len(entry) > ENTRY_BYTES_MAX:
            return
        entry_key = self._keys(key)[1]
        self._link.ask(lambda client: _FILL.run(client, [entry_key], _lease_entry(lease), entry, KEPT_MS))
        self.counts.failures = self._link.failures

    def _keys(self, key: FeedKey) -> tuple[bytes, bytes]:
        marker_key = _marker_key(self._address, key.generation, key.shard)
        return marker_key, b"%s:%d" % (marker_key, key.user)

    def _missed(self, lease: Lease) -> Lease:
        with self._lock:
            self.counts.misses += 1
            self.counts.failures = self._link.failures
        return lease

    def close(self) -> None:
        self._link.close()


def _both(client: Redis, marker_key: bytes, entry_key: bytes) -> list[bytes | None]:
    # mget() does the same, and takes a twentieth longer.
    found: list[bytes | None] = client.execute_command("MGET", marker_key, entry_key)  # type: ignore[no-untyped-call]
    return found


def _head_for(entry: bytes, marker: _Marker, position: int) -> FeedHead | None:
    """What the entry holds, if it is right for a reader at the position."""
    if len(entry) < _ENTRY.size:
        return None
    what, epoch, since, horizon = _ENTRY.unpack_from(entry)
    if what != _VALUE or epoch != marker.epoch or not since <= position <= marker.told:
        return None
    return FeedHead(horizon, entry[_ENTRY.size :])


def _lease_entry(lease: Lease) -> bytes:
    return b"%s%s%016x" % (_LEASE, lease.epoch, lease.token)


class RedisPublisher:
    """See `Publisher`. Raises nothing: while Redis is not told, no reader believes it."""

    def __init__(
        self,
        address: RedisAddress,
        generation: int,
        shard: int,
        *,
        feeds_a_step: int = FEEDS_A_STEP,
        feeds_told_max: int = FEEDS_TOLD_MAX,
        link: RedisLink | None = None,
    ) -> None:
        """Of a batch that changes more than `feeds_told_max` feeds, all are dropped at once."""
        self._key = _marker_key(address, generation, shard)
        self._link = link or RedisLink(address, address.tell_s)
        self._feeds_a_step = feeds_a_step
        self._feeds_told_max = feeds_told_max
        self._marker: _Marker | None = None  # None while Redis may hold another than we left

    def open(self, position: int) -> None:
        """A new epoch, for whatever lies there was told by somebody else."""
        self._begin(position)

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        """Tell which feeds changed. Before or after the rows: no order is wrong, and hits are lost where it is last."""
        users = list(effects.feed_heads)
        in_order = self._marker is not None and self._marker.told == expected
        if not in_order or len(users) > self._feeds_told_max or not self._tell(users, checkpoint.position):
            self._begin(checkpoint.position)

    def reached(self, checkpoint: Checkpoint) -> None:
        """Readers look at the position themselves."""

    def close(self) -> None:
        self._link.close()

    def _begin(self, position: int) -> None:
        """Drop everything of the shard by a new epoch. It covers what readers at the position or later will fill."""
        marker = _Marker(secrets.token_hex(8).encode(), position, 0)

        def begin(client: Redis) -> Any:
            client.script_load(_TELL.text)
            return client.set(self._key, marker.encode(), px=KEPT_MS)

        self._marker = marker if self._link.ask(begin) else None

    def _tell(self, users: list[int], position: int) -> bool:
        """Every step finds the marker that the one before it left, or nothing more is done; all in one round trip."""
        assert self._marker is not None
        size = self._feeds_a_step
        steps = [users[start : start + size] for start in range(0, len(users), size)] or [[]]
        markers = [self._marker]
        for number, _ in enumerate(steps, 1):
            epoch, told, step = markers[-1]
            markers.append(_Marker(epoch, position if number == len(steps) else told, step + 1))

        entry_key = self._key + b":%d"

        def tell(client: Redis) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for step, before, after in zip(steps, markers[:-1], markers[1:], strict=True):
                keys = [entry_key % user for user in step]
                pipeline.evalsha(_TELL.sha, 1 + len(keys), self._key, *keys, before.encode(), after.encode(), KEPT_MS)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            return answers

        answers = self._link.ask(tell)
        if answers is None or any(answer != 1 for answer in answers):
            return False
        self._marker = markers[-1]
        return True
