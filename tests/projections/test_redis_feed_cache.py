"""The feed cache on a real Redis: whatever it loses, repeats, delays or forgets, nobody is served an older feed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from moody_redis import Fate, MoodyLink
from redis import Redis
from redis_trials import USERS, Trial, effects_of, seeded_trial
from services.redis_addresses import redis_address
from services.services import Services

from darkroom.projections.feed_cache import NOTHING_TO_FILL, CacheCounts, FeedKey, Lease
from darkroom.projections.feed_cache_redis import ENTRY_BYTES_MAX, RedisFeedCache, RedisPublisher
from darkroom.projections.redis_link import RedisAddress, RedisLink
from darkroom.projections.store import Checkpoint
from darkroom.projections.views import FeedHead

pytestmark = pytest.mark.services
KEY = FeedKey(1, 0, 7)
HEAD = FeedHead(3, b"12345678")
VIEWS = pytest.mark.parametrize("snapshots", [True, False], ids=["snapshots", "rows that go on changing"])


@pytest.fixture
def address(service: Services) -> RedisAddress:
    return redis_address(service)


def read(cache: RedisFeedCache, position: int, key: FeedKey = KEY) -> FeedHead | Lease:
    return cache.get(key, lambda: 0, position)


def filled(address: RedisAddress, position: int = 10) -> tuple[RedisFeedCache, RedisPublisher]:
    """A shard that has told everything up to the position, at which the feed was read and kept."""
    cache, publisher = RedisFeedCache(address), RedisPublisher(address, KEY.generation, KEY.shard, feeds_a_step=2)
    publisher.open(position)
    fill(cache, position)
    return cache, publisher


def fill(cache: RedisFeedCache, position: int) -> None:
    lease = read(cache, position)
    assert isinstance(lease, Lease)
    assert lease.token
    cache.put(KEY, lease, HEAD)
    assert read(cache, position) == HEAD


# Which readers an entry is for


def test_an_entry_is_for_readers_from_its_position_to_what_was_told(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([8, 9, 10]), 10, Checkpoint(12))
    found = [read(cache, position) == HEAD for position in (9, 10, 11, 12, 13)]
    assert found == [False, True, True, True, False]


def test_a_reader_who_has_not_seen_what_was_told_fills_nothing(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([7]), 10, Checkpoint(12))
    assert read(cache, 11) == NOTHING_TO_FILL
    assert read(cache, 12) != NOTHING_TO_FILL


def test_of_two_who_miss_at_once_one_fills(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([7]), 10, Checkpoint(11))
    lease, other = read(cache, 11), read(cache, 11)
    assert isinstance(lease, Lease)
    assert other == NOTHING_TO_FILL
    cache.put(KEY, lease, HEAD)
    assert read(cache, 11) == HEAD


def test_a_lease_is_not_given_where_the_shard_told_of_a_change_meanwhile(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([7]), 10, Checkpoint(11))
    link = MoodyLink(
        address, lambda: None, lambda: None, lambda: publisher.publish(effects_of([7]), 11, Checkpoint(12))
    )
    link.fates = [Fate.ANSWERED, Fate.OVERTAKEN]
    assert read(RedisFeedCache(address, link=link), 11) == NOTHING_TO_FILL
    assert read(cache, 12) != NOTHING_TO_FILL


def test_a_lease_is_not_given_where_another_reader_was_quicker(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([7]), 10, Checkpoint(11))
    quicker = list[FeedHead | Lease]()
    link = MoodyLink(address, lambda: None, lambda: None, lambda: quicker.append(read(cache, 11)))
    link.fates = [Fate.ANSWERED, Fate.OVERTAKEN]
    assert read(RedisFeedCache(address, link=link), 11) == NOTHING_TO_FILL
    assert isinstance(quicker[0], Lease)
    cache.put(KEY, quicker[0], HEAD)
    assert read(cache, 11) == HEAD


def test_of_many_threads_that_miss_at_once_one_fills(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([7]), 10, Checkpoint(11))
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: read(cache, 11), range(200)))
    assert len([lease for lease in found if lease != NOTHING_TO_FILL]) == 1
    assert cache.counts == CacheCounts(hits=1, misses=201)


def test_nothing_is_kept_without_an_end(address: RedisAddress) -> None:
    filled(address)
    with Redis(address.host, address.port) as client:
        kept = {key: client.pttl(key) for key in client.scan_iter(f"{address.prefix}*", count=10_000)}
    assert len(kept) == 2
    assert all(0 < ends_ms <= 86_400_000 for ends_ms in kept.values())


def test_a_head_that_is_too_large_is_not_kept(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([7]), 10, Checkpoint(11))
    lease = read(cache, 11)
    assert isinstance(lease, Lease)
    cache.put(KEY, lease, FeedHead(0, bytes(ENTRY_BYTES_MAX)))
    assert isinstance(read(cache, 11), Lease)


# What the shard cannot tell


def test_after_more_changes_than_can_be_named_everything_is_dropped(address: RedisAddress) -> None:
    cache, _ = filled(address)
    publisher = RedisPublisher(address, 1, 0, feeds_told_max=3)
    publisher.open(10)
    fill(cache, 10)
    publisher.publish(effects_of([1, 2, 3]), 10, Checkpoint(11))
    assert read(cache, 11) == HEAD
    publisher.publish(effects_of([1, 2, 3, 4]), 11, Checkpoint(12))
    assert isinstance(read(cache, 12), Lease)


def test_a_batch_that_does_not_follow_on_what_was_told_begins_a_new_epoch(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    publisher.publish(effects_of([]), 11, Checkpoint(12))
    assert isinstance(read(cache, 12), Lease)


@pytest.mark.parametrize("fate", [fate for fate in Fate if fate is not Fate.ANSWERED])
def test_what_may_not_have_been_told_hides_everything_until_a_new_epoch(address: RedisAddress, fate: Fate) -> None:
    cache, first = filled(address)
    link = MoodyLink(address, lambda: None, lambda: flush(address), lambda: first.open(10))
    publisher = RedisPublisher(address, 1, 0, feeds_a_step=1, link=link)
    publisher.open(10)
    fill(cache, 10)
    link.fates = [fate, Fate.LOST]
    publisher.publish(effects_of([8, 7]), 10, Checkpoint(11))
    assert isinstance(read(cache, 11), Lease)
    publisher.publish(effects_of([]), 11, Checkpoint(12))
    fill(cache, 12)
    publisher.publish(effects_of([8]), 12, Checkpoint(13))
    assert read(cache, 13) == HEAD
    first.close()


def flush(address: RedisAddress) -> None:
    with Redis(address.host, address.port) as client:
        for key in client.scan_iter(f"{address.prefix}*", count=10_000):
            client.delete(key)


def test_after_a_flush_the_next_batch_begins_anew(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    flush(address)
    assert read(cache, 10) == NOTHING_TO_FILL
    publisher.publish(effects_of([]), 10, Checkpoint(11))
    fill(cache, 11)


def test_of_two_incarnations_neither_tells_for_the_other(address: RedisAddress) -> None:
    cache, old = filled(address)
    new = RedisPublisher(address, 1, 0)
    new.open(10)
    fill(cache, 10)
    old.publish(effects_of([]), 10, Checkpoint(11))
    assert isinstance(read(cache, 11), Lease)
    new.publish(effects_of([7]), 10, Checkpoint(12))
    assert isinstance(read(cache, 12), Lease)
    assert isinstance(read(cache, 10), Lease)


def test_where_redis_is_not_there_everything_misses_and_nothing_is_raised(address: RedisAddress) -> None:
    elsewhere = replace(address, port=1)
    cache, link = RedisFeedCache(elsewhere), RedisLink(elsewhere, elsewhere.tell_s)
    publisher = RedisPublisher(elsewhere, 1, 0, link=link)
    publisher.open(10)
    publisher.publish(effects_of([7]), 10, Checkpoint(11))
    assert read(cache, 11) == NOTHING_TO_FILL
    cache.put(KEY, Lease(5, b"0" * 16, 11), HEAD)
    assert cache.counts == CacheCounts(hits=0, misses=1, failures=2)
    assert link.failures == 2


def test_what_somebody_else_put_there_is_a_miss(address: RedisAddress) -> None:
    cache, publisher = filled(address)
    with Redis(address.host, address.port) as client:
        for marker in (b"", b"x", b"a b c", b"\xff 1"):
            client.set(f"{address.prefix}:{{1.0}}", marker, ex=60)
            assert read(cache, 10) == NOTHING_TO_FILL
        publisher.publish(effects_of([]), 10, Checkpoint(11))
        client.set(f"{address.prefix}:{{1.0}}:7", b"short", ex=60)
        fill(cache, 11)


# Everything at once


@VIEWS
@pytest.mark.parametrize("seeds", [range(start, start + 25) for start in range(0, 100, 25)], ids=str)
def test_no_reader_is_served_a_head_that_is_older_than_its_view(
    address: RedisAddress, snapshots: bool, seeds: range
) -> None:
    assert sum(hits_of(address, snapshots, seed) for seed in seeds) > 200


@pytest.mark.soak
@VIEWS
@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 2_000, 100)], ids=str)
def test_no_reader_is_in_a_million_steps_of_each(address: RedisAddress, snapshots: bool, seeds: range) -> None:
    for seed in seeds:
        hits_of(address, snapshots, seed)


def hits_of(address: RedisAddress, snapshots: bool, seed: int) -> int:
    trial = Trial(address, snapshots=snapshots)
    try:
        seeded_trial(trial, seed, steps=500)
    except AssertionError as failure:
        raise AssertionError(f"seed {seed}: {failure}") from failure
    finally:
        trial.close()
    return trial.hits


WHICH, USER = st.integers(0, 5), st.sampled_from(USERS)
FATES = st.one_of(st.just(Fate.ANSWERED), st.sampled_from(Fate))


class Machine(RuleBasedStateMachine):
    """The same trial, by steps that hypothesis chooses, for it finds the shortest history that ends wrong."""

    address: RedisAddress
    snapshots: bool

    def __init__(self) -> None:
        super().__init__()
        self.trial = Trial(self.address, snapshots=self.snapshots)

    @rule(which=WHICH, users=st.sets(USER))
    def work(self, which: int, users: set[int]) -> None:
        self.trial.work(which, users)

    @rule(which=WHICH, users=st.sets(USER), fate=FATES, second=FATES)
    def begin_a_batch(self, which: int, users: set[int], fate: Fate, second: Fate) -> None:
        self.trial.append(users)
        self.trial.tell(which, fate, second)

    @rule(which=WHICH)
    def end_a_batch(self, which: int) -> None:
        self.trial.publish_rows(which)
        self.trial.reach(which)
        self.trial.commit(which)

    @rule(fate=FATES)
    def start(self, fate: Fate) -> None:
        self.trial.start(fate)

    @rule(which=WHICH)
    def crash(self, which: int) -> None:
        self.trial.crash(which)

    @rule(user=USER, fate=FATES, second=FATES)
    def begin_a_read(self, user: int, fate: Fate, second: Fate) -> None:
        self.trial.open_view(user)
        self.trial.ask(-1, fate, second)

    @rule(which=WHICH, fate=FATES)
    def end_a_read(self, which: int, fate: Fate) -> None:
        self.trial.fill(which, fate)

    @rule()
    def everybody_reads(self) -> None:
        for user in USERS:
            self.trial.read(user)

    @rule(step=st.sampled_from([Trial.flush, Trial.save, Trial.revive]))
    def change_redis(self, step: Callable[[Trial], None]) -> None:
        step(self.trial)

    @rule(which=WHICH, whose=WHICH)
    def deliver_late(self, which: int, whose: int) -> None:
        self.trial.deliver_late(which, whose)

    def teardown(self) -> None:
        self.trial.close()


@VIEWS
def test_hypothesis_finds_no_reader_who_is(address: RedisAddress, snapshots: bool) -> None:
    class Here(Machine):
        pass

    Here.address, Here.snapshots = address, snapshots
    thorough = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Here, settings=thorough)
