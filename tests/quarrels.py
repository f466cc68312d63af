"""Two people like, unlike, block and unblock each other, and shards crash between publishing and commit: the simulation
that decided that a shard decides by a state of its own. A shard that decided by what it published would, after a crash,
decide on rows from its own future, and now and then end with a like that the log forbids.
"""

import random

from histories import START_MS, History
from publishing import Landing, OpenViews, PublishingWorld
from world import check_pair, check_post, check_user

from darkroom.events.facts import (
    Event,
    PostLiked,
    PostPublished,
    PostUnliked,
    UserBlocked,
    UserRegistered,
    UserUnblocked,
    personal,
)
from darkroom.projections.reading import Reading
from darkroom.projections.shard_state import FoldSettings


def simulate_a_quarrel(seed: int, open_views: OpenViews, *, may_land_in_part: bool) -> None:
    """Crashes between publishing and commit, and other cuts afterwards: readers end with what the log says."""
    source = random.Random(seed)
    world = PublishingWorld(quarrel(source, 16), 1 + seed % 2, FoldSettings(), open_views, seed=seed)
    crashes = [Landing.UNCOMMITTED, Landing.UNTOLD, Landing.PART if may_land_in_part else Landing.UNTOLD]
    for _ in range(8):
        shard = source.randrange(len(world.shards))
        world.try_step(shard, source.randint(1, 6), source.choice([*crashes, Landing.WHOLE]))
    world.settle(source.randint(1, 6))
    try:
        _check(world)
    except AssertionError as failure:
        failure.add_note(f"the simulation's seed is {seed}")
        raise
    world.close()


def _check(world: PublishingWorld) -> None:
    oracle = world.oracles[0]
    with Reading(world.views) as reading:
        for user, other in ((1, 2), (2, 1)):
            check_user(reading, oracle, user)
            check_pair(reading, oracle, user, other)
        for post in (3, 4):
            check_post(reading, oracle, post)


def quarrel(source: random.Random, size: int) -> History:
    """Two people like, unlike, block and unblock each other over a post of each: rules that hang on one another."""
    events: list[Event] = [UserRegistered(username=personal(""), display_name=personal("")) for _ in range(2)]
    events += [PostPublished(author=author, caption=personal("")) for author in (1, 2)]
    while len(events) < size:
        user, other = source.choice([(1, 2), (2, 1)])
        post = 2 + other
        said: list[Event] = [
            PostLiked(user=user, post=post, author=other),
            PostUnliked(user=user, post=post, author=other),
            UserBlocked(user=user, target=other),
            UserUnblocked(user=user, target=other),
        ]
        events.append(source.choice(said))
    return [(START_MS + index, event) for index, event in enumerate(events)]
