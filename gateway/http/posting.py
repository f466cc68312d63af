"""Publishing posts and comments. An Idempotency-Key means the same one for ever, and the log decides which came first.

So a key is looked up before anything is appended, and again at the position of what was: two that race both append,
the later is void, and both answer with the first. Where nothing can be looked up, what needs no look-up is appended.
"""

from dataclasses import dataclass

from msgspec import Raw

from darkroom.events.facts import CommentAdded, Medium, PostPublished, personal
from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import MENTION, tags_of
from darkroom.gateway.http.errors import Refused, invalid
from darkroom.gateway.http.fields import Fields
from darkroom.gateway.http.finding import Found, find_to_engage
from darkroom.gateway.http.hydration import entry_of_comment, statuses
from darkroom.gateway.http.messages import Response
from darkroom.gateway.http.statuses import one
from darkroom.gateway.http.targets import Target, recorded_target, target_of
from darkroom.projections import engagement, people, timelines
from darkroom.projections.reading import Reading

MENTIONS_MAX = 50
TAGS_MAX = 50


@dataclass(frozen=True)
class Draft:
    """What is to be published: a post, or with `in_reply_to` a comment."""

    text: str
    media_ids: list[int]
    in_reply_to: int | None
    key: str | None


async def create(call: Call) -> Response:
    draft = _draft(call, await call.fields())
    if draft.in_reply_to is None:
        return await _publish(call, draft)
    return await _comment(call, draft, draft.in_reply_to)


def _draft(call: Call, fields: Fields) -> Draft:
    text = fields.text("status", call.settings.caption_chars) or ""
    media_ids, in_reply_to = fields.ids("media_ids"), fields.id("in_reply_to_id")
    if len(media_ids) > call.settings.photos_per_post:
        raise invalid("media_ids", f"has {len(media_ids)} photos; the limit is {call.settings.photos_per_post}")
    if in_reply_to is not None and media_ids:
        raise invalid("media_ids", "must be left out: a comment has no photos")
    if not text.strip() and not media_ids:
        raise invalid("status", "must be given, or a photo")
    if len(tags_of(text)) > TAGS_MAX:
        raise invalid("status", f"has more than {TAGS_MAX} tags")
    return Draft(text, media_ids, in_reply_to, call.idempotency_key())


async def _publish(call: Call, draft: Draft) -> Response:
    def before(reading: Reading) -> tuple[int | None, list[int]]:
        first = timelines.post_of_key(reading, call.user, draft.key) if draft.key else None
        return first, _mentions(reading, draft.text)

    first, mentions = await call.check(before) or (None, _no_mentions(draft.text))
    if first is not None:
        return call.json(await call.ask(lambda reading: _own_post(call, reading, first)))
    event = PostPublished(
        author=call.user,
        caption=personal(draft.text),
        media=await _media(call, draft.media_ids),
        tags=tuple(tags_of(draft.text)),
        mentions=tuple(mentions),
        key=draft.key,
    )
    position = await call.write(event, {call.user}, draft.key)

    def answer(reading: Reading) -> Raw:
        post = timelines.post_of_key(reading, call.user, draft.key) if draft.key else position
        return _own_post(call, reading, post or position)

    return call.json(await call.outcome(answer))


async def _media(call: Call, media_ids: list[int]) -> tuple[Medium, ...]:
    if not media_ids:
        return ()
    uploads = await call.look_up(call.gateway.uploads.find, call.user, media_ids)
    if len(uploads) != len(media_ids):
        missing = set(media_ids) - {upload.id for upload in uploads}
        raise invalid("media_ids", f"names {min(missing)}, which is none of your uploads")
    return tuple(
        Medium(
            upload.photo.hash,
            upload.photo.width,
            upload.photo.height,
            upload.photo.placeholder,
            personal(upload.description) if upload.description else None,
        )
        for upload in uploads
    )


def _mentions(reading: Reading, text: str) -> list[int]:
    """The live users whom the text names, each once; a name that is nobody's is only text."""
    names = list(dict.fromkeys(name.lower() for name in MENTION.findall(text)))[:MENTIONS_MAX]
    users = (people.user_named(reading, name) for name in names)
    return list(dict.fromkeys(user for user in users if user is not None))


def _no_mentions(text: str) -> list[int]:
    """Of a text that is published unchecked. Whom a fact names it names for ever, so a name is not left out of it."""
    if MENTION.search(text):
        raise Refused(503, "whom the status names cannot be looked up right now; try again", "status")
    return []


def _own_post(call: Call, reading: Reading, post: int) -> Raw:
    found = statuses(reading, call.user, call.origin, [(post, call.user, None)])
    if not found:
        raise _gone()
    return found[0][1]


def _gone() -> Refused:
    return Refused(410, "what was published first under this key was deleted", "Idempotency-Key")


async def _comment(call: Call, draft: Draft, in_reply_to: int) -> Response:
    def before(reading: Reading) -> tuple[int | None, Target | None, list[int]]:
        first = _first_under_key(call, reading, draft.key, in_reply_to)
        if first is not None:
            return first, None, []
        found = find_to_engage(call, reading, in_reply_to, "in_reply_to_id")
        return None, target_of(found), _mentions(reading, draft.text)

    first, target, mentions = await call.check(before) or (None, None, _no_mentions(draft.text))
    if first is not None:
        return call.json(await call.ask(lambda reading: _own_comment(call, reading, first)))
    if target is None:
        target = await recorded_target(call, in_reply_to, "in_reply_to_id")
    event = CommentAdded(
        user=call.user,
        post=target.post,
        author=target.author,
        text=personal(draft.text),
        mentions=tuple(mentions),
        in_reply_to=None if target.is_post else target.id,
        in_reply_to_user=None if target.is_post else target.writer,
        key=draft.key,
    )
    position = await call.write(event, {call.user, target.author}, draft.key)

    def answer(reading: Reading) -> Raw:
        comment: int | None = position
        if draft.key:
            comment = engagement.comment_of_key(reading, call.user, target.post, target.author, draft.key)
        if comment is None or engagement.find_comment(reading, comment) is None:
            # The log decided against it: the post was deleted or a block set just before, which this finds.
            find_to_engage(call, reading, in_reply_to, "in_reply_to_id")
            raise Refused(409, "the comment was overtaken by another change; try again")
        return _own_comment(call, reading, comment)

    return call.json(await call.outcome(answer))


def _first_under_key(call: Call, reading: Reading, key: str | None, in_reply_to: int) -> int | None:
    """What the key belongs to on the post concerned, whatever became of that, of the comment replied to, or of who may.

    Asked before anything else, for a repeat is answered with the first one's entity for ever.
    """
    if key is None:
        return None
    parent = engagement.find_comment(reading, in_reply_to)
    return engagement.find_comment_of_key(reading, call.user, parent.post if parent else in_reply_to, key)


def _own_comment(call: Call, reading: Reading, comment: int) -> Raw:
    row = engagement.find_comment(reading, comment)
    if row is None or not row.event:
        raise _gone()
    return one(call, reading, Found(entry_of_comment(comment, row), row.post, row.author))
