"""What Neo4j alone has to prove: shards apart from each other, crashes before the commit, lost data, bad settings."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from graph_world import (
    EVERYTHING,
    SHARDS,
    Crashed,
    GraphWorld,
    check_graph,
    check_stored,
    emptied,
    named_users,
    neo4j_address,
    oracle_at,
    own_generation,
    stored_edges,
    stored_nodes,
)
from histories import START_MS, History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.services import Address

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
from darkroom.projections.effects import ViewsLost
from darkroom.projections.graph_adapters.neo4j_connection import (
    Neo4j,
    Neo4jAddress,
    Work,
)
from darkroom.projections.graph_adapters.neo4j_schema import (
    drop_generation,
)
from darkroom.projections.routing import shard_of
from darkroom.projections.store import Superseded

pytestmark = pytest.mark.services

T = TypeVar("T")
SLOWLY = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))


class DyingNeo4j(Neo4j):
    """Dies at the so manieth transaction that writes: before it is carried out, or after."""

    def __init__(self, address: Neo4jAddress) -> None:
        super().__init__(address)
        self.writes_left = 0
        self.after = False

    def write(self, work: Work[T]) -> T:
        self.writes_left -= 1
        if self.writes_left != 0:
            return super().write(work)
        if self.after:
            super().write(work)
        raise Crashed


@pytest.fixture(scope="module")
def dying(where: Address) -> Iterator[DyingNeo4j]:
    connection = DyingNeo4j(neo4j_address(where))
    yield connection
    connection.close()


# What is published


def test_what_is_published_is_what_the_records_call_for(neo4j: Neo4j, generation: int) -> None:
    world = GraphWorld(seeded_history(1, 400, users=8), SHARDS, neo4j, generation)
    world.catch_up(37)
    check_stored(world)
    check_graph(world, world.graph())
    assert named_users(neo4j, generation) == world.oracles[0].names


Turns = list[tuple[int, int, bool]]
"""(shard, batch, whether it crashes between publishing and commit)."""

turns = st.lists(st.tuples(st.integers(0, SHARDS - 1), st.integers(1, 25), st.booleans()), max_size=12)


@SLOWLY
@given(history=histories(max_size=80), turns=turns)
def test_shards_apart_crashes_and_other_cuts_never_show(
    neo4j: Neo4j, kept_generation: int, history: History, turns: Turns
) -> None:
    """Another cut comes of itself: after a crash the batch is as long as the next turn says."""
    emptied(neo4j, kept_generation)
    world = GraphWorld(history, SHARDS, neo4j, kept_generation)
    for shard, batch_events, crashes in turns:
        if crashes:
            world.crash(shard, batch_events)
        else:
            world.step(shard, batch_events)
    check_graph(world, world.graph())
    check_stored(world)
    world.catch_up(11)
    check_graph(world, world.graph())
    check_stored(world)


@SLOWLY
@given(
    history=histories(max_size=60),
    deaths=st.lists(
        st.tuples(st.integers(0, SHARDS - 1), st.integers(1, 60), st.integers(1, 6), st.booleans()), max_size=5
    ),
)
def test_a_crash_between_two_transactions_of_one_batch_is_made_good(
    neo4j: Neo4j,
    dying: DyingNeo4j,
    kept_generation: int,
    history: History,
    deaths: list[tuple[int, int, int, bool]],
) -> None:
    emptied(neo4j, kept_generation)
    dying.writes_left = 0
    world = GraphWorld(history, SHARDS, dying, kept_generation, transaction_rows=3)
    for shard, batch_events, writes, after in deaths:
        dying.writes_left, dying.after = writes, after
        try:
            world.step(shard, batch_events)
        except Crashed:
            dying.writes_left = 0
            world.restart(shard)
        check_promise(world)
    dying.writes_left = 0
    world.catch_up(7)
    check_graph(world, world.graph())
    check_stored(world)


def check_promise(world: GraphWorld) -> None:
    """Nothing above the position, nothing that is gone at it, and all that stands at it and still at the end."""
    end = oracle_at(world, len(world.records))
    for user in world.people():
        found = world.graph().following(user, EVERYTHING)
        then = oracle_at(world, found.position)
        lasting = end.users[user].following.items() if end.live(user) else ()
        assert {other for other, at in lasting if at <= found.position} <= set(found.ids) <= set(then.following(user))
        posts = world.graph().posts(user, EVERYTHING).ids
        assert {post for post in end.timeline(user) if post <= found.position} <= set(posts)
        assert set(posts) <= set(then.timeline(user))


@pytest.mark.parametrize("writes", range(1, 5))
def test_what_is_written_before_the_checkpoint_moves_is_not_shown(neo4j: Neo4j, dying: DyingNeo4j, writes: int) -> None:
    """The batch is five rows in as many transactions, the last of which is never made."""
    one, other, old, new = 1, 2, 3, 4
    events = [
        *_users(2),
        PostPublished(author=one, caption=personal("")),
        PostPublished(author=one, caption=personal("")),
        UserFollowed(follower=other, followee=one),
        PostLiked(user=other, post=old, author=one),
        CommentAdded(user=other, post=old, author=one, text=personal("hi"), mentions=()),
        PostLiked(user=other, post=new, author=one),
    ]
    dying.writes_left = 0
    with own_generation(neo4j, 1) as alone:
        world = GraphWorld([(START_MS, event) for event in events], 1, dying, alone, transaction_rows=1)
        world.step(0, old)
        dying.writes_left, dying.after = writes, True
        with pytest.raises(Crashed):
            world.step(0, len(events))
        graph = world.graph()
        for found in (graph.followers(one, EVERYTHING), graph.following(other, EVERYTHING)):
            assert found == (old, [])
        assert graph.posts(one, EVERYTHING) == (old, [old])
        assert graph.posts_commented_on(one, other, EVERYTHING) == (old, [])
        assert graph.likers(old, one, EVERYTHING) == graph.comments(old, one, EVERYTHING) == (old, [])
        dying.writes_left = 0
        world.restart(0)
        world.catch_up()
        check_graph(world, world.graph())
        check_stored(world)


def test_any_interleaving_of_the_shards_ends_in_the_same_graph(neo4j: Neo4j, generation: int) -> None:
    history = seeded_history(11, 150)
    graphs = []
    for seed in range(4):
        emptied(neo4j, generation)
        world = GraphWorld(history, SHARDS, neo4j, generation)
        chance = random.Random(seed)
        for _ in range(30):
            world.step(chance.randrange(SHARDS), chance.randint(1, 20))
        world.catch_up()
        graphs.append(stored_edges(neo4j, generation))
    assert graphs[0]
    assert all(graph == graphs[0] for graph in graphs)


def _users(count: int) -> list[Event]:
    return [UserRegistered(username=personal(f"u{user}"), display_name=personal("")) for user in range(1, count + 1)]


def test_a_user_deleted_in_one_shard_keeps_the_follows_that_another_has_yet_to_undo(
    neo4j: Neo4j, generation: int
) -> None:
    one = 1
    follower = next(user for user in range(2, 10) if shard_of(user, SHARDS) != shard_of(one, SHARDS))
    events = [*_users(9), UserFollowed(follower=follower, followee=one), UserDeleted(user=one)]
    world = GraphWorld([(START_MS, event) for event in events], SHARDS, neo4j, generation)
    for shard in range(SHARDS):
        world.step(shard, 10)
    world.step(shard_of(one, SHARDS), 1)
    assert ("FOLLOWS", follower, one, 10) in stored_edges(neo4j, generation)
    assert world.graph().following(follower, EVERYTHING) == (10, [one])
    assert world.graph().followers(one, EVERYTHING) == (10, []), "whose shard knows that they are gone"
    world.catch_up()
    check_stored(world)


def test_a_user_is_registered_until_their_own_shard_knows_otherwise(neo4j: Neo4j, generation: int) -> None:
    """All shards are told that a user is gone, and those that are ahead must not say so for that one."""
    events = [*_users(1), UserDeleted(user=1)]
    world = GraphWorld([(START_MS, event) for event in events], SHARDS, neo4j, generation)
    own = shard_of(1, SHARDS)
    world.step(own, 1)
    world.step((own + 1) % SHARDS, 2)
    check_stored(world)
    assert ("User", 1) in stored_nodes(neo4j, generation)
    world.catch_up()
    assert stored_nodes(neo4j, generation) == set()


def test_shards_at_once_end_in_the_same_graph(neo4j: Neo4j, generation: int) -> None:
    """Everybody follows everybody, in orders of their own, so that all shards write at the same end points."""
    users = range(1, 41)
    pairs = [(one, other) for one in users for other in users if one != other]
    random.Random(5).shuffle(pairs)
    events = _users(40) + [UserFollowed(follower=one, followee=other) for one, other in pairs]
    world = GraphWorld([(START_MS, event) for event in events], SHARDS, neo4j, generation)

    def catch_up(shard: int) -> None:
        while world.step(shard, 50):
            pass

    with ThreadPoolExecutor(SHARDS) as threads:
        list(threads.map(catch_up, range(SHARDS)))
    check_stored(world)


# Who may go on


def test_of_two_incarnations_the_one_that_is_behind_stops(neo4j: Neo4j, generation: int) -> None:
    history = seeded_history(2, 60)
    old = GraphWorld(history, SHARDS, neo4j, generation)
    new = GraphWorld(history, SHARDS, neo4j, generation)
    new.step(0, 20)
    with pytest.raises(Superseded, match="expected position 0, found 20"):
        old.step(0, 30)
    new.catch_up()
    check_stored(new)


class RepeatingNeo4j(Neo4j):
    """Writes everything twice, as the driver does where the connection broke before a commit was answered."""

    def write(self, work: Work[T]) -> T:
        super().write(work)
        return super().write(work)


def test_a_commit_that_was_not_answered_and_is_made_again_changes_nothing(where: Address, generation: int) -> None:
    neo4j = RepeatingNeo4j(neo4j_address(where))
    world = GraphWorld(seeded_history(2, 60), SHARDS, neo4j, generation, transaction_rows=4)
    world.catch_up(20)
    check_stored(world)
    neo4j.close()


def _lose(neo4j: Neo4j, generation: int) -> None:
    drop_generation(neo4j, generation)


def _fall_back(neo4j: Neo4j, generation: int) -> None:
    neo4j.run(f"MATCH (c:darkroom_G{generation}:Checkpoint) SET c.position = 1")


def _lose_a_checkpoint(neo4j: Neo4j, generation: int) -> None:
    neo4j.run(f"MATCH (c:darkroom_G{generation}:Checkpoint {{shard: 0}}) DELETE c")


@pytest.mark.parametrize("lose", [_lose, _fall_back, _lose_a_checkpoint])
def test_lost_data_is_refused_and_a_rebuild_makes_it_again(neo4j: Neo4j, lose: Callable[[Neo4j, int], None]) -> None:
    history = seeded_history(4, 120)
    with own_generation(neo4j, SHARDS) as generation, own_generation(neo4j, SHARDS) as rebuilt:
        world = GraphWorld(history, SHARDS, neo4j, generation)
        for shard in range(SHARDS):
            world.step(shard, 60)
        lose(neo4j, generation)
        with pytest.raises(ViewsLost):
            world.step(0, 60)
        with pytest.raises(ViewsLost):
            world.restart(0)
        if lose is not _fall_back:
            with pytest.raises(ViewsLost):
                world.graph().followers(1, EVERYTHING)
        again = GraphWorld(history, SHARDS, neo4j, rebuilt)
        again.catch_up()
        check_stored(again)
