"""A guard: the ratio of ours to a floor, measured side by side in a second or two, has not fallen by more than a third.

Medians of ratios, not times, and of the processor's seconds, not the clock's: so that it matters little what else the
machine does. What stood is renewed by hand, upwards, when something has become faster.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_append import likes
from benchmarks.fan_out_contenders import deliveries
from benchmarks.floor_feeds import PackedPages
from benchmarks.floor_fold import bodies_of, decode_and_apply
from benchmarks.floor_log import FileLog
from benchmarks.reads import Pages
from benchmarks.small_world import folded, log_of, small_mix, users_of
from benchmarks.worlds import follows, posts, power_law, registrations
from darkroom.actors.shard import Shard
from darkroom.events.codec import Codec
from darkroom.events.facts import Event
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

FALL_MAX = 1 / 3
TRIES_MIN, TRIES_MAX = 3, 12

Pair = tuple[float, float]
"""Seconds of ours and of the floor, for the same work."""

Measure = Callable[[], Pair]


def seconds(work: Callable[[], object]) -> float:
    """What it costs this process, waiting for the disk or for others left out."""
    began = time.process_time()
    work()
    return time.process_time() - began


ROUNDS = 20


def append(folder: Path) -> Measure:
    """Groups of 1,000, beside a write and an fdatasync of the same."""
    log, file, events = LmdbEventLog(folder / "log"), FileLog(folder / "file"), likes(1_000)

    def store(append: Callable[[Sequence[Event]], object]) -> None:
        for _ in range(ROUNDS):
            append(events)

    def pair() -> Pair:
        ours = seconds(lambda: store(log.append))
        return ours, seconds(lambda: store(file.append))

    return pair


def fan_out(folder: Path) -> Measure:
    """Batches of 2,000 posts through a shard, beside packed pages in LMDB."""
    graph, batch = power_law(1_500, 25), 2_000
    authors = np.random.default_rng(1).integers(1, graph.users + 1, batch * (TRIES_MAX + 1), dtype=np.uint64)
    before = [*registrations(graph.users), *follows(graph)]
    with log_of(folder, [*before, *posts(authors.tolist())]) as log:
        pass
    reopened = LmdbEventLog(log._environment.path)
    shard = Shard(reopened, LmdbShardStore(folder / "shard", Identity(FORMAT, 1, 0, 1)), FoldSettings())
    floor = PackedPages(folder / "floor")

    def fold_to(position: int) -> None:
        while shard.position < position:
            shard.step(position - shard.position)

    def pair() -> Pair:
        start = shard.position - len(before)
        words, owners = deliveries(graph, shard.position + 1, authors[start : start + batch], 0, 1)
        ours = seconds(lambda: fold_to(shard.position + batch))
        return ours, seconds(lambda: floor.write(words, owners))

    fold_to(len(before))
    pair()  # into feeds that hold something already
    return pair


def rebuild(folder: Path) -> Measure:
    """A small mix into one shard, beside decoding it and applying it to dictionaries."""
    events = small_mix()
    bodies, log = bodies_of(events), LmdbEventLog(folder / "log")
    log.append(events)

    def pair() -> Pair:
        began = time.process_time()
        with folded(folder, log, 1):
            ours = time.process_time() - began
        return ours, seconds(lambda: decode_and_apply(bodies))

    return pair


def page(folder: Path) -> Measure:
    """Pages with posts, authors and counters, which were shown before, beside decoding twenty posts for each."""
    pages, users = _pages_and_readers(folder)
    decode, bodies = Codec().decode, bodies_of(small_mix())[-20:]

    def pair() -> Pair:
        ours = seconds(lambda: [pages.made(user) for user in users])
        return ours, seconds(lambda: [[decode(body) for body in bodies] for _ in users])

    return pair


def _pages_and_readers(folder: Path) -> tuple[Pages, list[int]]:
    events = small_mix()
    log = LmdbEventLog(folder / "log")
    log.append(events)
    with folded(folder, log, 1):
        pass
    return Pages([LmdbShardStore(next(folder.glob("*-0")))]), users_of(events)[:200]


def page_again(folder: Path) -> Measure:
    """Pages all of which stands, beside the same put together anew."""
    pages, users = _pages_and_readers(folder)
    for user in users:
        pages.shown(user)

    def pair() -> Pair:
        ours = seconds(lambda: [pages.shown(user) for user in users])
        return ours, seconds(lambda: [pages.made(user) for user in users])

    return pair


STOOD: dict[Callable[[Path], Measure], float] = {
    append: 0.43,
    fan_out: 0.24,
    rebuild: 0.19,
    page: 0.045,
    page_again: 11.0,
}


@pytest.mark.parametrize("row", STOOD)
def test_the_ratio_to_the_floor_has_not_fallen_by_more_than_a_third(
    tmp_path: Path, row: Callable[[Path], Measure]
) -> None:
    measure, ratios, bar = row(tmp_path), list[float](), STOOD[row] * (1 - FALL_MAX)
    while len(ratios) < TRIES_MIN or (len(ratios) < TRIES_MAX and statistics.median(ratios) < bar):
        ours, floor = measure()
        ratios.append(floor / ours)
    assert statistics.median(ratios) >= bar, f"{row.__name__}: {sorted(ratios)}, where {STOOD[row]} stood"
