"""Reading over HTTP while all projections are rebuilt, beside the same run without a rebuild

The standard mix, served by two shards in Ray's actors, and rebuilt by them over and over. Reads are those of `http`;
each stretch of them is taken before the rebuild, until the server has switched to the new generation, and afterwards.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks.bench_rebuild import mixed
from benchmarks.http_load import load
from benchmarks.http_servers import recorded
from benchmarks.measure import OURS, Aim, Measurement, Row, percentile, turns
from benchmarks.run import Bench
from benchmarks.served_world import COMMAND_S, catch_up, new_directory, requests_of, serve, tokens_of
from darkroom.actors.supervisor import RebuildRequest, ask_for_rebuild, take_answer
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import PostPublished, UserRegistered

TITLE = "Rebuild while serving"
CONNECTIONS = (1, 16)
SIGNED_IN = 200
BLOCK = 500
POLL_S = 0.02
BEFORE, WITHOUT, AFTER, UNREAD = "before it", "without a rebuild", "after it", "nobody reading"


def rows(bench: Bench) -> Iterator[Row]:
    events = mixed(bench)
    users = [at for at, event in enumerate(events, 1) if isinstance(event, UserRegistered)]
    posts = [(at, event.author) for at, event in enumerate(events, 1) if isinstance(event, PostPublished)]
    with bench.folder() as folder, ExitStack() as stack:
        directory = new_directory(folder / "data", events)
        catch_up(directory)
        requests = requests_of(list(tokens_of(directory, users, SIGNED_IN)), posts, bench.size(4 * BLOCK, 200))
        served = _Served(directory, stack.enter_context(serve(bench, directory)), requests)
        for connections in CONNECTIONS[:1] if bench.quick else CONNECTIONS:
            yield from _rows(bench, served, connections, len(events))


class _Served:
    """A server that is read and told to rebuild. Every answer must be what was answered in the beginning."""

    def __init__(self, directory: DataDirectory, port: int, requests: list[bytes]) -> None:
        self._directory, self._port, self._requests = directory, port, requests
        self._answers = load(port, requests, 1, keep=True).bodies
        self._generation = 1

    def read(self, connections: int, until: Callable[[], bool]) -> list[float]:
        """How long each read took, in ms; all the requests, again and again in blocks, until that is so."""
        waited: list[float] = []
        while True:
            start = len(waited) % len(self._requests)
            block = slice(start, start + BLOCK)
            found = load(self._port, self._requests[block], connections, keep=True)
            for body, answer in zip(found.bodies, self._answers[block], strict=True):
                assert recorded(body)[2] == recorded(answer)[2], f"{body[:500]!r} is not {answer[:500]!r}"
            waited += [1e3 * one for one in found.waited_s]
            if until():
                return waited

    def read_all(self, connections: int) -> list[float]:
        blocks = iter(range(0, len(self._requests), BLOCK))
        next(blocks)
        return self.read(connections, lambda: next(blocks, None) is None)

    def rebuild(self, meanwhile: Callable[[Callable[[], bool]], None]) -> float:
        """Seconds from the request until another generation serves; `meanwhile` is done until then."""
        path = ask_for_rebuild(self._directory, secrets.token_hex(4), RebuildRequest())
        began = ended = time.perf_counter()

        def is_done() -> bool:
            nonlocal ended
            answer, ended = take_answer(path), time.perf_counter()
            if answer is None:
                assert ended - began < COMMAND_S, "the rebuild does not end"
                return False
            assert answer.generation is not None, answer.error
            assert answer.generation > self._generation, "nothing was rebuilt"
            self._generation = answer.generation
            return True

        meanwhile(is_done)
        return ended - began


class _Runs:
    """Runs with so many connections, with a rebuild and without, and what was waited in each."""

    def __init__(self, served: _Served, connections: int, events: int) -> None:
        self._served, self._connections, self._events = served, connections, events
        self._rebuild_s = 0.0
        self.stretches: dict[str, list[list[float]]] = {OURS: [], BEFORE: [], WITHOUT: [], AFTER: []}

    def with_rebuild(self) -> float:
        """Events a second, while it is read."""
        self._note(BEFORE, self._served.read_all(self._connections))
        self._rebuild_s = self._served.rebuild(
            lambda is_done: self._note(OURS, self._served.read(self._connections, is_done))
        )
        self._note(AFTER, self._served.read_all(self._connections))
        return self._events / self._rebuild_s

    def without(self) -> float:
        """The same reads for as long as the last rebuild took; a rebuild that nobody waits for is no figure."""
        self._served.read_all(self._connections)
        ends_at = time.perf_counter() + self._rebuild_s
        self._note(WITHOUT, self._served.read(self._connections, lambda: time.perf_counter() >= ends_at))
        return 0.0

    def unread(self) -> float:
        """Events a second, while nobody reads."""

        def wait(is_done: Callable[[], bool]) -> None:
            while not is_done():
                time.sleep(POLL_S)

        return self._events / self._served.rebuild(wait)

    def _note(self, stretch: str, waited: list[float]) -> None:
        self.stretches[stretch].append(waited)

    def percentiles(self, percent: int) -> dict[str, list[float]]:
        return {name: [percentile(one, percent) for one in waited] for name, waited in self.stretches.items()}


def _rows(bench: Bench, served: _Served, connections: int, events: int) -> Iterator[Row]:
    runs = _Runs(served, connections, events)
    contenders: dict[str, Measurement] = {OURS: runs.with_rebuild, WITHOUT: runs.without, UNREAD: runs.unread}
    rates = turns(contenders, bench.repeats)
    told = f"{connections} connection{'s' * (connections > 1)}"
    reads = min(len(waited) for waited in runs.stretches[OURS])
    for percent in (50, 99):
        yield Row(
            name=f"HTTP reads during a rebuild, {told}, p{percent}",
            unit="ms",
            values=runs.percentiles(percent),
            aims=[Aim(2, BEFORE, "at most"), Aim(2, WITHOUT, "at most")] if percent == 99 else [],
            checked="every answer before, during and after each rebuild has the same bytes as the first",
            notes=[f"At {told}, a rebuild was read at least {reads:,} times."],
        )
    yield Row(
        name=f"rebuild on two shards while it is read over {told}",
        unit="events/s",
        values={name: rates[name] for name in (OURS, UNREAD)},
    )
