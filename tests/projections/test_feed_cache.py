"""What every cache of feeds does, whatever it is built on. A new adapter costs one line in ADAPTERS."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.projections.feed_cache import CacheCounts, FeedCache, FeedKey, LruFeedCache, NoFeedCache

ADAPTERS: dict[str, Callable[[], FeedCache]] = {
    "none": NoFeedCache,
    "lru": lambda: LruFeedCache(3),
    "lru of nothing": lambda: LruFeedCache(0),
}

feed_keys = st.tuples(st.integers(1, 2), st.integers(1, 3))
versions = st.integers(0, 2)


@pytest.fixture(params=ADAPTERS)
def make_cache(request: pytest.FixtureRequest) -> Callable[[], FeedCache]:
    return ADAPTERS[request.param]


@pytest.mark.parametrize("adapter", ADAPTERS)
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["get", "put"]), feed_keys, versions, st.lists(st.integers(0, 9)))))
def test_what_is_found_was_put_last_and_for_that_version(
    adapter: str, steps: list[tuple[str, FeedKey, int, list[int]]]
) -> None:
    cache, put, asked = ADAPTERS[adapter](), dict[FeedKey, tuple[int, list[int]]](), 0
    for what, key, version, words in steps:
        if what == "put":
            cache.put(key, version, words)
            put[key] = version, words
        else:
            asked += 1
            found = cache.get(key, version)
            assert found is None or (version, found) == put[key]
    assert cache.counts.hits + cache.counts.misses == asked


def test_a_new_cache_finds_and_has_counted_nothing(make_cache: Callable[[], FeedCache]) -> None:
    cache = make_cache()
    assert cache.counts.hit_rate == 0.0
    assert cache.get((1, 1), 0) is None
    assert (cache.counts.hits, cache.counts.misses, cache.counts.hit_rate) == (0, 1, 0.0)


def test_an_lru_finds_a_feed_at_its_version_only_and_counts() -> None:
    cache = LruFeedCache(3)
    cache.put((1, 7), 40, [40, 30])
    assert cache.get((1, 7), 40) == [40, 30]
    assert cache.get((1, 7), 41) is None
    assert cache.get((1, 7), 39) is None
    assert cache.get((2, 7), 40) is None
    assert cache.counts == CacheCounts(hits=1, misses=3)
    assert cache.counts.hit_rate == 0.25


def test_an_lru_keeps_one_version_of_a_feed() -> None:
    cache = LruFeedCache(3)
    cache.put((1, 7), 40, [40])
    cache.put((1, 7), 41, [41, 40])
    assert cache.get((1, 7), 41) == [41, 40]
    assert cache.get((1, 7), 40) is None


def test_an_lru_drops_the_least_recently_read() -> None:
    cache = LruFeedCache(3)
    for user in (1, 2, 3):
        cache.put((1, user), 5, [user])
    assert cache.get((1, 1), 5) == [1]
    assert cache.get((1, 2), 6) is None  # asking in vain does not keep it
    cache.put((1, 4), 5, [4])
    assert [cache.get((1, user), 5) for user in (1, 2, 3, 4)] == [[1], None, [3], [4]]
    cache.put((1, 1), 6, [6])
    cache.put((1, 5), 5, [5])
    assert [cache.get((1, user), 5) for user in (3, 4, 5)] == [None, [4], [5]]
    assert cache.get((1, 1), 6) == [6]
