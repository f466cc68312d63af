"""eventsourcing: its SQLite recorder for groups, its Application for many writers. https://eventsourcing.readthedocs.io"""

import threading
import time
from uuid import UUID, uuid4

from eventsourcing.application import Application  # type: ignore[import-not-found]
from eventsourcing.domain import Aggregate, event  # type: ignore[import-not-found]
from eventsourcing.persistence import StoredEvent  # type: ignore[import-not-found]
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore  # type: ignore[import-not-found]

from benchmarks.peers.protocol import answer


class Post(Aggregate):  # type: ignore[misc]
    """What is liked."""

    @event("Liked")  # type: ignore[untyped-decorator]
    def like(self, body: str) -> None:
        """Nothing is decided: only storing is measured."""


class Log:
    def open(self, folder: str) -> None:
        """WAL, as the recorder itself sets it; SQLite's default is to sync every commit."""
        datastore = SQLiteDatastore(f"{folder}/eventsourcing.sqlite")
        self.recorder = SQLiteApplicationRecorder(datastore)
        self.recorder.create_table()
        self.application = Application(
            {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": f"{folder}/application.sqlite"}
        )
        self.posts: list[UUID] = []
        self.version = 0

    def append(self, bodies: list[str], rounds: int) -> float:
        """Seconds for the rounds; each is one transaction with all the bodies, each a post's next event."""
        self.posts += [uuid4() for _ in range(len(bodies) - len(self.posts))]
        data = [(post, bytes.fromhex(body)) for post, body in zip(self.posts, bodies, strict=False)]
        began = time.perf_counter()
        for _ in range(rounds):
            self.version += 1
            self.recorder.insert_events([StoredEvent(post, self.version, "PostLiked", body) for post, body in data])
        return time.perf_counter() - began

    def append_together(self, body: str, writers: int, each: int) -> dict[str, float]:
        """Each writer saves events of an aggregate of its own through the application."""
        waited: list[float] = []
        barrier = threading.Barrier(writers + 1)

        def write() -> None:
            post, mine = Post(), []
            self.application.save(post)
            barrier.wait()
            for _ in range(each):
                began = time.perf_counter()
                post.like(body=body)
                self.application.save(post)
                mine.append(time.perf_counter() - began)
            waited.extend(mine)

        threads = [threading.Thread(target=write) for _ in range(writers)]
        for thread in threads:
            thread.start()
        barrier.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - began
        if len(waited) != writers * each:
            raise RuntimeError("a writer failed")
        return {"seconds": taken, "p99_ms": 1e3 * sorted(waited)[len(waited) * 99 // 100]}

    def saved_together(self) -> int:
        """How many events of `append_together` are stored: all but the creations of the aggregates."""
        saved = self.application.recorder.select_notifications(1, 1_000_000)
        return sum(1 for stored in saved if not stored.topic.endswith("Created"))

    def bodies(self) -> list[str]:
        return [stored.state.hex() for stored in self.recorder.select_notifications(1, 1_000_000)]


if __name__ == "__main__":
    log = Log()
    answer({name: getattr(log, name) for name in ("open", "append", "append_together", "saved_together", "bodies")})
