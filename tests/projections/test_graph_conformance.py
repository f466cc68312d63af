"""What every adapter of the graph answers, whatever it is built on. A new one costs one line in ADAPTERS."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import product
from typing import Any, Protocol

import pytest
from graph_world import EVERYTHING, SETTINGS, GraphWorld, check_graph, connected, emptied, neo4j_address, own_generation
from histories import START_MS, histories, recorded, seeded_history
from hypothesis import HealthCheck, given, settings
from oracle import Oracle
from world import World

from darkroom.events.facts import (
    CommentAdded,
    Event,
    PostLiked,
    PostPublished,
    UserDeleted,
    UserFollowed,
    UserRegistered,
    personal,
)
from darkroom.projections.graph import Found, Graph, Page
from darkroom.projections.graph_adapters.embedded import EmbeddedGraph
from darkroom.projections.reading import Behind, Reading
from darkroom.projections.routing import shard_of

SHARDS = 3
NOBODY = (-1, 0, 10**6, 2**48, 2**63, -(2**64))

History = Sequence[tuple[int, Event]]


class Adapter(Protocol):
    """Worlds of SHARDS shards, one at a time, and reads of their graph."""

    def world(self, history: History) -> World: ...

    def graph(self, world: World, **settings: Any) -> AbstractContextManager[Graph]: ...


class Embedded:
    def world(self, history: History) -> World:
        return World(history, SHARDS, SETTINGS)

    @contextmanager
    def graph(self, world: World, **settings: Any) -> Iterator[Graph]:
        with Reading(world.views, **settings) as reading:
            yield EmbeddedGraph(reading)


class OnNeo4j:
    def __init__(self, stack: ExitStack, request: pytest.FixtureRequest) -> None:
        where = request.getfixturevalue("service")("neo4j")
        self._neo4j = stack.enter_context(connected(neo4j_address(where)))
        self._generation = stack.enter_context(own_generation(self._neo4j, SHARDS))

    def world(self, history: History) -> World:
        emptied(self._neo4j, self._generation)
        return GraphWorld(history, SHARDS, self._neo4j, self._generation)

    @contextmanager
    def graph(self, world: World, **settings: Any) -> Iterator[Graph]:
        assert isinstance(world, GraphWorld)
        yield world.graph(**settings)


ADAPTERS: dict[str, Callable[[ExitStack, pytest.FixtureRequest], Adapter]] = {
    "embedded": lambda stack, request: Embedded(),  # noqa: ARG005
    "neo4j": OnNeo4j,
}
ON_SERVERS = {"neo4j"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.services] * (name in ON_SERVERS)) for name in ADAPTERS],
)
def adapter(request: pytest.FixtureRequest) -> Iterator[Adapter]:
    with ExitStack() as stack:
        yield ADAPTERS[request.param](stack, request)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(history=histories(max_size=80))
def test_with_all_shards_at_one_position_every_question_answers_as_the_oracle(
    adapter: Adapter, history: History
) -> None:
    world = adapter.world(history)
    world.catch_up(17)
    with adapter.graph(world) as graph:
        check_graph(world, graph)
        assert graph.lagging == set()


def test_a_long_history_too(adapter: Adapter) -> None:
    world = adapter.world(seeded_history(7, 600, users=8))
    world.catch_up(100)
    with adapter.graph(world) as graph:
        check_graph(world, graph)


@pytest.fixture
def busy(adapter: Adapter) -> tuple[World, Oracle]:
    """Seven who all follow each other, and like and comment on each other's posts."""
    users = range(1, 8)
    events: list[Event] = [UserRegistered(username=personal(f"u{user}"), display_name=personal("")) for user in users]
    events += [UserFollowed(follower=user, followee=other) for user in users for other in users]
    posts = {len(events) + place: user for place, user in enumerate([*users] * 4, 1)}
    events += [PostPublished(author=author, caption=personal("")) for author in posts.values()]
    events += [PostLiked(user=user, post=post, author=author) for post, author in posts.items() for user in users]
    events += [
        CommentAdded(user=user, post=post, author=author, text=personal("hi"), mentions=())
        for post, author in posts.items()
        for user in users
    ]
    history = [(START_MS, event) for event in events]
    oracle = Oracle()
    for record in recorded(history):
        oracle.apply(record)
    world = adapter.world(history)
    world.catch_up()
    return world, oracle


QUESTIONS: dict[str, Callable[[Graph, Oracle, int, Page], tuple[Found, list[int]]]] = {
    "followers": lambda graph, oracle, user, page: (graph.followers(user, page), oracle.followers(user)),
    "following": lambda graph, oracle, user, page: (graph.following(user, page), oracle.following(user)),
    "posts": lambda graph, oracle, user, page: (graph.posts(user, page), oracle.timeline(user)[::-1]),
    "posts commented on": lambda graph, oracle, user, page: (
        graph.posts_commented_on(user, _commenter(oracle, user), page),
        oracle.commented(user, _commenter(oracle, user))[::-1],
    ),
    "likers": lambda graph, oracle, user, page: (
        graph.likers(_post(oracle, user), user, page),
        oracle.likers(_post(oracle, user)),
    ),
    "comments": lambda graph, oracle, user, page: (
        graph.comments(_post(oracle, user), user, page),
        oracle.comments(_post(oracle, user)),
    ),
}


def _commenter(oracle: Oracle, user: int) -> int:
    return next(other for other in oracle.users if other != user)


def _post(oracle: Oracle, user: int) -> int:
    return oracle.timeline(user)[0]


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("newest_first", [False, True], ids=["upwards", "downwards"])
def test_pages_put_together_are_the_whole(
    adapter: Adapter, busy: tuple[World, Oracle], limit: int, newest_first: bool
) -> None:
    world, oracle = busy
    with adapter.graph(world) as graph:
        for user, question in product(oracle.users, QUESTIONS):
            ids: list[int] = []
            page = Page(limit, newest_first=newest_first)
            while True:
                found, expected = QUESTIONS[question](graph, oracle, user, page)
                assert found.position == len(world.records)
                ids += found.ids
                if len(found.ids) < limit:
                    break
                page = page._replace(below=ids[-1]) if newest_first else page._replace(above=ids[-1])
            assert len(ids) > 3
            assert ids == (expected[::-1] if newest_first else expected), question


def test_both_bounds_of_a_page_are_left_out(adapter: Adapter, busy: tuple[World, Oracle]) -> None:
    world, oracle = busy
    with adapter.graph(world) as graph:
        for user, question in product(oracle.users, QUESTIONS):
            _, whole = QUESTIONS[question](graph, oracle, user, EVERYTHING)
            page = Page(10**6, above=whole[0], below=whole[-1])
            assert QUESTIONS[question](graph, oracle, user, page)[0].ids == whole[1:-1], question


def test_who_is_nobody_has_nothing(adapter: Adapter, busy: tuple[World, Oracle]) -> None:
    world, oracle = busy
    somebody = min(oracle.users)
    with adapter.graph(world) as graph:
        assert graph.posts(somebody, Page(1, above=-(2**70), below=2**70)).ids == oracle.timeline(somebody)[-1:]
        for nobody in NOBODY:
            for ask in (graph.followers, graph.following, graph.posts):
                assert ask(nobody, EVERYTHING).ids == []
            assert graph.posts_commented_on(somebody, nobody, EVERYTHING).ids == []
            assert graph.posts_commented_on(nobody, somebody, EVERYTHING).ids == []
            assert graph.likers(nobody, somebody, EVERYTHING).ids == []
            assert graph.comments(nobody, somebody, EVERYTHING).ids == []


def _world_of_follows(adapter: Adapter) -> tuple[World, int, int]:
    """Twelve users; all the others follow the first of them whose shard is not 0, and that one follows all."""
    users = range(1, 13)
    one = next(user for user in users if shard_of(user, SHARDS) != 0)
    other = next(user for user in users if shard_of(user, SHARDS) == 0)
    events: list[Event] = [UserRegistered(username=personal(f"u{user}"), display_name=personal("")) for user in users]
    events += [UserFollowed(follower=user, followee=one) for user in users if user != one]
    events += [UserFollowed(follower=one, followee=user) for user in users if user != one]
    events += [PostPublished(author=one, caption=personal("")), UserDeleted(user=other)]
    events += [CommentAdded(user=one, post=35, author=one, text=personal("hi"), mentions=())]
    return adapter.world([(START_MS, event) for event in events]), one, other


def test_a_shard_that_is_behind_is_waited_for_by_those_it_concerns(adapter: Adapter) -> None:
    world, one, other = _world_of_follows(adapter)
    end = len(world.records)
    for shard in range(1, SHARDS):
        world.step(shard, end)
    world.step(0, 12)
    with adapter.graph(world, min_position=end) as graph:
        assert graph.posts(one, EVERYTHING) == (end, [35])
        for ask in (graph.followers, graph.following, graph.posts):
            with pytest.raises(Behind) as behind:
                ask(other, EVERYTHING)
            assert (behind.value.shard, behind.value.position, behind.value.wanted) == (0, 12, end)
    with adapter.graph(world) as graph:
        assert graph.posts(other, EVERYTHING) == (12, [])


def test_a_lagging_shard_is_named_and_holds_nobody_back(adapter: Adapter) -> None:
    world, one, other = _world_of_follows(adapter)
    end = len(world.records)
    for shard in range(1, SHARDS):
        world.step(shard, end)
    world.step(0, 12)
    asked: list[tuple[int, int]] = []

    def lagging(shard: int, position: int) -> bool:
        asked.append((shard, position))
        return position < end

    with adapter.graph(world, lagging=lagging) as graph:
        found = graph.followers(one, EVERYTHING)
        assert found.position == end
        assert all(user in found.ids for user in range(1, 13) if user != one and shard_of(user, SHARDS) != 0)
        assert graph.following(other, EVERYTHING) == (12, [])
        assert graph.lagging == {0}
    assert set(asked) <= {(0, 12), (1, end), (2, end)}
