"""Materialisation is invisible: whatever the threshold, shard count, row limit, cuts, restarts and cache, the served
world is the oracle's. (The theorem that the home feed is built on; see docs/architecture.md.)
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from histories import History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import World, check_everything, check_feeds

from darkroom.projections import feed_rows, pages
from darkroom.projections.change_notes import NOTE
from darkroom.projections.feed_cache import LruFeedCache
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.tables import WORDS

THRESHOLDS = st.sampled_from([0, 1, 2, 3, 4, 6, 10, None])
FOLD_SETTINGS = st.builds(
    FoldSettings,
    celebrity_threshold=THRESHOLDS,
    feed_rows=st.sampled_from([1, 2, 3, 5, 8, 20, 1000]),
    feed_ttl_days=st.sampled_from([None, None, 1, 2, 30]),
)
SHARDS = st.integers(1, 7)
STEPS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 30), st.one_of(st.none(), st.none(), FOLD_SETTINGS)), max_size=25
)

thorough = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@contextmanager
def small_pages(page_bytes: int, sealed_rows: int) -> Iterator[None]:
    """Pages so small that a handful of entries splits them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_BYTES_MAX", page_bytes)
        patch.setattr(feed_rows, "SEALED_ROWS", sealed_rows)
        patch.setattr(feed_rows, "HEAD_ROWS_MAX", 2 * sealed_rows)
        yield


PAGES = st.sampled_from([(32, 1), (64, 2), (1024, 64)])


@thorough
@given(histories(80), SHARDS, FOLD_SETTINGS, PAGES, st.integers(1, 100))
def test_with_all_shards_at_one_position_everything_served_is_what_the_log_says(
    history: History, shards: int, fold_settings: FoldSettings, page: tuple[int, int], batch: int
) -> None:
    with small_pages(*page):
        world = World(history, shards, fold_settings, cache=LruFeedCache(3))
        world.catch_up(batch)
        check_everything(world)


@thorough
@given(histories(80), SHARDS, FOLD_SETTINGS, PAGES, STEPS)
def test_feeds_are_exact_at_their_position_while_shards_move_restart_and_change_their_settings(
    history: History,
    shards: int,
    fold_settings: FoldSettings,
    page: tuple[int, int],
    steps: list[tuple[int, int, FoldSettings | None]],
) -> None:
    with small_pages(*page):
        world = World(history, shards, fold_settings, cache=LruFeedCache(3))
        for shard, batch, changed in steps:
            if changed is not None:
                world.restart(shard % shards, changed)
            world.step(shard % shards, batch)
            check_feeds(world, limits=(1, 4))
        world.catch_up()
        check_everything(world)


@thorough
@given(histories(80), SHARDS, FOLD_SETTINGS, PAGES, st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_what_is_stored_does_not_depend_on_where_batches_were_cut_or_shards_restarted(
    history: History, shards: int, fold_settings: FoldSettings, page: tuple[int, int], cuts: list[int]
) -> None:
    with small_pages(*page):
        whole, cut = World(history, shards, fold_settings), World(history, shards, fold_settings)
        whole.catch_up(1000)
        for shard in range(shards):
            turn = 0
            while cut.step(shard, cuts[turn % len(cuts)]):
                turn += 1
                if turn % 3 == 0:
                    cut.restart(shard)
        for one, other in zip(whole.stores, cut.stores, strict=True):
            assert contents(one) == contents(other)


def contents(store: object) -> dict[str, dict[int, dict[int, tuple[int, ...]]] | dict[bytes, bytes]]:
    """What a store in memory holds but for its notes of batches, packed tables unpacked, for their pages may differ."""
    tables = store._tables  # type: ignore[attr-defined]
    found: dict[str, dict[int, dict[int, tuple[int, ...]]] | dict[bytes, bytes]] = {}
    for name, rows in tables.items():
        if name not in WORDS:
            found[name] = {key: value for key, value in rows.items() if value.strip(b"\0") and not key.startswith(NOTE)}
            continue
        owners: dict[int, dict[int, tuple[int, ...]]] = {}
        for key, value in rows.items():
            entries = pages.columns_of(name, key, value).T.tolist()
            owners.setdefault(int.from_bytes(key[:8], "big"), {}).update({e[0]: tuple(e[1:]) for e in entries})
        found[name] = {owner: entries for owner, entries in owners.items() if entries}
    return found


@pytest.mark.parametrize("seed", range(6))
def test_long_seeded_histories_are_served_as_the_log_says(seed: int) -> None:
    world = World(
        seeded_history(seed, 1500, users=12),
        shards=seed % 4 + 1,
        settings=FoldSettings([0, 2, 5, None][seed % 4], [3, 40][seed % 2], [None, 2][seed % 2]),
    )
    for shard in range(len(world.shards)):
        while world.step(shard, 97 + 13 * shard):
            pass
    check_feeds(world, limits=(1, 20))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000))
def test_a_thousand_seeds(seed: int) -> None:
    world = World(
        seeded_history(seed, 300, users=2 + seed % 9),
        shards=seed % 7 + 1,
        settings=FoldSettings([0, 1, 2, 4, None][seed % 5], feed_rows=[1, 3, 9, 1000][seed % 4]),
    )
    with small_pages(*[(32, 1), (64, 2), (1024, 64)][seed % 3]):
        world.catch_up(1 + seed % 50)
        check_everything(world)
