"""Settings that change between runs, where an earlier run has published what it never committed."""

import random

import pytest
from histories import seeded_history
from publishing import Landing, Published, PublishingWorld
from world import check_everything

from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.view_adapters.memory import MemoryViews

THRESHOLDS = (0, 1, 2, 5, None)
ROWS = (2, 9, 1000)


@pytest.mark.parametrize("seed", range(40))
def test_no_answer_depends_on_settings_that_changed_while_something_was_published(seed: int) -> None:
    source = random.Random(seed)
    history, shards = seeded_history(seed, 150, users=3 + seed % 4), 1 + seed % 3
    places = [MemoryViews() for _ in range(shards)]

    def some_settings() -> FoldSettings:
        return FoldSettings(source.choice(THRESHOLDS), source.choice(ROWS), source.choice((None, 2)))

    def open_views(shard: int) -> Published:
        return Published(places[shard], places[shard])

    world = PublishingWorld(history, shards, some_settings(), open_views, seed=seed)
    while min(store.checkpoint().position for store in world.stores) < len(history):
        shard = source.randrange(shards)
        world.try_step(shard, source.randint(1, 12), source.choice(list(Landing)))
        if source.random() < 0.4:
            world.restart(shard, some_settings())
    world.settle()
    check_everything(world)
