"""Posts and comments as they stand: read, deleted, liked. A comment is a status that replies."""

import msgspec
from msgspec import Raw

from darkroom.events.facts import CommentDeleted, Event, PostDeleted, PostLiked, PostUnliked
from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Entry, Json, status
from darkroom.gateway.http.errors import Pending, Refused, invalid
from darkroom.gateway.http.finding import Found, find, find_to_engage
from darkroom.gateway.http.hydration import (
    accounts,
    entry_of_comment,
    gather,
    hidden_people,
)
from darkroom.gateway.http.messages import Response
from darkroom.gateway.http.paging import links, window
from darkroom.gateway.http.targets import Target, find_target, recorded_target, target_of
from darkroom.projections import engagement
from darkroom.projections.engagement import ThreadEntry
from darkroom.projections.reading import Reading

DESCENDANTS_MAX = 4096
REPLIES_LOOKED_AT_MAX = 1000


async def show(call: Call) -> Response:
    wanted = call.path_id()

    def answer(reading: Reading) -> Raw:
        return one(call, reading, find(call, reading, wanted))

    return call.json(await call.ask(answer))


def one(call: Call, reading: Reading, found: Found) -> Raw:
    """The one status; a comment's replies are counted among those who came after it."""
    gathered = gather(reading, call.viewer, call.origin, [found.entry])
    if not found.is_post:
        shard, limit = reading.of(found.author), REPLIES_LOOKED_AT_MAX
        gathered.replies = _replies(engagement.thread(shard, found.post, after=found.entry.id, limit=limit))
    return status(found.entry, gathered)


async def context(call: Call) -> Response:
    """What a status replies to, and what replies to it, oldest first."""
    wanted = call.path_id()

    def answer(reading: Reading) -> Json:
        return _context(call, reading, find(call, reading, wanted))

    return call.json(await call.ask(answer))


def _context(call: Call, reading: Reading, found: Found) -> Json:
    after = 0 if found.is_post else found.entry.id - 1
    thread = engagement.thread(reading.of(found.author), found.post, after=after, limit=DESCENDANTS_MAX)
    hidden = hidden_people(reading, call.viewer, {entry.row.user for entry in thread})
    entries = {
        entry.comment: entry_of_comment(entry.comment, entry.row)
        for entry in thread
        if entry.event is None or entry.row.user not in hidden
    }
    ancestors, descendants = [], [entries[comment] for comment in _descendants(entries, found)]
    if not found.is_post:
        ancestors = [find(call, reading, found.post).entry, *_ancestors(entries, found.entry)]
    gathered = gather(reading, call.viewer, call.origin, [*ancestors, *descendants])
    gathered.replies = _replies(thread)

    def shown(chosen: list[Entry]) -> list[Raw]:
        return [status(entry, gathered) for entry in chosen]

    return {"ancestors": shown(ancestors), "descendants": shown(descendants)}


def _descendants(entries: dict[int, Entry], found: Found) -> list[int]:
    """A reply is younger than what it replies to, so one pass from the oldest finds all below."""
    if found.is_post:
        return list(entries)
    below = {found.entry.id}
    for comment, entry in entries.items():
        if entry.parent is not None and entry.parent[0] in below:
            below.add(comment)
    return [comment for comment in entries if comment in below and comment != found.entry.id]


def _ancestors(entries: dict[int, Entry], entry: Entry) -> list[Entry]:
    above: list[Entry] = []
    while entry.parent is not None and (parent := entries.get(entry.parent[0])) is not None:
        above.append(parent)
        entry = parent
    return above[::-1]


def _replies(thread: list[ThreadEntry]) -> dict[int, int]:
    """How many live comments reply to each comment directly."""
    counted: dict[int, int] = {}
    for entry in thread:
        if entry.event is not None and entry.row.in_reply_to is not None:
            counted[entry.row.in_reply_to] = counted.get(entry.row.in_reply_to, 0) + 1
    return counted


async def delete(call: Call) -> Response:
    """A post goes by its author's hand, a comment by its writer's or the post's author's."""
    wanted = call.path_id()

    def answer(reading: Reading) -> tuple[Target, Raw]:
        found = find(call, reading, wanted)
        return target_of(found), one(call, reading, found)

    target, shown = await call.check(answer) or (await recorded_target(call, wanted), None)
    position = await call.write(_deletion(call, target), {call.user, target.author})
    if shown is None:
        raise Pending(position, repeatable=False)
    gone = msgspec.json.decode(shown)
    return call.json(gone | {"text": gone["content_text"]})


def _deletion(call: Call, target: Target) -> Event:
    if target.is_post:
        if call.user != target.author:
            raise Refused(403, "only its author may delete a post", "id")
        return PostDeleted(author=target.author, post=target.post)
    if call.user not in (target.author, target.writer):
        raise Refused(403, "only its writer or the post's author may delete a comment", "id")
    return CommentDeleted(user=call.user, comment=target.id, post=target.post, author=target.author)


async def favourite(call: Call) -> Response:
    return await _engage(call, PostLiked)


async def unfavourite(call: Call) -> Response:
    return await _engage(call, PostUnliked)


async def _engage(call: Call, fact: type[PostLiked] | type[PostUnliked]) -> Response:
    """Append, then answer with the post as it is there: whatever raced with this, the answer is true."""
    wanted = call.path_id()
    target = await find_target(call, wanted, find_to_engage)
    if not target.is_post:
        raise invalid("id", "is a comment's; only posts can be liked")
    await call.write(fact(user=call.user, post=target.post, author=target.author), {call.user, target.author})

    def answer(reading: Reading) -> Raw:
        return one(call, reading, find_to_engage(call, reading, wanted))

    return call.json(await call.outcome(answer))


async def favourited_by(call: Call) -> Response:
    """Who likes the post, by id descending."""
    wanted, page = call.path_id(), window(call.query, limit=40, limit_max=80)

    def answer(reading: Reading) -> tuple[list[int], list[Json]]:
        found = find(call, reading, wanted)
        if not found.is_post:
            return [], []
        shard, likers = reading.of(found.author), engagement.likers_downwards
        if page.upwards:
            users = engagement.likers(shard, found.post, after=page.above, below=page.below, limit=page.limit)[::-1]
        else:
            users = likers(shard, found.post, below=page.below, above=page.above, limit=page.limit)
        hidden = hidden_people(reading, call.viewer, users)
        return users, accounts(reading, call.origin, [user for user in users if user not in hidden])

    users, shown = await call.ask(answer)
    return call.json(shown, headers=links(call, users[0], users[-1]) if users else None)
