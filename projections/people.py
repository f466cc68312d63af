"""Users, their names and their profiles.

Registering always makes a user; the name is the first claimant's for ever. Every shard knows who is live, and a name is
kept by the shard that it hashes to, so nobody else needs to know who won it.
"""

import re
from functools import lru_cache

import msgspec

from darkroom.events.facts import Personal, ProfileChanged, UserRegistered
from darkroom.projections.pages import id_key
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of_text
from darkroom.projections.shard_state import ShardState
from darkroom.projections.tables import CLAIMS, NAMES, PROFILES
from darkroom.projections.views import View

_NAME = re.compile(r"(?=.*[A-Za-z_])[A-Za-z0-9_]{1,30}")


class ProfileRow(msgspec.Struct, array_like=True, frozen=True):
    """A user as they describe themselves; `username` is what was claimed, won or not."""

    username: str
    display_name: str
    registered_ms: int
    bio: str = ""
    avatar: str | None = None


PROFILES_KEPT = NAMES_KEPT = 8192

_decode_profile = lru_cache(PROFILES_KEPT)(msgspec.msgpack.Decoder(ProfileRow).decode)


@lru_cache(NAMES_KEPT)
def folded_name(name: str) -> str | None:
    """The form in which names are compared, or None where it can be nobody's name."""
    return name.lower() if _NAME.fullmatch(name) else None


# Built by


def user_registered(state: ShardState, event: UserRegistered) -> None:
    user, name = state.position, folded_name(event.username.text)
    state.live.add(user)
    if name is not None and state.keeps_text(name) and state.rows[NAMES].get(name.encode()) is None:
        state.rows[NAMES].set(name.encode(), id_key(user))
    if event.claim is not None and state.keeps_text(event.claim):
        claim = _claim_key(event.claim)
        if state.rows[CLAIMS].get(claim) is None:
            state.rows[CLAIMS].set(claim, id_key(user))
    if state.serves(user):
        row = ProfileRow(event.username.text, event.display_name.text, state.time_ms)
        state.rows[PROFILES].set(id_key(user), msgspec.msgpack.encode(row))


def profile_changed(state: ShardState, event: ProfileChanged) -> None:
    if event.user not in state.live or not state.serves(event.user):
        return
    data = state.rows[PROFILES].get(id_key(event.user))
    assert data is not None, f"live user {event.user} has no profile"
    row = _decode_profile(data)
    row = msgspec.structs.replace(
        row,
        display_name=_changed(event.display_name, row.display_name),
        bio=_changed(event.bio, row.bio),
        avatar=row.avatar if event.avatar is None else event.avatar,
    )
    state.rows[PROFILES].set(id_key(event.user), msgspec.msgpack.encode(row))


def forget_profile(state: ShardState, user: int) -> None:
    if state.serves(user):
        state.rows[PROFILES].delete(id_key(user))


def _changed(new: Personal | None, old: str) -> str:
    return old if new is None else new.text


def _claim_key(claim: str) -> bytes:
    return claim.encode()[:256]


# Read by


def is_live(reading: Reading, user: int) -> bool:
    """Whether the user is registered and not deleted, as their own shard knows."""
    return reading.of(user).live([user])[0]


def holder_of_name(reading: Reading, name: str) -> int | None:
    """Whose name it is, live or not; None where it is nobody's."""
    folded = folded_name(name)
    if folded is None:
        return None
    data = reading.of_text(folded).row(NAMES, folded.encode())
    return None if data is None else int.from_bytes(data, "big")


def user_named(reading: Reading, name: str) -> int | None:
    """The live user of that name, case-folded; None where there is none."""
    user = holder_of_name(reading, name)
    return user if user is not None and is_live(reading, user) else None


def user_of_claim(reading: Reading, claim: str) -> int | None:
    """The user whom a sign-up's claim was registered with, live or not."""
    data = reading.of_text(claim).row(CLAIMS, _claim_key(claim))
    return None if data is None else int.from_bytes(data, "big")


def profiles(reading: Reading, users: list[int]) -> dict[int, ProfileRow]:
    """The profiles of those users who are live; `username` is empty where another claimed it first."""
    found: dict[int, ProfileRow] = {}
    for view, members in reading.grouped(users):
        found |= profiles_as_claimed(view, members)
    return with_names_won(reading, found)


def profiles_as_claimed(view: View, users: list[int]) -> dict[int, ProfileRow]:
    """The profiles of those users who are live, asked of their shard; whose name it is, others know."""
    found = view.rows(PROFILES, [id_key(user) for user in users])
    return {user: _decode_profile(data) for user, data in zip(users, found, strict=True) if data is not None}


def with_names_won(reading: Reading, found: dict[int, ProfileRow]) -> dict[int, ProfileRow]:
    """The profiles, without the names that another claimed first."""
    claims = [(user, folded_name(profile.username) or "") for user, profile in found.items()]
    unsure = [(user, name) for user, name in claims if reading.holders.get(name) != user]
    if not unsure:
        return found
    _know_holders(reading, {name for _, name in unsure if name and name not in reading.holders})
    losers = [user for user, name in unsure if reading.holders.get(name) != user]
    return found | {user: msgspec.structs.replace(found[user], username="") for user in losers}


def _know_holders(reading: Reading, names: set[str]) -> None:
    """Ask whose names these are, each shard once. A name that is somebody's stays theirs, so it is asked about once."""
    by_shard: dict[int, list[str]] = {}
    for name in sorted(names):
        by_shard.setdefault(shard_of_text(name, reading.shards), []).append(name)
    for shard, wanted in by_shard.items():
        rows = zip(wanted, reading.shard(shard).rows(NAMES, [name.encode() for name in wanted]), strict=True)
        reading.holders.update((name, int.from_bytes(data, "big")) for name, data in rows if data is not None)
