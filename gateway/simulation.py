"""Seeded traffic: people, a power law of follows, then posts, likes, comments and their undoing, a tenth of it all.

What is drawn depends on the seed and on what the log already holds of these people, never on a clock: the same seed on
a fresh log gives the same events. Each is drawn against the rules of the fold, so that almost all of them take effect.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import accumulate, islice, pairwise
from random import Random

from darkroom.events.facts import (
    CommentAdded,
    CommentDeleted,
    Event,
    PostDeleted,
    PostLiked,
    PostPublished,
    PostUnliked,
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserRegistered,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
    personal,
)
from darkroom.events.log import EventLog
from darkroom.gateway.simulated_world import Bag, Pair, Post, World

GROUP_EVENTS = 1000
READ_RECORDS = 10_000
USERS_MAX = 100_000
SEED_MAX = 2**31 - 1
FOLLOWS_EACH = 40
TRIES = 20

Plan = Mapping[type[Event], int]
"""How many of each kind."""

Traffic = Generator[list[Event], Sequence[int], None]
"""Groups of events, each answered with its positions; an event names only what earlier groups have made."""

FREQUENCIES: Plan = {
    PostLiked: 520,
    PostPublished: 132,
    CommentAdded: 120,
    UserFollowed: 115,
    PostUnliked: 58,
    UserUnfollowed: 22,
    PostDeleted: 8,
    CommentDeleted: 8,
    UserMuted: 8,
    UserBlocked: 5,
    UserUnmuted: 3,
    UserUnblocked: 1,
}
"""Of a thousand actions, a hundred of them undos."""

_SUBJECTS = ("Low tide", "First frost", "Last tram", "Wet cobbles", "Two herons", "Paper lanterns", "Fog", "A red door")
_SETTINGS = ("by the canal", "after the rain", "at the harbour", "on the ridge", "from the roof", "before breakfast")
_TAGS = ("film", "bluehour", "street", "35mm", "sea", "monochrome", "mist", "goldenhour")
_REMARKS = ("That light!", "Which film was it?", "How long was the exposure?", "I can hear the rain.", "Lovely grain.")


def simulate(log: EventLog, *, seed: int, users: int, events: int, progress: Callable[[int, int], None]) -> int:
    """Append the people who are missing, then so many events; the last position. ValueError, or what the log raises.

    `progress` is called with how many are appended and how many will be. A second run goes on from what stands.
    """
    names = _names(seed, users)
    world = _world_of(log, names)
    follows, plan = _split(users, events, len(world.follows))
    done, total, last = 0, users - len(world.names) + events, log.head()
    for group, positions in _placed(_traffic(seed, names, world, follows, plan), log.append):
        done, last = done + len(group), positions[-1]
        progress(done, total)
    return last


def simulated(seed: int, users: int, events: int, known: Mapping[str, int]) -> Traffic:
    """The groups that `simulate` appends where the log holds the `known` people, by name, and nothing of theirs."""
    names, (follows, plan), world = _names(seed, users), _split(users, events, 0), World()
    for name in names:
        if name in known:
            world.join(name, known[name])
    return _traffic(seed, names, world, follows, plan)


def mix(
    seed: int,
    users: int = 10_000,
    follows: int = 400_000,
    posts: int = 20_000,
    likes: int = 100_000,
    changes: int = 20_000,
) -> Iterator[Event]:
    """The standard workload for a fresh log: people, their follows, then posts, likes and changes in random order.

    Unlikes count as likes, and changes are follows and unfollows; together the undos are a tenth of those three.
    """
    undos = (posts + likes + changes) // 10
    unlikes = undos * likes // max(likes + changes, 1)
    unfollows = undos - unlikes if changes else 0
    plan: Plan = {
        PostLiked: likes - unlikes,
        PostPublished: posts,
        UserFollowed: changes - unfollows,
        PostUnliked: unlikes,
        UserUnfollowed: unfollows,
    }
    head = 0

    def place(group: Sequence[Event]) -> Sequence[int]:
        nonlocal head
        head += len(group)
        return range(head - len(group) + 1, head + 1)

    for group, _ in _placed(_traffic(seed, _names(seed, users), World(), follows, plan), place):
        yield from group


def follower_counts(people: int, follows: int) -> list[int]:
    """How many follow each, the most followed first and none by more than half of all.

    A power law whose constants give 10,000 people with 400,000 follows a median of 20 and a first of some 2,760.
    """
    weights = [(rank + 0.0006 * people) ** -0.75 for rank in range(1, people + 1)]
    limit, scale = people // 2, 0.0
    for _ in range(TRIES):  # what would be above the limit is shared out among the rest
        open_weights = sum(weight for weight in weights if weight * scale < limit)
        scale += (follows - sum(min(limit, weight * scale) for weight in weights)) / (open_weights or 1.0)
    sums = accumulate((min(limit, weight * scale) for weight in weights), initial=0.0)
    return [round(upper) - round(lower) for lower, upper in pairwise(sums)]


def _placed(
    traffic: Traffic, place: Callable[[Sequence[Event]], Sequence[int]]
) -> Iterator[tuple[list[Event], Sequence[int]]]:
    """Each group and where it was placed, which the traffic is told before it goes on."""
    group = next(traffic, None)
    while group is not None:
        positions = place(group)
        yield group, positions
        try:
            group = traffic.send(positions)
        except StopIteration:
            return


def _names(seed: int, users: int) -> list[str]:
    if not 0 <= seed <= SEED_MAX or not 1 <= users <= USERS_MAX:
        raise ValueError(f"seed must be from 0 to {SEED_MAX}, and users from 1 to {USERS_MAX}")
    return [f"s{seed}_{number}" for number in range(1, users + 1)]


def _split(users: int, events: int, standing: int) -> tuple[int, Plan]:
    """How many events are follows that come first, half of all at most, and how the rest is divided."""
    if events < 0:
        raise ValueError("events must be 0 or more")
    each = min(FOLLOWS_EACH, users // 8 + 1) if users > 1 else 0
    follows = max(0, min(users * each - standing, events // 2))
    sums = accumulate(FREQUENCIES.values(), initial=0)
    bounds = pairwise((events - follows) * done // sum(FREQUENCIES.values()) for done in sums)
    return follows, {kind: upper - lower for kind, (lower, upper) in zip(FREQUENCIES, bounds, strict=True)}


def _world_of(log: EventLog, names: Sequence[str]) -> World:
    """What the log holds of these people."""
    world, wanted, position = World(), {personal(name).data: name for name in names}, 0
    while records := log.read(position, READ_RECORDS):
        for record in records:
            event = record.event
            if not isinstance(event, UserRegistered):
                world.changes += world.fold(event, record.position)
            elif (name := wanted.get(event.username.data.lower())) is not None:
                world.join(name, record.position)
        position = records[-1].position
    return world


def _traffic(seed: int, names: Sequence[str], world: World, follows: int, plan: Plan) -> Traffic:
    missing = [name for name in names if name not in world.names]
    for start in range(0, len(missing), GROUP_EVENTS):
        group = missing[start : start + GROUP_EVENTS]
        positions = yield [UserRegistered(username=personal(name), display_name=personal(name)) for name in group]
        for name, position in zip(group, positions, strict=True):
            world.join(name, position)
    if not world.people:
        raise ValueError(f"the people of seed {seed} are all deleted, and their names are theirs for ever")
    chance = Random(f"{seed}/{world.changes}")
    yield from _follows(world, follows, chance)
    drawing = _Drawing(world, chance, plan)
    size = min(GROUP_EVENTS, 1 + drawing.left // 50)  # small, so that even a short run soon knows of posts to like
    while events := [drawing.next() for _ in range(min(size, drawing.left))]:
        positions = yield events
        for event, position in zip(events, positions, strict=True):
            world.keep(event, position)


def _follows(world: World, follows: int, chance: Random) -> Traffic:
    """So many more follows."""
    edges = _edges(list(world.people), follows + len(world.follows), chance) if follows else []
    wanted = (UserFollowed(follower=follower, followee=followee) for follower, followee in edges)
    new = islice((event for event in wanted if world.fold(event)), follows)
    while group := list[Event](islice(new, GROUP_EVENTS)):
        yield group


def _edges(people: list[int], follows: int, chance: Random) -> list[Pair]:
    """Who follows whom: some are followed by many, and some follow many, but they are not the same."""
    famous, keen = chance.sample(people, len(people)), chance.sample(people, len(people))
    edges: list[Pair] = []
    for followee, count in zip(famous, follower_counts(len(people), follows), strict=True):
        followers: dict[int, None] = {}
        while len(followers) < min(count, len(people) - 1):
            follower = keen[int(len(keen) * chance.random() ** 1.5)]
            if follower != followee:
                followers[follower] = None
        edges += [(follower, followee) for follower in followers]
    chance.shuffle(edges)
    return edges


class _Drawing:
    """Draws the next event: of a kind that is still to come, naming what stands at that moment."""

    def __init__(self, world: World, chance: Random, plan: Mapping[type[Event], int]) -> None:
        self._world = world
        self._chance = chance
        self._plan = Counter(plan)
        self.left = sum(plan.values())
        self._draws: Mapping[type[Event], Callable[[], Event | None]] = {
            PostPublished: self._publish,
            PostDeleted: self._delete,
            PostLiked: self._like,
            PostUnliked: self._unlike,
            CommentAdded: self._comment,
            CommentDeleted: self._uncomment,
            UserFollowed: self._follow,
            UserUnfollowed: lambda: self._edge(UserUnfollowed, self._world.follows, "follower", "followee"),
            UserBlocked: lambda: self._edge(UserBlocked, self._world.follows),
            UserUnblocked: lambda: self._edge(UserUnblocked, self._world.blocks),
            UserMuted: lambda: self._edge(UserMuted, self._world.follows),
            UserUnmuted: lambda: self._edge(UserUnmuted, self._world.mutes),
        }

    def next(self) -> Event:
        """A kind that is not possible now is left for later; where none is, a post takes its place."""
        for _ in range(TRIES):
            kind = self._kind()
            event = self._draws[kind]()
            if event is not None and self._world.fold(event):
                break
        else:
            event = self._publish()
            kind = PostPublished if self._plan[PostPublished] else kind
        self._plan[kind] -= 1
        self.left -= 1
        return event

    def _kind(self) -> type[Event]:
        rest = int(self._chance.random() * self.left)
        for kind, left in self._plan.items():
            rest -= left
            if rest < 0:
                return kind
        raise AssertionError("more was drawn than was planned")

    def _one_in(self, number: int) -> bool:
        return self._chance.random() * number < 1

    def _person(self) -> int:
        """A few are far busier than the rest."""
        person = self._world.people.draw(self._chance, 2.0)
        assert person is not None, "there are people"
        return person

    def _publish(self) -> Event:
        choose, tag = self._chance.choice, self._chance.choice(_TAGS)
        mentions = (self._person(),) if self._one_in(12) else ()
        caption = personal(f"{choose(_SUBJECTS)} {choose(_SETTINGS)} #{tag}")
        return PostPublished(author=self._person(), caption=caption, tags=(tag,), mentions=mentions)

    def _seen(self) -> tuple[int, Post] | None:
        """Someone and a post: as a rule one of the latest by somebody whom they follow."""
        edge = self._world.follows.draw(self._chance)
        latest = self._world.latest.get(edge[1]) if edge else None
        if edge and latest and not self._one_in(8):
            return edge[0], self._world.post[latest[-1 - int(len(latest) * self._chance.random() ** 3)]]
        post = self._any_post()
        return (self._person(), post) if post else None

    def _any_post(self) -> Post | None:
        post = self._world.posts.draw(self._chance)
        return None if post is None else self._world.post[post]

    def _like(self) -> Event | None:
        seen = self._seen()
        return seen and PostLiked(user=seen[0], post=seen[1].id, author=seen[1].author)

    def _unlike(self) -> Event | None:
        post = self._any_post()
        user = post and post.likers.draw(self._chance)
        return PostUnliked(user=user, post=post.id, author=post.author) if user and post else None

    def _comment(self) -> Event | None:
        seen = self._seen()
        if seen is None:
            return None
        user, post = seen
        parent = None if self._one_in(2) else post.comments.draw(self._chance)
        return CommentAdded(
            user=user,
            post=post.id,
            author=post.author,
            text=personal(self._chance.choice(_REMARKS)),
            in_reply_to=parent and parent[0],
            in_reply_to_user=parent and parent[1],
        )

    def _uncomment(self) -> Event | None:
        post = self._any_post()
        comment = post and post.comments.draw(self._chance)
        if not post or not comment:
            return None
        user = post.author if self._one_in(4) else comment[1]
        return CommentDeleted(user=user, comment=comment[0], post=post.id, author=post.author)

    def _delete(self) -> Event | None:
        post = self._any_post()
        return post and PostDeleted(author=post.author, post=post.id)

    def _follow(self) -> Event | None:
        """Somebody whom others follow already, as a rule, so that the power law stays one."""
        edge = self._world.follows.draw(self._chance)
        followee = self._person() if edge is None or self._one_in(8) else edge[1]
        return UserFollowed(follower=self._person(), followee=followee)

    def _edge(self, kind: Callable[..., Event], pairs: Bag[Pair], *fields: str) -> Event | None:
        pair = pairs.draw(self._chance)
        return None if pair is None else kind(**dict(zip(fields or ("user", "target"), pair, strict=True)))
