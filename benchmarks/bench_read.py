"""Home feed pages in process: what the cache is worth, and what reading timelines in parallel would be.

python -m benchmarks.bench_read
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from benchmarks.measure import show_machine
from darkroom.actors.shard import Shard
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.simulation import mix
from darkroom.projections import home_feed, pages
from darkroom.projections.feed_cache import FeedCache, LruFeedCache, NoFeedCache
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, ShardStore
from darkroom.projections.stores.lmdb import LmdbShardStore
from darkroom.projections.tables import TIMELINES

SHARDS = 2
USERS = 10_000
READS = 5_000
ROUNDS = 5


def build(folder: Path, settings: FoldSettings) -> list[ShardStore]:
    """The standard mix, folded."""
    log = LmdbEventLog(folder / "log")
    events = mix(1, users=USERS)
    while group := list(islice(events, 20_000)):
        log.append(group)
    stores: list[ShardStore] = []
    for shard in range(SHARDS):
        store = LmdbShardStore(folder / f"shard-{shard}", Identity(1, 1, shard, SHARDS))
        worker = Shard(log, store, settings)
        while worker.step(100_000):
            pass
        stores.append(store)
    return stores


def pages_us(stores: list[ShardStore], cache: FeedCache, users: list[int]) -> tuple[float, float]:
    """(median, 99th percentile) of a page of 20."""
    times = []
    for user in users:
        began = time.perf_counter()
        with Reading(stores) as reading:
            home_feed.page(reading, user, limit=20, cache=cache)
        times.append(1e6 * (time.perf_counter() - began))
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def compare_cache(stores: list[ShardStore]) -> None:
    """A tenth of the users, read again and again, with the cache and without, in turns."""
    chance = random.Random(2)
    active = [chance.randrange(USERS) + 1 for _ in range(USERS // 10)]
    caches: dict[str, FeedCache] = {"with": LruFeedCache(10_000), "without": NoFeedCache()}
    ratios = []
    for _ in range(ROUNDS):
        users = [chance.choice(active) for _ in range(READS)]
        told = {name: pages_us(stores, cache, users) for name, cache in caches.items()}
        ratios.append(told["with"][0] / told["without"][0])
    for name, (median, tail) in told.items():
        print(f"a page of 20 {name} the cache: median {median:.0f} us, p99 {tail:.0f} us")
    rate = caches["with"].counts.hit_rate
    print(f"cache: hit rate {rate:.2f}, median time {statistics.median(ratios):.2f} x without")


def compare_parallel(stores: list[ShardStore]) -> None:
    """Timelines of so many authors, one after another or a thread a shard."""
    chance = random.Random(3)
    with ThreadPoolExecutor(SHARDS) as threads:
        for count in (4, 40, 400):
            ratios = []
            for _ in range(300):
                authors = [chance.randrange(USERS) + 1 for _ in range(count)]
                with Reading(stores) as reading:
                    groups = list(reading.grouped(authors))

                    def pull(group: tuple[object, list[int]], reading: Reading = reading) -> None:
                        for author in group[1]:
                            pages.newest(reading.of(author), TIMELINES, author, limit=20)

                    one = _seconds(lambda: list(map(pull, groups)))  # noqa: B023
                    both = _seconds(lambda: list(threads.map(pull, groups)))  # noqa: B023
                ratios.append(both / one)
            print(f"{count} timelines, a thread a shard: {statistics.median(ratios):.2f} x the time of one thread")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    show_machine()
    with tempfile.TemporaryDirectory() as folder:
        stores = build(Path(folder), FoldSettings())
        compare_cache(stores)
        compare_parallel(stores)


if __name__ == "__main__":
    main()
