"""A batch's effects are functions of the log alone: however it was cut, repeated, shuffled or published in part, where
the later position wins the same rows are left. And a read during which they change shows nothing that never was.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import pytest
from histories import HOUR_MS, START_MS, History, histories, seeded_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publishing import Landing, Published, PublishingWorld, check_readers
from world import World, check_everything

from darkroom.actors.shard import Shard
from darkroom.events.facts import (
    Event,
    FeedViewed,
    PostLiked,
    PostPublished,
    PostUnliked,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserRegistered,
    personal,
)
from darkroom.projections import effects, feed_rows, pages
from darkroom.projections.effects import BUCKET_BITS, COUNTED_TABLES, Change, Effects
from darkroom.projections.feed_rows import newest_id, read_head
from darkroom.projections.shard_state import HORIZON_KEY, FoldSettings
from darkroom.projections.store import Checkpoint, StoreError
from darkroom.projections.store_views import SnapshotView
from darkroom.projections.tables import (
    FOLLOWERS,
    FOLLOWING,
    LIKE,
    LIKERS,
    LIVE,
    META,
    POST,
    PROFILES,
    RECEIVED,
    TIMELINES,
)
from darkroom.projections.view_adapters.memory import MemoryViews
from darkroom.projections.views import Deed, View

thorough = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
FOLD_SETTINGS = st.builds(
    FoldSettings,
    celebrity_threshold=st.sampled_from([2, 0, 1, 4, None]),
    feed_rows=st.sampled_from([1000, 1, 3, 5, 9]),
    feed_ttl_days=st.sampled_from([None, None, 1, 2]),
)
SHARDS = st.integers(1, 3)
CUTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a handful of entries splits them."""
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", 64)
    monkeypatch.setattr(feed_rows, "SEALED_ROWS", 2)
    monkeypatch.setattr(feed_rows, "HEAD_ROWS_MAX", 4)
    monkeypatch.setattr(effects, "BUCKET_BITS", 3)


class Batch(NamedTuple):
    effects: Effects
    expected: int
    checkpoint: Checkpoint


class Gathering:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def open(self, position: int) -> None:
        """Whatever was committed."""

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        self.batches.append(Batch(effects, expected, checkpoint))

    def reached(self, checkpoint: Checkpoint) -> None:
        assert self.batches[-1].checkpoint == checkpoint

    def close(self) -> None:
        """Nothing is held."""


def gathered(
    history: History, shard: int, shards: int, fold_settings: FoldSettings, cuts: Sequence[int], restarts: bool = False
) -> list[Batch]:
    """The effects of the whole history in one of the shards, cut so, each batch perhaps by another incarnation."""
    world, publisher, turn = World(history, shards, fold_settings), Gathering(), 0
    actor = Shard(world.log, world.stores[shard], fold_settings, [publisher])
    while actor.step(cuts[turn % len(cuts)]):
        turn += 1
        if restarts:
            actor = Shard(world.log, world.stores[shard], fold_settings, [publisher])
    return publisher.batches


Rows = dict[tuple[Any, ...], Change]
"""Kind, table, owner and key → the last change."""


def changes(batches: Sequence[Batch]) -> list[tuple[tuple[Any, ...], Change]]:
    """Every change but of pages, which have no order: they are only ever added."""
    found: list[tuple[tuple[Any, ...], Change]] = []
    for batch, _, _ in batches:
        for kind in ("entries", "sizes", "rows"):
            for table, rows in getattr(batch, kind).items():
                found += [((kind, table, key), change) for key, change in rows.items()]
        found += [(("deeds", key), change) for key, change in batch.deeds.items()]
        found += [(("feed_heads", user), change) for user, change in batch.feed_heads.items()]
    return found


def merged(changes: Sequence[tuple[tuple[Any, ...], Change]]) -> Rows:
    rows: Rows = {}
    for key, new in changes:
        if key not in rows or new.position >= rows[key].position:
            rows[key] = new
    return rows


def feed_pages(batches: Sequence[Batch]) -> dict[tuple[int, int], bytes]:
    found: dict[tuple[int, int], bytes] = {}
    for batch, _, _ in batches:
        for user, word, page in batch.feed_pages:
            assert found.setdefault((user, word), page) == page, "a sealed page never changes"
    return found


# ---- functions of the log alone


@thorough
@given(histories(80), SHARDS, FOLD_SETTINGS, CUTS, CUTS, st.booleans())
def test_any_two_ways_of_cutting_a_log_end_in_the_same_rows(
    history: History, shards: int, fold_settings: FoldSettings, cuts: list[int], others: list[int], restarts: bool
) -> None:
    for shard in range(shards):
        one = gathered(history, shard, shards, fold_settings, cuts)
        other = gathered(history, shard, shards, fold_settings, others, restarts)
        rows = merged(changes(one))
        assert rows == merged(changes(other))
        check_pages(rows, feed_pages(one), feed_pages(other))


def check_pages(rows: Rows, one: dict[tuple[int, int], bytes], other: dict[tuple[int, int], bytes]) -> None:
    """Alike, but for those that rows do not answer for any more: a larger batch drops them unpublished."""
    expired = rows.get(("rows", META, HORIZON_KEY), Change(0, bytes(8)))
    for (user, word), page in (one | other).items():
        assert one.get((user, word), page) == other.get((user, word), page) == page
        head = rows["feed_heads", user].value
        if head is not None and ((user, word) in one) != ((user, word) in other):
            assert newest_id(page) <= max(read_head(head).horizon, int.from_bytes(expired.value, "big"))


@thorough
@given(histories(80), SHARDS, FOLD_SETTINGS, CUTS, CUTS, st.integers(0, 2**32))
def test_whatever_landed_of_one_way_and_in_whatever_order_another_way_ends_as_if_alone(
    history: History, shards: int, fold_settings: FoldSettings, cuts: list[int], others: list[int], seed: int
) -> None:
    source = random.Random(seed)
    shard = source.randrange(shards)
    one = changes(gathered(history, shard, shards, fold_settings, cuts))
    other = changes(gathered(history, shard, shards, fold_settings, others))
    landed = source.sample(one, source.randint(0, len(one)))
    both = [*landed, *other]
    source.shuffle(both)
    assert merged(both) == merged(other)


@thorough
@given(histories(80), SHARDS, FOLD_SETTINGS, CUTS)
def test_effects_tell_what_the_store_holds_and_lie_within_their_batch(
    history: History, shards: int, fold_settings: FoldSettings, cuts: list[int]
) -> None:
    world, publisher, turn = World(history, shards, fold_settings), Gathering(), 0
    actor = Shard(world.log, world.stores[0], fold_settings, [publisher])
    while actor.step(cuts[turn % len(cuts)]):
        turn += 1
        batch = publisher.batches[-1]
        for key, change in changes([batch]):
            assert batch.expected < change.position <= batch.checkpoint.position, key
        with world.stores[0].snapshot() as snapshot:
            view = SnapshotView(snapshot)
            check_told(batch.effects, view)
            for table, rows in batch.effects.rows.items():
                for row, change in rows.items():
                    assert snapshot.get(table, row) == change.value, (table, row)


def check_told(told: Effects, view: View) -> None:
    for table, entries in told.entries.items():
        for (owner, key), change in entries.items():
            assert view.find(table, [(owner, key)]) == [change.value], (table, owner, key)
    for table in COUNTED_TABLES:
        for (owner, bucket), size in told.sizes[table].items():
            keys = view.columns(table, owner)[0].tolist()
            assert size.value == sum(key >> effects.BUCKET_BITS == bucket for key in keys), (table, owner, bucket)
    for (user, position), change in told.deeds.items():
        found = view.deeds(user, below=position + 1, limit=1)
        assert [deed for deed in found if deed.position == position] == ([change.value] if change.value else [])
    for user, change in told.feed_heads.items():
        head = view.feed_head(user)
        assert (head.rows == b"") if change.value is None else (head == read_head(change.value)), user


# ---- by example

ANN, BOB, POST_OF_BOB = 1, 2, 3


def told(when: Sequence[Event], shards: int = 1, fold_settings: FoldSettings | None = None) -> Effects:
    """What one batch tells, of shard 0, after Ann and Bob and a post of Bob's."""
    given: list[Event] = [UserRegistered(username=personal(n), display_name=personal("")) for n in ("ann", "bob")]
    given.append(PostPublished(author=BOB, caption=personal("a caption")))
    history = [(START_MS + index, event) for index, event in enumerate([*given, *when])]
    cuts = [len(given), max(1, len(when))]
    batches = gathered(history, 0, shards, fold_settings or FoldSettings(), cuts)
    return batches[-1].effects


def test_what_a_batch_made_and_took_away_is_told_as_taken_away() -> None:
    found = told([PostLiked(user=ANN, post=3, author=BOB), PostUnliked(user=ANN, post=3, author=BOB)])
    assert found.entries[LIKERS] == {(POST_OF_BOB, ANN): Change(5, None)}
    assert found.entries[RECEIVED] == {(BOB, 4): Change(5, None)}
    assert found.deeds == {(ANN, 4): Change(5, None)}
    assert found.sizes[LIKERS] == {(POST_OF_BOB, ANN >> 3): Change(5, 0)}


def test_a_like_is_told_with_the_record_that_caused_it() -> None:
    found = told([FeedViewed(user=ANN, newest=3), PostLiked(user=ANN, post=3, author=BOB)])
    assert found.entries[LIKERS] == {(POST_OF_BOB, ANN): Change(5, (5,))}
    assert found.entries[RECEIVED] == {(BOB, 5): Change(5, (ANN, POST_OF_BOB, LIKE))}
    assert found.deeds == {(ANN, 5): Change(5, Deed(5, LIKE, POST_OF_BOB, BOB))}
    assert found.sizes[LIKERS] == {(POST_OF_BOB, ANN >> 3): Change(5, 1)}


def test_a_block_takes_away_the_follows_between_the_two() -> None:
    found = told([UserFollowed(follower=ANN, followee=BOB), UserBlocked(user=BOB, target=ANN)])
    assert found.entries[FOLLOWING] == {(ANN, BOB): Change(5, None)}
    assert found.entries[FOLLOWERS] == {(BOB, ANN): Change(5, None)}
    assert found.sizes[FOLLOWERS] == {(BOB, 0): Change(5, 0)}


def test_a_deleted_user_is_told_as_gone() -> None:
    found = told([UserDeleted(user=BOB)])
    gone = Change(4, None)
    assert found.feed_heads == {BOB: gone}
    assert found.entries[TIMELINES] == {(BOB, POST_OF_BOB): gone}
    assert found.deeds == {(BOB, POST_OF_BOB): gone}
    assert found.rows[PROFILES] == {BOB.to_bytes(8, "big"): gone}
    assert found.rows[LIVE] == {bytes(8): Change(4, bytes([1 << ANN, *bytes(511)]))}


def test_a_feed_is_told_as_of_its_newest_row() -> None:
    post = PostPublished(author=BOB, caption=personal(""))
    found = told([post, FeedViewed(user=ANN, newest=3)])
    [(user, head)] = found.feed_heads.items()
    assert (user, head.position) == (BOB, 4)
    assert [word >> 16 for word in feed_rows.words_of(read_head(head.value).rows).tolist()] == [POST_OF_BOB, 4]
    assert found.deeds == {(BOB, 4): Change(4, Deed(4, POST, 4, BOB))}


def test_records_that_change_nothing_are_told_as_nothing() -> None:
    void: list[Event] = [PostUnliked(user=ANN, post=3, author=BOB), UserFollowed(follower=ANN, followee=ANN)]
    found = told([*void, FeedViewed(user=ANN, newest=3), PostLiked(user=ANN, post=9, author=BOB)])
    assert changes([Batch(found, 0, Checkpoint())]) == []
    assert found.feed_pages == []


def test_what_has_outlived_the_feeds_time_to_live_is_told_with_the_record_that_brought_the_day() -> None:
    history: History = [(START_MS, UserRegistered(username=personal("ann"), display_name=personal("")))]
    history += [(START_MS + 30 * HOUR_MS * day, FeedViewed(user=1, newest=1)) for day in range(4)]
    rows = merged(changes(gathered(history, 0, 1, FoldSettings(feed_ttl_days=1), [2, 3])))
    horizon = rows["rows", META, HORIZON_KEY]
    assert (horizon.position, int.from_bytes(horizon.value, "big")) == (5, 3)


def test_a_bucket_of_entries_has_a_bound() -> None:
    assert BUCKET_BITS == 22


# ---- in which order a shard publishes and commits


class Said(StoreError):
    """A publisher failed, as it was told to."""


class Narrator:
    """A publisher that says what it is asked, and fails at the word that it is told."""

    def __init__(self, name: str, tale: list[str], fails_at: str = "") -> None:
        self._name = name
        self._tale = tale
        self.fails_at = fails_at

    def _say(self, what: str) -> None:
        self._tale.append(f"{self._name} {what}")
        if what.startswith(self.fails_at or "never"):
            raise Said(what)

    def open(self, position: int) -> None:
        self._say(f"open at {position}")

    def publish(self, effects: Effects, expected: int, checkpoint: Checkpoint) -> None:
        assert changes([Batch(effects, expected, checkpoint)])
        self._say(f"publish {expected} to {checkpoint.position}")

    def reached(self, checkpoint: Checkpoint) -> None:
        self._say(f"reached {checkpoint.position}")

    def close(self) -> None:
        """Nobody tells."""


HISTORY = seeded_history(2, 12)


def test_all_publish_before_readers_are_told_and_before_the_commit() -> None:
    world, tale = World(HISTORY, 1, FoldSettings()), list[str]()
    shard = Shard(world.log, world.stores[0], FoldSettings(), [Narrator("one", tale), Narrator("two", tale)])
    shard.step(12)
    assert tale == [
        *("one open at 0", "two open at 0"),
        *("one publish 0 to 12", "two publish 0 to 12", "one reached 12", "two reached 12"),
    ]


@pytest.mark.parametrize("fails_at", ["publish", "reached"])
def test_where_publishing_fails_nothing_is_committed_and_it_is_published_again(fails_at: str) -> None:
    world, tale = World(HISTORY, 1, FoldSettings()), list[str]()
    one, two = Narrator("one", tale), Narrator("two", tale, fails_at)
    with pytest.raises(Said):
        Shard(world.log, world.stores[0], FoldSettings(), [one, two]).step(12)
    assert world.stores[0].checkpoint() == Checkpoint(0, 0)
    two.fails_at = ""
    again = Shard(world.log, world.stores[0], FoldSettings(), [one, two])
    assert again.step(5) == 5
    assert tale[-4:] == ["one publish 0 to 5", "two publish 0 to 5", "one reached 5", "two reached 5"]
    assert world.stores[0].checkpoint().position == 5


# ---- reads during which everything moves


class RestlessView:
    """A view that lets the world move before each of its answers, and between those that come one by one."""

    def __init__(self, view: View, move: Callable[[], None]) -> None:
        self._view = view
        self._move = move

    def __getattr__(self, name: str) -> Any:
        answer = getattr(self._view, name)
        if not callable(answer):
            return answer

        def moved(*arguments: Any, **named: Any) -> Any:
            self._move()
            found = answer(*arguments, **named)
            return self._moving(found) if isinstance(found, Iterator) else found

        return moved

    def _moving(self, found: Iterator[bytes]) -> Iterator[bytes]:
        for page in found:
            yield page
            self._move()


class RestlessViews:
    def __init__(self, views: MemoryViews, move: Callable[[], None]) -> None:
        self._views = views
        self._move = move

    @contextmanager
    def view(self) -> Iterator[View]:
        with self._views.view() as view:
            yield cast(View, RestlessView(view, self._move))

    def checkpoint(self) -> Checkpoint:
        return self._views.checkpoint()


def read_while_it_moves(seed: int) -> int:
    """How often something moved during a read."""
    source, moves = random.Random(seed), list[Landing]()
    history, shards = seeded_history(seed, 150, users=3 + seed % 4), 1 + seed % 3
    places = [MemoryViews() for _ in range(shards)]

    def move() -> None:
        if source.random() < 0.1:
            moves.append(source.choice(list(Landing)))
            world.try_step(source.randrange(shards), source.randint(1, 12), moves[-1])

    def open_views(shard: int) -> Published:
        return Published(places[shard], RestlessViews(places[shard], move))

    fold_settings = FoldSettings([2, 0, 5, None][seed % 4], [3, 9, 1000][seed % 3], [None, 2][seed % 2])
    world = PublishingWorld(history, shards, fold_settings, open_views, seed=seed)
    while min(store.checkpoint().position for store in world.stores) < len(history):
        world.try_step(source.randrange(shards), source.randint(1, 12))
        check_readers(world, limits=(2,))
    world.views = list(places)
    world.settle()
    check_everything(world)
    return len(moves)


@pytest.mark.parametrize("seed", range(16))
def test_a_read_during_which_shards_publish_misses_nothing_that_stood_and_shows_nothing_that_never_was(
    seed: int,
) -> None:
    assert read_while_it_moves(seed) > 10


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 2000))
def test_a_thousand_reads_during_which_shards_publish(seed: int) -> None:
    assert read_while_it_moves(seed) > 0
