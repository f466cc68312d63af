"""The projections of the standard mix in plain dictionaries: the least that a rebuild does, and what peers fold with.

People, follows, posts, likes, what was done to whom, and feeds, by the rules that the mix needs. Nothing is durable.
"""

from collections import defaultdict
from typing import Any


class PlainWorld:
    """Each method is one kind of event; `position` is the record's, and the id of what it makes."""

    def __init__(self) -> None:
        self.live: set[int] = set()
        self.names: dict[str, int] = {}
        self.profiles: dict[int, tuple[str, str]] = {}
        self.following: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self.followers: defaultdict[int, set[int]] = defaultdict(set)
        self.timelines: defaultdict[int, list[int]] = defaultdict(list)
        self.posts: dict[int, tuple[int, str]] = {}
        self.likers: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self.liked: defaultdict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
        self.received: defaultdict[int, dict[int, tuple[int, int, int]]] = defaultdict(dict)
        self.mentioned: defaultdict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
        self.feeds: defaultdict[int, list[int]] = defaultdict(list)

    def registered(self, position: int, name: str, display_name: str) -> None:
        self.live.add(position)
        self.names.setdefault(name.lower(), position)
        self.profiles[position] = name, display_name

    def followed(self, position: int, follower: int, followee: int) -> None:
        edges = self.following[follower]
        if followee in edges or follower == followee or not {follower, followee} <= self.live:
            return
        edges[followee] = position
        self.followers[followee].add(follower)
        self.received[followee][position] = (follower, 0, 3)

    def unfollowed(self, position: int, follower: int, followee: int) -> None:  # noqa: ARG002
        since = self.following[follower].pop(followee, None)
        if since is not None:
            self.followers[followee].remove(follower)
            del self.received[followee][since]

    def posted(self, position: int, author: int, caption: str, mentions: tuple[int, ...]) -> None:
        if author not in self.live:
            return
        self.posts[position] = author, caption
        self.timelines[author].append(position)
        feeds = self.feeds
        for follower in self.followers[author]:
            feeds[follower].append(position)
        feeds[author].append(position)
        for user in {*mentions} - {author}:
            if user in self.live:
                self.mentioned[user][position] = position, author

    def liked_by(self, position: int, user: int, post: int, author: int) -> None:
        found = self.posts.get(post)
        if found is None or found[0] != author or user not in self.live or user in self.likers[post]:
            return
        self.likers[post][user] = position
        self.liked[user][post] = author, position
        if user != author:
            self.received[author][position] = (user, post, 1)

    def unliked_by(self, position: int, user: int, post: int, author: int) -> None:  # noqa: ARG002
        since = self.likers[post].pop(user, None) if post in self.posts else None
        if since is not None:
            del self.liked[user][post]
            self.received[author].pop(since, None)

    def tables(self) -> dict[str, dict[int, Any]]:
        """As lists in a fixed order, for comparison; owners without entries are left out."""
        tables: dict[str, dict[int, Any]] = {
            "following": {user: [[*edge] for edge in sorted(edges.items())] for user, edges in self.following.items()},
            "followers": {user: sorted(users) for user, users in self.followers.items()},
            "timelines": {user: [[post, self.posts[post][1]] for post in own] for user, own in self.timelines.items()},
            "liked": {user: [[post, *row] for post, row in sorted(rows.items())] for user, rows in self.liked.items()},
            "received": {user: [[p, *row] for p, row in sorted(rows.items())] for user, rows in self.received.items()},
            "feeds": dict(self.feeds),
            "likers": {post: [[*row] for row in sorted(rows.items())] for post, rows in self.likers.items()},
        }
        return {name: {owner: held for owner, held in table.items() if held} for name, table in tables.items()}
