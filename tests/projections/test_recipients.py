"""What a shard keeps of its authors' audiences makes it faster, and changes nothing that is stored."""

import numpy as np
import pytest
from fold_stored import stored
from histories import seeded_history

from darkroom.projections import recipients
from darkroom.projections.recipients import AUTHOR_IDS, Recipients
from darkroom.projections.shard_state import FoldSettings

ANN, BOB = 3, 5
TWO = np.array([7, 9], dtype=np.uint64)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_audiences_that_are_kept_from_batch_to_batch_are_those_that_are_gathered_anew(
    seed: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, batches = seeded_history(seed, 600, users=12), [[1], [7, 3], [50]][seed % 3]
    settings = FoldSettings(celebrity_threshold=6, feed_rows=20)
    kept = stored(history, shards, batches, settings)
    monkeypatch.setattr(recipients, "IDS_KEPT_MAX", -1)
    assert kept == stored(history, shards, batches, settings)


def test_what_is_kept_is_forgotten_once_it_is_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Recipients()
    monkeypatch.setattr(recipients, "IDS_KEPT_MAX", 2 * (AUTHOR_IDS + len(TWO)))
    for author in (ANN, BOB):
        assert known.keep(author, TWO) is TWO
    known.forget(ANN)
    known.forget(ANN)
    known.keep(ANN, TWO)
    known.trim()
    assert known.get(ANN) is known.get(BOB) is TWO
    known.keep(BOB + 1, TWO[:0])
    known.trim()
    assert [known.get(author) for author in (ANN, BOB, BOB + 1)] == [None] * 3
    known.keep(ANN, TWO)
    known.trim()
    assert known.get(ANN) is TWO
