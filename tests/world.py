"""A small Darkroom in one process, with an oracle beside each shard, and the claim that the two agree."""

from collections.abc import Callable, Sequence

from histories import KEYS, NAMES, recorded
from oracle import Oracle

from darkroom.actors.shard import Shard
from darkroom.events.facts import Event
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.projections import activity, engagement, home_feed, people, social_graph, timelines
from darkroom.projections.feed_cache import FeedCache
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, ShardStore
from darkroom.projections.store_views import StoreViews
from darkroom.projections.stores.lmdb import FORMAT
from darkroom.projections.stores.memory import MemoryShardStore
from darkroom.projections.views import ShardViews

ALL = 1_000_000


def memory_store(identity: Identity) -> ShardStore:
    return MemoryShardStore(identity)


class World:
    """Shards over one log in memory. Each shard has an oracle that is at the same position."""

    def __init__(
        self,
        history: Sequence[tuple[int, Event]],
        shards: int,
        settings: FoldSettings,
        make_store: Callable[[Identity], ShardStore] = memory_store,
        cache: FeedCache | None = None,
    ) -> None:
        self.log = MemoryEventLog()
        self.records = recorded(history)
        self.log.append([event for _, event in history], [time_ms for time_ms, _ in history])
        self.stores = [make_store(Identity(FORMAT, 1, shard, shards)) for shard in range(shards)]
        self.views: list[ShardViews] = [StoreViews(store) for store in self.stores]
        self.settings = settings
        self.shards = [Shard(self.log, store, settings) for store in self.stores]
        self.oracles = [Oracle() for _ in range(shards)]
        self.cache = cache

    def step(self, shard: int, batch_events: int) -> int:
        folded = self.shards[shard].step(batch_events)
        oracle = self.oracles[shard]
        for record in self.records[oracle.position : self.shards[shard].position]:
            oracle.apply(record)
        return folded

    def restart(self, shard: int, settings: FoldSettings | None = None) -> None:
        """A new incarnation, which knows only what was committed."""
        self.settings = settings or self.settings
        self.shards[shard] = Shard(self.log, self.stores[shard], self.settings)

    def catch_up(self, batch_events: int = 1000) -> None:
        for shard in range(len(self.shards)):
            while self.step(shard, batch_events):
                pass

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def knower(self, user: int) -> Oracle:
        """The oracle beside the user's shard."""
        return self.oracles[shard_of(user, len(self.shards))]

    def people(self) -> list[int]:
        """Everybody who ever registered, as far as any shard has read."""
        return sorted({user for oracle in self.oracles for user in oracle.users})


def check_feeds(world: World, limits: Sequence[int] = (1, 3, 20)) -> None:
    """The theorem: every page, by every cursor, is what the rules allow at the position it is served at."""
    for user in world.people():
        if not world.knower(user).live(user):
            continue
        for limit in limits:
            _check_walk_down(world, user, limit)
            _check_walk_up(world, user, limit)


def _expected(world: World, user: int, position: int) -> list[int]:
    """The whole feed: edges as the reader's shard knows them, each author's posts as the author's shard does."""
    knower = world.knower(user)
    authors = ({*knower.following(user)} | {user}) - {*knower.mutes(user)}
    posts = [post for author in authors for post in world.knower(author).timeline(author) if post <= position]
    return sorted(posts, reverse=True)


def _check_walk_down(world: World, user: int, limit: int) -> None:
    below = 1 << 48
    for _ in range(ALL):
        with Reading(world.views) as reading:
            page = home_feed.page(reading, user, below=below, limit=limit, cache=world.cache)
            posts = [entry.post for entry in page]
            expected = [post for post in _expected(world, user, reading.position) if post < below][:limit]
            assert posts == expected, f"feed of {user} below {below}, {limit} a page, at {reading.position}"
            assert min(store.checkpoint().position for store in world.stores) <= reading.position
            for entry in page:
                assert entry.author == world.knower(entry.author).posts[entry.post].author
        if len(posts) < limit:
            return
        below = posts[-1]


def _check_walk_up(world: World, user: int, limit: int) -> None:
    above = 0
    for _ in range(ALL):
        with Reading(world.views) as reading:
            posts = [entry.post for entry in home_feed.page_upwards(reading, user, above=above, limit=limit)]
            newer = [post for post in _expected(world, user, reading.position) if post > above]
            assert posts == newer[::-1][:limit][::-1], f"feed of {user} above {above}, {limit} a page"
            newest = [entry.post for entry in home_feed.page(reading, user, above=above, limit=limit)]
            newer = [post for post in _expected(world, user, reading.position) if post > above]
            assert newest == newer[:limit], f"feed of {user} since {above}, {limit} a page"
        if len(posts) < limit:
            return
        above = posts[0]


def check_everything(world: World) -> None:
    """With all shards at one position, every query answers as the oracle does."""
    oracle = world.oracles[0]
    assert all(other.position == oracle.position == len(world.records) for other in world.oracles)
    check_feeds(world, limits=(2, 7))
    with Reading(world.views) as reading:
        for user in range(-1, len(world.records) + 2):
            check_user(reading, oracle, user)
        for user in world.people():
            for other in world.people():
                check_pair(reading, oracle, user, other)
            for key in KEYS:
                assert timelines.post_of_key(reading, user, key) == oracle.post_by_key(user, key)
        for post in range(-1, len(world.records) + 2):
            check_post(reading, oracle, post)
        for name in (*NAMES, "", "nobody"):
            assert people.holder_of_name(reading, name) == oracle.user_named(name), name


def check_user(reading: Reading, oracle: Oracle, user: int) -> None:
    live = oracle.live(user)
    assert people.is_live(reading, user) == live
    profile = people.profiles(reading, [user] if user >= 0 else []).get(user)
    assert (profile is not None) == live
    if profile is None or user < 0:
        return
    told = oracle.profile(user)
    assert told is not None
    name = oracle.username(user)
    assert (profile.username.lower() or None) == (name.lower() if name else None)
    assert (profile.display_name, profile.bio, profile.avatar) == (told.display_name, told.bio or "", told.avatar)
    assert social_graph.followers(reading, user, limit=ALL) == oracle.followers(user)
    assert social_graph.following(reading, user, limit=ALL) == oracle.following(user)
    assert timelines.timeline(reading, user, limit=ALL) == oracle.timeline(user)
    assert timelines.timeline_upwards(reading, user, above=0, limit=ALL) == oracle.timeline(user)[::-1]
    counters = engagement.user_counters(reading.of(user), user)
    assert (counters.followers, counters.following, counters.posts) == oracle.counters_user(user)
    done = [(row.position, row.kind, row.object, row.owner) for row in activity.done_by(reading, user, limit=ALL)]
    assert done == [tuple(row) for row in oracle.did(user)]
    received = activity.received_by(reading, user, limit=ALL)
    assert [(r.position, r.kind, r.actor, r.object) for r in received] == [tuple(r) for r in oracle.received(user)]
    for limit in (1, 2):
        assert activity.received_by(reading, user, limit=limit) == received[:limit]
        assert len(activity.done_by(reading, user, limit=limit)) == min(limit, len(done))


def check_pair(reading: Reading, oracle: Oracle, user: int, other: int) -> None:
    commented = oracle.commented(user, other)
    assert engagement.commented_posts(reading, user, other) == commented
    for post in commented:
        older = [one for one in commented if one < post]
        assert engagement.commented_posts(reading, user, other, below=post, limit=1) == older[:1]
    if user == other or not oracle.live(user) or not oracle.live(other):
        return
    told = social_graph.relationship(reading, user, other)
    assert {name: getattr(told, name) for name in oracle.relationship(user, other)} == oracle.relationship(user, other)


def check_post(reading: Reading, oracle: Oracle, post: int) -> None:
    row = timelines.find_post(reading, post)
    assert (row is not None) == oracle.live_post(post)
    if row is None:
        return
    author = timelines.author_of(row)
    assert author == oracle.posts[post].author
    shard = reading.of(author)
    counters = engagement.post_counters(shard, post)
    assert (counters.likes, counters.comments) == oracle.counters_post(post)
    assert engagement.likers(shard, post, limit=ALL) == oracle.likers(post)
    assert engagement.comments(shard, post, limit=ALL) == oracle.comments(post)
    assert [entry.comment for entry in engagement.thread(shard, post)] == oracle.thread(post)
    for user in oracle.users:
        assert (post in engagement.engagement_of_posts(shard, [post], user)[1]) == (user in oracle.likers(post))
        for key in KEYS:
            assert engagement.comment_of_key(reading, user, post, author, key) == oracle.comment_by_key(user, post, key)
