"""The graph as the shards' own tables have it: each question is answered by one shard, at its position."""

from collections.abc import Callable

from darkroom.projections import engagement
from darkroom.projections.graph import Found, Page, id_or_nobody
from darkroom.projections.reading import Reading
from darkroom.projections.tables import FOLLOWERS, FOLLOWING, LIKERS, THREADS, TIMELINES
from darkroom.projections.views import Entry, View


class EmbeddedGraph:
    """See `Graph`. Answers from the views of a reading, whose lowest position and lagging shards hold here too."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    @property
    def lagging(self) -> set[int]:
        return self._reading.lagging

    def followers(self, user: int, page: Page) -> Found:
        return _entries(self._reading.of(user), FOLLOWERS, user, page)

    def following(self, user: int, page: Page) -> Found:
        return _entries(self._reading.of(user), FOLLOWING, user, page)

    def posts(self, author: int, page: Page) -> Found:
        return _entries(self._reading.of(author), TIMELINES, author, page)

    def posts_commented_on(self, author: int, commenter: int, page: Page) -> Found:
        found = engagement.commented_posts(self._reading, author, id_or_nobody(commenter), below=page.below)
        posts = [post for post in found if post > page.above]
        ordered = posts if page.newest_first else posts[::-1]
        return _found(self._reading.of(author), ordered[: page.limit])

    def likers(self, post: int, author: int, page: Page) -> Found:
        return _entries(self._reading.of(author), LIKERS, post, page)

    def comments(self, post: int, author: int, page: Page) -> Found:
        return _entries(self._reading.of(author), THREADS, post, page)


def _entries(view: View, table: str, owner: int, page: Page) -> Found:
    walk: Callable[..., list[Entry]] = view.newest if page.newest_first else view.oldest
    bounds = page.within_ids()
    entries = walk(table, id_or_nobody(owner), above=bounds.above, below=bounds.below, limit=page.limit)
    return _found(view, [entry[0] for entry in entries])


def _found(view: View, ids: list[int]) -> Found:
    return Found(view.checkpoint.position, ids)
