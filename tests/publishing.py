"""A world whose shards publish their views, with every way in which that is interrupted; and what readers may then see.

Between what readers were told of and what was published last, a row may be as it was after any record: what stood all
the while must be shown, what stood at some time may be, and nothing else.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from faults import CommitLost
from histories import History
from moments import Moment, moments
from world import ALL, World, memory_store

from darkroom.actors.shard import Shard
from darkroom.projections import activity, home_feed
from darkroom.projections.effects import Change, Effects, Publisher
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK, shard_of
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Checkpoint, Identity, ShardStore, StoreError, Superseded
from darkroom.projections.views import ShardViews

Key = TypeVar("Key")


class Published(NamedTuple):
    """An adapter at work: what a shard publishes to, and what readers read."""

    publisher: Publisher
    views: ShardViews


Row = tuple[Any, ...]
"""What somebody did or received: its position first; third, of what was received, who did it."""

OpenViews = Callable[[int], Published]
"""Of the place with that number, empty at first; asked again, of the same place, as another incarnation."""


class Landing(Enum):
    """What becomes of a batch that is published."""

    WHOLE = "it lands, readers are told, and it is committed"
    NOTHING = "nothing of it lands"
    PART = "some of its rows land"
    UNTOLD = "all of it lands, and readers are not told"
    UNCOMMITTED = "readers are told, and it is not committed"


class PublishLost(StoreError):
    """The process died of it, as it were."""


def part_of(effects: Effects, source: random.Random) -> Effects:
    """Some of the changes, any of them: but a feed's head is only stored when the pages are."""
    share = source.random()

    def some(changes: dict[Key, Change]) -> dict[Key, Change]:
        return {key: change for key, change in changes.items() if source.random() < share}

    part = copy(effects)
    part.entries = {table: some(entries) for table, entries in effects.entries.items()}
    part.sizes = {table: some(sizes) for table, sizes in effects.sizes.items()}
    part.rows = {table: some(rows) for table, rows in effects.rows.items()}
    part.deeds = some(effects.deeds)
    part.feed_pages = [page for page in effects.feed_pages if source.random() < share]
    part.feed_heads = some(effects.feed_heads) if part.feed_pages == effects.feed_pages else {}
    return part


class Late(NamedTuple):
    """What an incarnation was about to publish when it froze."""

    shard: int
    publisher: Publisher
    effects: Effects
    expected: int
    checkpoint: Checkpoint


class InterruptedPublisher:
    """In front of another, one incarnation's; the world says what becomes of each batch."""

    def __init__(self, publisher: Publisher, shard: int, world: "PublishingWorld") -> None:
        self._publisher = publisher
        self._shard = shard
        self._world = world
        self._landing = Landing.WHOLE

    def open(self, position: int) -> None:
        self._publisher.open(position)

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        world, shard = self._world, self._shard
        self._landing = world.next_landing()
        if self._landing is Landing.NOTHING:
            world.late.append(Late(shard, self._publisher, effects, expected, checkpoint))
            raise PublishLost(self._landing.value)
        world.published_up_to(shard, checkpoint)
        if self._landing is Landing.PART:
            self._publisher.publish(part_of(effects, world.source), expected, checkpoint)
        else:
            self._publisher.publish(effects, expected, checkpoint)
        if self._landing in (Landing.PART, Landing.UNTOLD):
            raise PublishLost(self._landing.value)

    def reached(self, checkpoint: Checkpoint) -> None:
        self._publisher.reached(checkpoint)
        if self._landing is Landing.UNCOMMITTED:
            raise PublishLost(self._landing.value)

    def close(self) -> None:
        self._publisher.close()


class PublishingWorld(World):
    """Shards that publish, and readers of what they published: each oracle is where its shard's readers were told."""

    def __init__(
        self,
        history: History,
        shards: int,
        settings: FoldSettings,
        open_views: OpenViews,
        make_store: Callable[[Identity], ShardStore] = memory_store,
        seed: int = 0,
    ) -> None:
        super().__init__(history, shards, settings, make_store)
        self._open_views = open_views
        self._publishers: list[Publisher] = []
        self.source = random.Random(seed)
        self.next_landing: Callable[[], Landing] = lambda: Landing.WHOLE
        self.late: list[Late] = []
        self.published = [0] * shards
        """Up to which position something of each shard may have been published."""
        opened = [open_views(shard) for shard in range(shards)]
        self.views = [one.views for one in opened]
        for shard, one in enumerate(opened):
            self._start(shard, one.publisher)

    def restart(self, shard: int, settings: FoldSettings | None = None) -> None:
        self.settings = settings or self.settings
        self._start(shard, self._open_views(shard).publisher)

    def _start(self, shard: int, publisher: Publisher) -> None:
        self._publishers.append(publisher)
        interrupted = InterruptedPublisher(publisher, shard, self)
        self.shards[shard] = Shard(self.log, self.stores[shard], self.settings, [interrupted])

    def serves(self, shard: int, user: int) -> bool:
        return shard_of(user, len(self.shards)) == shard

    def published_up_to(self, shard: int, checkpoint: Checkpoint) -> None:
        self.published[shard] = max(self.published[shard], checkpoint.position)

    def step(self, shard: int, batch_events: int) -> int:
        try:
            return self.shards[shard].step(batch_events)
        finally:
            self._follow(shard)

    def _follow(self, shard: int) -> None:
        oracle = self.oracles[shard]
        for record in self.records[oracle.position : self.views[shard].checkpoint().position]:
            oracle.apply(record)

    def try_step(self, shard: int, batch_events: int, landing: Landing = Landing.WHOLE) -> None:
        """A step, and what a worker does after a failed one: open the shard anew, and go on from what is committed."""
        self.next_landing = lambda: landing
        try:
            self.step(shard, batch_events)
        except (PublishLost, CommitLost, Superseded):
            self.restart(shard)
        finally:
            self.next_landing = lambda: Landing.WHOLE

    def thaw(self, index: int) -> None:
        """A frozen incarnation goes on, and publishes what it was about to; a store that can tell refuses it."""
        late = self.late[index % len(self.late)]
        self.published_up_to(late.shard, late.checkpoint)
        with suppress(StoreError):
            late.publisher.publish(late.effects, late.expected, late.checkpoint)
            late.publisher.reached(late.checkpoint)
        self._follow(late.shard)

    def settle(self, batch_events: int = 1000) -> None:
        """The faults end, and everybody arrives."""
        for shard in range(len(self.shards)):
            self.restart(shard)
        self.catch_up(batch_events)

    def close(self) -> None:
        for publisher in self._publishers:
            publisher.close()
        super().close()

    @cached_property
    def past(self) -> list[Moment]:
        """The world after each record."""
        return moments(self.records)


class Span:
    """From what readers of each shard were told to what it published last: the moments of which they may see rows."""

    def __init__(self, world: PublishingWorld, told: Sequence[int]) -> None:
        self.shards = len(told)
        self._of = [world.past[first : last + 1] for first, last in zip(told, world.published, strict=True)]
        self._all = world.past[min(told) : max(world.published) + 1]

    def of(self, user: int) -> list[Moment]:
        return self._of[shard_of(user, self.shards)]

    @property
    def readers(self) -> list[int]:
        """Who is live all the while."""
        return sorted(set[int].intersection(*(set(moment.following) for moment in self._all)))

    def must_be_in_feed(self, user: int) -> set[int]:
        """The posts that stood all the while, by authors who were followed and not muted all the while."""
        return self._posts_by(set[int].intersection(*(moment.authors(user) for moment in self.of(user))), all)

    def may_be_in_feed(self, user: int) -> set[int]:
        """The posts that stood at some time, by authors who were followed at some time and not muted at some time."""
        own = self.of(user)
        followed = set[int].union(*(moment.following[user] for moment in own))
        return self._posts_by(followed - set[int].intersection(*(moment.mutes[user] for moment in own)), any)

    def _posts_by(self, authors: set[int], how: Callable[[Iterable[bool]], bool]) -> set[int]:
        posts = {post: author for moment in self._all for post, author in moment.posts.items() if author in authors}
        return {post for post, author in posts.items() if how(post in moment.posts for moment in self.of(author))}

    def must_be_told(self, user: int, what: str) -> set[Row]:
        """What the user did, or received, that stood all the while and that nothing hid at any time."""
        hidden = set[int].union(*(moment.hidden(user) for moment in self._all)) if what == "received" else ()
        rows = set.intersection(*(getattr(moment, what)[user] for moment in self._all))
        return {row for row in rows if row[2] not in hidden}

    def may_be_told(self, user: int, what: str) -> set[Row]:
        """What stood at some time, and what each thing that hides it left alone at some time."""
        hidden = set[int]()
        if what == "received":
            for kind in ("mutes", "blocks", "blocked_by"):
                hidden |= set.intersection(*(getattr(moment, kind)[user] for moment in self._all))
        rows = set.union(*(getattr(moment, what)[user] for moment in self._all))
        return {row for row in rows if row[2] not in hidden}


def check_readers(world: PublishingWorld, limits: Sequence[int] = (1, 3)) -> None:
    """The theorem while shards publish: nothing above P, nothing missing that stood all the while, no wrong row."""
    for user in Span(world, told(world)).readers:
        for limit in limits:
            _walk_down(world, user, limit)
            _walk_up(world, user, limit)
        _check_told(world, user)


def told(world: PublishingWorld) -> list[int]:
    return [views.checkpoint().position for views in world.views]


def _walk_down(world: PublishingWorld, user: int, limit: int) -> None:
    below, going_on = ID_MASK + 1, True
    while going_on:
        before = told(world)
        with Reading(world.views) as reading:
            page = home_feed.page(reading, user, below=below, limit=limit)
            position = reading.position
        posts, span = [entry.post for entry in page], Span(world, before)
        going_on = len(posts) == limit
        lowest = posts[-1] if going_on else 1
        _check_page(span, user, posts, position, range(lowest, below))
        below = lowest


def _walk_up(world: PublishingWorld, user: int, limit: int) -> None:
    above, going_on = 0, True
    while going_on:
        before = told(world)
        with Reading(world.views) as reading:
            page = home_feed.page_upwards(reading, user, above=above, limit=limit)
            position = reading.position
        posts, span = [entry.post for entry in page], Span(world, before)
        going_on = len(posts) == limit
        highest = posts[0] if going_on else position
        _check_page(span, user, posts, position, range(above + 1, highest + 1))
        above = highest


def _check_page(span: Span, user: int, posts: list[int], position: int, covered: range) -> None:
    if user not in span.readers:
        return  # they were deleted while they read
    what = f"feed of {user} at {position}, ids {covered}: {posts}"
    assert posts == sorted({*posts}, reverse=True), what
    assert all(post <= position and post in covered for post in posts), what
    missing = {post for post in span.must_be_in_feed(user) if post <= position and post in covered} - {*posts}
    wrong = {*posts} - span.may_be_in_feed(user)
    assert not missing, f"{what}, without {missing}"
    assert not wrong, f"{what}, with {wrong}"


def _check_told(world: PublishingWorld, user: int) -> None:
    before = told(world)
    with Reading(world.views) as reading:
        done = {(a.position, a.kind, a.object, a.owner) for a in activity.done_by(reading, user, limit=ALL)}
        _check_rows(Span(world, before), user, "done", done, reading.position)
    before = told(world)
    with Reading(world.views) as reading:
        received = {(a.position, a.kind, a.actor, a.object) for a in activity.received_by(reading, user, limit=ALL)}
        _check_rows(Span(world, before), user, "received", received, reading.position)


def _check_rows(span: Span, user: int, what: str, rows: set[Row], position: int) -> None:
    if user not in span.readers:
        return
    missing = {row for row in span.must_be_told(user, what) if row[0] <= position} - rows
    wrong = {row for row in rows if row[0] > position} | (rows - span.may_be_told(user, what))
    assert not missing, f"{what} by {user} at {position}: {rows}, without {missing}"
    assert not wrong, f"{what} by {user} at {position}: {rows}, with {wrong}"
