"""What stands between the simulated people: follows, blocks, mutes, and their latest posts with likes and comments.

It keeps the rules of the fold among them, and says of each event whether it would change anything. Bounded: of each
author only the latest posts are remembered, and what others do to these people is not.
"""

from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Generic, NamedTuple, TypeVar

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    PostDeleted,
    PostLiked,
    PostPublished,
    PostUnliked,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserMuted,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
)

POSTS_REMEMBERED_MAX = 50
"""Of each author. Who liked an older post is forgotten, so nobody likes or unlikes it any more."""

Item = TypeVar("Item")
Pair = tuple[int, int]


class Bag(Generic[Item]):
    """A set to draw from in constant time; the order depends on nothing but what was added and removed."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._places: dict[Item, int] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._places

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def add(self, item: Item) -> bool:
        if item in self._places:
            return False
        self._places[item] = len(self._items)
        self._items.append(item)
        return True

    def remove(self, item: Item) -> bool:
        place = self._places.pop(item, None)
        if place is None:
            return False
        last = self._items.pop()
        if place < len(self._items):
            self._items[place] = last
            self._places[last] = place
        return True

    def draw(self, chance: Random, skew: float = 1.0) -> Item | None:
        """Any of them; with a skew above 1 rather one of the first."""
        return self._items[int(len(self._items) * chance.random() ** skew)] if self._items else None


class Post(NamedTuple):
    """A live post; `comments` are its live ones, each with its writer."""

    id: int
    author: int
    likers: Bag[int]
    comments: Bag[Pair]


class World:
    """What stands between the simulated people, by the rules of the fold. What concerns others changes nothing."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.people = Bag[int]()
        self.follows = Bag[Pair]()
        self.blocks = Bag[Pair]()
        self.mutes = Bag[Pair]()
        self.posts = Bag[int]()
        self.post: dict[int, Post] = {}
        self.latest: dict[int, deque[int]] = {}
        self.changes = 0

    def join(self, name: str, position: int) -> None:
        """The first claimant of a name has it for ever."""
        if name not in self.names:
            self.names[name] = position
            self.people.add(position)

    def keep(self, event: Event, position: int) -> None:
        """A folded event was given this position, which is the id of what it made."""
        if isinstance(event, PostPublished | CommentAdded):
            self.fold(event, position)

    def fold(self, event: Event, position: int = 0) -> bool:
        """Whether the event changes anything here. What it makes is kept if it has a position yet."""
        match event:
            case PostPublished(author=author):
                return author in self.people and self._published(position, author)
            case PostDeleted(author=author, post=post):
                return self._author_of(post) == author and self._forget(post)
            case PostLiked(user=user, post=post, author=author):
                return self._open_to(user, post, author) and self.post[post].likers.add(user)
            case PostUnliked(user=user, post=post, author=author):
                return self._concerns(user, post, author) and self.post[post].likers.remove(user)
            case CommentAdded():
                return self._open_to(event.user, event.post, event.author) and self._commented(position, event)
            case CommentDeleted():
                return self._concerns(event.user, event.post, event.author) and self._uncommented(event)
            case UserDeleted(user=user):
                return self.people.remove(user)
            case _:
                return self._fold_edge(event)

    def _fold_edge(self, event: Event) -> bool:
        match event:
            case UserFollowed(follower=one, followee=other):
                return self._two(one, other) and not self._apart(one, other) and self.follows.add((one, other))
            case UserUnfollowed(follower=one, followee=other):
                return self._two(one, other) and self.follows.remove((one, other))
            case UserBlocked(user=one, target=other):
                return self._two(one, other) and self._blocked(one, other)
            case UserUnblocked(user=one, target=other):
                return self._two(one, other) and self.blocks.remove((one, other))
            case UserMuted(user=one, target=other):
                return self._two(one, other) and self.mutes.add((one, other))
            case UserUnmuted(user=one, target=other):
                return self._two(one, other) and self.mutes.remove((one, other))
        return False

    def _published(self, position: int, author: int) -> bool:
        if position:
            latest = self.latest.setdefault(author, deque())
            if len(latest) == POSTS_REMEMBERED_MAX:
                self._forget(latest[0])
            latest.append(position)
            self.posts.add(position)
            self.post[position] = Post(position, author, Bag(), Bag())
        return True

    def _forget(self, post: int) -> bool:
        self.latest[self.post.pop(post).author].remove(post)
        return self.posts.remove(post)

    def _commented(self, position: int, event: CommentAdded) -> bool:
        if position:
            self.post[event.post].comments.add((position, event.user))
        return True

    def _uncommented(self, event: CommentDeleted) -> bool:
        comments = self.post[event.post].comments
        writers = [event.user] if event.user != event.author else [writer for _, writer in comments]
        return any(writer in self.people and comments.remove((event.comment, writer)) for writer in writers)

    def _blocked(self, one: int, other: int) -> bool:
        self.follows.remove((one, other))
        self.follows.remove((other, one))
        return self.blocks.add((one, other))

    def _author_of(self, post: int) -> int | None:
        return self.post[post].author if post in self.post and self.post[post].author in self.people else None

    def _concerns(self, user: int, post: int, author: int) -> bool:
        return user in self.people and self._author_of(post) == author

    def _open_to(self, user: int, post: int, author: int) -> bool:
        return self._concerns(user, post, author) and not self._apart(user, author)

    def _two(self, one: int, other: int) -> bool:
        return one != other and one in self.people and other in self.people

    def _apart(self, one: int, other: int) -> bool:
        return (one, other) in self.blocks or (other, one) in self.blocks
