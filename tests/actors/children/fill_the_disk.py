"""Folds a history into a store on LMDB whose files may not grow, and gives it room again whenever it says it is full.

Arguments: a folder, a seed. The output is one JSON object: how often it was full, and where it ended.
"""

import json
import resource
import signal
import sys
from pathlib import Path

from histories import seeded_history
from world import World, check_everything, check_feeds

from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, StoreFull
from darkroom.projections.stores.lmdb import LmdbShardStore

ROOM_BYTES = 40_000
STEP_EVENTS = 40


def main(folder: Path, seed: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def make_store(identity: Identity) -> LmdbShardStore:
        return LmdbShardStore(folder / "store", identity)

    world = World(seeded_history(seed, 1200, users=8), 1, FoldSettings(3, feed_rows=20), make_store)
    store = world.stores[0]
    full = 0
    give_room(store.bytes_stored())
    while world.oracles[0].position < len(world.records):
        try:
            world.step(0, STEP_EVENTS)
        except StoreFull:
            full += 1
            check_what_is_left(world)
            give_room(store.bytes_stored())
    check_everything(world)
    world.close()
    make_store(store.identity).close()
    print(json.dumps({"full": full, "position": world.oracles[0].position}))


def check_what_is_left(world: World) -> None:
    """Everything up to the last commit, which is read as before; and it is full when it is tried again."""
    position = world.oracles[0].position
    for _ in range(2):
        world.restart(0)
        assert world.shards[0].position == world.stores[0].checkpoint().position == position
        check_feeds(world, limits=(5,))
        try:
            world.step(0, STEP_EVENTS)
        except StoreFull:
            continue
        raise AssertionError("there was room")
    world.restart(0)


def give_room(stored: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (stored + ROOM_BYTES, hard))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
