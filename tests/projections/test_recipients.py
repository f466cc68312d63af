"""What a shard keeps of its authors' audiences makes it faster, and changes nothing that is stored."""

import numpy as np
import pytest
from fold_stored import stored
from histories import seeded_history

from darkroom.projections import recipients
from darkroom.projections.home_feed import deliver
from darkroom.projections.recipients import AUTHOR_IDS, Recipients
from darkroom.projections.shard_state import FoldSettings, ShardState
from darkroom.projections.store import Identity
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.tables import FOLLOWERS

TWO = np.array([7, 9], dtype=np.uint64)


@pytest.mark.parametrize("limit", [0, 100])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_audiences_that_are_kept_from_batch_to_batch_are_those_that_are_gathered_anew(
    seed: int, shards: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, batches = seeded_history(seed, 600, users=12), [[1], [7, 3], [50]][seed % 3]
    settings = FoldSettings(celebrity_threshold=6, feed_rows=20)
    kept = stored(history, shards, batches, settings)
    monkeypatch.setattr(recipients, "IDS_KEPT_MAX", limit)
    assert kept == stored(history, shards, batches, settings)


def test_an_eighth_of_what_was_decided_first_is_forgotten_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Recipients()
    monkeypatch.setattr(recipients, "IDS_KEPT_MAX", 16 * (AUTHOR_IDS + len(TWO)))
    for author in range(1, 17):
        assert known.keep(author, TWO) is TWO
    known.forget(1)
    known.forget(1)
    known.keep(1, TWO)
    assert all(known.get(author) is TWO for author in range(1, 17))
    known.keep(17, TWO[:0])
    assert [author for author in range(1, 18) if known.get(author) is None] == [2, 3, 4]
    many = np.arange(16 * (AUTHOR_IDS + len(TWO)), dtype=np.uint64)
    assert known.keep(2, many) is many
    assert known.get(2) is many, "who is over the limit alone stays until others come"
    assert all(known.get(author) is None for author in (1, *range(3, 18)))
    known.keep(3, TWO)
    assert known.get(2) is None
    assert known.get(3) is TWO


def test_a_celebritys_audience_is_not_kept_with_the_decision_that_nobody_gets_the_posts() -> None:
    state = ShardState(0, 1, FoldSettings(celebrity_threshold=4))
    with MemoryShardStore(Identity(1, 1, 0, 1)).snapshot() as snapshot:
        state.begin(snapshot)
        for follower in range(2, 12):
            state.packed[FOLLOWERS][1].add(follower)
        state.position = 20
        deliver(state, 1)
    kept = state.recipients.get(1)
    assert kept is not None
    assert len(kept) == 0
    assert kept.base is None
