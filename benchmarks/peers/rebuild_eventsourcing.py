"""eventsourcing's ProjectionRunner, in memory: its application holds the events, its projection folds a plain world."""

import time
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import msgspec
from eventsourcing.application import Application  # type: ignore[import-not-found]
from eventsourcing.dispatch import singledispatchmethod  # type: ignore[import-not-found]
from eventsourcing.domain import DomainEvent  # type: ignore[import-not-found]
from eventsourcing.persistence import StoredEvent, Tracking  # type: ignore[import-not-found]
from eventsourcing.popo import POPOTrackingRecorder  # type: ignore[import-not-found]
from eventsourcing.projection import Projection, ProjectionRunner  # type: ignore[import-not-found]

from benchmarks.peers.plain_world import PlainWorld
from benchmarks.peers.protocol import answer, blocks, digests

WAIT_S = 900
ONE = uuid4()


class Happened(DomainEvent):  # type: ignore[misc]
    """One event of the mix: a method of the plain world, and its arguments."""

    method: str
    arguments: list[Any]


class Log(Application):  # type: ignore[misc]
    """Filled as soon as it is made, for the runner makes it and begins at once."""

    stored: list[StoredEvent] = []
    filled_at = 0.0

    def __init__(self, env: Any = None) -> None:
        super().__init__(env)
        self.recorder.insert_events(Log.stored)
        Log.filled_at = time.perf_counter()


class Folding(Projection):  # type: ignore[misc]
    world = PlainWorld()

    @singledispatchmethod  # type: ignore[untyped-decorator]
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # noqa: ARG002
        raise TypeError(f"unknown event {domain_event!r}")

    @process_event.register  # type: ignore[untyped-decorator]
    def _(self, domain_event: Happened, tracking: Tracking) -> None:
        getattr(Folding.world, domain_event.method)(tracking.notification_id, *domain_event.arguments)
        self.view.insert_tracking(tracking)


class Rebuild:
    def load(self, path: str) -> int:
        """Store the events in the application's own bytes; how many."""
        Log.stored = _stored(Application(), 1, map(msgspec.msgpack.decode, blocks(path)))
        return len(Log.stored)

    def rebuild(self) -> float:
        """Seconds until the projection has processed all."""
        Folding.world = PlainWorld()
        with ProjectionRunner(
            application_class=Log, projection_class=Folding, view_class=POPOTrackingRecorder
        ) as runner:
            runner.wait(len(Log.stored), timeout=WAIT_S)
            return time.perf_counter() - Log.filled_at

    def end_to_end(self, path: str, group: int) -> float:
        """Seconds from the first event saved until the projection, which runs meanwhile, has processed the last."""
        calls = list(map(msgspec.msgpack.decode, blocks(path)))
        Folding.world, Log.stored = PlainWorld(), []
        with ProjectionRunner(
            application_class=Log, projection_class=Folding, view_class=POPOTrackingRecorder
        ) as runner:
            began = time.perf_counter()
            for start in range(0, len(calls), group):
                runner.app.recorder.insert_events(_stored(runner.app, start + 1, calls[start : start + group]))
            runner.wait(len(calls), timeout=WAIT_S)
            return time.perf_counter() - began

    def digests(self) -> dict[str, str]:
        return digests(Folding.world.tables())


def _stored(application: Application, first: int, calls: Iterable[list[Any]]) -> list[StoredEvent]:
    """In the application's own bytes."""
    now = Happened.create_timestamp()
    happened = (
        Happened(originator_id=ONE, originator_version=version, timestamp=now, method=call[0], arguments=call[1:])
        for version, call in enumerate(calls, first)
    )
    return [application.mapper.to_stored_event(event) for event in happened]


if __name__ == "__main__":
    rebuild = Rebuild()
    answer({name: getattr(rebuild, name) for name in ("load", "rebuild", "end_to_end", "digests")})
