"""Losing Redis, or what it held, costs speed only: feeds read through one that fails are those that the log says."""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from faults import CommitLost, Fate, UnreliableStore
from histories import History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moody_redis import Fate as LinkFate
from moody_redis import MoodyLink
from redis import Redis
from redis_trials import effects_of
from services.services import Address, Services, address, control, started
from world import World, check_everything, check_feeds, memory_store

from darkroom.actors.shard import Shard
from darkroom.projections import feed_rows
from darkroom.projections.feed_cache import NOTHING_TO_FILL, FeedKey
from darkroom.projections.feed_cache_redis import RedisFeedCache, RedisPublisher
from darkroom.projections.redis_link import RedisAddress, RedisLink, UnfitRedis, check_fit
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Checkpoint, Identity, ShardStore

pytestmark = pytest.mark.services
RECOVERY_S = 60


class CachedWorld(World):
    """A world whose shards tell Redis what they change, and whose readers ask it."""

    def __init__(
        self,
        history: History,
        shards: int,
        fold_settings: FoldSettings,
        address: RedisAddress,
        make_link: Callable[[RedisAddress], RedisLink] = lambda address: RedisLink(address, address.tell_s),
        next_fate: Callable[[], Fate] = lambda: Fate.STORED,
    ) -> None:
        self.address = address
        self.on_redis = RedisFeedCache(address)
        self._make_link = make_link
        self.links: dict[int, RedisLink] = {}

        def make_store(identity: Identity) -> ShardStore:
            return UnreliableStore(memory_store(identity), next_fate)

        super().__init__(history, shards, fold_settings, make_store, cache=self.on_redis)
        for shard in range(shards):
            self.restart(shard)

    def restart(self, shard: int, settings: FoldSettings | None = None) -> None:
        self.settings = settings or self.settings
        if shard in self.links:
            self.links[shard].close()
        self.links[shard] = self._make_link(self.address)
        publisher = RedisPublisher(self.address, 0, shard, feeds_a_step=2, link=self.links[shard])
        self.shards[shard] = Shard(self.log, self.stores[shard], self.settings, [publisher])

    def step(self, shard: int, batch_events: int) -> int:
        try:
            return super().step(shard, batch_events)
        except CommitLost:
            self.restart(shard)
            return super().step(shard, 0)

    def close(self) -> None:
        self.on_redis.close()
        for link in self.links.values():
            link.close()
        super().close()


def address_of(where: Address, **changes: float) -> RedisAddress:
    fresh = RedisAddress(where["host"], where["port"], f"test:{uuid.uuid4().hex}", deadline_s=5, tell_s=5, pauses=0)
    return replace(fresh, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def redis(service: Services) -> RedisAddress:
    return address_of(service("redis"))


WHICH = st.integers(0, 5)
LINK_FATES = st.one_of(st.just(LinkFate.ANSWERED), st.sampled_from(LinkFate))
STEP = st.tuples(WHICH, st.integers(1, 20), LINK_FATES, LINK_FATES, st.sampled_from([Fate.STORED, *Fate]))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=histories(60),
    shards=st.integers(1, 3),
    fold_settings=st.builds(
        FoldSettings, celebrity_threshold=st.sampled_from([0, 2, 4, None]), feed_rows=st.sampled_from([2, 8, 1000])
    ),
    steps=st.lists(STEP, max_size=12),
)
def test_every_feed_through_redis_is_what_the_log_says(
    redis: RedisAddress,
    history: History,
    shards: int,
    fold_settings: FoldSettings,
    steps: list[tuple[int, int, LinkFate, LinkFate, Fate]],
) -> None:
    where, commits = replace(redis, prefix=f"test:{uuid.uuid4().hex}"), list[Fate]()

    def forget() -> None:
        with Redis(where.host, where.port) as client:
            client.delete(*(f"{where.prefix}:{{0.{shard}}}" for shard in range(shards)))

    def moody(address: RedisAddress) -> RedisLink:
        return MoodyLink(address, lambda: None, forget, forget)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_rows, "SEALED_ROWS", 2)
        patch.setattr(feed_rows, "HEAD_ROWS_MAX", 4)
        world = CachedWorld(
            history, shards, fold_settings, where, moody, lambda: commits.pop() if commits else Fate.STORED
        )
        for which, batch, fate, second, commit in steps:
            link = world.links[which % shards]
            assert isinstance(link, MoodyLink)
            link.fates, commits[:] = [fate, second], [commit]
            world.step(which % shards, batch)
            check_feeds(world, limits=(1, 4))
        commits.clear()
        world.catch_up()
        check_everything(world)
        forget()
        world.close()


# A Redis of its own, to which anything may be done


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "services"
    control("stop", folder=tmp_path / "services")


def client_of(folder: Path) -> Redis:
    where = address("redis", folder)
    return Redis(where["host"], where["port"], socket_timeout=10)


def flush(folder: Path) -> None:
    with client_of(folder) as client:
        client.flushall()
        client.script_flush()


def shrink(folder: Path) -> None:
    """There is hardly room for anything: what is written is dropped again, or not taken."""
    with client_of(folder) as client:
        client.config_set("maxmemory", "1mb")


def kill(folder: Path) -> None:
    os.kill(address("redis", folder)["process"]["pid"], signal.SIGKILL)
    started("redis", folder)


def kill_and_bring_back_what_was_dumped(folder: Path) -> None:
    assert (folder / "redis" / "data" / "dump.rdb").exists()
    kill(folder)
    with client_of(folder) as client:
        assert client.dbsize() > 0


def dump(folder: Path) -> None:
    with client_of(folder) as client:
        client.save()


def freeze(folder: Path) -> None:
    os.kill(address("redis", folder)["process"]["pid"], signal.SIGSTOP)


def thaw(folder: Path) -> None:
    os.kill(address("redis", folder)["process"]["pid"], signal.SIGCONT)


def nothing(folder: Path) -> None:
    assert folder.exists()


def grow(folder: Path) -> None:
    with client_of(folder) as client:
        assert client.info("stats")["evicted_keys"] > 0
        client.config_set("maxmemory", "64mb")


TROUBLES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], Callable[[Path], None]]] = {
    "flushed": (nothing, flush, nothing),
    "one megabyte": (nothing, shrink, grow),
    "killed": (nothing, kill, nothing),
    "killed, and back with an old dump": (dump, kill_and_bring_back_what_was_dumped, nothing),
    "frozen, and back with all it had": (nothing, freeze, thaw),
}
"""Before the batches in question, after them, and when feeds were read."""


@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_becomes_of_redis_feeds_are_what_the_log_says(folder: Path, trouble: str) -> None:
    before, during, after = TROUBLES[trouble]
    where = address_of(started("redis", folder), deadline_s=0.1, tell_s=0.1, pauses=3)
    world = CachedWorld(seeded_history(5, 700, users=10), 2, FoldSettings(3, feed_rows=40), where)
    _walk(world, 6)
    hits = world.on_redis.counts.hits
    assert hits > 100
    before(folder)
    _walk(world, 2)
    during(folder)
    check_feeds(world, limits=(1, 20))
    _walk(world, 3)
    after(folder)
    check_feeds(world, limits=(1, 20))
    _until_there_are_hits(world)
    world.catch_up()
    check_everything(world)
    world.close()


def _walk(world: CachedWorld, rounds: int) -> None:
    """Shards that are apart, and every feed between two of their batches."""
    for _ in range(rounds):
        for shard, batch in ((0, 40), (1, 30)):
            world.step(shard, batch)
            check_feeds(world, limits=(1, 20))


def _until_there_are_hits(world: CachedWorld) -> None:
    """The shards go on, for a new epoch begins with a batch."""
    hits, deadline = world.on_redis.counts.hits, time.monotonic() + RECOVERY_S
    while world.on_redis.counts.hits < hits + 100:
        assert time.monotonic() < deadline, "the cache is not used again"
        for shard in (0, 1):
            world.step(shard, 1)
        check_feeds(world, limits=(3,))


def test_a_frozen_redis_costs_readers_and_shards_a_deadline_now_and_then(folder: Path) -> None:
    where = replace(address_of(started("redis", folder)), deadline_s=0.05, tell_s=0.25, pauses=20)
    cache, link = RedisFeedCache(where), RedisLink(where, where.tell_s)
    publisher = RedisPublisher(where, 1, 0, link=link)
    publisher.open(10)
    freeze(folder)
    began = time.monotonic()
    assert {cache.get(FeedKey(1, 0, user), lambda: 0, 10) for user in range(2_000)} == {NOTHING_TO_FILL}
    for position in range(10, 200):
        publisher.publish(effects_of([7]), position, Checkpoint(position + 1))
    took_s = time.monotonic() - began
    thaw(folder)
    failures = cache.counts.failures + link.failures
    assert 2 <= failures <= 2 + took_s
    assert took_s < 20, "every one of them waited for its deadline"
    cache.close()
    publisher.close()


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("maxmemory-policy", "noeviction", "never drops anything .* set maxmemory, and maxmemory-policy allkeys-lru"),
        ("maxmemory", "0", "never drops anything"),
    ],
)
def test_a_redis_that_drops_nothing_is_refused(folder: Path, setting: str, value: str, words: str) -> None:
    where = address_of(started("redis", folder))
    assert check_fit(where)
    with client_of(folder) as client:
        client.config_set(setting, value)
    with pytest.raises(UnfitRedis, match=words):
        check_fit(where)


def test_a_redis_that_only_copies_another_is_refused(folder: Path) -> None:
    where = address_of(started("redis", folder))
    with client_of(folder) as client:
        client.replicaof("127.0.0.1", 1)
    with pytest.raises(UnfitRedis, match=r"cannot be the feed cache: .* read only replica"):
        check_fit(where)
