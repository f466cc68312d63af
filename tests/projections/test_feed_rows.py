"""Feed rows against a plain list: any batching gives the same bytes, and rows answer for all above the horizon."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.projections import feed_rows
from darkroom.projections.feed_rows import FeedRows
from darkroom.projections.routing import ID_MASK, ROUTE_BITS, routed
from darkroom.projections.store import Checkpoint, Identity
from darkroom.projections.store_views import SnapshotView
from darkroom.projections.stores.memory import MemoryShardStore, MemorySnapshot
from darkroom.projections.tables import FEED_HEADS, FEEDS

FEED = 5
AUTHORS = (3, 4, 1000)

Delivery = tuple[int, frozenset[int]]
"""(how many ids after the one before, the feeds that get the post)"""

deliveries = st.lists(
    st.tuples(st.integers(1, 3), st.frozensets(st.sampled_from([FEED, FEED, 6, 7, 2**40]), max_size=3)), max_size=60
)
rows_max = st.sampled_from([1, 2, 3, 5, 8, 13, 1000])
batchings = st.lists(st.integers(1, 25), min_size=1, max_size=8)


@pytest.fixture(params=[1, 2, 5], ids="sealed {}".format)
def sealed_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_rows, "SEALED_ROWS", request.param)
    monkeypatch.setattr(feed_rows, "HEAD_ROWS_MAX", 2 * request.param)


class Feeds:
    """The feeds in a store, as a shard's fold fills them."""

    def __init__(self, limit: int) -> None:
        self.store = MemoryShardStore(Identity(1, 1, 0, 1))
        self.limit = limit
        self.restart()

    def restart(self) -> None:
        self.feeds = FeedRows()
        self.feeds.rows_max = self.limit

    def deliver(self, words: dict[int, frozenset[int]]) -> None:
        for word, feeds in words.items():
            self.feeds.deliver(word, np.array(sorted(feeds), dtype=np.uint64))

    def commit(self) -> None:
        self.feeds.source = self.snapshot()
        now = self.store.checkpoint().position
        changes = self.feeds.flush()
        for rows in changes.values():
            assert [key for key, _ in rows] == sorted({key for key, _ in rows})
        self.store.commit(now, Checkpoint(now + 1), changes)

    def snapshot(self) -> MemorySnapshot:
        with self.store.snapshot() as snapshot:
            return snapshot

    def rows(self) -> list[tuple[bytes, bytes]]:
        snapshot = self.snapshot()
        return [row for table in (FEED_HEADS, FEEDS) for row in snapshot.scan(table, b"", b"\xff" * 17, limit=10**6)]


def words_of(given_deliveries: list[Delivery]) -> dict[int, frozenset[int]]:
    post, words = 0, {}
    for step, feeds in given_deliveries:
        post += step
        words[routed(post, AUTHORS[post % len(AUTHORS)])] = feeds
    return words


def batches(words: dict[int, frozenset[int]], sizes: list[int]) -> Iterator[dict[int, frozenset[int]]]:
    left, turn = list(words.items()), 0
    while left:
        size = sizes[turn % len(sizes)]
        yield dict(left[:size])
        left, turn = left[size:], turn + 1


@pytest.mark.usefixtures("sealed_rows")
@settings(max_examples=60, deadline=None)
@given(deliveries, rows_max, batchings)
def test_what_is_stored_does_not_depend_on_how_deliveries_were_batched(
    given_deliveries: list[Delivery], limit: int, sizes: list[int]
) -> None:
    words = words_of(given_deliveries)
    one_by_one, whole, cut = Feeds(limit), Feeds(limit), Feeds(limit)
    for batch in batches(words, [1]):
        one_by_one.deliver(batch)
        one_by_one.commit()
    whole.deliver(words)
    whole.commit()
    for number, batch in enumerate(batches(words, sizes)):
        if number % 3 == 2:
            cut.restart()
        cut.deliver(batch)
        cut.commit()
    assert one_by_one.rows() == whole.rows() == cut.rows()


@pytest.mark.usefixtures("sealed_rows")
@settings(max_examples=60, deadline=None)
@given(deliveries, rows_max, batchings)
def test_rows_answer_for_everything_above_the_horizon_which_never_falls(
    given_deliveries: list[Delivery], limit: int, sizes: list[int]
) -> None:
    feeds = Feeds(limit)
    delivered: dict[int, list[int]] = defaultdict(list)
    horizons: dict[int, int] = defaultdict(int)
    for batch in batches(words_of(given_deliveries), sizes):
        feeds.deliver(batch)
        feeds.commit()
        for word, users in batch.items():
            for user in users:
                delivered[user].append(word)
        for user, words in delivered.items():
            horizon, head = feed_rows.head(feeds.snapshot(), user)
            kept = feed_rows.newest(SnapshotView(feeds.snapshot()), user, head, below=ID_MASK, limit=10**6)
            assert kept == words[::-1][: len(kept)], "the newest rows are kept, in order"
            assert len(kept) <= limit
            # A sealed page is dropped as one, so a feed may hold that much less than the limit.
            assert len(kept) > limit - feed_rows.SEALED_ROWS or len(kept) == len(words)
            dropped = words[: len(words) - len(kept)]
            assert horizon == (dropped[-1] >> ROUTE_BITS if dropped else 0)
            assert horizon >= horizons[user]
            horizons[user] = horizon


@pytest.mark.usefixtures("sealed_rows")
@settings(max_examples=60, deadline=None)
@given(deliveries, rows_max, rows_max, batchings)
def test_another_row_limit_holds_from_the_next_row_on_and_leaves_the_horizon(
    given_deliveries: list[Delivery], before: int, after: int, sizes: list[int]
) -> None:
    feeds, turn, horizon = Feeds(before), 0, 0
    for batch in batches(words_of(given_deliveries), sizes):
        feeds.limit, turn = (before, after)[turn % 2], turn + 1
        feeds.restart()
        feeds.deliver(batch)
        feeds.commit()
        now, head = feed_rows.head(feeds.snapshot(), FEED)
        assert now >= horizon
        horizon = now
        kept = feed_rows.newest(SnapshotView(feeds.snapshot()), FEED, head, below=ID_MASK, limit=10**6)
        assert not kept or kept[-1] >> ROUTE_BITS > horizon
        if any(FEED in users for users in batch.values()):
            assert len(kept) <= feeds.limit


@pytest.mark.usefixtures("sealed_rows")
@settings(max_examples=100, deadline=None)
@given(deliveries, rows_max, st.integers(0, 130), st.integers(0, 40))
def test_rows_are_read_from_either_end_by_every_bound(
    given_deliveries: list[Delivery], limit: int, bound: int, wanted: int
) -> None:
    feeds = Feeds(limit)
    feeds.deliver(words_of(given_deliveries))
    feeds.commit()
    snapshot = feeds.snapshot()
    for user in (FEED, 6, 99):
        head = feed_rows.head(snapshot, user)[1]
        rows = feed_rows.newest(SnapshotView(snapshot), user, head, below=ID_MASK, limit=10**6)
        below = [word for word in rows if word >> ROUTE_BITS < bound]
        above = [word for word in rows[::-1] if word >> ROUTE_BITS > bound]
        assert feed_rows.newest(SnapshotView(snapshot), user, head, below=bound, limit=wanted) == below[:wanted]
        assert feed_rows.oldest(SnapshotView(snapshot), user, head, above=bound, limit=wanted) == above[:wanted]
        assert feed_rows.oldest(SnapshotView(snapshot), user, head, above=0, limit=10**6) == rows[::-1]
        assert feed_rows.newest(SnapshotView(snapshot), user, head, below=ID_MASK + 1, limit=wanted) == rows[:wanted]
        assert feed_rows.oldest(SnapshotView(snapshot), user, head, above=ID_MASK, limit=wanted) == []


def test_a_forgotten_feed_leaves_nothing_and_others_stay() -> None:
    feeds = Feeds(1000)
    feeds.deliver({routed(post, 3): frozenset([FEED, FEED + 1]) for post in range(1, 400)})
    feeds.commit()
    feeds.deliver({routed(400, 3): frozenset([FEED, FEED + 1])})
    feeds.feeds.forget(FEED)
    feeds.commit()
    snapshot = feeds.snapshot()
    assert {int.from_bytes(key[:8], "big") for key, _ in feeds.rows()} == {FEED + 1}
    head = feed_rows.head(snapshot, FEED + 1)[1]
    assert len(feed_rows.newest(SnapshotView(snapshot), FEED + 1, head, below=ID_MASK, limit=10**6)) == 400


def test_a_delivery_into_a_short_feed_writes_one_row() -> None:
    feeds = Feeds(1000)
    for post in range(1, 100):
        feeds.deliver({routed(post, 3): frozenset([FEED])})
        feeds.commit()
        assert len(feeds.rows()) == 1
    assert not feeds.feeds.pending
    assert not any(feeds.feeds.flush().values())


def test_sealed_pages_that_have_outlived_the_time_to_live_are_dropped_when_the_next_is_sealed() -> None:
    for batch in (1, 7, 1000):
        feeds = Feeds(10**6)
        for first in range(1, 1001, batch):
            for post in range(first, min(first + batch, 1001)):
                if post == 600:
                    feeds.feeds.expire(600, 500)
                feeds.deliver({routed(post, 3): frozenset([FEED])})
            feeds.commit()
        snapshot = feeds.snapshot()
        head = feed_rows.head(snapshot, FEED)[1]
        kept = feed_rows.newest(SnapshotView(snapshot), FEED, head, below=ID_MASK, limit=10**6)
        assert [word >> 16 for word in kept] == list(range(1000, 448, -1)), "pages of 64, dropped when wholly expired"
