"""Worlds to measure in: who follows whom, from real graphs or drawn by a power law, and the events that make them.

Users are 1, 2, 3 …: they are registered first, so that the number of a user is a position.
"""

import gzip
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from darkroom.events.facts import Event, PostPublished, UserFollowed, UserRegistered, personal
from darkroom.events.log import EventLog
from darkroom.gateway.simulation import mix
from darkroom.projections.routing import Ids

GRAPHS = Path(os.environ.get("REAL_GRAPHS") or Path(__file__).parents[2] / "shared" / "data").resolve()
GROUP_EVENTS = 20_000


class GraphMissing(Exception):
    """The file is not there; the message says where it was looked for."""


@dataclass(frozen=True)
class Graph:
    """Who follows whom: the followers of user `u` are `followers[starts[u - 1]:starts[u]]`, ascending."""

    name: str
    users: int
    followers: Ids
    starts: Ids

    def of(self, user: int) -> Ids:
        return self.followers[int(self.starts[user - 1]) : int(self.starts[user])]

    def followees(self, user: int) -> Ids:
        """Whom the user follows, ascending; found by looking at every follow."""
        at = np.flatnonzero(self.followers == user)
        return np.searchsorted(self.starts, at, side="right").astype(np.uint64)

    def deliveries(self, authors: Ids) -> tuple[Ids, Ids]:
        """(index of the post, owner of the feed) of one post by each of the authors, in order, themselves last."""
        counts = (self.starts[authors.astype(np.int64)] - self.starts[authors.astype(np.int64) - 1]).astype(np.int64)
        posts = np.repeat(np.arange(len(authors)), counts + 1)
        ends = np.cumsum(counts + 1)
        within = np.arange(len(posts)) - np.repeat(ends - counts - 1, counts + 1)
        own = within == np.repeat(counts, counts + 1)
        index = np.repeat(self.starts[authors.astype(np.int64) - 1].astype(np.int64), counts + 1) + within
        owners = self.followers[np.where(own, 0, index)] if len(self.followers) else np.zeros(len(posts), np.uint64)
        return posts.astype(np.uint64), np.where(own, authors[posts], owners).astype(np.uint64)

    def save(self, path: Path) -> None:
        np.savez(path, followers=self.followers, starts=self.starts)


def load(path: Path) -> Graph:
    """What `save` wrote, for another process."""
    with np.load(path) as parts:
        return Graph(path.stem, len(parts["starts"]) - 1, parts["followers"], parts["starts"])


def of_edges(name: str, users: int, followers: Ids, followees: Ids) -> Graph:
    """Users count from 1."""
    order = np.lexsort((followers, followees))
    starts = np.searchsorted(followees[order], np.arange(1, users + 2)).astype(np.uint64)
    return Graph(name, users, followers[order].astype(np.uint64), starts)


def real(name: str, users_max: int | None = None) -> Graph:
    """A real graph from a file of `follower<TAB>followee`, from 0; with `users_max` only what is among the first."""
    path = GRAPHS / f"{name}.edges.tsv.gz"
    if not path.exists():
        raise GraphMissing(f"{path} is not there; REAL_GRAPHS names the folder that holds it")
    with gzip.open(path) as file:
        numbers = b"".join(line for line in file if not line.startswith(b"#")).split()
    edges = np.array(numbers, dtype=np.uint64).reshape(-1, 2) + np.uint64(1)
    if users_max is not None:
        edges = edges[(edges <= users_max).all(axis=1)]
    return of_edges(name, int(edges.max(initial=1)), edges[:, 0], edges[:, 1])


def simulated_mix(users: int = 10_000, follows: int = 400_000) -> Graph:
    """The follows of the standard mix."""
    events = mix(1, users=users, follows=follows, posts=0, likes=0, changes=0)
    edges = np.array(
        [(event.follower, event.followee) for event in events if isinstance(event, UserFollowed)], dtype=np.uint64
    )
    return of_edges("mix", users, edges[:, 0], edges[:, 1])


def power_law(users: int, mean: int, *, seed: int = 1) -> Graph:
    """Followers by a power law, the first user with a fifth of all at most; drawn in arrays, so millions are quick."""
    chance = np.random.default_rng(seed)
    weights = (np.arange(1, users + 1) + 0.0006 * users) ** -0.75
    counts = np.minimum(weights / weights.mean() * mean, users / 5)
    counts = np.maximum(1, counts * (users * mean / counts.sum())).astype(np.int64)
    followees = np.repeat(np.arange(1, users + 1, dtype=np.uint64), counts)
    followers = chance.integers(1, users + 1, len(followees), dtype=np.uint64)
    edges = np.unique(followees << np.uint64(32) | followers)
    followees, followers = edges >> np.uint64(32), edges & np.uint64(0xFFFFFFFF)
    others = followees != followers
    return of_edges(f"power-law-{users}", users, followers[others], followees[others])


def registrations(users: int) -> Iterator[Event]:
    return (UserRegistered(username=personal(f"u{n}"), display_name=personal("")) for n in range(1, users + 1))


def follows(graph: Graph) -> Iterator[Event]:
    """Ordered by followee, as a world that is imported is."""
    for user in range(1, graph.users + 1):
        for follower in graph.of(user).tolist():
            yield UserFollowed(follower=follower, followee=user)


def posts(authors: Iterable[int]) -> Iterator[Event]:
    return (PostPublished(author=author, caption=personal("First frost by the canal")) for author in authors)


def append_all(log: EventLog, events: Iterable[Event]) -> int:
    """Append everything; the head afterwards."""
    events = iter(events)
    while group := list(islice(events, GROUP_EVENTS)):
        log.append(group)
    return log.head()
