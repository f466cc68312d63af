"""The port of the social graph: who follows whom, whose posts these are, who likes them and who comments on them.

An answer is at a position, the lowest of the shards that the question concerns: nothing above it is shown, nothing up
to it that still stands is missing, and what was removed after it may be missing already.
"""

from typing import NamedTuple, Protocol

from darkroom.projections.routing import ID_MASK


class Page(NamedTuple):
    """At most `limit` ids with above < id < below, from the lowest up, or with `newest_first` from the highest down."""

    limit: int
    above: int = 0
    below: int = ID_MASK + 1
    newest_first: bool = False

    def within_ids(self) -> "Page":
        """The same page, its bounds such as ids can have."""
        return self._replace(above=max(self.above, 0), below=min(self.below, ID_MASK + 1))


class Found(NamedTuple):
    """Ids in the order of the page, and the position at which they are the answer."""

    position: int
    ids: list[int]


class Graph(Protocol):
    """One read of the graph. Every question may raise Behind (see `reading`) and StoreError.

    Who is not a live user, and what is not a live post, has nothing. An `author` must be the post's.
    """

    @property
    def lagging(self) -> set[int]:
        """The shards that were left out of the positions so far, for they lag too much."""

    def followers(self, user: int, page: Page) -> Found:
        """All followers of the user."""

    def following(self, user: int, page: Page) -> Found:
        """All whom the user follows."""

    def posts(self, author: int, page: Page) -> Found:
        """All posts of the author."""

    def posts_commented_on(self, author: int, commenter: int, page: Page) -> Found:
        """All posts of the author on which a comment by the commenter stands."""

    def likers(self, post: int, author: int, page: Page) -> Found:
        """All who like the post."""

    def comments(self, post: int, author: int, page: Page) -> Found:
        """All comments on the post that stand."""


def id_or_nobody(asked: int) -> int:
    """The id, or 0, which is nobody's, where it can be none: stores have no room for any integer."""
    return asked if 0 < asked <= ID_MASK else 0
