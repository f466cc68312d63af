"""Reading over HTTP, signed in: 60 % home, 30 % profile, 10 % one post

Pages of 20 in the standard mix, over 1 and 16 connections that are kept open, and over 16 to two gateways on one port.
The floor sends the very same bytes and does nothing for them.
"""

import json
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.bench_rebuild import mixed
from benchmarks.floor_sql import SqlWorld
from benchmarks.http_load import load
from benchmarks.http_servers import key_of, recorded, server
from benchmarks.measure import OURS, Aim, Measurement, Row, percentile, turns
from benchmarks.run import Bench
from benchmarks.served_world import catch_up, gateways, new_directory, requests_of, serve, tokens_of
from darkroom.events.facts import PostPublished, UserRegistered
from darkroom.events.log_adapters.lmdb import LmdbEventLog

TITLE = "Reading over HTTP"
BARE, SQL = "bare ASGI", "SQL joins"
BARE_TWICE, ONE = "bare ASGI, two processes", "one gateway"
CONNECTIONS = (1, 16)
SIGNED_IN = 2_000
P50_AIM, P99_AIM = {1: 2.0, 16: 4.0}, {1: 3.0, 16: 5.0}


def rows(bench: Bench) -> Iterator[Row]:
    with bench.folder() as folder, ExitStack() as stack:
        world = _World(bench, folder)
        ports = {OURS: stack.enter_context(serve(bench, world.directory))}
        answers = load(ports[OURS], world.requests, 1, keep=True).bodies
        world.record(answers)
        for name, kind, file in ((BARE, "bare", "bare"), (BARE_TWICE, "bare-twice", "bare"), (SQL, "sql", "sql")):
            ports[name] = stack.enter_context(server("-m", "benchmarks.http_servers", kind, str(folder / file)))
            _check(answers, load(ports[name], world.requests, 1, keep=True).bodies)
        for connections in CONNECTIONS:
            told = f"{connections} connection{'s' * (connections > 1)}"
            yield from _rows(bench, world, {name: ports[name] for name in (OURS, BARE, SQL)}, connections, told, BARE)
        # Beside `serve`, whose shards they read too; neither has anything to do while the other is asked.
        two = stack.enter_context(gateways(world.directory, 2))
        _check(answers, load(two, world.requests, connections, keep=True).bodies)
        ports = {OURS: two, ONE: ports[OURS], BARE: ports[BARE], BARE_TWICE: ports[BARE_TWICE]}
        yield from _rows(bench, world, ports, connections, f"{connections} connections to two gateways", BARE_TWICE)


class _World:
    """The mix in a data directory and in a SQLite file, people with tokens, and what they ask for."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.folder = folder
        events = mixed(bench)
        users = [at for at, event in enumerate(events, 1) if isinstance(event, UserRegistered)]
        posts = [(at, event.author) for at, event in enumerate(events, 1) if isinstance(event, PostPublished)]
        self.directory = new_directory(folder / "data", events)
        catch_up(self.directory)
        self._fill_sql()
        self.tokens = tokens_of(self.directory, users, SIGNED_IN)
        (folder / "sql").write_bytes(pickle.dumps((folder / "world.sqlite", self.tokens)))
        self.requests = requests_of(list(self.tokens), posts, bench.size(10_000, 200))

    def _fill_sql(self) -> None:
        log, world = LmdbEventLog(self.directory.log, create=False), SqlWorld(self.folder / "world.sqlite", feeds=False)
        while records := log.read(world_at := int(world.count()), 20_000):
            world.append(world_at + 1, [one.event for one in records], [one.time_ms for one in records])
        world.connection.execute("ANALYZE")
        world.close()
        log.close()

    def record(self, answers: list[bytes]) -> None:
        """For the bare server."""
        known = {key_of(request): recorded(answer) for request, answer in zip(self.requests, answers, strict=True)}
        (self.folder / "bare").write_bytes(pickle.dumps(known))


def _check(answers: list[bytes], theirs: list[bytes]) -> None:
    """Every answer says the same."""
    for ours, other in zip(answers, theirs, strict=True):
        assert json.loads(recorded(ours)[2]) == json.loads(recorded(other)[2]), f"{other[:500]!r} is not {ours[:500]!r}"


def _rows(bench: Bench, world: _World, ports: dict[str, int], connections: int, told: str, floor: str) -> Iterator[Row]:
    p50s: dict[str, list[float]] = {name: [] for name in ports}
    p99s: dict[str, list[float]] = {name: [] for name in ports}

    def measure(name: str) -> float:
        found = load(ports[name], world.requests, connections)
        p50s[name].append(1e3 * percentile(found.waited_s, 50))
        p99s[name].append(1e3 * percentile(found.waited_s, 99))
        return len(found.waited_s) / found.seconds

    contenders: dict[str, Measurement] = {name: partial(measure, name) for name in ports}
    values = turns(contenders, bench.repeats)
    checked = f"{len(world.requests):,} answers are the same, as JSON, from all servers"
    yield Row(name=f"HTTP reads, {told}", unit="requests/s", values=values, aims=[Aim(0.25, floor)], checked=checked)
    for percent, found, aims in ((50, p50s, P50_AIM), (99, p99s, P99_AIM)):
        aim = Aim(aims[connections], floor, "at most")
        yield Row(name=f"HTTP reads, {told}, p{percent}", unit="ms", values=found, aims=[aim])
