"""Users, their names and their profiles.

Registering always makes a user; the name is the first claimant's for ever. Every shard knows who is live, and a name is
kept by the shard that it hashes to, so nobody else needs to know who won it.
"""

import re
from functools import lru_cache

import msgspec

from darkroom.events.facts import Personal, ProfileChanged, UserRegistered
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of_text
from darkroom.projections.shard_state import ShardState, id_key
from darkroom.projections.tables import CLAIMS, NAMES, PROFILES

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
        rows = view.rows(PROFILES, [id_key(user) for user in members])
        found |= {int.from_bytes(key, "big"): _decode_profile(data) for key, data in rows.items()}
    folded = {user: folded_name(profile.username) for user, profile in found.items()}
    _know_holders(reading, {name for name in folded.values() if name is not None})
    for user, name in folded.items():
        if name is None or reading.holders.get(name) != user:
            found[user] = msgspec.structs.replace(found[user], username="")
    return found


def _know_holders(reading: Reading, names: set[str]) -> None:
    """Ask whose names these are, each shard once. A name that is somebody's stays theirs, so it is asked about once."""
    keys: dict[int, list[bytes]] = {}
    for name in names - reading.holders.keys():
        keys.setdefault(shard_of_text(name, reading.shards), []).append(name.encode())
    for shard, wanted in keys.items():
        rows = reading.shard(shard).rows(NAMES, sorted(wanted))
        reading.holders.update((key.decode(), int.from_bytes(data, "big")) for key, data in rows.items())
