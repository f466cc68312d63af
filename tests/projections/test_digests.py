"""What is served alike has equal digests, whatever keeps it; and whatever differs is named."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cassandra_generation import cassandra
from graph_world import GraphWorld, connected, neo4j_address, own_generation
from histories import START_MS, History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publishing import Landing, Published, PublishingWorld
from services.services import Services
from world import World, memory_store

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    FeedViewed,
    PostLiked,
    PostPublished,
    ProfileChanged,
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserRegistered,
    personal,
)
from darkroom.projections import digests as digesting
from darkroom.projections.digests import (
    GRAPH_PROJECTIONS,
    PROJECTIONS,
    Digests,
    NotAtOnePosition,
    NotComparable,
    Scope,
    Sum,
    digest,
    digest_graph,
)
from darkroom.projections.effects import Change
from darkroom.projections.feed_rows import read_head
from darkroom.projections.graph import Graph
from darkroom.projections.graph_adapters.embedded import EmbeddedGraph
from darkroom.projections.pages import id_key
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.store import Identity, ShardStore
from darkroom.projections.stores.lmdb import LmdbShardStore
from darkroom.projections.tables import COMMENTED, FOLLOWERS, LIKERS, LIVE, POSTS, TIMELINES
from darkroom.projections.view_adapters.memory import HEADS, SIZES, MemoryViews
from darkroom.projections.views import ShardViews

thorough = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
FOLD_SETTINGS = st.builds(
    FoldSettings,
    celebrity_threshold=st.sampled_from([None, 0, 2, 4]),
    feed_rows=st.sampled_from([1000, 1, 5]),
    feed_ttl_days=st.sampled_from([None, 1]),
)
SHARDS = st.integers(1, 4)


def published(
    history: History, shards: int, fold_settings: FoldSettings, seed: int
) -> tuple[PublishingWorld, list[MemoryViews]]:
    """Views in memory of all of the history, after batches that were interrupted and cut anew."""
    places, source = [MemoryViews() for _ in range(shards)], random.Random(seed)
    world = PublishingWorld(
        history, shards, fold_settings, lambda shard: Published(places[shard], places[shard]), seed=seed
    )
    for _ in range(6):
        world.try_step(source.randrange(shards), source.randint(1, 30), source.choice(list(Landing)))
    world.settle(source.randint(1, 40))
    return world, places


def stored(
    history: History,
    shards: int,
    fold_settings: FoldSettings,
    make_store: Callable[[Identity], ShardStore] = memory_store,
) -> World:
    world = World(history, shards, fold_settings, make_store)
    world.catch_up()
    return world


# ---- alike


@thorough
@given(histories(80), SHARDS, SHARDS, FOLD_SETTINGS, FOLD_SETTINGS, st.integers(0, 2**32))
def test_what_is_served_alike_has_equal_digests_whatever_the_shards_settings_cuts_and_stores(
    history: History, shards: int, others: int, fold_settings: FoldSettings, other_settings: FoldSettings, seed: int
) -> None:
    one = digest(stored(history, shards, fold_settings).views, range_ids=8)
    other = digest(published(history, others, other_settings, seed)[0].views, range_ids=8)
    assert one.differences(other) == []


@pytest.fixture
def lmdb_views(tmp_path: Path) -> Iterator[Callable[[History, int], Sequence[ShardViews]]]:
    worlds: list[World] = []

    def make_store(identity: Identity) -> ShardStore:
        return LmdbShardStore(tmp_path / str(identity.shard), identity)

    def make(history: History, shards: int) -> Sequence[ShardViews]:
        worlds.append(stored(history, shards, FoldSettings(3, feed_rows=20), make_store))
        return worlds[-1].views

    yield make
    for world in worlds:
        world.close()


def test_lmdb_and_published_views_have_equal_digests(
    lmdb_views: Callable[[History, int], Sequence[ShardViews]],
) -> None:
    history = seeded_history(5, 1500, users=12)
    one = digest(lmdb_views(history, 2), range_ids=64)
    world, _ = published(history, 3, FoldSettings(5, feed_rows=9), seed=5)
    other = digest(world.views, range_ids=64)
    assert one.first_difference(other) is None
    for projection in PROJECTIONS:
        assert one.total(projection).rows > 0, f"nothing of {projection} was digested"
        assert one.total(projection) == other.total(projection)


@pytest.mark.services
def test_views_on_cassandra_have_the_digests_of_the_shards_own_stores(service: Services) -> None:
    history, fold_settings = seeded_history(9, 300, users=9), FoldSettings(4, feed_rows=9)
    one = digest(stored(history, 2, fold_settings).views, range_ids=64)
    with cassandra(service) as open_views:
        world = PublishingWorld(history, 3, fold_settings, open_views)
        world.catch_up(80)
        assert digest(world.views, range_ids=64).differences(one) == []
        world.close()


@pytest.mark.services
def test_the_graph_on_neo4j_has_the_digests_of_the_shards_own_stores(service: Services) -> None:
    history = seeded_history(10, 400, users=9)
    with connected(neo4j_address(service("neo4j"))) as neo4j, own_generation(neo4j, 3) as generation:
        world = GraphWorld(history, 3, neo4j, generation)
        world.catch_up(150)
        one = digest(world.views, range_ids=64)

        @contextmanager
        def open_graph() -> Iterator[Graph]:
            yield world.graph()

        other = digest_graph(open_graph, world.views, one.scope)
        assert other.differences(one, GRAPH_PROJECTIONS) == []
        assert other.total("likes").rows > 0


def test_small_pages_and_renewed_readings_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    history = seeded_history(6, 600, users=8)
    views = stored(history, 2, FoldSettings()).views
    one = digest(views)
    monkeypatch.setattr(digesting, "READING_S_MAX", -1.0)
    monkeypatch.setattr(digesting, "USERS_AT_ONCE", 3)
    assert digest(views).differences(one) == []
    monkeypatch.setattr(digesting, "PAGE", 3)
    # A tombstone counts once a page, so threads are alike only where pages are.
    paged = [name for name in PROJECTIONS if name != "threads"]
    assert digest(views).differences(one, paged) == []


def test_digests_of_parts_add_up() -> None:
    views = stored(seeded_history(7, 300, users=9), 3, FoldSettings()).views
    whole, parts = digest(views, range_ids=16), digest(views, range(10), range_ids=16)
    for start in range(10, 301, 97):
        parts.merge(digest(views, range(start, min(start + 97, 301)), range_ids=16))
    assert parts.differences(whole) == []


def test_only_some_feeds_are_read_where_that_is_asked_for() -> None:
    views = stored([(START_MS, event) for event in [*registered(60), *posts(60)]], 1, FoldSettings()).views
    every, some = digest(views), digest(views, feeds_every=4)
    assert every.total("home feeds").rows == 60
    assert 5 <= some.total("home feeds").rows <= 30
    assert some.total("posts") == every.total("posts")


def registered(number: int) -> list[Event]:
    return [UserRegistered(username=personal(f"user{n}"), display_name=personal("")) for n in range(1, number + 1)]


def posts(authors: int) -> list[Event]:
    return [PostPublished(author=author, caption=personal("")) for author in range(1, authors + 1)]


# ---- the graph


def test_the_graph_of_the_same_log_has_equal_digests_and_another_has_not() -> None:
    history = seeded_history(8, 500, users=8)
    world = stored(history, 3, FoldSettings())
    whole = digest(world.views, range_ids=32)
    assert graph_digest(world, whole.scope).differences(whole, GRAPH_PROJECTIONS) == []
    poorer = stored([*history[:-60], *[(START_MS, FeedViewed(user=1, newest=1))] * 60], 2, FoldSettings())
    assert graph_digest(poorer, whole.scope).first_difference(whole, GRAPH_PROJECTIONS) is not None


def graph_digest(world: World, scope: Scope) -> Digests:
    @contextmanager
    def open_graph() -> Iterator[Graph]:
        with Reading(world.views) as reading:
            yield EmbeddedGraph(reading)

    return digest_graph(open_graph, world.views, scope)


def test_a_graph_at_another_position_is_not_digested() -> None:
    world = stored(seeded_history(8, 50), 2, FoldSettings())
    with pytest.raises(NotAtOnePosition, match="answers at position 50, not at 49"):
        graph_digest(world, Scope(49))


# ---- not alike: by other facts

ANN, BOB, CYN, DAN, POST, COMMENT = 1, 2, 3, 4, 5, 6
NOTHING: Event = FeedViewed(user=ANN, newest=POST)
COMMENTED_ON: Event = CommentAdded(user=CYN, post=POST, author=ANN, text=personal("hi"), key="k")
GIVEN: tuple[Event, ...] = (
    *registered(4),
    PostPublished(author=ANN, caption=personal("a boat"), key="k"),
    COMMENTED_ON,
)

CHANGES: dict[str, tuple[Event, Event, set[str]]] = {
    "a like": (
        PostLiked(user=BOB, post=POST, author=ANN),
        NOTHING,
        {"counters", "likes", "like positions", "done", "received"},
    ),
    "a follower": (
        UserFollowed(follower=CYN, followee=ANN),
        NOTHING,
        {"counters", "followers", "following", "follow positions", "done", "received", "home feeds"},
    ),
    "a block": (UserBlocked(user=DAN, target=BOB), NOTHING, {"blocks"}),
    "a mute": (UserMuted(user=DAN, target=BOB), NOTHING, {"mutes"}),
    "a byte of a caption": (
        PostPublished(author=BOB, caption=personal("a goat")),
        PostPublished(author=BOB, caption=personal("a coat")),
        {"posts"},
    ),
    "a key": (
        PostPublished(author=BOB, caption=personal(""), key="one"),
        PostPublished(author=BOB, caption=personal(""), key="two"),
        {"posts", "keys"},
    ),
    "a comment": (
        CommentAdded(user=DAN, post=POST, author=ANN, text=personal("hi")),
        NOTHING,
        {"counters", "comments", "threads", "done", "received"},
    ),
    "a byte of a comment": (
        CommentAdded(user=DAN, post=POST, author=ANN, text=personal("hi")),
        CommentAdded(user=DAN, post=POST, author=ANN, text=personal("ho")),
        {"threads"},
    ),
    "a comment deleted": (
        CommentDeleted(user=CYN, comment=COMMENT, post=POST, author=ANN),
        NOTHING,
        {"counters", "comments", "threads", "keys", "done", "received"},
    ),
    "a display name": (ProfileChanged(user=BOB, display_name=personal("Bob")), NOTHING, {"profiles"}),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("shards", [1, 3])
def test_one_other_fact_is_seen_in_just_those_projections_that_tell_of_it(what: str, shards: int) -> None:
    one, other, projections = CHANGES[what]
    found = [
        digest(stored([(START_MS, event) for event in (*GIVEN, last)], shards, FoldSettings()).views)
        for last in (one, other)
    ]
    assert {difference.projection for difference in found[0].differences(found[1])} == projections


def test_the_first_difference_names_projection_range_and_rows() -> None:
    events: list[Event] = [*registered(40), PostPublished(author=33, caption=personal(""))]
    one, other = (
        digest(stored([(START_MS, event) for event in (*events, last)], 2, FoldSettings()).views, range_ids=10)
        for last in (PostLiked(user=1, post=41, author=33), FeedViewed(user=1, newest=41))
    )
    [first, *_] = one.differences(other)
    assert (first.projection, first.users) == ("done", range(10))
    # Of users 0 to 9, number 1 liked; of 30 to 39, number 33 was liked.
    [likes] = one.differences(other, ["likes"])
    assert (likes.users, likes.one.rows, likes.other) == (range(30, 40), 1, Sum(0, 0))
    assert str(likes).startswith("likes of users 30 to 39: 1 rows (")
    assert str(likes).endswith(") against 0 rows (0000000000000000)")


# ---- not alike: by what a store lost, or kept wrongly


Spoil = Callable[[MemoryViews], None]


def takes(table: str, owner: int, key: object) -> Spoil:
    return lambda views: views.changed.merge(table, owner, key, Change(10**6, None))


def spoils_head(user: int, without: int) -> Spoil:
    """The user's feed loses a row, and says that it has all of them."""

    def spoil(views: MemoryViews) -> None:
        head = read_head(views.changed.get(HEADS, user, 0))
        words = [head.rows[at : at + 8] for at in range(0, len(head.rows), 8)]
        kept = [word for word in words if int.from_bytes(word, "little") >> 16 != without]
        assert len(kept) == len(words) - 1
        views.changed.merge(HEADS, user, 0, Change(10**6, bytes(16) + b"".join(kept)))

    return spoil


LOSSES: dict[str, tuple[Spoil, set[str]]] = {
    "a like's row": (takes(LIKERS, 9, BOB), {"likes", "like positions", "done"}),
    "a like's count": (
        lambda views: views.changed.merge(SIZES + LIKERS, 9, 0, Change(10**6, 7)),
        {"counters"},
    ),
    "a follower": (takes(FOLLOWERS, BOB, ANN), {"followers"}),
    "a post's row": (takes(POSTS, 0, id_key(9)), {"posts", "home feeds"}),
    "a post of a timeline": (takes(TIMELINES, ANN, 9), {"timelines", "posts", "likes", "like positions", "counters"}),
    "a row of a feed": (spoils_head(ANN, 8), {"home feeds"}),
    "who is live": (takes(LIVE, 0, bytes(8)), {*PROJECTIONS}),
    "what nobody asks for": (takes(COMMENTED, ANN, 10**5), set()),
}


@pytest.mark.parametrize("what", LOSSES)
def test_whatever_a_store_lost_that_matters_is_seen(what: str) -> None:
    events = [*registered(4), UserFollowed(follower=ANN, followee=BOB), *posts(2)]
    events += [PostPublished(author=BOB, caption=personal("")), PostPublished(author=ANN, caption=personal(""))]
    events.append(PostLiked(user=BOB, post=9, author=ANN))
    world, [views] = published([(START_MS, event) for event in events], 1, FoldSettings(), seed=1)
    before = digest(world.views)
    spoil, projections = LOSSES[what]
    spoil(views)
    found = {difference.projection for difference in digest(world.views).differences(before)}
    if what == "who is live":
        assert {"profiles", "posts", "likes", "home feeds"} <= found
    else:
        assert found == projections


# ---- what cannot be compared


def test_shards_at_different_positions_have_no_digest() -> None:
    world = World(seeded_history(3, 40), 2, FoldSettings())
    world.catch_up(20)
    short = World(seeded_history(3, 40), 2, FoldSettings())
    short.step(0, 40)
    short.step(1, 30)
    with pytest.raises(NotAtOnePosition, match=r"positions \[40, 30\], not all at 40"):
        digest(short.views)
    short.catch_up()
    assert digest(short.views).differences(digest(world.views)) == []


def test_shards_that_move_while_they_are_digested_are_noticed() -> None:
    world = World(seeded_history(3, 40), 1, FoldSettings())
    world.step(0, 30)

    class Moving:
        """Views whose shard goes on once a page has been read."""

        def checkpoint(self) -> object:
            return world.views[0].checkpoint()

        def view(self) -> object:
            found = world.views[0].view()
            world.step(0, 5)
            return found

    with pytest.raises(NotAtOnePosition):
        digest([Moving()])  # type: ignore[list-item]


def test_digests_of_different_things_are_not_compared() -> None:
    for other in (Scope(8), Scope(7, range_ids=16), Scope(7, feed_posts=9), Scope(7, feeds_every=2)):
        for compare in (Digests(Scope(7)).differences, Digests(Scope(7)).merge):
            with pytest.raises(NotComparable, match=r"one is of Scope\(position=7.*the other of Scope\(position="):
                compare(Digests(other))


def test_the_same_row_twice_is_not_the_same_as_none() -> None:
    one, other = Digests(Scope(1)), Digests(Scope(1))
    for _ in range(2):
        one.add("likes", 1, 2, 3)
    assert one.first_difference(other) is not None
    assert one.total("likes").rows == 2


def test_a_users_shard_does_not_matter_to_where_their_rows_are_counted() -> None:
    views = stored([(START_MS, event) for event in registered(50)], 4, FoldSettings()).views
    assert len({shard_of(user, 4) for user in range(1, 51)}) == 4
    by_user = digest(views, range_ids=1)
    assert [by_user.differences(Digests(by_user.scope), ["profiles"])[at].users for at in (0, 49)] == [
        range(1, 2),
        range(50, 51),
    ]
