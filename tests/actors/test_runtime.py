"""What shards do in every runtime: inline, and (marked `ray`) in actors of a Ray cluster that this module shares.

A watcher reads meanwhile, and compares every answer with what the log says at the positions that it was read at.
"""

import os
import random
import signal
import subprocess
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from histories import START_MS, History, recorded, seeded_history
from oracle import Oracle
from world import check_post, check_user

from darkroom.actors import shard as shards
from darkroom.actors import supervisor as supervisors
from darkroom.actors import worker as workers
from darkroom.actors.runtime import Runtime, ShardSpec
from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.runtimes.ray import RayRuntime
from darkroom.actors.shard import Shard
from darkroom.actors.standstill import ShardFaulted, Standstill
from darkroom.actors.supervisor import OtherShardCount, Supervisor
from darkroom.actors.worker import Worker, fault_of, faults_of
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import Recorded, UserFollowed
from darkroom.events.log_adapters import lmdb as lmdb_logs
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.readers import Readers
from darkroom.gateway.settings import Settings
from darkroom.gateway.shard_wiring import ShardsOf
from darkroom.projections import home_feed
from darkroom.projections.fold import RUN_MIN, fold, fold_follows
from darkroom.projections.generations import FolderGenerations, generation_path, open_serving, read_pointer, shard_path
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.shard_state import FoldSettings, ShardState
from darkroom.projections.store import Checkpoint, Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore

DEADLINE_S = 60.0
POLL_S = 0.005
PAGE = 20
FOLD_SETTINGS = FoldSettings(celebrity_threshold=4, feed_rows=10, feed_ttl_days=30)

T = TypeVar("T")


def eventually(look: Callable[[], T | None]) -> T:
    """What `look` sees once it sees anything; other processes have no other signal to give."""
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / POLL_S)):
        found = look()
        if found:
            return found
        pause.wait(POLL_S)
    raise AssertionError(f"not within {DEADLINE_S:g} s")


class Chronicle:
    """Feeds as they were at every position, by the oracle."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.records = recorded(history)
        self._authors: dict[int, list[tuple[int, frozenset[int]]]] = {}
        self._timelines: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        oracle = Oracle()
        for record in self.records:
            oracle.apply(record)
            for user in {*oracle.users, *self._authors}:
                self._note(oracle, user)
        self.people = sorted(self._authors)

    def _note(self, oracle: Oracle, user: int) -> None:
        authors = (
            frozenset([*oracle.following(user), user]) - {*oracle.mutes(user)} if oracle.live(user) else frozenset()
        )
        timeline = tuple(oracle.timeline(user))
        noted_authors = self._authors.setdefault(user, [(0, frozenset())])
        noted_timelines = self._timelines.setdefault(user, [(0, ())])
        if noted_authors[-1][1] != authors:
            noted_authors.append((oracle.position, authors))
        if noted_timelines[-1][1] != timeline:
            noted_timelines.append((oracle.position, timeline))

    def feed(self, user: int, positions: Sequence[int]) -> list[int]:
        """The user's first page, read of shards at these positions; empty where the user is not live."""
        authors = _at(self._authors[user], positions[shard_of(user, len(positions))])
        posts = [
            post
            for author in authors
            for post in _at(self._timelines[author], positions[shard_of(author, len(positions))])
            if post <= min(positions)
        ]
        return sorted(posts, reverse=True)[:PAGE]

    def is_live(self, user: int, positions: Sequence[int]) -> bool:
        return bool(_at(self._authors[user], positions[shard_of(user, len(positions))]))


def _at(versions: list[tuple[int, T]], position: int) -> T:
    return versions[bisect_right(versions, position, key=lambda version: version[0]) - 1][1]


class House:
    """A data directory with a supervisor and readers."""

    def __init__(
        self, path: Path, runtime: Runtime, chronicle: Chronicle, *, shards: int = 2, batch: int = 100
    ) -> None:
        self.directory = DataDirectory(path, create=True)
        self.generations = self.directory.generations
        self.runtime = runtime
        self.chronicle = chronicle
        self.batch = batch
        self.log = LmdbEventLog(self.directory.log)
        self.supervisor = self.supervise(shards)
        self.readers = Readers(
            FolderGenerations(self.generations), self.log, wait_ms=int(1000 * DEADLINE_S), max_lag_ms=None
        )

    def supervise(self, shards: int | None = None, settings: Settings | None = None) -> Supervisor:
        return Supervisor(
            self.directory,
            self.log,
            self.runtime,
            ShardsOf(settings or Settings(), self.directory.log),
            FolderGenerations(self.generations),
            FOLD_SETTINGS,
            batch_events=self.batch,
            shards=shards,
        )

    def append(self, number: int | None = None) -> int:
        """Append the chronicle's next records, all of them by default; the position they end at."""
        head = self.log.head()
        more = self.chronicle.history[head : None if number is None else head + number]
        self.log.append([event for _, event in more], [time_ms for time_ms, _ in more])
        return head + len(more)

    def positions(self) -> list[int]:
        return self.readers.positions()

    def read_feed(self, user: int) -> tuple[list[int], list[int]]:
        """(each shard's position, the user's first page), of one moment."""

        def answer(reading: Reading) -> tuple[list[int], list[int]]:
            positions = [reading.shard(shard).checkpoint.position for shard in range(reading.shards)]
            if not self.chronicle.is_live(user, positions):
                return positions, []
            return positions, [entry.post for entry in home_feed.page(reading, user, limit=PAGE)]

        return self.readers.try_read(answer)

    def check(self) -> None:
        """All that is served at the head is what the oracle says."""
        head, oracle = self.log.head(), Oracle()
        for record in self.chronicle.records[:head]:
            oracle.apply(record)

        def answer(reading: Reading) -> None:
            for user in self.chronicle.people:
                check_user(reading, oracle, user)
                if oracle.live(user):
                    page = [entry.post for entry in home_feed.page(reading, user, limit=10**6)]
                    assert page == oracle.home_feed(user)
            for post in range(1, head + 1, 3):
                check_post(reading, oracle, post)
            assert reading.position == head

        self.readers.read(answer, min_position=head)

    def close(self) -> None:
        self.readers.close()
        self.supervisor.close()
        self.log.close()


class Watcher:
    """Reads feeds in a thread of its own, and holds each against the chronicle."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.reads = 0
        self.served = 0
        self.shard_counts: set[int] = set()
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            lowest = 0
            while not self._stop.is_set():
                for user in self.house.chronicle.people:
                    positions, page = self.house.read_feed(user)
                    assert page == self.house.chronicle.feed(user, positions), f"feed of {user} at {positions}"
                    assert min(positions) >= lowest, "a position that was served was taken back"
                    lowest = min(positions)
                    self.reads += 1
                    self.served += bool(page)
                    self.shard_counts.add(len(positions))
                self._stop.wait(POLL_S)
        except BaseException as failure:
            self.failure = failure

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure
        assert self.served


class Appender:
    """Appends the chronicle in a thread of its own, a few records at a time."""

    def __init__(self, house: House, pause_s: float, upto: int | None = None) -> None:
        self._house = house
        self._pause_s = pause_s
        self._upto = upto or len(house.chronicle.history)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._house.log.head() < self._upto and not self._stop.wait(self._pause_s):
            self._house.append(3)

    def finish(self) -> None:
        """Append what is left of it."""
        self._stop.set()
        self._thread.join()
        self._house.append()


class LentRuntime:
    """A runtime that outlives its supervisors: closing it ends the workers only."""

    def __init__(self, runtime: RayRuntime) -> None:
        self.runtime = runtime
        self._started: set[int] = set()

    def start(self, spec: ShardSpec) -> None:
        self._started.add(spec.generation)
        self.runtime.start(spec)

    def nudge(self) -> None:
        self.runtime.nudge()

    def faults(self) -> Mapping[tuple[int, int], str | None]:
        return self.runtime.faults()

    def stop(self, generation: int) -> None:
        self.runtime.stop(generation)

    def close(self) -> None:
        for generation in self._started:
            self.runtime.stop(generation)
        self._started.clear()


@pytest.fixture(autouse=True)
def _prompt_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this process look up more often than they need to, so that they are soon stopped."""
    monkeypatch.setattr(workers, "WAIT_S", 0.05)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayRuntime]:
    runtime = RayRuntime(cpus=1)
    yield runtime
    runtime.close()


@pytest.fixture(params=["inline", pytest.param("ray", marks=pytest.mark.ray)])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    if request.param == "inline":
        return InlineRuntime()
    return LentRuntime(request.getfixturevalue("ray_cluster"))


@pytest.fixture(scope="module")
def chronicle() -> Chronicle:
    return Chronicle(seeded_history(11, 600, users=8))


@pytest.fixture(scope="module")
def long_chronicle() -> Chronicle:
    return Chronicle(seeded_history(12, 1800, users=8))


@pytest.fixture
def house(tmp_path: Path, runtime: Runtime, chronicle: Chronicle) -> Iterator[House]:
    house = House(tmp_path / "data", runtime, chronicle)
    yield house
    house.close()


# ---- in every runtime


def test_shards_catch_up_and_fold_what_is_new(house: House) -> None:
    head = house.append(200)
    house.supervisor.start()
    assert house.supervisor.catch_up() == head
    assert house.positions() == [head, head]
    house.check()
    for number in (1, 2, 60):
        house.append(number)
        house.check()
    # A new supervisor goes on where the last one stopped.
    house.supervisor.close()
    house.append()
    house.supervisor = house.supervise()
    house.supervisor.start()
    house.check()


def test_a_stopped_generation_commits_nothing_more(house: House) -> None:
    house.append(200)
    house.supervisor.start()
    eventually(lambda: min(house.positions()) > 0)
    house.runtime.stop(1)
    stopped_at = house.positions()
    house.append()
    # Another generation on the same runtime has its fill, so this one had its chance.
    old = open_serving(house.generations)
    assert old is not None
    house.supervisor.rebuild(None)
    assert old.positions() == stopped_at
    old.close()
    house.check()


@pytest.mark.parametrize("shards", [None, 3], ids=["as many shards", "more shards"])
def test_a_rebuild_under_live_appends_switches_in_one_step(
    tmp_path: Path, runtime: Runtime, long_chronicle: Chronicle, shards: int | None
) -> None:
    house = House(tmp_path / "data", runtime, long_chronicle)
    house.append(900)
    house.supervisor.start()
    house.supervisor.run()
    house.supervisor.catch_up()
    watcher, appender = Watcher(house), Appender(house, 0.002)
    assert house.supervisor.rebuild(shards) == 2
    assert read_pointer(house.generations).generation == 2
    seen = watcher.reads
    eventually(lambda: watcher.failure or watcher.reads > seen + 20)
    appender.finish()
    house.check()
    watcher.finish()
    assert watcher.shard_counts == {2, shards or 2}
    house.close()


def test_a_rebuild_that_fails_midway_leaves_the_old_serving_and_uses_up_its_number(house: House) -> None:
    house.append(300)
    house.supervisor.start()
    house.supervisor.catch_up()
    watcher = Watcher(house)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.supervisor.rebuild(1, stop)
    pointer = read_pointer(house.generations)
    assert (pointer.generation, pointer.shards, pointer.highest) == (1, 2, 2)
    assert not generation_path(house.generations, 2).exists()
    house.append()
    house.check()
    assert house.supervisor.rebuild(1) == 3
    house.check()
    watcher.finish()


def test_closing_the_supervisor_ends_a_rebuild_and_leaves_the_old_serving(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.append(300)
    house.supervisor.start()
    house.supervisor.catch_up()
    outcome: list[BaseException] = []
    begun = threading.Event()

    def rebuild() -> None:
        try:
            house.supervisor.rebuild(2, lambda *_: begun.set())
        except BaseException as error:
            outcome.append(error)

    # The new generation cannot get there, for the log ends in a record that nobody can read; and nobody minds.
    append_unknown(house)
    monkeypatch.setattr(Standstill, "check", lambda *_: None)
    thread = threading.Thread(target=rebuild)
    thread.start()
    assert begun.wait(DEADLINE_S)
    house.supervisor.close()
    thread.join(DEADLINE_S)
    assert [str(error) for error in outcome] == ["the supervisor is closing"]
    assert read_pointer(house.generations).generation == 1
    assert min(house.positions()) == 300


def test_the_old_generation_is_dropped_once_no_reader_holds_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "CHORES_S", 0.0)
    house.append(100)
    house.supervisor.start()
    house.supervisor.catch_up()
    reading, go_on = threading.Event(), threading.Event()

    def slow_answer(held: Reading) -> list[int]:
        reading.set()
        assert go_on.wait(DEADLINE_S)
        return [held.shard(shard).checkpoint.position for shard in range(held.shards)]

    answers: list[list[int]] = []
    thread = threading.Thread(target=lambda: answers.append(house.readers.try_read(slow_answer)))
    thread.start()
    assert reading.wait(DEADLINE_S)
    assert house.supervisor.rebuild(1) == 2
    house.check()  # of the new one, while the slow reader is still in the old one
    house.supervisor.run()
    assert generation_path(house.generations, 1).exists()
    go_on.set()
    thread.join(DEADLINE_S)
    assert answers == [[100, 100]]
    eventually(lambda: not generation_path(house.generations, 1).exists())
    house.check()


def test_a_shard_that_cannot_go_on_says_so_until_it_can(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "CHORES_S", 0.0)
    house.append(100)
    house.supervisor.start()
    house.supervisor.catch_up()
    house.supervisor.close()
    house.readers.close()
    data = shard_path(house.generations, 1, 1) / "data.mdb"
    data.rename(data.with_suffix(".away"))
    house.append(100)
    house.supervisor = house.supervise()
    house.supervisor.start()
    house.supervisor.run()
    fault = eventually(lambda: fault_of(house.generations, 1, 1))
    assert "EnvironmentUnusable" in fault
    assert "holds no data" in fault
    # The other one does not mind.
    eventually(lambda: position_of(shard_path(house.generations, 1, 0)) == 200)
    assert fault_of(house.generations, 1, 0) is None
    data.with_suffix(".away").rename(data)
    eventually(lambda: fault_of(house.generations, 1, 1) is None)
    assert house.supervisor.catch_up() == 200
    house.check()
    assert "supervisor" in [thread.name for thread in threading.enumerate()]


def test_catching_up_does_not_end_while_a_shard_at_the_head_stands_still(house: House) -> None:
    house.append(100)
    house.supervisor.start()
    house.supervisor.catch_up()
    house.supervisor.close()
    house.readers.close()
    broken = Settings(cassandra="127.0.0.1:1", cassandra_consistency="ONE", cassandra_replication=2)  # never opens
    house.supervisor = house.supervise(settings=broken)
    house.supervisor.start()
    with pytest.raises(ShardFaulted, match=r"shard \d stands still at position 100: SettingsError: "):
        house.supervisor.catch_up()


class Elsewhere(InlineRuntime):
    """Workers that keep their folder as on another node."""

    def __init__(self, generations: Path) -> None:
        super().__init__()
        self._generations = generations

    def start(self, spec: ShardSpec) -> None:
        super().start(replace(spec, generations=self._generations))


def test_a_fault_on_another_node_is_written_down_here_until_it_is_mended(
    inline_house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "CHORES_S", 0.0)
    house, apart = inline_house, tmp_path / "another-node"
    house.append(100)
    house.runtime = Elsewhere(apart)
    house.supervisor = house.supervise()
    house.supervisor.start()
    house.supervisor.run()
    for shard in (0, 1):
        fault = eventually(lambda shard=shard: fault_of(house.generations, 1, shard))  # type: ignore[misc]
        assert fault == fault_of(apart, 1, shard), "though there was no folder for it"
    for shard in (0, 1):
        LmdbShardStore(shard_path(apart, 1, shard), Identity(FORMAT, 1, shard, 2)).close()
    eventually(lambda: not faults_of(house.generations, 1))
    assert not faults_of(apart, 1)


def position_of(path: Path) -> int:
    store = LmdbShardStore(path)
    try:
        return store.checkpoint().position
    finally:
        store.close()


def append_unknown(house: House) -> int:
    """Append what only a newer version can read; its position."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lmdb_logs, "encoded_group", lambda *_: [(START_MS, b"\x93\x63\x01\xc0")])
        return house.log.append([house.chronicle.history[0][1]])[0]


def test_poison_stops_every_shard_at_its_position_and_reads_go_on(house: House) -> None:
    house.append(150)
    house.supervisor.start()
    house.supervisor.catch_up()
    house.append(20)
    assert append_unknown(house) == 171
    with pytest.raises(ShardFaulted, match=r"shard \d stands still at position 170: UnknownEventType: position 171"):
        house.supervisor.catch_up()
    for shard in (0, 1):
        fault = eventually(lambda shard=shard: fault_of(house.generations, 1, shard))  # type: ignore[misc]
        assert "position 171" in fault
    assert house.positions() == [170, 170]
    for user in house.chronicle.people:
        assert house.read_feed(user) == ([170, 170], house.chronicle.feed(user, [170, 170]))
    with pytest.raises(ShardFaulted, match="position 171"):
        house.supervisor.rebuild(1)
    assert read_pointer(house.generations).generation == 1
    assert house.positions() == [170, 170]


def test_another_number_of_shards_is_refused(house: House) -> None:
    house.supervisor.start()
    with pytest.raises(OtherShardCount, match="has 2 shards, not 5; run rebuild \\("):
        house.supervise(5).start()


# ---- killed


def test_a_rebuild_that_is_killed_leaves_the_old_serving_and_uses_up_its_number(
    tmp_path: Path, long_chronicle: Chronicle
) -> None:
    house = House(tmp_path / "data", InlineRuntime(), long_chronicle, batch=1000)
    house.append()
    house.supervisor.start()
    house.supervisor.catch_up()
    house.supervisor.close()
    watcher = Watcher(house)
    child = Path(__file__).parent / "children" / "rebuild.py"
    for number in (2, 3):
        process = subprocess.Popen([sys.executable, str(child), str(house.directory.path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"of 1800\n")
        process.kill()
        process.wait(DEADLINE_S)
        process.stdout.close()
        pointer = read_pointer(house.generations)
        assert (pointer.generation, pointer.highest) == (1, number)
        assert generation_path(house.generations, number).exists()
    house.supervisor, house.runtime = house.supervise(), InlineRuntime()
    house.supervisor.start()
    assert [path.name for path in sorted(house.generations.glob("0*"))] == ["000001"]
    house.check()
    assert house.supervisor.rebuild(None) == 4
    house.check()
    watcher.finish()
    house.close()


def test_a_switch_that_fails_has_the_old_generation_go_on(inline_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house = inline_house
    house.append(100)
    house.supervisor.start()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FolderGenerations, "serve", fail)
    with pytest.raises(OSError, match="No space left"):
        house.supervisor.rebuild(3)
    assert read_pointer(house.generations).generation == 1
    house.append()
    house.check()


def storm(house: House, ray: RayRuntime, kills: int, append_every_s: float) -> None:
    """Kill actors again and again, as soon as they have moved, while records are appended and feeds are read."""
    house.append(300)
    house.supervisor.start()
    house.supervisor.run()
    house.supervisor.catch_up()
    watcher, appender = Watcher(house), Appender(house, append_every_s)
    source = random.Random(1)
    killed: set[int] = set()
    while len(killed) < kills:
        alive = eventually(lambda: [pid for pid in ray.processes().values() if pid not in killed])
        before = house.positions()
        moved = eventually(lambda: house.log.head() == len(house.chronicle.history) or house.positions() != before)  # noqa: B023
        assert moved
        for victim in source.sample(alive, source.randint(1, len(alive))):
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        assert watcher.failure is None
    appender.finish()
    house.check()
    watcher.finish()


@pytest.mark.ray
def test_a_storm_of_kills_changes_nothing(tmp_path: Path, ray_cluster: RayRuntime, long_chronicle: Chronicle) -> None:
    house = House(tmp_path / "data", LentRuntime(ray_cluster), long_chronicle, batch=20)
    storm(house, ray_cluster, kills=6, append_every_s=0.02)
    house.close()


@pytest.mark.ray
@pytest.mark.soak
def test_a_long_storm_of_kills_changes_nothing(tmp_path: Path, ray_cluster: RayRuntime) -> None:
    house = House(tmp_path / "data", LentRuntime(ray_cluster), Chronicle(seeded_history(13, 6000, users=10)), batch=20)
    storm(house, ray_cluster, kills=100, append_every_s=0.1)
    house.close()


# ---- a worker by itself


def spec(house: House, shard: int = 0) -> ShardSpec:
    return ShardSpec(
        ShardsOf(Settings(), house.directory.log), house.generations, 1, shard, 2, FOLD_SETTINGS, house.batch
    )


@pytest.fixture
def inline_house(tmp_path: Path, chronicle: Chronicle) -> Iterator[House]:
    """A house whose first generation is there, and whom nobody works for."""
    house = House(tmp_path / "data", InlineRuntime(), chronicle)
    house.supervisor.start()
    house.supervisor.close()
    house.supervisor = house.supervise()
    yield house
    house.close()


def test_a_worker_whose_shard_another_has_committed_ends_and_says_so(inline_house: House) -> None:
    house, superseded = inline_house, threading.Event()
    house.append(50)
    worker = Worker(spec(house), superseded.set)
    worker.nudge()
    path = shard_path(house.generations, 1, 0)
    eventually(lambda: position_of(path) == 50)
    store = LmdbShardStore(path)
    other = Shard(house.log, store, FOLD_SETTINGS)
    assert not superseded.is_set()
    store.commit(50, Checkpoint(51), {})
    house.append(10)
    assert superseded.wait(DEADLINE_S)
    worker.nudge()
    worker.stop()
    assert store.checkpoint().position == 51
    assert other.position == 50
    store.close()


def test_a_worker_commits_everything_before_a_record_that_it_cannot_fold_in(
    inline_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, mended = inline_house, threading.Event()

    def failing_fold(state: ShardState, recorded: Recorded) -> None:
        fold(state, recorded)
        if recorded.position == 44 and not mended.is_set():
            raise ValueError("a mistake of ours")

    monkeypatch.setattr(shards, "fold", failing_fold)
    monkeypatch.setattr(workers, "RETRY_S_MIN", POLL_S)
    house.append(100)
    worker = Worker(spec(house), lambda: None)
    worker.nudge()
    path = shard_path(house.generations, 1, 0)
    eventually(lambda: position_of(path) == 43)
    fault = eventually(lambda: fault_of(house.generations, 1, 0))
    assert fault == "FoldFailed: position 44: ValueError: a mistake of ours"
    mended.set()
    eventually(lambda: position_of(path) == 100)
    eventually(lambda: fault_of(house.generations, 1, 0) is None)
    worker.stop()


def test_a_worker_finds_which_of_many_follows_it_cannot_fold_in(
    inline_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, mended = inline_house, threading.Event()
    before, follows = 10, 5 * RUN_MIN
    poison_at = before + 3 * RUN_MIN

    def failing_fold(state: ShardState, recorded: Recorded) -> None:
        fold(state, recorded)
        if recorded.position == poison_at and not mended.is_set():
            raise ValueError("a mistake of ours")

    def failing_fold_follows(state: ShardState, run: Sequence[Recorded]) -> None:
        fold_follows(state, run)
        if not mended.is_set() and any(recorded.position == poison_at for recorded in run):
            raise ValueError("a mistake of ours")

    monkeypatch.setattr(shards, "fold", failing_fold)
    monkeypatch.setattr(shards, "fold_follows", failing_fold_follows)
    monkeypatch.setattr(workers, "RETRY_S_MIN", POLL_S)
    house.append(before)
    house.log.append([UserFollowed(follower=n % 10 + 1, followee=n // 10 % 10 + 1) for n in range(follows)])
    worker = Worker(spec(house), lambda: None)
    worker.nudge()
    path = shard_path(house.generations, 1, 0)
    eventually(lambda: position_of(path) == poison_at - 1)
    told = f"FoldFailed: position {poison_at}: ValueError: a mistake of ours"
    eventually(lambda: fault_of(house.generations, 1, 0) == told)
    mended.set()
    eventually(lambda: position_of(path) == before + follows)
    worker.stop()


def test_a_worker_that_was_never_nudged_does_nothing_and_stops_at_once(inline_house: House) -> None:
    inline_house.append(10)
    worker = Worker(spec(inline_house), lambda: None)
    worker.stop()
    worker.nudge()
    assert position_of(shard_path(inline_house.generations, 1, 0)) == 0
