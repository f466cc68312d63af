"""Digests of what is served, by projection and range of users: what serves alike has the same ones, however it is kept.

A digest of some rows is how many they are and the sum of their hashes, so neither their order, nor how they lie in a
store, nor how many shards there are, matters. Home feeds and activities are digested as they are served, for how they
are kept depends on thresholds, limits and shards; everything else row by row. All of it is of one position.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from darkroom.projections import activity, engagement, home_feed, people, timelines
from darkroom.projections.activity import Activity
from darkroom.projections.graph import Found, Graph, Page
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK
from darkroom.projections.store import StoreError
from darkroom.projections.tables import BLOCKS, FOLLOWERS, FOLLOWING, KEYS, LIKERS, MUTES, THREADS, TIMELINES
from darkroom.projections.views import Entry, ShardViews

GRAPH_PROJECTIONS = ("followers", "following", "timelines", "likes", "comments")
"""What the graph knows too. A post's likes and comments count as its author's."""

PROJECTIONS = (
    *("profiles", "counters"),
    *GRAPH_PROJECTIONS,
    *("follow positions", "like positions", "blocks", "mutes", "posts", "threads", "keys"),
    *("done", "received", "home feeds"),
)

PAGE = 500
USERS_AT_ONCE = 64
READING_S_MAX = 10.0
"""A reading is renewed after this long, well before the snapshots in it expire."""

_WORD = (1 << 64) - 1
_encode = msgspec.msgpack.Encoder().encode


class NotAtOnePosition(StoreError):
    """The shards are not, or no longer, at one position: only what nobody writes to meanwhile has a digest."""


class NotComparable(ValueError):
    """Two digests are of different positions, ranges or choices of feeds."""


class Scope(NamedTuple):
    """Of what a digest is: users in ranges of `range_ids` ids, the newest posts of the feeds of one user in so many."""

    position: int
    range_ids: int = 4096
    feed_posts: int = 100
    feeds_every: int = 1


class Sum(NamedTuple):
    """Rows, and the sum of their 64-bit hashes."""

    rows: int = 0
    hash: int = 0


class Difference(NamedTuple):
    projection: str
    users: range
    one: Sum
    other: Sum

    def __str__(self) -> str:
        sums = " against ".join(f"{found.rows} rows ({found.hash:016x})" for found in (self.one, self.other))
        return f"{self.projection} of users {self.users[0]} to {self.users[-1]}: {sums}"


class Digests:
    """By projection and range of users. Digests of parts are added up: any process may have made them."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._sums: dict[tuple[int, str], Sum] = {}
        self._hashes = {name: blake2b(digest_size=8, person=name.encode()) for name in PROJECTIONS}

    def add(self, projection: str, user: int, *row: object) -> None:
        """A row of the user's; numbers, texts, bytes, and records of them."""
        row_hash = self._hashes[projection].copy()
        row_hash.update(_encode((user, row)))
        self._add(user // self.scope.range_ids, projection, Sum(1, int.from_bytes(row_hash.digest(), "big")))

    def _add(self, index: int, projection: str, more: Sum) -> None:
        rows, total = self._sums.get((index, projection), Sum())
        self._sums[index, projection] = Sum(rows + more.rows, total + more.hash & _WORD)

    def merge(self, other: "Digests") -> None:
        """Add what was made of other users. NotComparable."""
        self._check_comparable(other)
        for (index, projection), found in other._sums.items():
            self._add(index, projection, found)

    def total(self, projection: str) -> Sum:
        """Of all ranges."""
        found = [one for (_, name), one in self._sums.items() if name == projection]
        return Sum(sum(one.rows for one in found), sum(one.hash for one in found) & _WORD)

    def differences(self, other: "Digests", projections: Sequence[str] = PROJECTIONS) -> list[Difference]:
        """Where the two differ in these projections, the lowest range first. NotComparable."""
        self._check_comparable(other)
        size, found = self.scope.range_ids, []
        for index in sorted({index for index, _ in self._sums | other._sums}):
            for name in projections:
                one, another = (digests._sums.get((index, name), Sum()) for digests in (self, other))
                if one != another:
                    found.append(Difference(name, range(index * size, (index + 1) * size), one, another))
        return found

    def first_difference(self, other: "Digests", projections: Sequence[str] = PROJECTIONS) -> Difference | None:
        """The first of `differences`; None where there is none."""
        return next(iter(self.differences(other, projections)), None)

    def _check_comparable(self, other: "Digests") -> None:
        if self.scope != other.scope:
            raise NotComparable(f"one is of {self.scope}, the other of {other.scope}")


def digest(
    shards: Sequence[ShardViews],
    users: range | None = None,
    *,
    range_ids: int = 4096,
    feed_posts: int = 100,
    feeds_every: int = 1,
) -> Digests:
    """What these shards serve to and of the users with these ids, all unless told. NotAtOnePosition, StoreError.

    Where two differ, `range_ids` 1 and the range that was named tell the user. Memory is that of a page of rows, and of
    a sum for each range and projection.
    """
    readings = _Readings(shards)
    with readings:
        digests = Digests(Scope(readings.position, range_ids, feed_posts, feeds_every))
        walk = _Walk(digests, readings)
        for found in _live_users(readings, users or range(readings.position + 1)):
            walk.add(found)
    readings.check()
    return digests


def digest_graph(
    open_graph: Callable[[], AbstractContextManager[Graph]], shards: Sequence[ShardViews], scope: Scope
) -> Digests:
    """What the graph says of everybody who is live in these shards, to be compared in GRAPH_PROJECTIONS."""
    digests, readings = Digests(scope), _Readings(shards)
    with readings:
        for found in _live_users(readings, range(scope.position + 1)):
            with open_graph() as graph:
                for user in found:
                    _add_from_graph(digests, graph, user)
    return digests


# Reading


class _Readings:
    """One reading after another, each of the same position; renewed so that none is held for too long."""

    def __init__(self, shards: Sequence[ShardViews]) -> None:
        self._shards = shards
        self.position = shards[0].checkpoint().position
        self._reading = Reading(shards)
        self._until = 0.0

    def __enter__(self) -> None:
        """Nothing is held yet."""

    def __exit__(self, *exception: object) -> None:
        self._reading.__exit__(*exception)

    def now(self) -> Reading:
        """To be asked for anew for every page of rows."""
        if time.monotonic() > self._until:
            self._reading.__exit__()
            self.check()
            self._reading, self._until = Reading(self._shards), time.monotonic() + READING_S_MAX
        return self._reading

    def check(self) -> None:
        found = [shard.checkpoint().position for shard in self._shards]
        if {*found} != {self.position}:
            raise NotAtOnePosition(f"shards are at positions {found}, not all at {self.position}")


def _live_users(readings: _Readings, ids: range) -> Iterator[list[int]]:
    """Users with these ids who are live, a few at a time."""
    for start in range(ids.start, ids.stop, 4096):
        live: list[int] = []
        for view, members in readings.now().grouped(range(start, min(start + 4096, ids.stop))):
            live += [user for user, lives in zip(members, view.live(members), strict=True) if lives]
        live.sort()
        for first in range(0, len(live), USERS_AT_ONCE):
            yield live[first : first + USERS_AT_ONCE]


class _Walk:
    """Everything of some users, page by page."""

    def __init__(self, digests: Digests, readings: _Readings) -> None:
        self._add = digests.add
        self._scope = digests.scope
        self._readings = readings

    def add(self, users: list[int]) -> None:
        reading = self._readings.now()
        for user, profile in people.profiles(reading, users).items():
            self._add("profiles", user, profile)
        counters: dict[int, engagement.UserCounters] = {}
        for view, members in reading.grouped(users):
            counters |= engagement.counters_of_users(view, members)
        for user, counted in counters.items():
            self._add("counters", user, counted)
            self._add_edges(user, counted)
            if counted.posts:
                self._add_posts(user)
            self._add_activities("done", user, activity.done_by)
            self._add_activities("received", user, activity.received_by)
            if _hash_of(user) % self._scope.feeds_every == 0:
                self._add_feed(user)

    def _entries(self, table: str, user: int, owner: int) -> Iterator[list[Entry]]:
        """All of an owner's entries in the user's shard, a page at a time."""
        above = 0
        entries: list[Entry] = [()] * PAGE
        while len(entries) == PAGE:
            entries = self._readings.now().of(user).oldest(table, owner, above=above, limit=PAGE)
            yield entries
            above = entries[-1][0] if entries else 0

    def _add_entries(self, projection: str, table: str, user: int, *owner: int, positions: str | None = None) -> None:
        for entries in self._entries(table, user, *owner or (user,)):
            for key, *words in entries:
                self._add(projection, user, *owner, key)
                if positions is not None:
                    self._add(positions, user, *owner, key, *words)

    def _add_edges(self, user: int, counters: engagement.UserCounters) -> None:
        if counters.followers:
            self._add_entries("followers", FOLLOWERS, user)
        if counters.following:
            self._add_entries("following", FOLLOWING, user, positions="follow positions")
        self._add_entries("blocks", BLOCKS, user)
        self._add_entries("mutes", MUTES, user)

    def _add_posts(self, user: int) -> None:
        for entries in self._entries(TIMELINES, user, user):
            posts = [post for (post,) in entries]
            view = self._readings.now().of(user)
            counters, keys = engagement.counters_of_posts(view, posts), []
            for post, row in timelines.rows(view, posts).items():
                self._add("posts", user, post, row)
                event = timelines.decode_row(row)[1]
                keys += [] if event.key is None else [timelines.post_key(user, event.key)]
            self._add_keys(user, keys)
            for post in posts:
                self._add("timelines", user, post)
                self._add("counters", user, post, counters[post])
                if counters[post].likes:
                    self._add_entries("likes", LIKERS, user, post, positions="like positions")
                if counters[post].comments:
                    self._add_comments(user, post)

    def _add_comments(self, user: int, post: int) -> None:
        """Live comments; and threads page by page, where a tombstone stands once for each page that needs it."""
        for entries in self._entries(THREADS, user, post):
            for comment, _ in entries:
                self._add("comments", user, post, comment)
            if entries:
                view, keys = self._readings.now().of(user), []
                for told in engagement.thread(view, post, after=entries[0][0] - 1, limit=len(entries)):
                    self._add("threads", user, post, told.comment, told.row)
                    if told.event is not None and told.event.key is not None:
                        keys.append(engagement.comment_key(told.row.user, post, told.event.key))
                self._add_keys(user, keys)

    def _add_keys(self, user: int, keys: list[bytes]) -> None:
        if keys:
            for key, value in zip(keys, self._readings.now().of(user).rows(KEYS, keys), strict=True):
                if value is not None:
                    self._add("keys", user, key, value)

    def _add_activities(self, projection: str, user: int, read: Callable[..., list[Activity]]) -> None:
        below, found = ID_MASK, [Activity(0, "", 0, 0, 0)] * PAGE
        while len(found) == PAGE:
            found = read(self._readings.now(), user, below=below, limit=PAGE)
            for row in found:
                self._add(projection, user, row)
            below = found[-1].position if found else 0

    def _add_feed(self, user: int) -> None:
        for entry in home_feed.page(self._readings.now(), user, limit=self._scope.feed_posts):
            self._add("home feeds", user, entry.post, entry.author)


def _hash_of(user: int) -> int:
    return int.from_bytes(blake2b(b"%d" % user, digest_size=8).digest(), "big")


# The graph


def _add_from_graph(digests: Digests, graph: Graph, user: int) -> None:
    for projection, ask in (("followers", graph.followers), ("following", graph.following)):
        for other in _all(digests, ask, user):
            digests.add(projection, user, other)
    for post in _all(digests, graph.posts, user):
        digests.add("timelines", user, post)
        for projection, ask_of in (("likes", graph.likers), ("comments", graph.comments)):
            for found in _all(digests, ask_of, post, user):
                digests.add(projection, user, post, found)


def _all(digests: Digests, ask: Callable[..., Found], *whom: int) -> Iterator[int]:
    """Page after page, each answered at the position that is digested."""
    above, ids = 0, [0] * PAGE
    while len(ids) == PAGE:
        position, ids = ask(*whom, Page(PAGE, above))
        if position != digests.scope.position:
            raise NotAtOnePosition(f"the graph answers at position {position}, not at {digests.scope.position}")
        yield from ids
        above = ids[-1] if ids else 0
