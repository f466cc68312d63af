"""Routes are the same one by one and many at once, spread evenly, and fit beside a post in one word."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom.projections.routing import (
    ID_MASK,
    ROUTE_BITS,
    SHARDS_MAX,
    claim,
    route,
    routed,
    routes,
    shard_of,
    shard_of_text,
)

ids = st.integers(1, ID_MASK)


@settings(deadline=None)
@given(st.lists(ids, min_size=1))
def test_routes_of_many_are_the_routes_of_each(users: list[int]) -> None:
    assert routes(np.array(users, dtype=np.uint64)).tolist() == [route(user) for user in users]


@settings(deadline=None)
@given(st.one_of(ids, st.integers()), st.integers(1, SHARDS_MAX))
def test_everybody_has_one_shard(user: int, shards: int) -> None:
    assert 0 <= route(user) < 1 << ROUTE_BITS
    assert shard_of(user, shards) == route(user) % shards
    assert 0 <= shard_of(user, shards) < shards


@settings(deadline=None)
@given(st.text(), st.integers(1, SHARDS_MAX))
def test_every_text_has_one_shard(text: str, shards: int) -> None:
    assert 0 <= shard_of_text(text, shards) < shards
    assert shard_of_text(text, 1) == 0


def test_routes_stay_as_they_were_for_stores_were_written_by_them() -> None:
    assert [route(user) for user in (1, 2, 3, 1000, ID_MASK)] == [40503, 15470, 55974, 2227, 56797]
    assert [shard_of_text(text, 1000) for text in ("ann", "zoë", "")] == [347, 364, 0]


@pytest.mark.parametrize("shards", [2, 3, 4, 7, 16, 100])
@pytest.mark.parametrize("stride", [1, 2, 3, 1000])
def test_users_spread_evenly_however_far_apart_they_registered(shards: int, stride: int) -> None:
    number = 1000 * shards
    found = Counter(shard_of(user, shards) for user in range(1, number * stride, stride))
    assert len(found) == shards
    assert max(found.values()) < 1.15 * number / shards
    assert min(found.values()) > 0.85 * number / shards


@settings(deadline=None)
@given(ids, ids, ids, ids)
def test_a_routed_post_keeps_both_and_orders_as_posts_do(post: int, author: int, other: int, its_author: int) -> None:
    word = routed(post, author)
    assert 0 <= word < 1 << 64
    assert (word >> ROUTE_BITS, word & 0xFFFF) == (post, route(author))
    if post != other:
        assert (word < routed(other, its_author)) == (post < other)


@settings(deadline=None)
@given(ids, ids, ids, ids)
@example(46371, 46370, 46371, 2)  # their routes are the same
def test_claims_by_different_pairs_keep_apart(post: int, author: int, other: int, its_author: int) -> None:
    assert 0 <= claim(post, author) < 1 << 64
    assert (claim(post, author) == claim(other, its_author)) == ((post, author) == (other, its_author))
