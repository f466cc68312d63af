"""Posts as they were sent, kept to be sent again for as long as neither they nor their authors change.

Views say what still stands (see `View.recall`). A card is of one origin, for links begin with it, and has a form for
those who like the post and one for those who do not. Whom a post mentions may be in any shard, so they are looked at
each time.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Raw

from darkroom.gateway.http.entities import Entry, Gathered
from darkroom.projections import engagement, people
from darkroom.projections.engagement import UserCounters
from darkroom.projections.people import ProfileRow, folded_name
from darkroom.projections.reading import Reading
from darkroom.projections.routing import shard_of
from darkroom.projections.views import View

AUTHOR, CARD = "author", "card"


class _Author(NamedTuple):
    """All that posts show of their author. A card is of one such object: another one says that something changed."""

    profile: ProfileRow
    counters: UserCounters | None


class _Card(NamedTuple):
    author: _Author
    origin: str
    mentioned: dict[int, ProfileRow | None]
    forms: dict[bool, Raw]
    """By whether the viewer likes the post, as far as somebody asked."""

    def is_of(self, author: _Author | None, origin: str) -> bool:
        return self.author is author and self.origin == origin


def shown_again(reading: Reading, viewer: int | None, origin: str, wanted: Sequence[tuple[int, int]]) -> dict[int, Raw]:
    """Those of the posts, each with its author, that are at hand as the viewer would see them."""
    by_shard: dict[int, list[tuple[int, int]]] = {}
    for one in wanted:
        by_shard.setdefault(shard_of(one[1], reading.shards), []).append(one)
    shown: dict[int, Raw] = {}
    mentioning: dict[int, _Card] = {}
    for shard, members in by_shard.items():
        view, posts = reading.shard(shard), [post for post, _ in members]
        cards: list[_Card | None] = view.recall(CARD, posts)
        if not any(cards):
            continue
        authors: list[_Author | None] = view.recall(AUTHOR, [author for _, author in members])
        liked = engagement.liked(view, posts, viewer)
        for post, card, author, likes in zip(posts, cards, authors, liked, strict=True):
            if card is not None and card.is_of(author, origin) and likes in card.forms:
                shown[post] = card.forms[likes]
                if card.mentioned:
                    mentioning[post] = card
    if mentioning:
        profiles = people.profiles(reading, list({user for card in mentioning.values() for user in card.mentioned}))
        for post, card in mentioning.items():
            if any(profiles.get(user) != profile for user, profile in card.mentioned.items()):
                del shown[post]
    return shown


def keep(reading: Reading, gathered: Gathered, entries: Sequence[Entry], made: Mapping[int, Raw]) -> None:
    """What was made of posts, with all that was gathered for it."""
    entries_by: dict[int, list[Entry]] = {}
    for entry in entries:
        entries_by.setdefault(entry.user, []).append(entry)
    for view, users in reading.grouped(entries_by):
        authors = _authors(reading, view, gathered, users)
        kept = [entry for user in authors for entry in entries_by[user]]
        cards: list[_Card | None] = view.recall(CARD, [entry.id for entry in kept])
        new: list[tuple[int, _Card]] = []
        for entry, card in zip(kept, cards, strict=True):
            author, mentioned = authors[entry.user], {user: gathered.profiles.get(user) for user in entry.mentions}
            if card is None or not card.is_of(author, gathered.origin) or card.mentioned != mentioned:
                card = _Card(author, gathered.origin, mentioned, {})
                new.append((entry.id, card))
            card.forms[entry.id in gathered.favourited] = made[entry.id]
        view.keep(CARD, new)


def _authors(reading: Reading, view: View, gathered: Gathered, users: Sequence[int]) -> dict[int, _Author]:
    """Those who can be kept, as the shard that keeps them says."""
    known: list[_Author | None] = view.recall(AUTHOR, users)
    authors = {user: author for user, author in zip(users, known, strict=True) if author is not None}
    new = {
        user: _Author(gathered.profiles[user], gathered.user_counters.get(user))
        for user in users
        if user not in authors and _is_settled(reading, user, gathered.profiles.get(user))
    }
    view.keep(AUTHOR, new.items())
    return authors | new


def _is_settled(reading: Reading, user: int, profile: ProfileRow | None) -> bool:
    """Whether the profile is the author's shard's alone: who has won a name keeps it, but who has not may yet."""
    return profile is not None and reading.holders.get(folded_name(profile.username) or "") == user
