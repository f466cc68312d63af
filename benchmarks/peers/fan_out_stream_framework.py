"""stream-framework 1.4: each post into its followers' feeds in a batch, as its Manager.fanout does it.

The Manager itself cannot be imported: it has a parameter called `async`. Celery is left out, so nothing is queued.
"""

import time
from array import array
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from stream_framework import settings  # type: ignore[import-not-found]
from stream_framework.activity import Activity  # type: ignore[import-not-found]
from stream_framework.feeds.redis import RedisFeed  # type: ignore[import-not-found]
from stream_framework.verbs.base import Love  # type: ignore[import-not-found]

from benchmarks.peers.protocol import answer

EPOCH = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
CHUNK_FEEDS = 100


class Feed(RedisFeed):  # type: ignore[misc]
    key_format = "stream:%(user_id)s"
    max_length = 1_000


class Feeds:
    def open(self, port: int, grouped: bool) -> None:  # noqa: ARG002
        settings.STREAM_REDIS_CONFIG["default"]["port"] = port
        self.first = 0

    def deliver(self, path: str) -> float:
        """Seconds to deliver (post, owner) pairs; posts are numbered on from those of earlier calls."""
        numbers = array("Q", Path(path).read_bytes())
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        audiences = {post: [owner for _, owner in rows] for post, rows in groupby(pairs, key=lambda pair: pair[0])}
        began = time.perf_counter()
        for post, owners in audiences.items():
            number = self.first + post
            activity = Activity(1, Love, number, time=EPOCH + timedelta(seconds=number))
            Feed.insert_activity(activity)
            for start in range(0, len(owners), CHUNK_FEEDS):
                with Feed.get_timeline_batch_interface() as batch:
                    for owner in owners[start : start + CHUNK_FEEDS]:
                        Feed(owner).add_many([activity], batch_interface=batch, trim=True)
        taken = time.perf_counter() - began
        self.last, self.first = self.first, self.first + len(audiences)
        return taken

    def newest(self, owners: list[int]) -> list[list[int]]:
        """Numbers within the last call, newest first."""
        return [[int(found.object_id) - self.last for found in Feed(owner)[:1000]] for owner in owners]


if __name__ == "__main__":
    feeds = Feeds()
    answer({name: getattr(feeds, name) for name in ("open", "deliver", "newest")})
