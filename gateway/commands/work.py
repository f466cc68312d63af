"""`serve`, `gateway`, `catch-up`, `rebuild`: who runs the shards."""

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from darkroom.actors.standstill import Standstill, patiently
from darkroom.actors.supervisor import RebuildRequest, Supervisor, ask_for_rebuild, take_answer
from darkroom.actors.worker import faults_of
from darkroom.events.data_directory import DataDirectory, DirectoryBusy, WorkLock, worker_of
from darkroom.gateway.commands.console import CommandFailed, Progress, answer
from darkroom.gateway.composition import Darkroom, Gateway, make_runtime
from darkroom.gateway.settings import Settings
from darkroom.projections.generations import refuse_other_format

POLL_S = 0.05


def serve(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001
    """The gateway and the shards, until it is told to stop."""
    with _stopped_by_signals(), Darkroom(settings, create=True, waits_for_lagging=False) as darkroom:
        lock = WorkLock(darkroom.directory, "darkroom serve, starting")
        try:
            refuse_other_format(darkroom.directory.generations)
            with supervised(darkroom, settings.runtime or "ray") as supervisor:
                supervisor.run()
                _serve_http(darkroom, settings, lambda url: lock.describe(f"darkroom serve, {url}"))
        finally:
            lock.close()
    return 0


def gateway(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001
    """HTTP alone, until it is told to stop: the shards are run by a `serve`, here or on another machine."""
    create = settings.cassandra is not None  # then nothing but what can be made again lies in the directory
    with _stopped_by_signals(), Darkroom(settings, create=create, waits_for_lagging=False) as darkroom:
        refuse_other_format(darkroom.directory.generations)
        _serve_http(darkroom, settings, lambda url: None)  # noqa: ARG005
    return 0


def _serve_http(darkroom: Darkroom, settings: Settings, on_ready: Callable[[str], object]) -> None:
    """`settings` as they were given: those of `darkroom` name what belongs to its log, which others find out again."""
    # No other command needs HTTP.
    from darkroom.gateway.commands.gateway_pool import GatewayPool
    from darkroom.gateway.http.server import listening, url_of
    from darkroom.gateway.http.server import serve as serve_http

    with listening(settings.host, settings.port, shared=settings.gateways > 1) as listener:
        url = url_of(settings.host, listener)

        def tell() -> None:
            on_ready(url)
            answer(f"Darkroom serves {settings.data} on {url}")
            sys.stdout.flush()

        with closing(Gateway(darkroom)) as opened, GatewayPool(settings, listener) as others:
            serve_http(opened, listener, tell, on_stopping=others.stop)


def catch_up(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001
    """Bring the shards to the log's head; beside a server, wait until its shards are there."""
    with Darkroom(settings) as darkroom:
        progress = Progress("catching up")
        try:
            with _work_lock(darkroom.directory, "darkroom catch-up") as lock:
                if lock is None:
                    position = _wait_beside(darkroom, settings, progress)
                else:
                    with supervised(darkroom, settings.runtime or "inline") as supervisor:
                        position = supervisor.catch_up(progress)
        finally:
            progress.end()
        answer(f"{position}")
    return 0


def rebuild(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001
    """Fill a new generation and switch to it; beside a server, have the server do it."""
    with Darkroom(settings) as darkroom:
        progress = Progress("rebuilding")
        try:
            with _work_lock(darkroom.directory, "darkroom rebuild") as lock:
                if lock is None:
                    generation = _rebuild_beside(darkroom.directory, settings.shards)
                else:
                    supervisor = darkroom.supervisor(make_runtime(settings.runtime or "inline", settings))
                    try:
                        generation = supervisor.rebuild(settings.shards, progress)
                    finally:
                        supervisor.close()
        finally:
            progress.end()
        answer(f"generation {generation} serves")
    return 0


@contextmanager
def supervised(darkroom: Darkroom, runtime: str) -> Iterator[Supervisor]:
    supervisor = darkroom.supervisor(make_runtime(runtime, darkroom.settings))
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.close()


@contextmanager
def _work_lock(directory: DataDirectory, what: str) -> Iterator[WorkLock | None]:
    """The work lock, or None where a server has it; another command's holding it is an error."""
    try:
        lock = WorkLock(directory, what)
    except DirectoryBusy as busy:
        if "(darkroom serve" not in busy.holder:
            raise
        yield None
        return
    try:
        yield lock
    finally:
        lock.close()


def _wait_beside(darkroom: Darkroom, settings: Settings, progress: Progress) -> int:
    """Wait for the server's shards to reach the log's present head."""

    def pause() -> None:
        if worker_of(darkroom.directory) is None:
            raise CommandFailed("the server has stopped; run catch-up again")
        time.sleep(POLL_S)

    head, standstill = patiently(darkroom.log.head, pause), Standstill()
    while True:
        pointer = patiently(darkroom.generations.pointer, pause)  # again each time, for a rebuild may switch meanwhile
        if settings.shards not in (None, pointer.shards) and pointer.generation:
            raise CommandFailed(f"shards: the server has {pointer.shards} shards, not {settings.shards}; run rebuild")
        faults = faults_of(darkroom.directory.generations, pointer.generation)  # first: whoever has one moves no more
        positions = patiently(darkroom.readers.positions, pause)
        slowest = min(positions, default=0)
        if slowest >= head and not faults:
            return head
        standstill.check(positions, faults)
        progress(slowest, head)
        pause()


def _rebuild_beside(directory: DataDirectory, shards: int | None) -> int:
    """Ask the server, and wait for its answer."""
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    path = ask_for_rebuild(directory, name, RebuildRequest(shards))
    while (told := take_answer(path)) is None:
        if worker_of(directory) is None:
            path.with_suffix(".rebuild").unlink(missing_ok=True)
            raise CommandFailed("the server has stopped before the rebuild was done; run rebuild again")
        time.sleep(POLL_S)
    if told.generation is None:
        raise CommandFailed(f"the server could not rebuild: {told.error}")
    return told.generation


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, so that everything is closed."""

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
