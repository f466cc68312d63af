"""redis-py: rows into sorted sets by ZADD, and a trim, through pipelines: post by post, or a batch grouped by feed."""

import time
from array import array
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import redis

from benchmarks.peers.protocol import answer

ROWS_MAX = 1_000
PIPELINE_FEEDS = 1_000
MEMORY = "8gb"


class Feeds:
    def open(self, port: int, grouped: bool) -> None:
        self.redis = redis.Redis(host="127.0.0.1", port=port)
        self.redis.config_set("maxmemory", MEMORY)
        self.prefix = f"{'grouped' if grouped else 'single'}:"
        self.grouped = grouped
        self.first = 0

    def deliver(self, path: str) -> float:
        """Seconds to deliver (post, owner) pairs; posts are numbered on from those of earlier calls."""
        numbers = array("Q", Path(path).read_bytes())
        posts, owners = numbers[::2], numbers[1::2]
        began = time.perf_counter()
        if self.grouped:
            pairs = sorted(zip(owners, posts, strict=True))
            batch = groupby(pairs, key=lambda pair: pair[0])
            self._add((owner, [post for _, post in rows]) for owner, rows in batch)
        else:
            self._add((owner, [post]) for owner, post in zip(owners, posts, strict=True))
        taken = time.perf_counter() - began
        self.last, self.first = self.first, self.first + max(posts) + 1
        return taken

    def _add(self, feeds: Iterable[tuple[int, list[int]]]) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        for count, (owner, posts) in enumerate(feeds, 1):
            key = f"{self.prefix}{owner}"
            pipeline.zadd(key, {str(self.first + post): self.first + post for post in posts})
            pipeline.zremrangebyrank(key, 0, -ROWS_MAX - 1)
            if count % PIPELINE_FEEDS == 0:
                pipeline.execute()
        pipeline.execute()

    def newest(self, owners: list[int]) -> list[list[int]]:
        """Numbers within the last call, newest first."""
        found: Any = [self.redis.zrevrange(f"{self.prefix}{owner}", 0, ROWS_MAX - 1) for owner in owners]
        return [[int(post) - self.last for post in posts] for posts in found]


if __name__ == "__main__":
    feeds = Feeds()
    answer({name: getattr(feeds, name) for name in ("open", "deliver", "newest")})
