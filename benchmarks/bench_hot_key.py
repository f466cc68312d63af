"""A hot key and its undoing: all likes on a few posts, a tenth undone, a twentieth repeated

Every count must come out as the size of its set, whatever was done twice.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.developed import developed
from benchmarks.floor_fold import bodies_of, decode_and_apply
from benchmarks.measure import OURS, Aim, Measurement, Row, seconds, turns
from benchmarks.run import Bench
from benchmarks.worlds import append_all, posts, registrations
from darkroom.actors.shard import Shard
from darkroom.events.facts import Event, PostLiked, PostUnliked
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections import pages
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.tables import LIKERS

TITLE = "Hot key and undo"
POSTS = 10
FLOOR = "decode + apply"
BATCHES = (1_000, 100_000)


def rows(bench: Bench) -> Iterator[Row]:
    users, likes = bench.size(20_000, 1_000), bench.size(150_000, 5_000)
    before = [*registrations(users), *posts([1] * POSTS)]
    events = before + list(storm(users, likes))
    bodies = bodies_of(events)
    with bench.folder() as folder:
        log = LmdbEventLog(folder / "log")
        append_all(log, events)
        tries = iter(range(10_000))
        for batch in BATCHES:

            def ours(batch: int = batch) -> float:
                return _ours(folder / str(next(tries)), log, len(before), len(events), batch, users, bodies)

            def floor() -> float:
                world = decode_and_apply(bodies[: len(before)])
                return likes / seconds(lambda: decode_and_apply(bodies, after=len(before), world=world))

            contenders: dict[str, Measurement] = {OURS: ours, FLOOR: floor}
            yield Row(
                name=f"{likes:,} likes and unlikes of {POSTS} posts, batches of {batch:,}",
                unit="events/s",
                values=turns(contenders, bench.repeats),
                aims=[Aim(0.5, FLOOR)] if batch == BATCHES[-1] else [],
                checked="likers of every post, likes of every user and all counts are the floor's after each run",
            )
        log.close()


def storm(users: int, count: int) -> Iterator[Event]:
    """A tenth are undone at some time after, a twentieth are said twice."""
    chance, standing = random.Random(9), list[tuple[int, int]]()
    for _ in range(count):
        if standing and chance.random() < 1 / 10:
            user, post = standing.pop(chance.randrange(len(standing)))
            yield PostUnliked(user=user, post=post, author=1)
        elif standing and chance.random() < 1 / 20:
            user, post = chance.choice(standing)
            yield PostLiked(user=user, post=post, author=1)
        else:
            user, post = chance.randrange(users) + 1, users + 1 + chance.randrange(POSTS)
            standing.append((user, post))
            yield PostLiked(user=user, post=post, author=1)


def _ours(
    folder: Path, log: LmdbEventLog, before: int, head: int, batch: int, users: int, bodies: list[bytes]
) -> float:
    """Events a second of the storm; what was before is folded first."""
    store = LmdbShardStore(folder, Identity(FORMAT, 1, 0, 1))
    shard = Shard(log, store, FoldSettings())

    def fold_to(position: int) -> None:
        while shard.position < position:
            shard.step(min(batch, position - shard.position))

    fold_to(before)
    taken = seconds(lambda: fold_to(head))
    wanted = decode_and_apply(bodies).tables()
    found = developed([store], range(1, users + 1))
    with store.snapshot() as snapshot:
        counts = dict(zip(wanted["likers"], pages.sizes(snapshot, (LIKERS,), list(wanted["likers"])), strict=True))
    store.close()
    assert counts == {post: (len(likers),) for post, likers in wanted["likers"].items()}
    for table in ("likers", "liked", "received"):
        assert found[table] == wanted[table], f"{table} is not the floor's"
    return (head - before) / taken
