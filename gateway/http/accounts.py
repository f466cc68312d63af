"""People: signing up, profiles, and who follows, blocks and mutes whom."""

import time
from collections.abc import Callable
from typing import Any

from darkroom.events.facts import (
    Event,
    ProfileChanged,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserMuted,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
    personal,
)
from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Json, account, own_account, relationship
from darkroom.gateway.http.errors import Pending, Refused, invalid, malformed, not_found
from darkroom.gateway.http.fields import parse_id
from darkroom.gateway.http.finding import live_user
from darkroom.gateway.http.hydration import Page, accounts, gather_people, may_see, settled, statuses
from darkroom.gateway.http.messages import Response
from darkroom.gateway.http.oauth import SCOPES, token_answer
from darkroom.gateway.http.paging import Window, links, window
from darkroom.gateway.http.timelines import answer_page
from darkroom.gateway.sign_up import NameTaken, Undecided
from darkroom.projections import people, social_graph, timelines
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK

USERNAME_CHARACTERS_MAX = 200  # of what is looked at; a name is shorter, which credentials say
PASSWORD_CHARACTERS_MAX = 4096
DISPLAY_NAME_CHARACTERS_MAX = 100
NOTE_CHARACTERS_MAX = 500
RELATIONSHIPS_MAX = 40


async def sign_up(call: Call) -> Response:
    """A new user, and a token for them. `email`, `agreement`, `locale` and `reason` are not asked for, and ignored."""
    fields = await call.fields()
    username = fields.required("username", USERNAME_CHARACTERS_MAX)
    password = fields.required("password", PASSWORD_CHARACTERS_MAX)
    try:
        user = await call.work.sign_ups.register(username, password)
    except NameTaken as taken:
        if taken.position is not None:
            call.stamped_at(taken.position)
        raise
    except Undecided as undecided:
        call.stamped_at(undecided.position)
        raise Pending(undecided.position, repeatable=False) from None
    call.stamped_at(user)
    token = await call.work.sign_ups.run(call.gateway.credentials.issue_token, user, SCOPES)
    return call.json(token_answer(token, SCOPES, int(time.time())))


async def delete_account(call: Call) -> Response:
    """The caller and all that is theirs, for ever; their password says that it is meant."""
    password = (await call.fields()).required("password", PASSWORD_CHARACTERS_MAX)
    if await call.work.sign_ups.run(call.gateway.credentials.verify, call.user, password) != call.user:
        raise Refused(403, "password is wrong", "password")
    await call.require_live()
    try:
        await call.write(UserDeleted(user=call.user), {call.user})
    finally:
        if call.has_written:
            await call.work.sign_ups.run(call.gateway.credentials.drop, call.user)
            await call.work.on_file_thread(call.gateway.uploads.forget, call.user)
    return call.json({})


async def verify_credentials(call: Call) -> Response:
    return call.json(await call.ask(lambda reading: _own(call, reading)))


def _own(call: Call, reading: Reading) -> Json:
    return own_account(call.user, gather_people(reading, call.origin, [call.user]))


async def update_credentials(call: Call) -> Response:
    """Change the display name or the note; what is left out stays."""
    fields = await call.fields()
    display_name = fields.text("display_name", DISPLAY_NAME_CHARACTERS_MAX)
    note = fields.text("note", NOTE_CHARACTERS_MAX)
    if display_name is None and note is None:
        return await verify_credentials(call)
    await call.require_live()
    event = ProfileChanged(
        user=call.user,
        display_name=None if display_name is None else personal(display_name),
        bio=None if note is None else personal(note),
    )
    await call.write(event, {call.user})
    return call.json(await call.outcome(lambda reading: _own(call, reading)))


async def show(call: Call) -> Response:
    user = call.path_id()

    def answer(reading: Reading) -> Json:
        live_user(call, reading, user)
        return account(user, gather_people(reading, call.origin, [user]))

    return call.json(await call.ask(answer))


async def lookup(call: Call) -> Response:
    """By name, with or without an @ before it and this host behind it."""
    acct = call.query.required("acct", 300).removeprefix("@")
    name, _, host = acct.partition("@")
    if host and f"//{host}" != call.origin.partition(":")[2]:
        raise not_found("account", "acct")

    def answer(reading: Reading) -> Json:
        user = people.user_named(reading, name)
        if user is None:
            user = _nameless(reading, name)
        return account(user, gather_people(reading, call.origin, [user]))

    return call.json(await call.ask(answer))


def _nameless(reading: Reading, name: str) -> int:
    """Whoever has no name is shown with their id in its place, and found by it."""
    user = parse_id(name)
    profiles = people.profiles(reading, [user]) if user is not None and user <= ID_MASK else {}
    if user is None or user not in profiles or profiles[user].username:
        raise not_found("account", "acct")
    return user


async def relationships(call: Call) -> Response:
    """Between the caller and each of the ids; those who are not there are left out."""
    users = call.query.ids("id")
    if len(users) > RELATIONSHIPS_MAX:
        raise malformed("id", f"names {len(users)} accounts; the limit is {RELATIONSHIPS_MAX}")

    def answer(reading: Reading) -> list[Json]:
        live = [user for user in users if user <= ID_MASK and people.is_live(reading, user)]
        return [relationship(user, social_graph.relationship(reading, call.user, user)) for user in live]

    return call.json(await call.ask(answer))


async def posts_of(call: Call) -> Response:
    """The user's posts, newest first. Comments are not among them, and nothing is pinned or boosted."""
    user, wanted = call.path_id(), window(call.query)
    if call.query.text("pinned", 10) in ("true", "1"):
        wanted = Window(0, 0, 0, upwards=False)

    def answer(reading: Reading) -> Page:
        _visible(call, reading, user)

        def choose() -> Page:
            ids = _own_timeline(reading, user, wanted) if wanted.limit else []
            return statuses(reading, call.viewer, call.origin, [(post, user, None) for post in ids])

        return settled(reading, choose)

    return answer_page(call, await call.ask(answer))


def _own_timeline(reading: Reading, user: int, wanted: Window) -> list[int]:
    below = min(wanted.below, reading.position + 1)
    if wanted.upwards:
        return timelines.timeline_upwards(reading, user, above=wanted.above, below=below, limit=wanted.limit)[::-1]
    return timelines.timeline(reading, user, below=below, above=wanted.above, limit=wanted.limit)


def _visible(call: Call, reading: Reading, user: int) -> None:
    live_user(call, reading, user)
    if not may_see(reading, call.viewer, user):
        raise not_found("account", "id")


async def followers(call: Call) -> Response:
    """By id descending."""
    return await _people(call, social_graph.followers_downwards, social_graph.followers)


async def following(call: Call) -> Response:
    """By id descending."""
    return await _people(call, social_graph.following_downwards, social_graph.following)


async def _people(call: Call, downwards: Callable[..., list[int]], upwards: Callable[..., list[int]]) -> Response:
    user, wanted = call.path_id(), window(call.query, limit=40, limit_max=80)

    def answer(reading: Reading) -> tuple[list[int], list[Json]]:
        _visible(call, reading, user)
        if wanted.upwards:
            users = upwards(reading, user, after=wanted.above, below=wanted.below, limit=wanted.limit)[::-1]
        else:
            users = downwards(reading, user, below=wanted.below, above=wanted.above, limit=wanted.limit)
        return users, accounts(reading, call.origin, users)

    users, shown = await call.ask(answer)
    return call.json(shown, headers=links(call, users[0], users[-1]) if users else None)


async def follow(call: Call) -> Response:
    return await _relate(call, lambda user, other: UserFollowed(follower=user, followee=other), may_be_blocked=False)


async def unfollow(call: Call) -> Response:
    return await _relate(call, lambda user, other: UserUnfollowed(follower=user, followee=other))


async def block(call: Call) -> Response:
    return await _relate(call, lambda user, other: UserBlocked(user=user, target=other))


async def unblock(call: Call) -> Response:
    return await _relate(call, lambda user, other: UserUnblocked(user=user, target=other))


async def mute(call: Call) -> Response:
    return await _relate(call, lambda user, other: UserMuted(user=user, target=other))


async def unmute(call: Call) -> Response:
    return await _relate(call, lambda user, other: UserUnmuted(user=user, target=other))


async def _relate(call: Call, fact: Callable[[int, int], Event], *, may_be_blocked: bool = True) -> Response:
    """Append, then answer with what stands between the two there: a race is decided by the log and told as it is.

    What cannot be asked before is only told after, for the fold checks all of it again.
    """
    user, other = call.user, call.path_id()
    if other == user:
        raise invalid("id", "is your own")

    def found(reading: Reading) -> Any:
        live_user(call, reading, other)
        standing = social_graph.relationship(reading, user, other)
        if not may_be_blocked and (standing.blocking or standing.blocked_by):
            raise Refused(403, "a block stands between you and this account", "id")
        return standing

    await call.check(found)
    await call.write(fact(user, other), {user, other})
    return call.json(relationship(other, await call.outcome(found)))
