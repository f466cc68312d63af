"""Posts and comments by id, as whoever asks may see them: what may not be seen is not there."""

from dataclasses import dataclass

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Entry
from darkroom.gateway.http.errors import not_found
from darkroom.gateway.http.hydration import entry_of_comment, entry_of_post, hidden_people, may_see
from darkroom.projections import engagement, people, timelines
from darkroom.projections.reading import Reading


@dataclass(frozen=True)
class Found:
    """A live post, or a live comment on one: `post` and `author` are the post's either way."""

    entry: Entry
    post: int
    author: int

    @property
    def is_post(self) -> bool:
        return self.entry.is_post


def find(call: Call, reading: Reading, wanted: int, field: str = "id") -> Found:
    """The post or comment; Refused 404 where there is none that the caller may see."""
    row = timelines.find_post(reading, wanted)
    if row is not None:
        author = timelines.author_of(row)
        found = Found(entry_of_post(wanted, row), wanted, author)
    else:
        comment = engagement.find_comment(reading, wanted)
        if comment is None or not comment.event:
            raise call.missing(reading, "post or comment", wanted, field)
        author = comment.author
        found = Found(entry_of_comment(wanted, comment), comment.post, author)
    hidden = not may_see(reading, call.viewer, author)
    if hidden or (not found.is_post and hidden_people(reading, call.viewer, [found.entry.user])):
        raise not_found("post or comment", field)
    return found


def find_to_engage(call: Call, reading: Reading, wanted: int, field: str = "id") -> Found:
    """As `find`, for liking and commenting, which a block forbids whichever of the two set it."""
    found = find(call, reading, wanted, field)
    if hidden_people(reading, call.viewer, [found.author]):
        raise not_found("post or comment", field)
    return found


def live_user(call: Call, reading: Reading, user: int, field: str = "id") -> int:
    """The user, who is there; Refused 404."""
    if not people.is_live(reading, user):
        call.may_come(reading, user)
        raise call.missing(reading, "account", user, field)
    return user
