"""What the log holds of what clients were told: each acknowledged write once, at its position, and none doubled."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from end_to_end.traffic import Write

from darkroom.events.facts import Event, PostLiked, PostPublished, UserFollowed, UserRegistered
from darkroom.events.log import EventLog

BLOCK_RECORDS = 10_000
Stored = dict[tuple[str, ...], list[int]]
"""Where each fact lies, by the name that the traffic gives it."""


def stored(log: EventLog) -> Stored:
    positions, position = defaultdict[tuple[str, ...], list[int]](list), 0
    while records := log.read(position, BLOCK_RECORDS):
        for record in records:
            positions[_named(record.event)].append(record.position)
        position = records[-1].position
    return positions


def _named(event: Event) -> tuple[str, ...]:
    match event:
        case PostPublished():
            return ("post", str(event.author), event.caption.text)
        case UserFollowed():
            return ("follow", str(event.follower), str(event.followee))
        case PostLiked():
            return ("like", str(event.user), str(event.post))
        case UserRegistered():
            return ("user", event.username.text)
    return ("other",)


def wrong(stored: Stored, writes: Sequence[Write]) -> list[str]:
    """What was told of these writes and is not so."""
    found = [*_lost(stored, writes), *_doubled(stored, writes)]
    return [*found, *_keys_that_differ(stored, writes)]


def _lost(stored: Stored, writes: Iterable[Write]) -> Iterable[str]:
    for write in writes:
        if write.key is None and write.outcome != "refused" and write.position not in stored.get(write.what, []):
            yield f"lost: {write}"
        if write.key is not None and write.outcome == "pending" and write.position not in stored.get(write.what, []):
            yield f"lost: {write}"


def _doubled(stored: Stored, writes: Iterable[Write]) -> Iterable[str]:
    """Without a key nobody asked twice, so it must not be there twice, whatever was answered."""
    for write in writes:
        if write.key is None and len(stored.get(write.what, [])) > 1:
            yield f"doubled at {stored[write.what]}: {write}"


def _keys_that_differ(stored: Stored, writes: Iterable[Write]) -> Iterable[str]:
    """Whoever repeats a key has the first post that carries it, and no other."""
    for write in writes:
        if write.key is not None and write.outcome == "acknowledged" and [write.id] != stored.get(write.what, [])[:1]:
            yield f"the post is at {stored.get(write.what)}: {write}"
