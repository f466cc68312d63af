"""From ids to what is shown: posts, comments, people, counters and likes, each asked of a shard once for a whole page.

Nothing above the position that a page is answered at is on it: gathering may touch a shard that is further behind than
those that chose the page, and then the page is chosen again.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

from msgspec import Raw

from darkroom.gateway.http import cards
from darkroom.gateway.http.entities import Entry, Gathered, Json, account, status
from darkroom.projections import engagement, people, timelines
from darkroom.projections.engagement import CommentRow
from darkroom.projections.reading import Reading
from darkroom.projections.social_graph import kept_apart, relationship
from darkroom.projections.views import View

Page = Sequence[tuple[int, Raw | Json]]
"""What is shown, each with its id, which says what it is older and newer than."""

Statuses = list[tuple[int, Raw]]
"""A page of posts."""

P = TypeVar("P", bound=Page)

Wanted = tuple[int, int, bytes | None]
"""A post to be shown: its id, its author, and its row where it is at hand."""

ENTRIES_KEPT = 8192
"""Posts that were shown lately, decoded, some 5 KB each with what is rendered of them."""


@lru_cache(ENTRIES_KEPT)
def entry_of_post(post: int, row: bytes) -> Entry:
    time_ms, event = timelines.decode_row(row)
    return Entry(post, event.author, time_ms, event)


def entry_of_comment(comment: int, row: CommentRow) -> Entry:
    """A comment replies to its post or to another comment; a deleted one is nobody's."""
    event = engagement.comment_event(row)
    parent = (row.in_reply_to or row.post, row.in_reply_to_user or row.author)
    return Entry(comment, row.user if event is not None else 0, row.time_ms, event, parent)


def posts(reading: Reading, wanted: Sequence[Wanted]) -> list[Entry]:
    """Entries of posts in their order, those left out that are gone."""
    fetched = _rows(reading, [(post, author) for post, author, row in wanted if row is None])
    rows = ((post, row or fetched.get(post)) for post, _, row in wanted)
    return [entry_of_post(post, row) for post, row in rows if row is not None]


def _rows(reading: Reading, wanted: list[tuple[int, int]]) -> dict[int, bytes]:
    """The rows of (post, author)."""
    by_author: dict[int, list[int]] = {}
    for post, author in wanted:
        by_author.setdefault(author, []).append(post)
    rows: dict[int, bytes] = {}
    for view, authors in reading.grouped(by_author):
        rows |= timelines.rows(view, [post for author in authors for post in by_author[author]])
    return rows


def gather(reading: Reading, viewer: int | None, origin: str, entries: Sequence[Entry]) -> Gathered:
    """All that is shown with the entries."""
    gathered = Gathered(origin)
    posts_by: dict[int, list[int]] = {entry.user: [] for entry in entries if entry.user}
    for entry in entries:
        if entry.is_post:
            posts_by[entry.user].append(entry.id)
    for view, writers in reading.grouped(posts_by):
        gathered.profiles |= people.profiles_as_claimed(view, writers)
        gathered.user_counters |= engagement.counters_of_users(view, writers)
        _gather_engagement(view, gathered, viewer, [post for writer in writers for post in posts_by[writer]])
    named = {user for entry in entries for user in entry.mentions if user not in posts_by}
    for view, members in reading.grouped(named):
        gathered.profiles |= people.profiles_as_claimed(view, members)
    gathered.profiles = people.with_names_won(reading, gathered.profiles)
    return gathered


def _gather_engagement(view: View, gathered: Gathered, viewer: int | None, of: list[int]) -> None:
    if viewer is None:
        gathered.post_counters |= engagement.counters_of_posts(view, of)
        return
    counters, liked = engagement.engagement_of_posts(view, of, viewer)
    gathered.post_counters |= counters
    gathered.favourited |= liked


def statuses(reading: Reading, viewer: int | None, origin: str, wanted: Sequence[Wanted]) -> Statuses:
    """Posts as clients know them, in their order, those left out that are gone.

    What was shown before is shown again as it was, if it still would be made so.
    """
    shown = cards.shown_again(reading, viewer, origin, [(post, author) for post, author, _ in wanted])
    entries = posts(reading, [one for one in wanted if one[0] not in shown])
    if entries:
        gathered = gather(reading, viewer, origin, entries)
        made = {entry.id: status(entry, gathered) for entry in entries}
        cards.keep(reading, gathered, entries, made)
        shown |= made
    return [(post, shown[post]) for post, _, _ in wanted if post in shown]


def bytes_of(page: Statuses) -> int:
    """As it is sent, less commas."""
    return sum(memoryview(status).nbytes for _, status in page)


def accounts(reading: Reading, origin: str, users: Sequence[int]) -> list[Json]:
    """Those of the users who are live, in their order."""
    gathered = gather_people(reading, origin, users)
    return [account(user, gathered) for user in users if user in gathered.profiles]


def gather_people(reading: Reading, origin: str, users: Sequence[int]) -> Gathered:
    gathered = Gathered(origin, people.profiles(reading, list(users)))
    for view, members in reading.grouped(gathered.profiles):
        gathered.user_counters |= engagement.counters_of_users(view, members)
    return gathered


def settled(reading: Reading, choose: Callable[[], P]) -> P:
    """What `choose` returns once none of it lies above the position that it is answered at.

    A view's position does not move and the answer's can only fall, so it ends when every shard has been touched.
    """
    while True:
        chosen = choose()
        if all(position <= reading.position for position, _ in chosen):
            return chosen


def hidden_people(reading: Reading, viewer: int | None, others: Iterable[int]) -> set[int]:
    """Those of the others with whom a block stands, whoever set it: the viewer does not see what they do."""
    if viewer is None:
        return set()
    return kept_apart(reading.of(viewer), viewer, list(others))


def may_see(reading: Reading, viewer: int | None, author: int) -> bool:
    """Whoever the author blocks does not see the author's posts."""
    return viewer is None or viewer == author or not relationship(reading, viewer, author).blocked_by
