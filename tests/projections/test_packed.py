"""Packed tables against dictionaries: whatever is set, popped and cleared, over commits, restarts and tiny pages."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from darkroom.projections import pages
from darkroom.projections.packed import PART_PAGES, PackedTable
from darkroom.projections.pages import KEY_MAX
from darkroom.projections.store import Checkpoint, Identity
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import COMMENTED, FOLLOWERS, FOLLOWING, RECEIVED, WORDS

TABLE_OF_WORDS = {0: FOLLOWERS, 1: FOLLOWING, 2: COMMENTED, 3: RECEIVED}
OWNERS = (1, 2, 2**48 - 1)
APPENDED = 5
"""This owner's entries are appended, each above all that ever were."""

keys = st.one_of(st.integers(1, 40), st.integers(1, 40), st.integers(1, KEY_MAX - 1))
owners = st.sampled_from(OWNERS)
bounds = st.one_of(st.integers(0, 42), keys)
words = st.integers(0, 2**64 - 1)


def value_of(count: int, seed: int) -> Any:
    """What a table of `count` words keeps at a key."""
    if not count:
        return True
    return seed if count == 1 else (seed, *range(count - 1))


def as_words(count: int, value: Any) -> tuple[int, ...]:
    return () if not count else (value,) if count == 1 else value


class PackedAgainstDictionaries(RuleBasedStateMachine):
    """The table as the fold changes it, and its pages as readers see them, against a dictionary of dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.model: dict[int, dict[int, Any]] = {owner: {} for owner in (*OWNERS, APPENDED)}
        self.committed: dict[int, dict[int, Any]] = {owner: {} for owner in (*OWNERS, APPENDED)}
        self.highest = 0
        self.store = MemoryShardStore(Identity(1, 1, 0, 1))

    @initialize(count=st.integers(0, 3), page_bytes=st.sampled_from([32, 64, 200, 1024]))
    def begin(self, count: int, page_bytes: int) -> None:
        self.patch.setattr(pages, "PAGE_BYTES_MAX", page_bytes)
        self.count = count
        self.name = TABLE_OF_WORDS[count]
        self.reopen()

    def reopen(self) -> None:
        self.table = PackedTable(self.name)
        self._read_on()

    def _read_on(self) -> None:
        with self.store.snapshot() as snapshot:  # in memory a snapshot stays good after it is left
            self.table.source = self.snapshot = snapshot

    @rule(owner=owners, key=keys, seed=words)
    def set_one(self, owner: int, key: int, seed: int) -> None:
        self.table[owner].set(key, value_of(self.count, seed))
        self.model[owner][key] = value_of(self.count, seed)

    @rule(owner=owners, key=keys, seed=words)
    def add(self, owner: int, key: int, seed: int) -> None:
        assert self.table[owner].add(key, value_of(self.count, seed)) == (key not in self.model[owner])
        self.model[owner].setdefault(key, value_of(self.count, seed))

    @rule(strides=st.lists(st.integers(1, 5), max_size=70))
    def append(self, strides: list[int]) -> None:
        for stride in strides:
            self.highest += stride
            value = value_of(self.count, self.highest)
            self.table[APPENDED].append(self.highest, *as_words(self.count, value))
            self.model[APPENDED][self.highest] = value

    @rule(change=st.sampled_from(["pop", "pop_many", "clear", "look_at_all_keys", "walk_and_change"]))
    def change_what_was_appended(self, change: str) -> None:
        match change:
            case "pop":
                self.pop(APPENDED, self.highest)
            case "pop_many":
                self.pop_many(APPENDED, 3, upwards=False)
            case _:
                getattr(self, change)(APPENDED)

    @rule(entries=st.lists(st.tuples(owners, keys, words), max_size=70))
    def add_all(self, entries: list[tuple[int, int, int]]) -> None:
        valued = [(owner, key, value_of(self.count, seed)) for owner, key, seed in entries]
        there = self.table.add_all(valued)
        for owner, key, value in valued:
            if key not in self.model[owner]:
                self.model[owner][key] = value
            else:
                there.remove((owner, key, value))
        assert not there

    @rule(owner=owners, first=keys, number=st.integers(1, 100))
    def set_a_run(self, owner: int, first: int, number: int) -> None:
        for key in range(first, min(first + number, KEY_MAX)):
            self.set_one(owner, key, key)

    @rule(owner=owners, key=st.one_of(keys, st.sampled_from([-1, 0, KEY_MAX, 2**64])))
    def pop(self, owner: int, key: int) -> None:
        assert self.table[owner].get(key) == self.model[owner].get(key)
        assert self.table[owner].pop(key) == self.model[owner].pop(key, None)

    @rule(owner=owners, stride=st.integers(1, 3), upwards=st.booleans())
    def pop_many(self, owner: int, stride: int, upwards: bool) -> None:
        for key in sorted(self.model[owner], reverse=not upwards)[::stride]:
            self.pop(owner, key)

    @rule(owner=owners)
    def clear(self, owner: int) -> None:
        self.table[owner].clear()
        self.model[owner].clear()

    @rule(owner=owners)
    def look_at_all_keys(self, owner: int) -> None:
        assert sorted(self.table.keys(owner).tolist()) == sorted(self.model[owner])

    @rule(owner=owners)
    def walk_and_change(self, owner: int) -> None:
        for key, value in self.table[owner].items():
            assert self.model[owner][key] == value
            if key % 2:
                self.pop(owner, key)

    @rule(what_next=st.sampled_from(["go on", "go on", "forget", "reopen"]))
    def commit(self, what_next: str) -> None:
        now = self.store.checkpoint().position
        rows = self.table.flush()
        assert rows == sorted(rows)
        assert len({key for key, _ in rows}) == len(rows)
        self.store.commit(now, Checkpoint(now + 1), {self.name: rows})
        self.committed = {owner: dict(entries) for owner, entries in self.model.items()}
        self._read_on()
        if what_next == "forget":
            self.table.forget()
            assert self.table.loaded == 0
        elif what_next == "reopen":
            self.reopen()
        assert self.table.flush() == []

    @rule()
    def crash(self) -> None:
        """A new incarnation knows only what was committed."""
        self.model = {owner: dict(entries) for owner, entries in self.committed.items()}
        self.reopen()

    @rule(owner=owners, key=st.one_of(keys, st.sampled_from([-1, 0, KEY_MAX, 2**64])))
    def find(self, owner: int, key: int) -> None:
        value = self.committed[owner].get(key)
        found = pages.find(self.snapshot, self.name, owner, key)
        assert found == (None if value is None else as_words(self.count, value))

    @rule(owner=owners, above=bounds, below=bounds, limit=st.integers(0, 130))
    def between(self, owner: int, above: int, below: int, limit: int) -> None:
        entries = self.entries(owner)
        inside = [entry for entry in entries if above < entry[0] < below]
        args: Any = (self.snapshot, self.name, owner)
        assert pages.newest(*args, below=below, above=above, limit=limit) == inside[::-1][:limit]
        assert pages.oldest(*args, below=below, above=above, limit=limit) == inside[:limit]
        assert pages.newest(*args, limit=limit) == entries[::-1][:limit]
        assert pages.oldest(*args, limit=limit) == entries[:limit]

    def entries(self, owner: int) -> list[tuple[int, ...]]:
        return [(key, *as_words(self.count, value)) for key, value in sorted(self.committed[owner].items())]

    @invariant()
    def the_fold_knows_how_many_there_are(self) -> None:
        for owner, entries in self.model.items():
            assert self.table[owner].count == len(entries)

    @invariant()
    def readers_see_what_was_committed(self) -> None:
        for owner in (*OWNERS, APPENDED):
            entries = self.entries(owner)
            assert pages.size(self.snapshot, self.name, owner) == len(entries)
            assert pages.columns(self.snapshot, self.name, owner).T.tolist() == [list(entry) for entry in entries]
        assert pages.size(self.snapshot, self.name, 3) == 0
        assert pages.columns(self.snapshot, self.name, 3).shape == (1 + self.count, 0)

    @invariant()
    def pages_keep_to_their_size_and_none_is_empty(self) -> None:
        for key, page in self.snapshot.scan(self.name, b"\0" * 16, b"\xff" * 16, limit=10**6):
            entries = pages.columns_of(self.name, key, page).shape[1]
            assert entries <= pages.entries_max(self.name)
            first = not key[8:].strip(b"\0")
            assert entries or (first and pages.read_header(page)[0])

    def teardown(self) -> None:
        self.patch.undo()


PackedAgainstDictionaries.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
test_packed_tables_agree_with_dictionaries = PackedAgainstDictionaries.TestCase


@pytest.mark.parametrize("seed", range(16))
def test_packed_tables_agree_with_dictionaries_over_a_long_life(seed: int) -> None:
    machine, source = PackedAgainstDictionaries(), random.Random(seed)
    machine.begin(count=seed % 4, page_bytes=[32, 64, 200, 1024][seed // 4])
    try:
        for _ in range(150):
            take_a_step(machine, source)
            machine.the_fold_knows_how_many_there_are()
            machine.readers_see_what_was_committed()
            machine.pages_keep_to_their_size_and_none_is_empty()
    finally:
        machine.teardown()


def take_a_step(machine: PackedAgainstDictionaries, source: random.Random) -> None:
    owner, key, far = source.choice(OWNERS), source.randint(1, 400), source.randint(1, KEY_MAX - 1)
    match source.randrange(14):
        case 0 | 1:
            machine.set_a_run(owner, key, source.randint(1, 100))
        case 2:
            machine.set_one(owner, source.choice([key, far]), far)
        case 3:
            for _ in range(20):
                machine.pop(owner, source.randint(1, 500))
        case 4:
            machine.pop_many(owner, source.randint(1, 3), source.random() < 0.5)
        case 5:
            machine.clear(owner) if source.random() < 0.2 else machine.look_at_all_keys(owner)
        case 6:
            machine.walk_and_change(owner)
        case 7:
            machine.find(owner, key)
            machine.between(owner, key, source.choice([key + source.randint(0, 200), far]), source.randint(0, 200))
        case 8:
            machine.crash()
        case 9:
            machine.append([source.randint(1, 3) for _ in range(source.randint(1, 300))])
            if source.random() < 0.5:
                machine.change_what_was_appended(source.choice(["pop", "pop_many", "walk_and_change"]))
        case 10:
            machine.add_all(
                [(source.choice(OWNERS), source.randint(1, 900), far) for _ in range(source.randint(1, 300))]
            )
        case _:
            machine.commit(source.choice(["go on", "forget", "reopen"]))


@pytest.mark.parametrize("words", sorted(TABLE_OF_WORDS))
def test_there_is_a_table_of_every_number_of_words(words: int) -> None:
    assert WORDS[TABLE_OF_WORDS[words]] == words


def test_a_full_page_is_of_the_size_that_pages_may_have() -> None:
    assert pages.entries_max(FOLLOWERS) == 128
    assert pages.entries_max(RECEIVED) == 32


def table_of(entries: dict[int, int]) -> tuple[PackedTable, Callable[[], int]]:
    """A committed table in which owner 1 has the entries, and what counts the pages that are read from it."""
    store, table, reads = MemoryShardStore(Identity(1, 1, 0, 1)), PackedTable(FOLLOWING), [0]
    with store.snapshot() as snapshot:
        table.source = snapshot
    for key, value in entries.items():
        table[1].set(key, value)
    store.commit(0, Checkpoint(1), {FOLLOWING: table.flush()})
    with store.snapshot() as snapshot:
        table.source = snapshot
    table.forget()
    scan = snapshot.scan

    def counting_scan(*args: Any, **kwargs: Any) -> Any:
        reads[0] += 1
        return scan(*args, **kwargs)

    snapshot.scan = counting_scan  # type: ignore[method-assign]
    return table, lambda: reads[0]


def test_one_entry_among_many_costs_a_few_pages_not_all() -> None:
    table, reads = table_of({key: key for key in range(1, 20_000)})
    assert table[1].get(15_000) == 15_000
    table[1].set(15_001, 7)
    assert table[1].pop(15_002) == 15_002
    assert reads() <= 3
    assert table.loaded < 200
    # The page itself, and the first, whose header counts all entries.
    assert len(table.flush()) == 2


@settings(deadline=None)
@given(st.sets(st.integers(1, 2**63), max_size=300))
def test_size_is_one_look_up_however_many_pages_there_are(ids: set[int]) -> None:
    table, reads = table_of(dict.fromkeys(ids, 1))
    assert pages.size(table.source, FOLLOWING, 1) == len(ids)
    assert reads() == 0


@pytest.mark.parametrize("name", TABLE_OF_WORDS.values())
def test_what_a_large_batch_writes_does_not_depend_on_the_order_of_its_keys(name: str) -> None:
    keys = list(range(1, 2 * PART_PAGES * pages.entries_max(name)))
    random.Random(1).shuffle(keys)
    written = []
    for order in (sorted(keys), keys):
        table, store = PackedTable(name), MemoryShardStore(Identity(1, 1, 0, 1))
        with store.snapshot() as snapshot:
            table.source = snapshot
        for key in order:
            assert table[1].add(key, value_of(WORDS[name], key))
        written.append(table.flush())
    assert written[0] == written[1]
    assert len(written[0]) == 2 * PART_PAGES
