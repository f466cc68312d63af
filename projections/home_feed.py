"""The home feed: the live posts of everyone followed and one's own, less the muted, newest first, without an end.

*Push.* A post by an ordinary author becomes a row in each local follower's feed (see `feed_rows`). *Pull.* Every edge
has a `since`: the later of the follow's position and the position at which the author last stopped being a celebrity in
the reader's shard; while the author is one, infinity. Rows answer for ids above `since` and above the feed's horizon;
everything else is pulled from the author's timeline. So a follow, an unfollow or a change of celebrity writes one
number and copies nothing, and a page pulls only from those edges whose `since` reaches into it.

Everyone is an edge to themselves, since their registration. What is shown is judged when it is read.
"""

from collections import defaultdict
from collections.abc import Iterator

import msgspec
import numpy as np

from darkroom.projections import feed_rows, timelines
from darkroom.projections.celebrities import INFINITY, LAST_CHANGE
from darkroom.projections.feed_cache import FeedCache, FeedKey, NoFeedCache
from darkroom.projections.pages import id_key
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK, ROUTE_BITS, Ids, routed, shard_of
from darkroom.projections.shard_state import ShardState
from darkroom.projections.tables import CELEBRITIES, FOLLOWING, MUTES, POSTS, TIMELINES
from darkroom.projections.views import FeedHead, View

EDGES, EDGES_KEPT_MAX = "edges", 512
"""What is kept for the next page of the same reader, unless it is over 8 KB."""

# Built by


def deliver(state: ShardState, author: int) -> None:
    """Push the post at hand to this shard's followers of its author, unless there are too many of them.

    An author's celebrity is decided here and now: only a post makes it matter.
    """
    recipients = state.recipients.get(author)
    if recipients is None:
        recipients = state.recipients.keep(author, _recipients(state, author))
    if len(recipients):
        state.feeds.deliver(routed(state.position, author), recipients)


def _recipients(state: ShardState, author: int) -> Ids:
    """Whose feeds get the author's posts for as long as the audience stays as it is: deciding again decides alike."""
    audience = state.audience(author)
    if _is_celebrity(state, author, len(audience)):
        return np.empty(0, dtype=np.uint64)  # a slice of the audience would keep all of it
    return np.append(audience, np.uint64(author)) if state.serves(author) else audience


def _is_celebrity(state: ShardState, author: int, followers: int) -> bool:
    """Decide, with hysteresis: from ceil(threshold / shards) followers in this shard, and back below half of that."""
    threshold = state.settings.celebrity_threshold
    limit = INFINITY if threshold is None else -(-threshold // state.shards)
    row = state.rows[CELEBRITIES].get(id_key(author))
    was = row is not None and int.from_bytes(row, "big") == INFINITY
    is_one = 2 * followers >= limit if was else followers >= limit
    if was and threshold is None:
        is_one = False
    if is_one != was:
        since = INFINITY if is_one else state.position
        state.rows[CELEBRITIES].set(id_key(author), id_key(since))
        state.rows[CELEBRITIES].set(LAST_CHANGE, id_key(state.position))
    return is_one


def forget_feed(state: ShardState, user: int) -> None:
    """The user is gone: nobody reads their feed, and nothing they post is pulled."""
    if state.serves(user):
        state.feeds.forget(user)
        if state.effects is not None:
            state.effects.feed_forgotten(user)
    if state.rows[CELEBRITIES].get(id_key(user)) is not None:
        state.rows[CELEBRITIES].delete(id_key(user))
        state.rows[CELEBRITIES].set(LAST_CHANGE, id_key(state.position))


# Read by


class FeedEntry(msgspec.Struct, frozen=True, gc=False):
    """A post of a feed; `row` is its stored row where judging it had to fetch that."""

    post: int
    author: int
    row: bytes | None = None


Pulled = dict[int, int]
"""Posts and their authors."""


class _Edges:
    """Whom the reader follows and has not muted, by id, and up to which id each must be pulled."""

    __slots__ = ("followees", "reach")

    def __init__(self, own: View, user: int, horizon: int) -> None:
        known: list[tuple[Ids, Ids] | None] = own.recall(EDGES, [user])
        self.followees, since = known[0] or _edges(own, user)
        self.reach = np.maximum(np.maximum(since, own.celebrities(self.followees)), np.uint64(horizon))

    def among(self, authors: Ids) -> list[bool]:
        """Which of the authors are followed. There is always one, oneself."""
        index = np.minimum(self.followees.searchsorted(authors), len(self.followees) - 1)
        found: list[bool] = (self.followees[index] == authors).tolist()
        return found

    def reaching_above(self, low: int, high: int) -> tuple[Ids, Ids]:
        """Those for whom rows do not answer everywhere above `low`, and below which id each must be pulled, of `high`
        and what is older."""
        chosen = np.flatnonzero(self.reach > np.uint64(low))
        return self.followees[chosen], np.minimum(self.reach[chosen], np.uint64(high)) + np.uint64(1)


def _edges(own: View, user: int) -> tuple[Ids, Ids]:
    """Whom the user follows and has not muted, by id, and since when."""
    followees, since = _with_oneself(own.columns(FOLLOWING, user), user)
    muted = own.columns(MUTES, user)[0]
    if len(muted):
        keep = ~np.isin(followees, muted)
        followees, since = followees[keep], since[keep]
    if len(followees) <= EDGES_KEPT_MAX:
        own.keep(EDGES, [(user, (followees, since))])
    return followees, since


def _with_oneself(following: Ids, user: int) -> Ids:
    """The edges in order of followee, that to oneself among them, as rows of followees and of positions."""
    index = int(np.searchsorted(following[0], np.uint64(user)))
    edges = np.empty((2, following.shape[1] + 1), dtype=np.uint64)  # np.insert does the same in ten times the time
    edges[:, :index], edges[:, index], edges[:, index + 1 :] = following[:, :index], user, following[:, index:]
    return edges


class _Feed:
    """One reader's feed within one read."""

    def __init__(self, reading: Reading, user: int, cache: FeedCache) -> None:
        self.reading = reading
        self.user = user
        self.own = reading.of(user)
        self.head = self._head(cache)
        self.edges = _Edges(self.own, user, max(self.head.horizon, self.own.expired()))

    def _head(self, cache: FeedCache) -> FeedHead:
        key = FeedKey(self.reading.generation, shard_of(self.user, self.reading.shards), self.user)
        read: list[FeedHead] = []

        def version() -> int:
            read.append(self.own.feed_head(self.user))
            return read[0].version

        found = cache.get(key, version, self.own.checkpoint.position)
        if isinstance(found, FeedHead):
            if not read:  # the cache answered without asking the view
                self.reading.asked_others()
            return found
        head = read[0] if read else self.own.feed_head(self.user)
        cache.put(key, found, head)
        return head

    def words_below(self, below: int, limit: int) -> list[int]:
        """At most `limit` pushed candidates of posts below the id, newest first."""
        return feed_rows.newest(self.own, self.user, self.head.rows, below=below, limit=limit)

    def words_above(self, above: int, limit: int) -> list[int]:
        """At most `limit` pushed candidates of posts above the id, oldest first."""
        return feed_rows.oldest(self.own, self.user, self.head.rows, above=above, limit=limit)

    def pull_below(self, low: int, below: int, limit: int) -> tuple[Pulled, int]:
        """Posts with low < id < below for which rows do not answer, and the id above which they are complete."""
        pulled: Pulled = {}
        for view, bounds in self._by_shard(*self.edges.reaching_above(low, below - 1)):
            posts, low = view.newest_among(TIMELINES, bounds, above=low, limit=limit)
            pulled.update(posts)
        return {post: author for post, author in pulled.items() if post > low}, low

    def pull_above(self, low: int, high: int, limit: int) -> tuple[Pulled, int]:
        """Posts with low < id <= high for which rows do not answer, and the id up to which they are complete."""
        pulled: Pulled = {}
        for view, bounds in self._by_shard(*self.edges.reaching_above(low, high)):
            posts, complete = view.oldest_among(TIMELINES, bounds, above=low, limit=limit)
            high = min(high, complete)
            pulled.update(posts)
        return {post: author for post, author in pulled.items() if post <= high}, high

    def _by_shard(self, followees: Ids, below: Ids) -> Iterator[tuple[View, list[tuple[int, int]]]]:
        """(followee, the id below which they are pulled) of edges as `reaching_above` gives them, by shard."""
        bounds = dict(zip(followees.tolist(), below.tolist(), strict=True))
        for view, members in self.reading.grouped(bounds):
            yield view, [(followee, bounds[followee]) for followee in members]

    def judged(self, words: list[int]) -> dict[int, FeedEntry]:
        """The valid ones among pushed candidates, by post.

        A candidate is valid if the shard of its author holds it live, and its author is among the edges.
        """
        shards = self.reading.shards
        by_shard: defaultdict[int, list[int]] = defaultdict(list)
        for word in words:
            by_shard[(word & 0xFFFF) % shards].append(word >> ROUTE_BITS)
        posts: list[int] = []
        rows: list[bytes | None] = []
        for shard, members in by_shard.items():
            posts += members
            rows += self.reading.shard(shard).rows(POSTS, [id_key(post) for post in members])
        authors = timelines.authors_of(rows)
        candidates = zip(posts, authors.tolist(), rows, self.edges.among(authors), strict=True)
        return {post: FeedEntry(post, author, row) for post, author, row, followed in candidates if followed}


def page(
    reading: Reading,
    user: int,
    *,
    below: int = ID_MASK + 1,
    above: int = 0,
    limit: int,
    cache: FeedCache | None = None,
) -> list[FeedEntry]:
    """The newest `limit` posts of the user's home feed with above < id < below, newest first.

    Exact at `reading.position` afterwards. The user must be live.
    """
    feed = _Feed(reading, user, cache or NoFeedCache())
    wanted = limit + limit // 10 + 1  # few candidates are void; asking for some more saves most second rounds
    found: list[FeedEntry] = []
    while below > above + 1:
        words = feed.words_below(below, wanted)
        low = max(above, (words[-1] >> ROUTE_BITS) - 1) if len(words) == wanted else above
        pulled, low = feed.pull_below(low, below, wanted)
        valid = feed.judged([word for word in words if word >> ROUTE_BITS > low])
        newest_first = sorted({*valid, *pulled}, reverse=True)
        found = _not_above(reading.position, found) + _shown(reading.position, newest_first, valid, pulled, limit)
        if len(found) >= limit:
            break
        below = low + 1
    return found[:limit]


def page_upwards(reading: Reading, user: int, *, above: int, below: int = ID_MASK + 1, limit: int) -> list[FeedEntry]:
    """The oldest `limit` posts of the user's home feed with above < id < below, newest first, as `page` otherwise."""
    feed = _Feed(reading, user, NoFeedCache())
    wanted = limit + limit // 10 + 1
    found: list[FeedEntry] = []
    while above < below - 1:
        words = feed.words_above(above, wanted)
        high = min(below - 1, words[-1] >> ROUTE_BITS) if len(words) == wanted else below - 1
        pulled, high = feed.pull_above(above, high, wanted)
        valid = feed.judged([word for word in words if word >> ROUTE_BITS <= high])
        oldest_first = sorted({*valid, *pulled})
        found = _not_above(reading.position, found) + _shown(reading.position, oldest_first, valid, pulled, limit)
        if len(found) >= limit or high >= reading.position:
            break
        above = high
    return found[:limit][::-1]


def _not_above(position: int, entries: list[FeedEntry]) -> list[FeedEntry]:
    return [entry for entry in entries if entry.post <= position]


def _shown(position: int, posts: list[int], valid: dict[int, FeedEntry], pulled: Pulled, limit: int) -> list[FeedEntry]:
    """The first `limit` of the posts up to the position; not more, for what is pulled may be many times a page."""
    chosen = [post for post in posts if post <= position][:limit]
    return [valid.get(post) or FeedEntry(post, pulled[post]) for post in chosen]
