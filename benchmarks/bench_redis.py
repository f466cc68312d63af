"""The feed cache on Redis: hits, fills and invalidations, beside raw loops of its client

The raw loops send what a program would that had one thread and nothing to fear: no shard that changes feeds meanwhile,
no deadline that is missed, no Redis that comes back with what it had forgotten.
"""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from redis import Redis

from benchmarks.measure import OURS, Aim, Measurement, Row, percentile, rate, turns
from benchmarks.peer_environments import HERE, PeerMissing
from benchmarks.run import Bench
from darkroom.projections.effects import BucketSizes, Change, Effects
from darkroom.projections.feed_cache import FeedKey, Lease
from darkroom.projections.feed_cache_redis import RedisFeedCache, RedisPublisher
from darkroom.projections.redis_link import RedisAddress, connected
from darkroom.projections.store import Checkpoint
from darkroom.projections.views import FeedHead

TITLE = "The feed cache on Redis"
SERVICES = HERE.parent / "deploy" / "services"
COMMAND_S = 300
FEEDS = 2_000
TOLD = 1_000
THREADS = 8
POSITION = 10
HEAD = FeedHead(7, secrets.token_bytes(8 * 96))
GET, POOL, SAME, UNSAFE, DELETE = "GET", "GET, from a pool", "the same commands", "GET and SET", "DEL"
FILL = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end"


def rows(bench: Bench) -> Iterator[Row]:
    with bench.folder() as folder, ExitStack() as stack:
        port = _own_redis(stack, folder / "services")
        loops = Loops(stack, RedisAddress("127.0.0.1", port, "bench", deadline_s=5, tell_s=5), bench.size(10, 1))
        yield from loops.hits(bench)
        yield from loops.fills(bench)
        yield from loops.told(bench)


def _own_redis(stack: ExitStack, folder: Path) -> int:
    """Its port; the developer's is not filled with our feeds."""

    def control(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SERVICES), *words, "--folder", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, stdin=subprocess.DEVNULL)

    done = control("start", "redis")
    if done.returncode:
        raise PeerMissing(f"no Redis could be started: {(done.stdout + done.stderr).strip()}")
    stack.callback(control, "stop", "--wipe")
    return int(json.loads((folder / "services.json").read_text(encoding="utf-8"))["redis"]["port"])


class Loops:
    """Ours and the raw ones, over the same feeds."""

    def __init__(self, stack: ExitStack, address: RedisAddress, rounds: int) -> None:
        self._rounds = rounds
        self._cache = RedisFeedCache(address)
        self._publisher = RedisPublisher(address, 1, 0)
        self._raw = stack.enter_context(connected(address, 5))
        self._pool = stack.enter_context(Redis(address.host, address.port, socket_timeout=5))
        for closing in (self._cache, self._publisher):
            stack.callback(closing.close)
        self._keys = [FeedKey(1, 0, user) for user in range(1, FEEDS + 1)]
        self._names = [f"raw:{{1.0}}:{user}" for user in range(1, FEEDS + 1)]
        self._raw.set("raw:{1.0}", "marker")
        self._fill = self._raw.script_load(FILL)
        self._told = POSITION

    # Hits

    def hits(self, bench: Bench) -> Iterator[Row]:
        self._begin()
        for key, name in zip(self._keys, self._names, strict=True):
            self._fill_ours(key)
            self._raw.set(name, HEAD.rows)
        assert all(self._get(key) == HEAD for key in self._keys)
        assert all(self._raw.get(name) == HEAD.rows for name in self._names)
        asks: dict[str, Callable[[int], object]] = {
            OURS: lambda at: self._get(self._keys[at]),
            GET: lambda at: self._raw.get(self._names[at]),
            POOL: lambda at: self._pool.get(self._names[at]),
        }
        checked = f"each finds the {len(HEAD.rows)} bytes of {FEEDS:,} feeds"
        one: dict[str, Measurement] = {name: partial(self._rate, ask) for name, ask in asks.items()}
        yield _row("hits, one thread", one, bench, [Aim(0.8, GET), Aim(0.8, POOL)], checked)
        several: dict[str, Measurement] = {name: partial(self._rate_of_threads, asks[name]) for name in (OURS, POOL)}
        yield _row(f"hits, {THREADS} threads", several, bench, [Aim(0.8, POOL)], checked)
        yield from _latencies("a hit", asks, bench, checked)

    def _get(self, key: FeedKey) -> FeedHead | Lease:
        return self._cache.get(key, lambda: 0, self._told)

    def _rate(self, ask: Callable[[int], object]) -> float:
        return rate(self._rounds * FEEDS, lambda: [ask(at) for _ in range(self._rounds) for at in range(FEEDS)])

    def _rate_of_threads(self, ask: Callable[[int], object]) -> float:
        """Asked in runs, as requests come, so that handing over work is not what is measured."""
        runs = [range(start, start + 100) for start in range(0, FEEDS, 100)] * self._rounds

        def run(ats: range) -> None:
            for at in ats:
                ask(at)

        with ThreadPoolExecutor(THREADS) as threads:
            return rate(self._rounds * FEEDS, lambda: list(threads.map(run, runs)))

    # Fills

    def fills(self, bench: Bench) -> Iterator[Row]:
        """A miss, what it takes to fill it safely, and the fill."""
        asks: dict[str, Callable[[int], object]] = {
            OURS: lambda at: self._fill_ours(self._keys[at]),
            SAME: lambda at: self._fill_raw(self._names[at]),
            UNSAFE: lambda at: self._fill_unsafe(self._names[at]),
        }
        self._fill_rate(asks[OURS])
        self._fill_rate(asks[SAME], begins=False)
        assert all(self._get(key) == HEAD for key in self._keys)
        assert all(self._raw.get(name) == HEAD.rows for name in self._names)
        checked = f"afterwards each of {FEEDS:,} feeds is found"
        contenders: dict[str, Measurement] = {name: partial(self._fill_rate, ask) for name, ask in asks.items()}
        yield _row("misses that are filled", contenders, bench, [Aim(0.8, SAME)], checked)
        yield from _latencies("a miss and its fill", asks, bench, checked, before=self._begin)

    def _begin(self) -> None:
        """Nothing is there."""
        self._raw.delete(*self._names)
        self._publisher.open(self._told)

    def _fill_rate(self, ask: Callable[[int], object], *, begins: bool = True) -> float:
        if begins:
            self._begin()
        return rate(FEEDS, lambda: [ask(at) for at in range(FEEDS)])

    def _fill_ours(self, key: FeedKey) -> None:
        lease = self._get(key)
        assert isinstance(lease, Lease)
        assert lease.token
        self._cache.put(key, lease, HEAD)

    def _fill_raw(self, name: str) -> None:
        self._raw.mget("raw:{1.0}", name)
        token = secrets.token_hex(16)
        assert self._raw.set(name, token, nx=True, px=5_000)
        assert self._raw.evalsha(self._fill, 1, name, token, HEAD.rows, 86_400_000) == 1

    def _fill_unsafe(self, name: str) -> None:
        assert self._raw.get(name) is None
        self._raw.set(name, HEAD.rows, px=86_400_000)

    # Invalidations

    def told(self, bench: Bench) -> Iterator[Row]:
        self._fill_rate(lambda at: self._fill_ours(self._keys[at]))
        self._tell()
        found = [isinstance(self._get(key), FeedHead) for key in self._keys]
        assert found == [False] * TOLD + [True] * (FEEDS - TOLD)
        contenders: dict[str, Measurement] = {OURS: self._tell, DELETE: self._delete}
        checked = "afterwards none of the feeds is found, and all others are"
        yield _row(f"feeds told of, {TOLD:,} at once", contenders, bench, [Aim(0.8, DELETE)], checked)

    def _tell(self) -> float:
        effects = Effects(lambda _: True, BucketSizes())
        effects.feed_heads = {user: Change(1, b"") for user in range(1, TOLD + 1)}

        def tell() -> None:
            for _ in range(self._rounds):
                self._publisher.publish(effects, self._told, Checkpoint(self._told + 1))
                self._told += 1

        return rate(self._rounds * TOLD, tell)

    def _delete(self) -> float:
        def delete() -> None:
            for _ in range(self._rounds):
                self._raw.delete(*(b"raw:{1.0}:%d" % user for user in range(1, TOLD + 1)))

        return rate(self._rounds * TOLD, delete)


def _row(name: str, contenders: dict[str, Measurement], bench: Bench, aims: list[Aim], checked: str) -> Row:
    return Row(name=name, unit="1/s", values=turns(contenders, bench.repeats), aims=aims, checked=checked)


def _latencies(
    name: str,
    asks: dict[str, Callable[[int], object]],
    bench: Bench,
    checked: str,
    before: Callable[[], None] = lambda: None,
) -> Iterator[Row]:
    values: dict[int, dict[str, list[float]]] = {percent: {one: [] for one in asks} for percent in (50, 99)}
    for _ in range(bench.repeats):
        for one, ask in asks.items():
            before()
            took = [_us(ask, at) for at in range(FEEDS)]
            for percent, found in values.items():
                found[one].append(percentile(took, percent))
    for percent, found in values.items():
        yield Row(name=f"{name}, p{percent}", unit="µs", values=found, checked=checked)


def _us(ask: Callable[[int], object], at: int) -> float:
    began = time.perf_counter()
    ask(at)
    return 1e6 * (time.perf_counter() - began)
