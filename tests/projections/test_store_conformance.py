"""What every shard store does, whatever it is built on; and two built differently that must agree at every step.

A new adapter costs one line in ADAPTERS.
"""

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from waiting import WAIT_S, until

from darkroom.events.lmdb_environments import EnvironmentUnusable, LmdbEnvironment, close_environment, open_environment
from darkroom.projections.store import (
    Changes,
    Checkpoint,
    Identity,
    ShardStore,
    Snapshot,
    SnapshotExpired,
    StoreError,
    Superseded,
)
from darkroom.projections.stores import lmdb as lmdb_stores
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import COMMENTS, META, POSTS, TABLES

IDENTITY = Identity(FORMAT, 7, 2, 5)
FIRST, LAST = b"\0", b"\xff" * 9

ADAPTERS: dict[str, Callable[[Path], ShardStore]] = {
    "memory": lambda folder: MemoryShardStore(IDENTITY),  # noqa: ARG005
    "lmdb": lambda folder: LmdbShardStore(folder / "store", IDENTITY),
}


@pytest.fixture(params=ADAPTERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ShardStore]:
    store = ADAPTERS[request.param](tmp_path)
    yield store
    store.close()


def put(store: ShardStore, changes: Changes) -> None:
    """Commit the changes at the next position."""
    now = store.checkpoint().position
    store.commit(now, Checkpoint(now + 1, 10 * (now + 1)), changes)


def key(number: int) -> bytes:
    return number.to_bytes(2, "big")


def rows(*numbers: int) -> list[tuple[bytes, bytes | None]]:
    return [(key(number), b"row %d" % number) for number in numbers]


def everything(snapshot: Snapshot) -> dict[str, list[tuple[bytes, bytes]]]:
    tables = [table for table in TABLES if table != META]  # where LMDB's also keeps what it is of
    return {table: found for table in tables if (found := snapshot.scan(table, FIRST, LAST, limit=10**6))}


# ---- checkpoint and identity


def test_a_new_store_is_empty_and_at_the_beginning(store: ShardStore) -> None:
    assert store.checkpoint() == Checkpoint(0, 0)
    with store.snapshot() as snapshot:
        assert snapshot.checkpoint == Checkpoint(0, 0)
        assert everything(snapshot) == {}


def test_a_store_says_what_it_is_of(store: ShardStore) -> None:
    assert store.identity == IDENTITY


def test_a_commit_moves_the_checkpoint_even_where_nothing_changes(store: ShardStore) -> None:
    store.commit(0, Checkpoint(12, 345), {})
    assert store.checkpoint() == Checkpoint(12, 345)
    with store.snapshot() as snapshot:
        assert snapshot.checkpoint == Checkpoint(12, 345)


def test_bytes_stored_grow(store: ShardStore) -> None:
    before = store.bytes_stored()
    put(store, {POSTS: [(key(number), bytes(1000)) for number in range(1000)]})
    assert store.bytes_stored() >= before + 1000 * 1000


# ---- rows


def test_rows_are_read_as_they_were_written(store: ShardStore) -> None:
    put(store, {POSTS: rows(1, 2), COMMENTS: [(key(1), b"")]})
    with store.snapshot() as snapshot:
        assert snapshot.get(POSTS, key(2)) == b"row 2"
        assert snapshot.get(COMMENTS, key(1)) == b""
        assert snapshot.get(POSTS, key(3)) is None
        assert snapshot.get(COMMENTS, key(2)) is None


def test_a_later_commit_replaces_and_deletes(store: ShardStore) -> None:
    put(store, {POSTS: rows(1, 2, 3)})
    put(store, {POSTS: [(key(1), b"new"), (key(2), None), (key(9), None)]})
    with store.snapshot() as snapshot:
        assert everything(snapshot) == {POSTS: [(key(1), b"new"), (key(3), b"row 3")]}


def test_get_many_finds_those_that_exist_in_whatever_order_they_are_asked_for(store: ShardStore) -> None:
    put(store, {POSTS: rows(1, 3, 5)})
    with store.snapshot() as snapshot:
        found = snapshot.get_many(POSTS, [key(5), key(2), key(1), key(1), key(7)])
        assert found == {key(5): b"row 5", key(1): b"row 1"}
        assert snapshot.get_many(POSTS, []) == {}
        assert snapshot.get_many(COMMENTS, [key(1)]) == {}


def test_get_each_gives_a_value_for_every_key_in_the_order_that_they_are_asked_for(store: ShardStore) -> None:
    put(store, {POSTS: rows(1, 3, 5)})
    with store.snapshot() as snapshot:
        found = snapshot.get_each(POSTS, [key(5), key(2), key(1), key(1)])
        assert found == [b"row 5", None, b"row 1", b"row 1"]
        assert snapshot.get_each(POSTS, []) == []
        assert snapshot.get_each(COMMENTS, [key(1)]) == [None]


@pytest.mark.parametrize("reverse", [False, True], ids=["ascending", "descending"])
def test_scans_go_from_start_to_before_stop_either_way(store: ShardStore, reverse: bool) -> None:
    there = [1, 3, 4, 6, 7]
    put(store, {POSTS: rows(*there)})
    with store.snapshot() as snapshot:
        for start, stop, limit in product(range(10), range(10), (0, 1, 2, 5, 100)):
            expected = [number for number in there if start <= number < stop]
            expected = (expected[::-1] if reverse else expected)[:limit]
            found = snapshot.scan(POSTS, key(start), key(stop), limit=limit, reverse=reverse)
            assert found == rows(*expected), (start, stop, limit)
            assert snapshot.scan(COMMENTS, key(start), key(stop), limit=limit, reverse=reverse) == []


def test_a_scan_does_not_disturb_the_next_one(store: ShardStore) -> None:
    put(store, {POSTS: rows(*range(50))})
    with store.snapshot() as snapshot:
        for start in (30, 10, 40, 0):
            assert len(snapshot.scan(POSTS, key(start), key(50), limit=5)) == 5
            assert snapshot.scan(POSTS, key(0), key(start + 1), limit=1, reverse=True) == [
                (key(start), b"row %d" % start)
            ]
            assert snapshot.get_many(POSTS, [key(start), key(start + 1)]).keys() == {key(start), key(start + 1)}


# ---- commits


def test_a_commit_that_expects_another_position_changes_nothing(store: ShardStore) -> None:
    put(store, {POSTS: rows(1)})
    for expected in (0, 2):
        with pytest.raises(Superseded, match=rf"expected position {expected}, found 1"):
            store.commit(expected, Checkpoint(9, 9), {POSTS: rows(2)})
    assert store.checkpoint() == Checkpoint(1, 10)
    with store.snapshot() as snapshot:
        assert everything(snapshot) == {POSTS: rows(1)}


def test_a_commit_that_fails_halfway_leaves_nothing(store: ShardStore) -> None:
    put(store, {POSTS: rows(1)})
    with pytest.raises(KeyError):
        put(store, {POSTS: [(key(1), None), *rows(2)], COMMENTS: rows(1), "no such table": rows(1)})
    assert store.checkpoint() == Checkpoint(1, 10)
    with store.snapshot() as snapshot:
        assert everything(snapshot) == {POSTS: rows(1)}
    put(store, {POSTS: rows(2)})
    with store.snapshot() as snapshot:
        assert everything(snapshot) == {POSTS: rows(1, 2)}


# ---- snapshots


def test_a_snapshot_sees_one_moment_whatever_is_committed_meanwhile(store: ShardStore) -> None:
    put(store, {POSTS: rows(1, 2), COMMENTS: rows(1)})
    with store.snapshot() as before:
        put(store, {POSTS: [(key(1), None), *rows(3)]})
        # The second commit reaches a table that the first one left alone.
        put(store, {COMMENTS: [(key(1), b"new"), *rows(2)]})
        with store.snapshot() as after:
            put(store, {POSTS: [(key(2), None)], COMMENTS: [(key(2), None)]})
            assert everything(before) == {POSTS: rows(1, 2), COMMENTS: rows(1)}
            assert before.checkpoint == Checkpoint(1, 10)
            assert everything(after) == {POSTS: rows(2, 3), COMMENTS: [(key(1), b"new"), *rows(2)]}
            assert after.checkpoint == Checkpoint(3, 30)
            assert before.get(POSTS, key(1)) == b"row 1"
            assert after.get_many(POSTS, [key(1), key(2)]) == {key(2): b"row 2"}
    with store.snapshot() as last:
        assert everything(last) == {POSTS: rows(3), COMMENTS: [(key(1), b"new")]}


# ---- what is LMDB's own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a closed store that holds one row."""
    store = LmdbShardStore(tmp_path / "store", IDENTITY)
    put(store, {POSTS: rows(1)})
    store.close()
    return tmp_path / "store"


def test_an_lmdb_store_is_opened_again_as_it_was_left(folder: Path) -> None:
    for identity in (None, IDENTITY):
        store = LmdbShardStore(folder, identity)
        assert store.identity == IDENTITY
        assert store.checkpoint() == Checkpoint(1, 10)
        with store.snapshot() as snapshot:
            assert everything(snapshot) == {POSTS: rows(1)}
        store.close()


@pytest.mark.parametrize("field", ["generation", "shard", "shards"])
def test_an_lmdb_store_of_another_identity_is_refused_and_left_alone(folder: Path, field: str) -> None:
    other = msgspec.structs.replace(IDENTITY, **{field: 1})
    with pytest.raises(EnvironmentUnusable, match=r"holds Identity\(.*\), not Identity\("):
        LmdbShardStore(folder, other)
    store = LmdbShardStore(folder)
    assert store.identity == IDENTITY
    store.close()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (1, f"newer version (format {FORMAT + 1}, known: {FORMAT})"),
        (-1, f"older version (format {FORMAT - 1}, now {FORMAT})"),
    ],
)
def test_an_lmdb_store_of_another_format_is_refused(tmp_path: Path, step: int, told: str) -> None:
    other = msgspec.structs.replace(IDENTITY, format=FORMAT + step)
    for identity in (other, None, IDENTITY):
        with pytest.raises(EnvironmentUnusable, match=re.escape(told)):
            LmdbShardStore(tmp_path / "store", identity)


def test_a_missing_lmdb_store_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnusable, match="holds no data"):
        LmdbShardStore(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_lmdb_environment_of_something_else_is_refused(tmp_path: Path) -> None:
    environment = open_environment(tmp_path / "store", tables=1)
    with environment.write() as transaction:
        transaction.put(b"key", b"value")
    close_environment(environment)
    with pytest.raises(EnvironmentUnusable, match="is not a shard's store"):
        LmdbShardStore(tmp_path / "store")


@pytest.mark.parametrize("data", [b"\xc1", b"\x91\x01", b""], ids=["no msgpack", "cut short", "empty"])
def test_an_lmdb_store_that_does_not_say_whose_it_is_is_refused(folder: Path, data: bytes) -> None:
    store = LmdbShardStore(folder)
    put(store, {META: [(b"identity", data)]})
    store.close()
    with pytest.raises(EnvironmentUnusable, match="is not a shard's store"):
        LmdbShardStore(folder)


READS: dict[str, Callable[[Snapshot], object]] = {
    "get": lambda snapshot: snapshot.get(POSTS, key(1)),
    "get_many": lambda snapshot: snapshot.get_many(POSTS, [key(1)]),
    "get_each": lambda snapshot: snapshot.get_each(POSTS, [key(1)]),
    "scan": lambda snapshot: snapshot.scan(POSTS, key(0), key(9), limit=1),
}


@pytest.mark.parametrize("read", READS)
def test_a_snapshot_that_is_held_for_too_long_expires(folder: Path, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = LmdbShardStore(folder), [1000.0]
    monkeypatch.setattr(lmdb_stores, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with store.snapshot() as snapshot:
        now[0] += lmdb_stores.SNAPSHOT_S_MAX
        assert READS[read](snapshot)
        now[0] += 0.1
        with pytest.raises(SnapshotExpired, match="more than 30 s"):
            READS[read](snapshot)
        with store.snapshot() as fresh:
            assert READS[read](fresh)
    store.close()


def test_a_snapshot_that_expired_is_a_store_error() -> None:
    assert issubclass(SnapshotExpired, StoreError)
    assert issubclass(Superseded, StoreError)


# ---- agreement

KEYS = st.integers(0, 12).map(key)
TWO_TABLES = st.sampled_from([POSTS, COMMENTS])
ROWS = st.dictionaries(KEYS, st.none() | st.binary(max_size=3), max_size=6).map(lambda found: sorted(found.items()))


class StoresAgree(RuleBasedStateMachine):
    """Whatever is done to a store in memory and one on LMDB, they answer alike: memory is the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.memory = MemoryShardStore(IDENTITY)
        self.lmdb = LmdbShardStore(self.folder / "store", IDENTITY)
        self.held: list[tuple[AbstractContextManager[Snapshot], AbstractContextManager[Snapshot]]] = []
        self.snapshots: list[tuple[Snapshot, Snapshot]] = []

    @rule(changes=st.dictionaries(TWO_TABLES, ROWS), expected=st.integers(-1, 1), by=st.integers(1, 3))
    def commit(self, changes: Changes, expected: int, by: int) -> None:
        position = self.memory.checkpoint().position
        outcomes = []
        for store in (self.memory, self.lmdb):
            try:
                store.commit(position + expected, Checkpoint(position + by, position), changes)
                outcomes.append("stored")
            except Superseded:
                outcomes.append("superseded")
        assert outcomes == ["superseded" if expected else "stored"] * 2

    @precondition(lambda self: len(self.held) < 3)
    @rule()
    def hold_a_snapshot(self) -> None:
        managers = self.memory.snapshot(), self.lmdb.snapshot()
        self.held.append(managers)
        self.snapshots.append((managers[0].__enter__(), managers[1].__enter__()))

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 2))
    def end_a_snapshot(self, index: int) -> None:
        index %= len(self.held)
        del self.snapshots[index]
        for manager in self.held.pop(index):
            manager.__exit__(None, None, None)

    @rule()
    def reopen(self) -> None:
        while self.held:
            self.end_a_snapshot(0)
        self.lmdb.close()
        self.lmdb = LmdbShardStore(self.folder / "store")

    @precondition(lambda self: self.snapshots)
    @rule(
        index=st.integers(0, 2),
        table=TWO_TABLES,
        keys=st.lists(KEYS, min_size=2, max_size=4),
        limit=st.integers(0, 5),
        reverse=st.booleans(),
    )
    def read(self, index: int, table: str, keys: list[bytes], limit: int, reverse: bool) -> None:
        memory, lmdb = self.snapshots[index % len(self.snapshots)]
        assert lmdb.get(table, keys[0]) == memory.get(table, keys[0])
        assert lmdb.get_many(table, keys) == memory.get_many(table, keys)
        assert lmdb.get_each(table, keys) == memory.get_each(table, keys)
        scans = [one.scan(table, keys[0], keys[1], limit=limit, reverse=reverse) for one in (memory, lmdb)]
        assert scans[0] == scans[1]

    @invariant()
    def agree(self) -> None:
        assert self.lmdb.identity == self.memory.identity
        assert self.lmdb.checkpoint() == self.memory.checkpoint()
        with self.memory.snapshot() as memory, self.lmdb.snapshot() as lmdb:
            for one, other in [*self.snapshots, (memory, lmdb)]:
                assert one.checkpoint == other.checkpoint
                assert everything(one) == everything(other)

    def teardown(self) -> None:
        while self.held:
            self.end_a_snapshot(0)
        self.lmdb.close()
        shutil.rmtree(self.folder)


StoresAgree.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_stores_in_memory_and_on_lmdb_agree = StoresAgree.TestCase


def test_a_store_that_is_open_here_is_opened_again_while_somebody_writes(tmp_path: Path) -> None:
    made = LmdbShardStore(tmp_path / "shard", Identity(FORMAT, 1, 0, 1))
    first = LmdbShardStore(tmp_path / "shard")
    environment = open_environment(tmp_path / "shard", create=False)
    with environment.write():
        again = LmdbShardStore(tmp_path / "shard")
        assert again.checkpoint() == Checkpoint()
        again.close()
    close_environment(environment)
    first.close()
    made.close()


def test_two_threads_may_open_a_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction knows the handles that another one opens before that is committed."""
    LmdbShardStore(tmp_path / "shard", IDENTITY).close()
    write, asked, opened, go_on = LmdbEnvironment.write, threading.Semaphore(0), threading.Event(), threading.Event()

    @contextmanager
    def held(environment: LmdbEnvironment) -> Iterator[object]:
        asked.release()
        with write(environment) as transaction:
            yield transaction
            opened.set()
            assert go_on.wait(WAIT_S)

    monkeypatch.setattr(LmdbEnvironment, "write", held)
    with ThreadPoolExecutor(2) as threads, ExitStack() as stack:
        stack.callback(go_on.set)
        first = threads.submit(LmdbShardStore, tmp_path / "shard")
        assert asked.acquire(timeout=WAIT_S)
        assert opened.wait(WAIT_S)
        second = threads.submit(LmdbShardStore, tmp_path / "shard")
        until(lambda: asked.acquire(blocking=False) or second.done(), "the second asks for the lock, or has no need")
        go_on.set()
        for one in (first.result(WAIT_S), second.result(WAIT_S)):
            assert one.identity == IDENTITY
            one.close()
