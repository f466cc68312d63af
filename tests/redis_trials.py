"""One shard, its readers and a real Redis between them, on moody links.

The claim: no reader is served a head that is older than its view, or, of a snapshot, any other than its own.
"""

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from moody_redis import Fate, MoodyLink
from redis import Redis

from darkroom.projections.effects import BucketSizes, Change, Effects
from darkroom.projections.feed_cache import NOTHING_TO_FILL, FeedKey, Lease
from darkroom.projections.feed_cache_redis import RedisFeedCache, RedisPublisher
from darkroom.projections.redis_link import RedisAddress
from darkroom.projections.store import Checkpoint
from darkroom.projections.views import FeedHead

USERS = (1, 2, 3)


def effects_of(users: Sequence[int]) -> Effects:
    effects = Effects(lambda _: True, BucketSizes())
    effects.feed_heads = {user: Change(1, b"") for user in users}
    return effects


@dataclass
class Incarnation:
    """A shard's process: the position that it works from, and how far it is with its batch. It may be a leftover."""

    publisher: RedisPublisher
    link: MoodyLink
    position: int
    end: int | None = None
    has_rows: bool = False
    has_told: bool = False


@dataclass
class Read:
    """A page being read: `head` where its view is a snapshot, for then it was decided when the view was opened."""

    user: int
    position: int
    head: FeedHead | None
    lease: Lease = NOTHING_TO_FILL


class Trial:
    """`snapshots` is whether views are moments of the shard's store, or of rows that go on changing.

    Every step may be called at any time; one that makes no sense then does nothing. `which` chooses one of several.
    """

    def __init__(self, address: RedisAddress, *, snapshots: bool) -> None:
        self.hits = 0
        self.address = replace(address, prefix=f"test:{uuid.uuid4().hex}")
        self._snapshots = snapshots
        self._redis = Redis(address.host, address.port, socket_timeout=10)
        self._keys = [f"{self.address.prefix}:{{1.0}}{end}".encode() for end in ("", *(f":{user}" for user in USERS))]
        self._saved: dict[bytes, bytes] = {}
        self._touched: list[set[int]] = [set()]  # by position
        self._published = self._visible = self._committed = 0
        self._incarnations: list[Incarnation] = []
        self._reads: list[Read] = []
        self._gateway = MoodyLink(self.address, self.save, self.revive, lambda: self.work(0, set(USERS[1:])))
        self._cache = RedisFeedCache(self.address, link=self._gateway)
        self.start(Fate.ANSWERED)

    def close(self) -> None:
        self.flush()
        self._redis.close()
        self._cache.close()
        for shard in self._incarnations:
            shard.publisher.close()

    def _head_at(self, user: int, position: int) -> FeedHead:
        """A feed whose horizon tells what changed it last."""
        return FeedHead(max((p for p in range(position + 1) if user in self._touched[p]), default=0))

    # The log and the shard

    def append(self, users: set[int]) -> None:
        self._touched.append(users)

    def start(self, fate: Fate) -> None:
        if len(self._incarnations) == 3:
            return
        link = MoodyLink(self.address, self.save, self.revive, lambda: self.start(Fate.ANSWERED))
        link.fates.append(fate)
        publisher = RedisPublisher(self.address, 1, 0, feeds_a_step=1, feeds_told_max=len(USERS) - 1, link=link)
        publisher.open(self._committed)
        self._incarnations.append(Incarnation(publisher, link, self._committed))

    def crash(self, which: int) -> None:
        """And another one in its place, if it was the last."""
        if self._incarnations:
            self._incarnations.pop(which % len(self._incarnations)).publisher.close()
        if not self._incarnations:
            self.start(Fate.ANSWERED)

    def _at_work(self, which: int) -> Incarnation | None:
        """One of the incarnations, in the midst of a batch: of all that waits, or of one record."""
        if not self._incarnations:
            return None
        shard = self._incarnations[which % len(self._incarnations)]
        if shard.end is None and len(self._touched) - 1 > shard.position:
            shard.end = shard.position + 1 if which % 2 else len(self._touched) - 1
        return shard if shard.end is not None else None

    def publish_rows(self, which: int) -> None:
        shard = self._at_work(which)
        if shard is not None and shard.end is not None:
            self._published = max(self._published, shard.end)
            shard.has_rows = True

    def tell(self, which: int, fate: Fate, second: Fate) -> None:
        """Before the rows, or after them."""
        shard = self._at_work(which)
        if shard is not None and shard.end is not None and not shard.has_told:
            users = set().union(*self._touched[shard.position + 1 : shard.end + 1])
            shard.link.fates = [fate, second]
            shard.publisher.publish(effects_of(sorted(users)), shard.position, Checkpoint(shard.end))
            shard.link.fates = []
            shard.has_told = True

    def reach(self, which: int) -> None:
        """What a store of views does at `reached`; where they are snapshots, only the commit shows anything."""
        shard = self._at_work(which)
        if shard is not None and shard.end is not None and shard.has_rows and shard.has_told and not self._snapshots:
            self._visible = max(self._visible, shard.end)

    def commit(self, which: int) -> None:
        """An incarnation that is behind ends."""
        shard = self._at_work(which)
        if shard is None or shard.end is None or not (shard.has_rows and shard.has_told):
            return
        self.reach(which)
        if shard.position != self._committed:
            self.crash(self._incarnations.index(shard))
            return
        self._committed = shard.position = shard.end
        self._visible = max(self._visible, self._committed)
        shard.end, shard.has_rows, shard.has_told = None, False, False

    def work(self, which: int, users: set[int]) -> None:
        """A batch without a fault."""
        self.append(users)
        self.publish_rows(which)
        self.tell(which, Fate.ANSWERED, Fate.ANSWERED)
        self.commit(which)

    # Readers

    def open_view(self, user: int) -> None:
        if len(self._reads) < 5:
            head = self._head_at(user, self._visible) if self._snapshots else None
            self._reads.append(Read(user, self._visible, head))

    def ask(self, which: int, fate: Fate, second: Fate) -> None:
        if not self._reads:
            return
        read = self._reads[which % len(self._reads)]
        self._gateway.fates = [fate, second]
        found = self._cache.get(FeedKey(1, 0, read.user), lambda: 0, read.position)
        self._gateway.fates = []
        if isinstance(found, Lease):
            read.lease = found
            return
        self.hits += 1
        self._reads.remove(read)
        owed = self._head_at(read.user, read.position)
        if self._snapshots:
            assert found == owed, f"feed {read.user} at {read.position}"
        else:
            assert found.horizon >= owed.horizon, f"feed {read.user} at {read.position}"

    def fill(self, which: int, fate: Fate) -> None:
        if not self._reads:
            return
        read = self._reads.pop(which % len(self._reads))
        self._gateway.fates = [fate]
        head = read.head or self._head_at(read.user, self._published)
        self._cache.put(FeedKey(1, 0, read.user), read.lease, head)
        self._gateway.fates = []

    def read(self, user: int) -> None:
        """A page without a fault."""
        waiting, self._reads = self._reads, []
        self.open_view(user)
        self.ask(0, Fate.ANSWERED, Fate.ANSWERED)
        self.fill(0, Fate.ANSWERED)
        self._reads = waiting

    # Redis

    def evict(self, which: int) -> None:
        self._redis.delete(self._keys[which % len(self._keys)])

    def flush(self) -> None:
        self._redis.delete(*self._keys)

    def save(self) -> None:
        """As a replica that falls behind, or a dump, has it."""
        found = cast("list[bytes | None]", self._redis.mget(self._keys))
        self._saved = {key: value for key, value in zip(self._keys, found, strict=True) if value is not None}

    def revive(self) -> None:
        """What was saved is what there is."""
        self.flush()
        for key, value in self._saved.items():
            self._redis.set(key, value)

    def deliver_late(self, which: int, whose: int) -> None:
        links = [self._gateway, *(shard.link for shard in self._incarnations)]
        links[whose % len(links)].deliver(which)


def seeded_trial(trial: Trial, seed: int, steps: int) -> None:
    """Steps drawn by the seed, and how often each kind is: a history of much of everything is one of nothing at all."""
    chance = random.Random(seed)
    troubles, busy = chance.choice([0.05, 0.3, 0.8]), chance.choice([0.1, 0.5])

    def which() -> int:
        return chance.randrange(6)

    def user() -> int:
        return chance.choice(USERS)

    def fate() -> Fate:
        return chance.choice(list(Fate)) if chance.random() < troubles else Fate.ANSWERED

    def fates() -> tuple[Fate, Fate]:
        """Of a request and the one after it: troubles seldom come alone."""
        return (fate(), fate()) if chance.random() < 0.5 else (chance.choice(list(Fate)), chance.choice(list(Fate)))

    def users() -> set[int]:
        return {user for user in USERS if chance.random() < busy}

    kinds: list[tuple[float, Callable[[], None]]] = [
        (chance.choice([0, 5]), lambda: trial.append(users())),
        (5, lambda: trial.publish_rows(which())),
        (10, lambda: trial.tell(which(), *fates())),
        (5, lambda: trial.reach(which())),
        (5, lambda: trial.commit(which())),
        (10, lambda: trial.work(which(), users())),
        (chance.choice([0.1, 1]), lambda: trial.start(fate())),
        (chance.choice([0.1, 1]), lambda: trial.crash(which())),
        (chance.choice([2, 15]), lambda: trial.open_view(user())),
        (15, lambda: trial.ask(which(), *fates())),
        (10, lambda: trial.fill(which(), fate())),
        (chance.choice([2, 20]), lambda: trial.read(user())),
        (chance.choice([0, 1]), lambda: trial.evict(which())),
        (chance.choice([0, 0.3]), trial.flush),
        (chance.choice([0, 2]), trial.save),
        (chance.choice([0, 1]), trial.revive),
        (2, lambda: trial.deliver_late(which(), which())),
    ]
    weights, calls = zip(*kinds, strict=True)
    for call in chance.choices(calls, weights, k=steps):
        call()
