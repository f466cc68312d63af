"""Home, profile and post out of one SQLite database by joins: the pull that one would write first.

Rendering is Darkroom's own, so that what differs is how a page is found and gathered.
"""

import re
import sqlite3
from pathlib import Path

import msgspec

from darkroom.events.codec import Codec
from darkroom.gateway.http.entities import Entry, Gathered, status
from darkroom.projections.engagement import PostCounters, UserCounters
from darkroom.projections.people import ProfileRow

ORIGIN = "http://darkroom.test"
LIMIT = 20
COLUMNS = """SELECT posts.id, posts.author, posts.time_ms, posts.body,
    (SELECT count(*) FROM likes WHERE post = posts.id),
    EXISTS (SELECT 1 FROM likes WHERE post = posts.id AND user = :viewer)
FROM posts"""
HOME = f"""{COLUMNS} WHERE posts.id IN (
    SELECT id FROM (
        SELECT posts.id FROM follows JOIN posts ON posts.author = follows.followee WHERE follows.follower = :viewer
        UNION ALL SELECT id FROM posts WHERE author = :viewer
    ) ORDER BY id DESC LIMIT {LIMIT}
) ORDER BY posts.id DESC"""
PROFILE = f"{COLUMNS} WHERE posts.author = :wanted ORDER BY posts.id DESC LIMIT {LIMIT}"
POST = f"{COLUMNS} WHERE posts.id = :wanted"
PEOPLE = """SELECT id, name, display_name, registered_ms, (SELECT count(*) FROM follows WHERE followee = users.id),
    (SELECT count(*) FROM follows WHERE follower = users.id), (SELECT count(*) FROM posts WHERE author = users.id)
FROM users WHERE id IN"""


class SqlPages:
    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        self._connection.execute("PRAGMA cache_size=-500000")
        self._decode = Codec().decode

    def answer(self, path: str, viewer: int) -> bytes:
        """The JSON of a page, or of the one post."""
        if path.startswith("/api/v1/timelines/home"):
            return msgspec.json.encode(self._page(HOME, viewer, 0))
        if found := re.match(r"/api/v1/accounts/(\d+)/statuses", path):
            return msgspec.json.encode(self._page(PROFILE, viewer, int(found[1])))
        if found := re.match(r"/api/v1/statuses/(\d+)", path):
            return msgspec.json.encode(self._page(POST, viewer, int(found[1]))[0])
        raise ValueError(f"no page {path}")

    def _page(self, query: str, viewer: int, wanted: int) -> list[msgspec.Raw]:
        gathered, entries = Gathered(ORIGIN), []
        rows = self._connection.execute(query, {"viewer": viewer, "wanted": wanted}).fetchall()
        for post, author, time_ms, body, likes, liked in rows:
            event = self._decode(body)
            entries.append(Entry(post, author, time_ms, event))  # type: ignore[arg-type]  # only posts are there
            gathered.post_counters[post] = PostCounters(likes, 0)
            if liked:
                gathered.favourited.add(post)
        self._add_people(gathered, sorted({user for entry in entries for user in (entry.user, *entry.mentions)}))
        return [status(entry, gathered) for entry in entries]

    def _add_people(self, gathered: Gathered, users: list[int]) -> None:
        query = f"{PEOPLE} ({','.join('?' * len(users))})"
        for user, name, display_name, registered_ms, followers, following, posts in self._connection.execute(
            query, users
        ):
            gathered.profiles[user] = ProfileRow(name, display_name, registered_ms)
            gathered.user_counters[user] = UserCounters(followers, following, posts)
