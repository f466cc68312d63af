"""What every cache of feeds does, whatever it is built on. A new adapter costs one line in ADAPTERS."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from services.services import Address, Services

from darkroom.projections.effects import BucketSizes, Change, Effects, Publisher
from darkroom.projections.feed_cache import (
    NOTHING_TO_FILL,
    CacheCounts,
    FeedCache,
    FeedKey,
    Lease,
    LruFeedCache,
    NoFeedCache,
)
from darkroom.projections.feed_cache_redis import RedisFeedCache, RedisPublisher
from darkroom.projections.redis_link import RedisAddress
from darkroom.projections.store import Checkpoint
from darkroom.projections.views import FeedHead

GENERATION, SHARD = 3, 1

Pair = tuple[FeedCache, Publisher | None]
"""A cache, and what tells it of changes; None where it compares versions."""


def on_redis(service: Services) -> Pair:
    where = service("redis")
    address = RedisAddress(where["host"], where["port"], f"test:{uuid.uuid4().hex}")
    return RedisFeedCache(address), RedisPublisher(address, GENERATION, SHARD, feeds_a_step=2)


ADAPTERS: dict[str, Callable[[Services], Pair]] = {
    "none": lambda _: (NoFeedCache(), None),
    "lru of nothing": lambda _: (LruFeedCache(0), None),
    "lru": lambda _: (LruFeedCache(3), None),
    "redis": on_redis,
}
KEEPING = ("lru", "redis")


class Feeds:
    """The feeds of one shard as they are, in front of a cache."""

    def __init__(self, cache: FeedCache, publisher: Publisher | None) -> None:
        self.cache = cache
        self.position = 10
        self._publisher = publisher
        self._heads: dict[int, FeedHead] = {}
        if publisher is not None:
            publisher.open(self.position)

    def change(self, *users: int) -> None:
        """One record that adds a row to each of these feeds."""
        before, self.position = self.position, self.position + 1
        for user in users:
            row = (self.position << 16).to_bytes(8, "little")
            self._heads[user] = FeedHead(self.position - 1, (self.head(user).rows + row)[-40:])
        effects = Effects(lambda _: True, BucketSizes())
        effects.feed_heads = {user: Change(self.position, b"") for user in users}
        if self._publisher is not None:
            self._publisher.publish(effects, before, Checkpoint(self.position))

    def head(self, user: int) -> FeedHead:
        return self._heads.get(user, FeedHead())

    def get(self, user: int, *, generation: int = GENERATION, shard: int = SHARD) -> FeedHead | Lease:
        return self.cache.get(FeedKey(generation, shard, user), lambda: self.head(user).version, self.position)

    def put(self, user: int, lease: FeedHead | Lease, head: FeedHead | None = None) -> None:
        assert isinstance(lease, Lease)
        self.cache.put(FeedKey(GENERATION, SHARD, user), lease, head or self.head(user))

    def read(self, user: int) -> bool:
        """As a page does; whether it was a hit."""
        found = self.get(user)
        if isinstance(found, FeedHead):
            assert found == self.head(user)
            return True
        self.put(user, found)
        return False

    def close(self) -> None:
        if self._publisher is not None:
            self._publisher.close()
            assert isinstance(self.cache, RedisFeedCache)
            self.cache.close()


def made_of(adapters: Iterable[str]) -> list[object]:
    return [pytest.param(one, marks=pytest.mark.services) if one == "redis" else one for one in adapters]


@pytest.fixture(scope="module", params=made_of(ADAPTERS))
def new_feeds(request: pytest.FixtureRequest) -> Iterator[Callable[[], Feeds]]:
    yield from _new_feeds(request)


@pytest.fixture(scope="module", params=made_of(KEEPING))
def new_kept_feeds(request: pytest.FixtureRequest) -> Iterator[Callable[[], Feeds]]:
    """In front of a cache that keeps what it is given, where there is room."""
    yield from _new_feeds(request)


def _new_feeds(request: pytest.FixtureRequest) -> Iterator[Callable[[], Feeds]]:
    made: list[Feeds] = []
    servers = cache(request.getfixturevalue("service")) if request.param == "redis" else _none

    def new() -> Feeds:
        made.append(Feeds(*ADAPTERS[request.param](servers)))
        return made[-1]

    yield new
    for feeds in made:
        feeds.close()


def _none(name: str) -> Address:
    raise AssertionError(f"{name} was not to be needed")


USERS = st.integers(1, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sets(USERS)),
        st.tuples(st.sampled_from(["get", "put"]), USERS),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps=STEPS)
def test_what_is_found_is_the_feed_as_it_is(
    new_feeds: Callable[[], Feeds], steps: list[tuple[str, set[int] | int]]
) -> None:
    feeds, asked, missed = new_feeds(), 0, list[tuple[int, Lease, FeedHead]]()
    for what, subject in steps:
        if isinstance(subject, set):
            feeds.change(*subject)
        elif what == "get":
            asked += 1
            found = feeds.get(subject)
            if isinstance(found, FeedHead):
                assert found == feeds.head(subject)
            else:
                missed.append((subject, found, feeds.head(subject)))
        elif missed:
            feeds.put(*missed.pop(subject % len(missed)))
    assert feeds.cache.counts.hits + feeds.cache.counts.misses == asked
    assert feeds.cache.counts.failures == 0


def test_a_new_cache_finds_and_has_counted_nothing(new_feeds: Callable[[], Feeds]) -> None:
    feeds = new_feeds()
    feeds.change(7)
    assert feeds.cache.counts.hit_rate == 0.0
    assert not isinstance(feeds.get(7), FeedHead)
    assert feeds.cache.counts == CacheCounts(hits=0, misses=1)
    assert feeds.cache.counts.hit_rate == 0.0


def test_what_was_filled_is_found_and_counted(new_kept_feeds: Callable[[], Feeds]) -> None:
    feeds = new_kept_feeds()
    feeds.change(7, 8)
    assert [feeds.read(7) for _ in range(4)] == [False, True, True, True]
    assert not feeds.read(8)
    assert feeds.cache.counts == CacheCounts(hits=3, misses=2)
    assert feeds.cache.counts.hit_rate == 0.6


def test_a_change_ends_the_entries_of_the_feeds_that_it_names_and_no_others(
    new_kept_feeds: Callable[[], Feeds],
) -> None:
    feeds = new_kept_feeds()
    feeds.change(1, 2, 3)
    for user in (1, 2, 3):
        feeds.read(user)
    feeds.change(1, 3)
    assert [feeds.read(user) for user in (1, 2, 3)] == [False, True, False]
    assert [feeds.read(user) for user in (1, 2, 3)] == [True, True, True]


def test_a_fill_that_a_change_has_overtaken_is_never_found(new_kept_feeds: Callable[[], Feeds]) -> None:
    feeds = new_kept_feeds()
    feeds.change(7)
    lease, before = feeds.get(7), feeds.head(7)
    feeds.change(7)
    feeds.put(7, lease, before)
    assert not isinstance(feeds.get(7), FeedHead)


def test_without_a_lease_nothing_is_filled(new_feeds: Callable[[], Feeds]) -> None:
    feeds = new_feeds()
    feeds.change(7)
    feeds.put(7, NOTHING_TO_FILL)
    assert not isinstance(feeds.get(7), FeedHead)


def test_feeds_of_other_users_shards_and_generations_are_others(new_kept_feeds: Callable[[], Feeds]) -> None:
    feeds = new_kept_feeds()
    feeds.change(7)
    feeds.read(7)
    assert isinstance(feeds.get(7), FeedHead)
    assert not isinstance(feeds.get(8), FeedHead)
    assert not isinstance(feeds.get(7, shard=SHARD + 1), FeedHead)
    assert not isinstance(feeds.get(7, generation=GENERATION + 1), FeedHead)


def test_an_lru_keeps_one_version_of_a_feed() -> None:
    cache, key, position = LruFeedCache(3), FeedKey(1, 0, 7), 1
    old, new = (FeedHead(0, version.to_bytes(8, "little")) for version in (40, 41))
    for head in (old, new):
        lease = cache.get(key, lambda: head.version, position)  # noqa: B023
        assert isinstance(lease, Lease)
        cache.put(key, lease, head)
    assert cache.get(key, lambda: 41, position) == new
    assert isinstance(cache.get(key, lambda: 40, position), Lease)


def test_an_lru_keeps_nothing_of_a_feed_without_rows() -> None:
    feeds = Feeds(LruFeedCache(3), None)
    assert [feeds.read(7) for _ in range(2)] == [False, False]


def test_an_lru_drops_the_least_recently_read() -> None:
    feeds = Feeds(LruFeedCache(3), None)
    feeds.change(1, 2, 3, 4, 5)
    for user in (1, 2, 3):
        feeds.read(user)
    feeds.change(2)
    assert isinstance(feeds.get(1), FeedHead)
    assert isinstance(feeds.get(2), Lease)  # asking in vain does not keep it
    feeds.read(4)
    assert [isinstance(feeds.get(user), FeedHead) for user in (1, 2, 3, 4)] == [True, False, True, True]
    feeds.read(5)
    assert [isinstance(feeds.get(user), FeedHead) for user in (1, 3, 4, 5)] == [False, True, True, True]
