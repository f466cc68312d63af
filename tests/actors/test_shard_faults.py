"""Shards under faults: commits that fail or are said to fail, records that cannot be read or folded, gaps, a rewound
log, a second incarnation, a full disk, a clock that jumps; and all of it at once, from one seed.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults import CommitLost, Fate, UnreliableStore
from histories import HOUR_MS, START_MS, History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import World, check_everything, check_feeds

from darkroom.actors import shard as shards
from darkroom.actors.shard import FoldFailed, LogRewound, Shard
from darkroom.events.codec import Codec, UndecodableEvent
from darkroom.events.facts import (
    Event,
    FeedViewed,
    PostDeleted,
    PostPublished,
    Recorded,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserRegistered,
    UserUnblocked,
    UserUnfollowed,
    personal,
)
from darkroom.events.log import DamagedRecord, EventLog, LogBusy
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.projections import home_feed, people
from darkroom.projections.fold import fold
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.shard_state import DAY_MS, FoldSettings, ShardState
from darkroom.projections.store import Identity, Superseded
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.stores.memory import MemoryShardStore

CHILD_S_MAX = 60.0
UNLIMITED = 10**6

thorough = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def timed(events: Sequence[Event]) -> History:
    return [(START_MS + index, event) for index, event in enumerate(events)]


def registered(number: int) -> list[Event]:
    return [UserRegistered(username=personal(f"user{n}"), display_name=personal("")) for n in range(number)]


def post(author: int) -> Event:
    return PostPublished(author=author, caption=personal("a caption"))


# ---- R10: batches repeated and re-cut, commits that fail


steps = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 30), st.lists(st.sampled_from(Fate), min_size=1, max_size=3)),
    min_size=3,
    max_size=20,
)


@thorough
@given(histories(80), st.integers(1, 5), steps)
def test_batches_that_are_repeated_and_cut_anew_after_lost_commits_change_nothing(
    history: History, number: int, steps: list[tuple[int, int, list[Fate]]]
) -> None:
    stores: list[UnreliableStore] = []

    def make_store(identity: Identity) -> UnreliableStore:
        stores.append(UnreliableStore(MemoryShardStore(identity)))
        return stores[-1]

    world = World(history, number, FoldSettings(3, feed_rows=5), make_store)
    for shard, batch, fates in steps:
        # The same records one to three times, each time in a batch of another size.
        for turn, fate in enumerate(fates):
            stores[shard % number].next_fate = lambda fate=fate: fate  # type: ignore[misc]
            try_step(world, shard % number, batch + 3 * turn)
        stores[shard % number].next_fate = lambda: Fate.STORED
    check_feeds(world, limits=(3,))
    world.catch_up(7)
    check_everything(world)


def try_step(world: World, shard: int, batch: int) -> None:
    """A step, and what a worker does after a failed one: open the shard anew, and go on from what is stored."""
    try:
        world.step(shard, batch)
    except (CommitLost, Superseded, LogBusy):
        world.restart(shard)
        catch_up_oracle(world, shard)


def catch_up_oracle(world: World, shard: int) -> None:
    oracle = world.oracles[shard]
    for record in world.records[oracle.position : world.stores[shard].checkpoint().position]:
        oracle.apply(record)


# ---- R12: poison


class Poisoned(Codec):
    """Cannot read views of feeds."""

    def decode(self, data: bytes | memoryview) -> Event:
        event = super().decode(data)
        if isinstance(event, FeedViewed):
            raise UndecodableEvent("it is poison")
        return event


POISON_AT = 41
HISTORY = timed([*registered(5), *[post(1 + n % 5) for n in range(35)], FeedViewed(user=1, newest=1), post(2), post(3)])


@pytest.mark.parametrize("batch", [1, 7, 40, 41, 1000])
def test_everything_before_a_record_that_cannot_be_read_is_committed_and_its_position_named(batch: int) -> None:
    world = World(HISTORY, 3, FoldSettings())
    poisoned = MemoryEventLog(codec=Poisoned())
    poisoned.append([event for _, event in HISTORY], [time_ms for time_ms, _ in HISTORY])
    for number, store in enumerate(world.stores):
        for _ in range(3):
            shard = Shard(poisoned, store, FoldSettings())
            with pytest.raises(UndecodableEvent, match=f"position {POISON_AT}"):
                step_to_the_end(shard, batch)
            assert store.checkpoint().position == POISON_AT - 1
        catch_up_oracle(world, number)
    check_feeds(world)
    # With a version that can read it, all goes on.
    for number in range(3):
        world.restart(number)
    world.catch_up()
    check_everything(world)


def step_to_the_end(shard: Shard, batch: int) -> None:
    while shard.step(batch):
        pass


def test_a_record_that_one_shard_cannot_fold_in_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(HISTORY, 3, FoldSettings())

    def failing_fold(state: ShardState, recorded: Recorded) -> None:
        fold(state, recorded)
        assert (state.shard, recorded.position) != (1, POISON_AT), "a mistake of ours"

    monkeypatch.setattr(shards, "fold", failing_fold)
    for batch in (1000, 100):
        world.restart(1)
        with pytest.raises(FoldFailed, match=f"position {POISON_AT}: AssertionError: a mistake of ours") as failed:
            step_to_the_end(world.shards[1], batch)
        assert failed.value.position == POISON_AT
        assert world.stores[1].checkpoint().position == 0
    # What lies before it, as a batch of its own, is committed.
    world.restart(1)
    assert world.step(1, failed.value.position - 1) == POISON_AT - 1
    for shard in (0, 2):
        while world.step(shard, 10):
            pass
    assert [store.checkpoint().position for store in world.stores] == [len(HISTORY), POISON_AT - 1, len(HISTORY)]
    check_feeds(world)
    monkeypatch.undo()
    world.restart(1)
    world.catch_up()
    check_everything(world)


# ---- R14: gaps, and a log that is not the one that was folded


class LogWithGap(MemoryEventLog):
    """Leaves out a record, as no log may."""

    def __init__(self, without: int) -> None:
        super().__init__()
        self._without = without

    def read(self, after: int, limit: int) -> list[Recorded]:
        return [record for record in super().read(after, limit + 1) if record.position != self._without][:limit]


@pytest.mark.parametrize("batch", [1, 2, 9, 1000])
def test_a_gap_is_never_crossed(batch: int) -> None:
    history = seeded_history(5, 60)
    for missing in (1, 2, 17, 59):
        log, store = LogWithGap(missing), MemoryShardStore(Identity(1, 1, 0, 1))
        log.append([event for _, event in history])
        for _ in range(3):
            with pytest.raises(FoldFailed, match=f"position {missing + 1} after {missing - 1}"):
                step_to_the_end(Shard(log, store, FoldSettings()), batch)
            assert store.checkpoint().position < missing


def test_a_log_that_ends_before_what_was_folded_is_refused() -> None:
    world = World(HISTORY, 1, FoldSettings())
    world.catch_up()
    shorter = MemoryEventLog()
    shorter.append([event for _, event in HISTORY[:-2]])
    for _ in range(2):
        with pytest.raises(LogRewound, match="ends at 41, but shard position 43 is committed"):
            Shard(shorter, world.stores[0], FoldSettings()).step(10)
    assert world.stores[0].checkpoint().position == 43
    shorter.append([event for _, event in HISTORY[-2:]])
    assert Shard(shorter, world.stores[0], FoldSettings()).step(10) == 0


# ---- two incarnations


@pytest.mark.parametrize("adapter", ["memory", "lmdb"])
def test_of_two_incarnations_only_one_commits_what_comes_next(adapter: str, tmp_path: Path) -> None:
    identity = Identity(FORMAT, 1, 0, 1)

    def make_store() -> MemoryShardStore | LmdbShardStore:
        return MemoryShardStore(identity) if adapter == "memory" else LmdbShardStore(tmp_path / "store", identity)

    store = make_store()
    world = World(HISTORY, 1, FoldSettings(), lambda _: store)
    one, other = Shard(world.log, store, FoldSettings()), Shard(world.log, store, FoldSettings())
    assert one.step(10) == 10
    for batch in (10, 3, 20):
        with pytest.raises(Superseded, match="expected position 0, found 10"):
            other.step(batch)
    assert store.checkpoint().position == 10
    # The one that was stopped comes back, overtakes, and stops the first.
    back = Shard(world.log, store, FoldSettings())
    assert back.step(5) == 5
    with pytest.raises(Superseded, match="expected position 10, found 15"):
        one.step(10)
    step_to_the_end(back, 10)
    catch_up_oracle(world, 0)
    check_everything(world)
    store.close()


# ---- limits


def test_a_batch_that_takes_too_long_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "READ_RECORDS", 10)
    now = [0.0]

    def monotonic() -> float:
        now[0] += 4.0
        return now[0]

    monkeypatch.setattr(shards, "time", SimpleNamespace(monotonic=monotonic))
    world = World(HISTORY, 1, FoldSettings())
    assert world.step(0, UNLIMITED) == 30
    world.catch_up(UNLIMITED)
    check_everything(world)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_full_disk_leaves_what_was_committed_and_goes_on_when_there_is_room(seed: int, tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    child = Path(__file__).parent / "children" / "fill_the_disk.py"
    done = subprocess.run(
        [sys.executable, str(child), str(tmp_path), str(seed)],
        env=os.environ | {"PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        timeout=CHILD_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["position"] == 1200
    assert told["full"] >= 3


# ---- R15: the threshold crossed both ways, in a race with unfollows, blocks and deletions


def crossing_history(source: random.Random, size: int) -> History:
    """A star whom a crowd follows and leaves in waves, while the star posts and some block, delete or are deleted."""
    crowd, posts, waves = list(range(2, 12)), list[int](), 0
    events = registered(11)
    while len(events) < size:
        user, what = source.choice(crowd), source.random()
        if what < 0.35:
            posts.append(len(events) + 1)
            events.append(post(1))
        elif what < 0.38:
            events.append(UserBlocked(user=1, target=user) if what < 0.365 else UserBlocked(user=user, target=1))
        elif what < 0.44:
            events.append(UserUnblocked(user=1, target=user) if what < 0.41 else UserUnblocked(user=user, target=1))
        elif what < 0.47 and posts:
            events.append(PostDeleted(author=1, post=source.choice(posts)))
        elif what < 0.48 and len(crowd) > 6:
            crowd.remove(user)
            events.append(UserDeleted(user=user))
        else:
            user, rising = crowd[waves % len(crowd)], waves // 12 % 2 == 0
            waves += 1
            events.append(
                UserFollowed(follower=user, followee=1) if rising else UserUnfollowed(follower=user, followee=1)
            )
    return timed(events)


def celebrity_changes(world: World, batch: int, on_step: Callable[[], None]) -> int:
    """Fold all; how often the star became a celebrity or stopped being one in some shard."""
    changes, stood = 0, [False] * len(world.shards)
    for shard in range(len(world.shards)):
        while world.step(shard, batch):
            with world.stores[shard].snapshot() as snapshot:
                row = snapshot.get("celebrities", (1).to_bytes(8, "big"))
            stands = row == b"\xff" * 8
            changes += stands != stood[shard]
            stood[shard] = stands
            on_step()
    return changes


@pytest.mark.parametrize("seed", range(12))
def test_feeds_are_exact_while_an_author_crosses_the_threshold_both_ways(seed: int) -> None:
    source = random.Random(seed)
    number = 1 + seed % 3
    fold_settings = FoldSettings([4, 2, 2][number - 1] * number, feed_rows=[2, 6, 1000][seed // 3 % 3])
    world = World(crossing_history(source, 150), number, fold_settings)
    changes = celebrity_changes(world, 1 + seed % 4, lambda: check_feeds(world, limits=(4,)))
    assert changes >= 3
    check_everything(world)


# ---- R20: the clock jumps, and time is log time


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_an_hour_either_way_changes_nothing_but_recorded_times(jump_ms: int) -> None:
    history = seeded_history(3, 200)
    jumped = [(time_ms + (jump_ms if index % 50 >= 25 else 0), event) for index, (time_ms, event) in enumerate(history)]
    world = World(jumped, 3, FoldSettings(3, feed_rows=8, feed_ttl_days=1))
    world.catch_up(20)
    check_everything(world)
    highest = max(time_ms for time_ms, _ in jumped)
    assert [store.checkpoint().time_ms for store in world.stores] == [highest] * 3


def test_log_time_never_falls_over_batches_and_restarts() -> None:
    history = seeded_history(4, 300)
    world, before = World(history, 1, FoldSettings()), 0
    while world.step(0, 10):
        now = world.stores[0].checkpoint()
        assert now.time_ms == max(time_ms for time_ms, _ in history[: now.position])
        assert now.time_ms >= before
        before = now.time_ms
        world.restart(0)


def test_rows_expire_in_log_time_whatever_the_wall_clock_says_and_never_come_back() -> None:
    day = (START_MS // DAY_MS + 1) * DAY_MS  # the first of a day
    follows: list[Event] = [UserFollowed(follower=2, followee=1)]
    # Positions 4 and 5 on the first day, 6 two days later, 7 with a clock that went back to the first day.
    history = [
        *((day, event) for event in (*registered(2), *follows, post(1), post(1))),
        (day + 2 * DAY_MS, post(1)),
        (day + 1000, post(1)),
    ]
    world = World(history, 1, FoldSettings(feed_ttl_days=1))
    horizons = []
    while world.step(0, 1):
        world.restart(0)
        with Reading(world.views) as reading:
            horizons.append(reading.of(2).expired())
            page = [entry.post for entry in home_feed.page(reading, 2, limit=20)]
        # Pulled or pushed, the feed holds them all.
        assert page == list(range(reading.position, 3, -1))
    assert horizons == [0, 0, 0, 0, 0, 5, 5]


# ---- R16: everything at once, from one seed


class MoodyLog:
    """A log that grows as it is read, is busy now and then, and often returns less than was asked for."""

    def __init__(self, log: EventLog, source: random.Random) -> None:
        self._log = log
        self._source = source
        self.revealed = 0
        self.calm = False

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> Sequence[int]:
        return self._log.append(events, times_ms)

    def bytes_stored(self) -> int:
        return self._log.bytes_stored()

    def read(self, after: int, limit: int) -> list[Recorded]:
        if self.calm:
            return self._log.read(after, limit)
        self.revealed = min(self._log.head(), max(self.revealed, after) + self._source.randrange(8))
        fate = self._source.random()
        if fate < 0.03:
            raise LogBusy("try again")
        if fate < 0.05 and after < self.revealed:
            raise DamagedRecord(after + 1, "the disk is having a bad day")
        limit = min(limit, self.revealed - after)
        return self._log.read(after, self._source.randint(1, limit) if fate < 0.3 and limit > 1 else limit)

    def head(self) -> int:
        return self._log.head()

    def wait(self, position: int, timeout_s: float) -> bool:
        return self._log.wait(position, timeout_s)

    def release_dead_readers(self) -> int:
        return self._log.release_dead_readers()

    def close(self) -> None:
        self._log.close()


class Simulation:
    """Shards over unreliable stores and a moody log. One seed drives history, order, crashes, faults and settings."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        self.number = self.source.randint(1, 5)
        history = seeded_history(seed, self.source.randint(40, 160), users=self.source.randint(2, 7))
        self.world = World(history, self.number, self._settings(), self._make_store)
        self.log = MoodyLog(self.world.log, self.source)
        self.calm = False
        self.ghosts: list[tuple[int, Shard]] = []
        for shard in range(self.number):
            self.open(shard)

    def _settings(self) -> FoldSettings:
        choose = self.source.choice
        return FoldSettings(choose([0, 1, 2, 4, 9, None]), choose([1, 3, 9, 1000]), choose([None, 1, 3]))

    def _make_store(self, identity: Identity) -> UnreliableStore:
        return UnreliableStore(MemoryShardStore(identity), self._fate)

    def _fate(self) -> Fate:
        if self.calm:
            return Fate.STORED
        return self.source.choices(list(Fate), weights=[8, 1, 1])[0]

    def open(self, shard: int) -> None:
        fold_settings = self.world.settings if self.source.random() < 0.8 else self._settings()
        self.world.shards[shard] = Shard(self.log, self.world.stores[shard], fold_settings)

    def run(self) -> None:
        for _ in range(60):
            shard = self.source.randrange(self.number)
            what = self.source.random()
            if what < 0.1:
                # A frozen incarnation stays behind, and may wake up later.
                self.ghosts.append((shard, self.world.shards[shard]))
                self.open(shard)
            elif what < 0.2 and self.ghosts:
                shard, ghost = self.ghosts.pop(self.source.randrange(len(self.ghosts)))
                self.step(shard, ghost)
            else:
                self.step(shard, self.world.shards[shard])
            if what > 0.85:
                check_feeds(self.world, limits=(3,))
        self.settle()

    def step(self, shard: int, incarnation: Shard) -> None:
        try:
            incarnation.step(self.source.randint(1, 25))
        except (CommitLost, Superseded, LogBusy, DamagedRecord):
            if incarnation is self.world.shards[shard]:
                self.open(shard)
        catch_up_oracle(self.world, shard)

    def settle(self) -> None:
        """The faults end; everybody arrives."""
        self.calm = self.log.calm = True
        for shard in range(self.number):
            self.open(shard)
        self.world.catch_up(self.source.randint(1, 50))
        check_everything(self.world)


def simulate(seed: int) -> None:
    try:
        Simulation(seed).run()
    except BaseException as failure:
        failure.add_note(f"the simulation's seed is {seed}")
        raise


@pytest.mark.parametrize("seed", range(40))
def test_a_simulated_run_serves_what_the_log_says(seed: int) -> None:
    simulate(seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 2000))
def test_a_thousand_simulated_runs_serve_what_the_log_says(seed: int) -> None:
    simulate(seed)


def test_a_users_shard_is_the_one_that_knows_them() -> None:
    """The simulations above lean on it: a world of shards has each user's name and profile in one place."""
    world = World(HISTORY, 3, FoldSettings())
    world.catch_up()
    for user in range(1, 6):
        for shard in range(3):
            with world.stores[shard].snapshot() as snapshot:
                found = snapshot.get("profiles", user.to_bytes(8, "big"))
            assert (found is not None) == (shard == shard_of(user, 3))
    with Reading(world.views) as reading:
        assert people.user_named(reading, "user3") == 4
