"""What a write acts upon: found in the views, or in the log where they cannot be asked, so that writes go on.

An id is the position of the record that made it, so the log alone says what it is of and whose. What became of it since
(deleted, hidden by a block) it does not say: then the write is appended unchecked, and the fold decides.
"""

from collections.abc import Callable
from dataclasses import dataclass

from darkroom.events.facts import CommentAdded, PostPublished
from darkroom.gateway.http.call import Call
from darkroom.gateway.http.errors import not_found
from darkroom.gateway.http.finding import Found
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK


@dataclass(frozen=True)
class Target:
    """A post, or a comment on one: `post` and `author` are the post's either way, `writer` is the id's own."""

    id: int
    post: int
    author: int
    writer: int

    @property
    def is_post(self) -> bool:
        return self.id == self.post


def target_of(found: Found) -> Target:
    return Target(found.entry.id, found.post, found.author, found.entry.user)


async def find_target(call: Call, wanted: int, find: Callable[[Call, Reading, int], Found]) -> Target:
    """What `find` finds, which refuses what may not be seen; if nobody can tell now, what the log says."""
    found = await call.check(lambda reading: find(call, reading, wanted))
    return await recorded_target(call, wanted) if found is None else target_of(found)


async def recorded_target(call: Call, wanted: int, field: str = "id") -> Target:
    """What the log says; Refused 404 where it has no post or comment of that id. LogError."""
    if 0 < wanted <= ID_MASK:
        for record in await call.work.on_file_thread(call.gateway.log.read, wanted - 1, 1):
            if isinstance(record.event, PostPublished):
                return Target(wanted, wanted, record.event.author, record.event.author)
            if isinstance(record.event, CommentAdded):
                return Target(wanted, record.event.post, record.event.author, record.event.user)
    raise not_found("post or comment", field)
