"""What a shard keeps of its authors' audiences makes it faster, and changes nothing that is stored."""

import numpy as np
import pytest
from fold_stored import stored
from histories import seeded_history

from darkroom.projections import recipients
from darkroom.projections.recipients import AUTHOR_IDS, Recipients
from darkroom.projections.shard_state import FoldSettings

TWO = np.array([7, 9], dtype=np.uint64)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_audiences_that_are_kept_from_batch_to_batch_are_those_that_are_gathered_anew(
    seed: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, batches = seeded_history(seed, 600, users=12), [[1], [7, 3], [50]][seed % 3]
    settings = FoldSettings(celebrity_threshold=6, feed_rows=20)
    kept = stored(history, shards, batches, settings)
    monkeypatch.setattr(recipients, "IDS_KEPT_MAX", 0)
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
    assert known.keep(2, many) is many  # too many for any limit, and of use all the same
    assert all(known.get(author) is None for author in range(1, 18))
