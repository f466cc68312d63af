"""Bitmaps against plain sets, as the fold changes them and as readers ask."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from darkroom.projections import bitmaps
from darkroom.projections.bitmaps import Bitmap
from darkroom.projections.routing import ID_MASK
from darkroom.projections.store import Checkpoint, Identity
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import LIVE

NEVER_GIVEN = (-1, -4096, ID_MASK + 1, 2**63, -(2**63), 2**64 - 1)
members = st.one_of(st.integers(0, 40), st.integers(4080, 4110), st.integers(0, ID_MASK))


class BitmapAgainstASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryShardStore(Identity(1, 1, 0, 1))
        self.model: set[int] = set()
        self.committed: set[int] = set()
        self.asked = {0, 1, 4095, 4096}
        self.restart()

    @rule()
    def restart(self) -> None:
        """A new incarnation knows only what was committed."""
        self.model = set(self.committed)
        self.bitmap = Bitmap(LIVE)
        self._read_on()

    def _read_on(self) -> None:
        with self.store.snapshot() as snapshot:
            self.bitmap.source = self.snapshot = snapshot

    @rule(member=members)
    def add(self, member: int) -> None:
        self.bitmap.add(member)
        self.model.add(member)
        self.asked.add(member)

    @rule(member=members)
    def remove(self, member: int) -> None:
        self.bitmap.remove(member)
        self.model.discard(member)
        self.asked.add(member)

    @rule()
    def commit(self) -> None:
        now = self.store.checkpoint().position
        rows = self.bitmap.flush()
        assert rows == sorted(rows)
        assert self.bitmap.flush() == []
        self.store.commit(now, Checkpoint(now + 1), {LIVE: rows})
        self.committed = set(self.model)
        self._read_on()

    @invariant()
    def agree(self) -> None:
        for member in self.asked:
            assert bool(member in self.bitmap) == (member in self.model)
            assert bitmaps.contains(self.snapshot, LIVE, member) == (member in self.committed)


BitmapAgainstASet.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_bitmaps_agree_with_sets = BitmapAgainstASet.TestCase


@pytest.mark.parametrize("member", NEVER_GIVEN)
def test_an_id_that_nobody_was_ever_given_is_in_no_set_and_fills_no_memory(member: int) -> None:
    store, bitmap = MemoryShardStore(Identity(1, 1, 0, 1)), Bitmap(LIVE)
    with store.snapshot() as snapshot:
        bitmap.source = snapshot
        assert member not in bitmap
        assert not bitmaps.contains(snapshot, LIVE, member)
    assert bitmap._rows == {}
    assert bitmap.flush() == []
