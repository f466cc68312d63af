"""Snapshots of a shard's state: what is restored and replayed is what was never lost, and nothing else is restored."""

import hashlib
import itertools
import random
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest
from forking import run_forked
from histories import History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.object_store import Buckets, ObjectStoreServer
from waiting import until

from darkroom.actors.shard import Shard
from darkroom.events.log import EventLog
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.events.object_store import ObjectStore, ObjectStoreAddress, ObjectStoreUnavailable
from darkroom.gateway.published_generations import AccompaniedGenerations, SnapshotCompanion
from darkroom.projections import state_copies
from darkroom.projections.change_notes import NOTE
from darkroom.projections.generations import FolderGenerations
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.snapshot_schedule import (
    SnapshotPolicy,
    SnapshotSchedule,
    SnapshotStatus,
    note_snapshot,
    snapshot_status,
)
from darkroom.projections.state_copies import SnapshotFailed
from darkroom.projections.state_snapshots import MANIFEST, Manifest, SnapshotStore
from darkroom.projections.store import Identity, StoreFull
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.tables import KEYS, META, TABLES

IDENTITY = Identity(FORMAT, 3, 1, 2)
FOLD = FoldSettings(celebrity_threshold=2, feed_rows=20)

Rows = dict[str, list[tuple[bytes, bytes]]]


def everything(store: LmdbShardStore) -> Rows:
    """Every table's every row, META's too, who it is and where it is, but for its notes of how batches were cut."""
    with store.snapshot() as snapshot:
        rows = {table: snapshot.scan(table, b"", b"\xff" * 512, limit=10**7) for table in TABLES}
    return rows | {META: [row for row in rows[META] if not row[0].startswith(NOTE)]}


class Trial:
    """A shard over a log in memory, its disk, and its snapshots."""

    def __init__(self, folder: Path, address: ObjectStoreAddress, identity: Identity = IDENTITY) -> None:
        self.folder = folder
        self.identity = identity
        self.address = address
        self.log: EventLog = MemoryEventLog()
        self.refusals: list[str] = []
        self.snapshots = self.another_node()
        self.path = folder / "first"
        LmdbShardStore(self.path, identity).close()

    def another_node(self) -> SnapshotStore:
        """What another process has in hand: it knows of no earlier refusal."""
        return SnapshotStore(self.address, self.log, self.refusals.append)

    def append(self, events: int, seed: int = 1) -> None:
        history = seeded_history(seed, events)
        self.log.append([event for _, event in history], [time_ms for time_ms, _ in history])

    def fold(self, path: Path, batch_events: int = 100, until: int | None = None) -> None:
        with closing(LmdbShardStore(path, self.identity)) as store:
            shard = Shard(self.log, store, FOLD)
            while until is None or shard.position < until:
                if not shard.step(min(batch_events, until - shard.position) if until else batch_events):
                    break

    def saved_at(self, *positions: int) -> None:
        """Fold to each position in turn and save."""
        for position in positions:
            self.fold(self.path, until=position)
            assert self.snapshots.save(self.path) == position

    def rows(self, path: Path) -> Rows:
        with closing(LmdbShardStore(path)) as store:
            return everything(store)

    def restored(self) -> tuple[int | None, Path]:
        """On a new, empty disk; where, and at which position."""
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "shard"
        return self.another_node().restore(path, self.identity), path


@pytest.fixture
def trial(tmp_path: Path, object_store: Buckets) -> Trial:
    return Trial(tmp_path, object_store())


# ---- the theorem


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories(max_size=80), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=8), data=st.data())
def test_restored_and_replayed_is_what_was_never_lost(
    object_store_server: ObjectStoreServer, history: History, cuts: list[int], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), object_store_server.bucket())
        trial.log.append([event for _, event in history], [time_ms for time_ms, _ in history])
        with closing(LmdbShardStore(trial.path, IDENTITY)) as store:
            shard = Shard(trial.log, store, FOLD)
            for cut in itertools.cycle(cuts):
                if data.draw(st.booleans(), "save"):
                    saved = trial.snapshots.save(trial.path)
                    assert saved == shard.position
                if not shard.step(cut):
                    break
        position, path = trial.restored()
        newest = trial.snapshots.newest(IDENTITY)
        assert position == (newest.position if newest else None)
        trial.fold(path, data.draw(st.integers(1, 100), "batch"))
        assert trial.rows(path) == trial.rows(trial.path)
        assert trial.refusals == []


def test_a_copy_is_of_one_moment_while_the_shard_goes_on_committing(trial: Trial) -> None:
    trial.append(3_000)
    trial.fold(trial.path, until=200)
    done, positions = threading.Event(), [0]
    with closing(LmdbShardStore(trial.path)) as store, ThreadPoolExecutor(1) as thread:
        shard = Shard(trial.log, store, FOLD)

        def work() -> None:
            while not done.is_set() and shard.step(7):
                pass

        writing = thread.submit(work)
        try:
            while not writing.done():
                positions.append(trial.snapshots.save(trial.path))
                check_restored_at(trial, positions[-1])
        finally:
            done.set()
        writing.result()
    assert len({position for position in positions if 200 < position < 3_000}) > 1, "some were taken in the middle"


def check_restored_at(trial: Trial, expected: int) -> None:
    """The restored is what a fold of the same batches makes, to the byte: how pages are split depends on the cuts."""
    position, path = trial.restored()
    assert position == expected
    oracle = path.with_name("oracle")
    trial.fold(oracle, until=200)
    trial.fold(oracle, 7, until=position)
    assert trial.rows(path) == trial.rows(oracle)


def test_the_newest_two_are_kept_and_a_position_is_saved_once(trial: Trial) -> None:
    trial.append(400)
    trial.saved_at(100, 200, 300)
    assert folders(trial) == [200, 300]
    before = keys(trial)
    assert trial.snapshots.save(trial.path) == 300
    assert keys(trial) == before
    assert trial.restored()[0] == 300
    trial.snapshots.drop(IDENTITY.generation)
    assert keys(trial) == []
    assert trial.restored()[0] is None


def test_a_generation_that_is_dropped_takes_its_snapshots_with_it(trial: Trial, tmp_path: Path) -> None:
    generations = AccompaniedGenerations(
        FolderGenerations(tmp_path / "generations"), [SnapshotCompanion(trial.another_node())]
    )
    trial.append(100)
    trial.saved_at(100)
    for _ in range(IDENTITY.generation):
        assert generations.allot() != IDENTITY.generation, "the number of what is left of a lost pointer's time"
    generations.drop_others(keep={IDENTITY.generation})
    assert folders(trial) == [100]
    generations.drop_others(keep={IDENTITY.generation + 1})
    assert keys(trial) == []


def test_a_shard_that_has_read_nothing_saves_nothing(trial: Trial) -> None:
    assert trial.snapshots.save(trial.path) == 0
    assert keys(trial) == []


def keys(trial: Trial) -> list[str]:
    return ObjectStore(trial.address).keys("")


def whole(trial: Trial) -> list[Manifest]:
    objects = ObjectStore(trial.address)
    return [msgspec.json.decode(objects.get(key), type=Manifest) for key in keys(trial) if key.endswith(MANIFEST)]


def folders(trial: Trial) -> list[int]:
    return sorted({int(key.split("/")[2]) for key in keys(trial)})


# ---- what is not restored


class Raw:
    """The stored bytes of one snapshot, past Darkroom."""

    def __init__(self, server: ObjectStoreServer, trial: Trial, position: int) -> None:
        self.server = server
        self.root = f"/{trial.address.bucket}/{trial.address.prefix}"
        mine = [key for key in keys(trial) if f"/{position:020}/" in key]
        self.manifest, self.data = sorted(mine, key=lambda key: not key.endswith(MANIFEST))

    def read(self, key: str) -> bytes:
        return self.server.ask("GET", f"{self.root}/{key}")

    def write(self, key: str, content: bytes) -> None:
        self.server.ask("PUT", f"{self.root}/{key}", content)

    def delete(self, key: str) -> None:
        self.server.ask("DELETE", f"{self.root}/{key}")

    def alter(self, **fields: object) -> None:
        manifest = msgspec.json.decode(self.read(self.manifest), type=Manifest)
        self.write(self.manifest, msgspec.json.encode(msgspec.structs.replace(manifest, **fields)))


def flip_a_bit(raw: Raw) -> None:
    data = bytearray(raw.read(raw.data))
    data[len(data) // 2] ^= 1
    raw.write(raw.data, bytes(data))


def not_a_store(raw: Raw) -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    raw.write(f"{raw.data.rpartition('/')[0]}/{sha256}", b"x")
    raw.alter(sha256=sha256, bytes=1)


DAMAGE: dict[str, tuple[Callable[[Raw], None], str]] = {
    "a bit flipped": (flip_a_bit, "is not what was saved"),
    "cut short": (lambda raw: raw.write(raw.data, raw.read(raw.data)[:-4096]), "bytes, not"),
    "data missing": (lambda raw: raw.delete(raw.data), "is not there"),
    "manifest cut short": (lambda raw: raw.write(raw.manifest, raw.read(raw.manifest)[:-9]), "damaged manifest"),
    "manifest empty": (lambda raw: raw.write(raw.manifest, b""), "damaged manifest"),
    "not a store": (not_a_store, "not what its manifest says"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_snapshot_is_refused_and_the_one_before_is_used(
    trial: Trial, object_store_server: ObjectStoreServer, kind: str
) -> None:
    damage, message = DAMAGE[kind]
    trial.append(400)
    trial.saved_at(200, 300)
    damage(Raw(object_store_server, trial, 300))
    position, path = trial.restored()
    assert position == 200
    assert message in trial.refusals[-1]
    trial.fold(path)
    trial.fold(trial.path)
    assert trial.rows(path) == trial.rows(trial.path)
    damage(Raw(object_store_server, trial, 200))
    position, path = trial.restored()
    assert position is None
    assert not (path / "data.mdb").exists()
    assert len(trial.refusals) == 3


def test_what_was_found_damaged_is_saved_again_and_the_damaged_deleted(
    trial: Trial, object_store_server: ObjectStoreServer
) -> None:
    trial.append(400)
    trial.saved_at(200, 300)
    flip_a_bit(Raw(object_store_server, trial, 300))
    node, path = trial.another_node(), trial.folder / "second"
    assert node.restore(path, IDENTITY) == 200
    trial.fold(path, until=300)
    assert node.save(path) == 300
    assert trial.restored()[0] == 300
    flip_a_bit(Raw(object_store_server, trial, 300))
    node, path = trial.another_node(), trial.folder / "third"
    assert node.restore(path, IDENTITY) == 200
    trial.fold(path, until=350)
    assert node.save(path) == 350
    assert folders(trial) == [200, 350]


@pytest.mark.parametrize("field", ["format", "generation", "shard", "shards"])
def test_a_snapshot_of_another_identity_is_refused_and_left_alone(
    trial: Trial, object_store_server: ObjectStoreServer, field: str
) -> None:
    trial.append(300)
    trial.saved_at(300)
    other = msgspec.structs.replace(IDENTITY, **{field: getattr(IDENTITY, field) + 1})
    Raw(object_store_server, trial, 300).alter(identity=other)
    assert trial.restored()[0] is None
    assert "not Identity(" in trial.refusals[-1]
    assert folders(trial) == [300]


def test_a_snapshot_of_another_log_is_refused_and_left_alone(trial: Trial) -> None:
    trial.append(300)
    trial.saved_at(300)
    trial.log = MemoryEventLog()
    trial.append(400, seed=2)
    position, path = trial.restored()
    assert position is None
    assert "of another log" in trial.refusals[-1]
    node = trial.another_node()
    for position in (310, 350, 400):
        trial.fold(path, until=position)
        node.save(path)
    assert folders(trial) == [300, 350, 400]


def test_where_the_log_ends_below_the_snapshot_nothing_is_decided(trial: Trial) -> None:
    trial.append(300)
    trial.saved_at(300)
    trial.log = MemoryEventLog()
    trial.append(299)
    with pytest.raises(SnapshotFailed, match="the log ends at 299, below the snapshot"):
        trial.restored()


def test_a_snapshot_is_loaded_only_where_there_is_no_store_and_by_one_at_a_time(trial: Trial) -> None:
    trial.append(300)
    trial.saved_at(300)
    with pytest.raises(SnapshotFailed, match="holds a store"):
        trial.snapshots.restore(trial.path, IDENTITY)
    path = trial.folder / "lost"
    with state_copies.place_for(path), pytest.raises(SnapshotFailed, match="somebody else restores"):
        trial.snapshots.restore(path, IDENTITY)
    assert trial.snapshots.restore(path, IDENTITY) == 300


def test_what_is_left_of_a_lost_store_does_not_speak_for_the_restored_one(trial: Trial) -> None:
    trial.append(300)
    trial.saved_at(200)
    trial.fold(trial.path)
    rows = trial.rows(trial.path)
    (trial.path / "data.mdb").unlink()
    (trial.path / "fault").write_text("the disk was lost")
    assert trial.another_node().restore(trial.path, IDENTITY) == 200
    trial.fold(trial.path)
    assert trial.rows(trial.path) == rows
    assert (trial.path / "fault").exists()


# ---- killed, full, slow


KILLED = """
import os, signal, sys
from pathlib import Path

import msgspec
from darkroom.events import object_store
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections import state_copies
from darkroom.projections.state_snapshots import SnapshotStore
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT

folder, deed, kill_at, address = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
calls = 0

def dying(name, call):
    def counted(*arguments, **options):
        global calls
        calls += 1
        if calls == kill_at:
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counted

class Chunks:
    def __init__(self, chunks): self.chunks = chunks
    def __iter__(self): return self
    def __next__(self): return next(self.chunks)

class Dying(object_store.ObjectStore):
    def put_parts(self, key, chunks, part_bytes):
        chunks = Chunks(chunks)
        Chunks.__next__ = dying("chunk", Chunks.__next__)
        super().put_parts(key, chunks, part_bytes)

for name in ("put", "delete", "get_range"):
    setattr(Dying, name, dying(name, getattr(object_store.ObjectStore, name)))
for name in ("unlink", "rename"):
    setattr(Path, name, dying(name, getattr(Path, name)))
import darkroom.projections.state_snapshots as snapshots
snapshots.ObjectStore = Dying

store = SnapshotStore(object_store.ObjectStoreAddress(**address), LmdbEventLog(folder / "log"), print)
if deed == "save":
    store.save(folder / "first")
else:
    store.restore(Path(sys.argv[5]), Identity(FORMAT, 3, 1, 2))
"""


def two_saved_and_one_to_save(folder: Path, address: ObjectStoreAddress) -> Trial:
    """Snapshots at 100 and 200, and at 300 a store of ten megabytes, so of two parts. The log is on disk."""
    trial = Trial(folder, address)
    trial.log = LmdbEventLog(folder / "log")
    trial.append(400)
    trial.snapshots = trial.another_node()
    trial.saved_at(100, 200)
    trial.fold(trial.path, until=300)
    with closing(LmdbShardStore(trial.path)) as store:
        filler = random.Random(1)
        rows = [(b"filler%02d" % number, filler.randbytes(1 << 20)) for number in range(10)]
        store.commit(300, store.checkpoint(), {KEYS: rows})
    return trial


def killed(trial: Trial, deed: str, kill_at: int, *more: object) -> str | None:
    """Before which call the child was killed; None where it came to its end."""
    arguments = map(str, (trial.folder, deed, kill_at, asdict(trial.address), *more))
    child = run_forked(["-c", KILLED, *arguments], timeout_s=60)
    if not child.returncode:
        return None
    assert child.returncode == -signal.SIGKILL, child.stderr
    return child.stdout.decode().strip()


def test_killed_before_any_step_of_saving_the_last_whole_snapshot_counts(tmp_path: Path, object_store: Buckets) -> None:
    died: list[str | None] = []
    while not died or died[-1]:
        folder = tmp_path / str(len(died))
        folder.mkdir()
        trial = two_saved_and_one_to_save(folder, object_store())
        died.append(killed(trial, "save", len(died) + 1))
        counts = 300 if died[-1] in ("delete", None) else 200
        position, path = trial.restored()
        assert position == counts, died
        assert trial.refusals == []
        trial.fold(path, until=400)
        assert trial.snapshots.save(path) == 400
        assert [manifest.position for manifest in whole(trial)] == [counts, 400]
        trial.append(100, seed=2)
        trial.fold(path)
        trial.snapshots.save(path)
        assert folders(trial) == [400, 500], "what was left of the killed one is swept as it grows old"
        trial.log.close()
    assert died.count("chunk") > 10
    assert died[-4:] == ["put", "delete", "delete", None]


def test_killed_before_any_step_of_restoring_there_is_the_store_or_none(tmp_path: Path, object_store: Buckets) -> None:
    trial = two_saved_and_one_to_save(tmp_path, object_store())
    trial.snapshots.save(trial.path)
    rows = trial.rows(trial.path)
    died: list[str | None] = []
    while not died or died[-1]:
        path = tmp_path / f"lost-{len(died)}"
        died.append(killed(trial, "restore", len(died) + 1, path))
        if died[-1]:
            assert not (path / "data.mdb").exists()
            assert trial.another_node().restore(path, IDENTITY) == 300
        assert trial.rows(path) == rows
        assert not (path / "restoring").exists()
        shutil.rmtree(path)
    assert {"get_range", "unlink", "rename"} < set(died)
    trial.log.close()


def test_a_copy_that_would_take_the_shards_room_is_not_begun(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.append(300)
    trial.fold(trial.path)
    monkeypatch.setattr(state_copies, "ROOM_LEFT_BYTES_MIN", 1 << 60)
    with pytest.raises(StoreFull, match="no room"):
        trial.snapshots.save(trial.path)
    assert keys(trial) == []


def test_a_full_disk_while_copying_or_restoring_leaves_nothing(trial: Trial) -> None:
    trial.append(300)
    trial.saved_at(200)
    trial.fold(trial.path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(StoreFull, match="no room"):
            trial.snapshots.save(trial.path)
        with pytest.raises(StoreFull, match="no room"):
            trial.another_node().restore(trial.folder / "lost", IDENTITY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((trial.folder / "lost").iterdir()) == []
    assert trial.snapshots.save(trial.path) == 300
    assert trial.another_node().restore(trial.folder / "lost", IDENTITY) == 300


def test_a_copy_that_takes_too_long_is_given_up_and_holds_no_pages(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.append(300)
    trial.fold(trial.path)
    monkeypatch.setattr(state_copies, "COPY_S_MAX", 0.0)
    with closing(LmdbShardStore(trial.path)) as store:
        with pytest.raises(SnapshotFailed, match="more than 0 s"):
            trial.snapshots.save(trial.path)
        assert store._environment._readers == 0
    assert keys(trial) == []
    assert sorted(path.name for path in trial.path.iterdir()) == ["data.mdb", "lock.mdb", "writer.lock"]


@contextmanager
def own_server() -> Iterator[ObjectStoreServer]:
    server = ObjectStoreServer()
    try:
        yield server
    finally:
        server.stop()


def test_a_store_that_is_silent_fails_by_its_deadline_and_the_next_try_succeeds(tmp_path: Path) -> None:
    with own_server() as server:
        trial = Trial(tmp_path, server.bucket(deadline_s=1.5))
        trial.append(300)
        trial.fold(trial.path)
        server.process.send_signal(signal.SIGSTOP)
        for attempt in (lambda: trial.snapshots.save(trial.path), trial.restored):
            began = time.monotonic()
            with pytest.raises(ObjectStoreUnavailable):
                attempt()
            assert time.monotonic() - began < 20, "the deadline is 1.5 s"
        server.process.send_signal(signal.SIGCONT)
        assert trial.snapshots.save(trial.path) == 300
        assert trial.restored()[0] == 300


# ---- the schedule


@contextmanager
def scheduled(trial: Trial, **policy: float) -> Iterator[SnapshotSchedule]:
    never = {"every_s": 3600.0, "every_events": 10**9, "retry_s_min": 0.01, "retry_s_max": 0.05}
    chosen = SnapshotPolicy(**{**never, **policy})  # type: ignore[arg-type]
    schedule = SnapshotSchedule(trial.another_node(), trial.path, IDENTITY, chosen)
    try:
        yield schedule
    finally:
        schedule.close()


def becomes(trial: Trial, true_of: Callable[[SnapshotStatus], bool]) -> SnapshotStatus:
    until(lambda: true_of(snapshot_status(trial.path)), "a snapshot's status")
    return snapshot_status(trial.path)


def test_a_snapshot_is_taken_after_so_many_events(trial: Trial) -> None:
    trial.append(400)
    with scheduled(trial, every_events=100) as schedule:
        for position in (50, 130, 180, 230):
            trial.fold(trial.path, until=position)
            schedule.committed(position)
            if position in (130, 230):
                becomes(trial, lambda status: status.position == position)  # noqa: B023
    assert folders(trial) == [130, 230]


def test_a_snapshot_is_taken_after_so_long_if_there_is_anything_new(trial: Trial) -> None:
    trial.append(400)
    with scheduled(trial, every_s=0.05) as schedule:
        for position in (50, 130):
            trial.fold(trial.path, until=position)
            schedule.committed(position)
            becomes(trial, lambda status: status.position == position)  # noqa: B023
    assert folders(trial) == [50, 130]


def test_a_restart_counts_from_the_last_snapshot(trial: Trial) -> None:
    trial.append(400)
    trial.fold(trial.path, until=100)
    note_snapshot(trial.path, SnapshotStatus(60))
    with scheduled(trial, every_events=50) as schedule:
        schedule.committed(100)
        trial.fold(trial.path, until=110)
        schedule.committed(110)
        assert becomes(trial, lambda status: status.position > 60).position == 110


def test_a_failing_snapshot_is_visible_is_tried_again_and_never_stops_the_shard(tmp_path: Path) -> None:
    with own_server() as server:
        trial = Trial(tmp_path, server.bucket(deadline_s=0.6))
        trial.append(400)
        server.process.send_signal(signal.SIGSTOP)
        with scheduled(trial, every_events=1) as schedule:
            trial.fold(trial.path, until=100)
            schedule.committed(100)
            status = becomes(trial, lambda status: status.failures > 1)
            assert status.fault is not None
            assert status.fault.startswith("ObjectStoreUnavailable: s3://")
            assert status.position == 0
            trial.fold(trial.path, until=200)
            schedule.committed(200)
            server.process.send_signal(signal.SIGCONT)
            assert becomes(trial, lambda status: status.position > 0) == SnapshotStatus(200)
        assert folders(trial) == [200]


def test_closing_gives_up_a_snapshot_under_way(tmp_path: Path, object_store: Buckets) -> None:
    trial = two_saved_and_one_to_save(tmp_path, object_store())
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(SnapshotFailed, match="given up"):
        trial.snapshots.save(trial.path, stopping)
    half = threading.Event()
    with (tmp_path / "copy").open("w+b") as file:
        file.write(bytes(3 << 20))
        chunks = state_copies.read_back(file, half)
        next(chunks)
        half.set()
        with pytest.raises(SnapshotFailed, match="given up"):
            ObjectStore(trial.address).put_parts("half", chunks)
    assert folders(trial) == [100, 200]
    assert "half" not in keys(trial)
    trial.log.close()
