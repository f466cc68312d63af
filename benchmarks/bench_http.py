"""Reading over HTTP, signed in: 60 % home, 30 % profile, 10 % one post

Pages of 20 in the standard mix, over 1 and 16 connections that are kept open. The floor sends the very same bytes and
does nothing for them.
"""

import json
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.bench_rebuild import mixed
from benchmarks.floor_sql import SqlWorld
from benchmarks.http_load import get, load
from benchmarks.http_servers import key_of, recorded, server
from benchmarks.measure import OURS, Aim, Measurement, Row, percentile, turns
from benchmarks.peer_environments import HERE
from benchmarks.run import Bench
from benchmarks.worlds import append_all
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import Event, PostPublished, UserRegistered
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.credentials import Credentials
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.passwords import PasswordHashing

TITLE = "Reading over HTTP"
BARE, SQL = "bare ASGI", "SQL joins"
CONNECTIONS = (1, 16)
SIGNED_IN = 200
COMMAND_S = 600
P50_AIM, P99_AIM = {1: 2.0, 16: 4.0}, {1: 3.0, 16: 5.0}


def rows(bench: Bench) -> Iterator[Row]:
    with bench.folder() as folder, ExitStack() as stack:
        world = _World(bench, folder)
        runtime = "inline" if bench.quick else "ray"
        serve = ("-m", "darkroom.gateway.main", "serve", "--data", str(world.data), "--port", "0", "--runtime", runtime)
        ports = {OURS: stack.enter_context(server(*serve))}
        answers = load(ports[OURS], world.requests, 1, keep=True).bodies
        world.record(answers)
        for name, kind in ((BARE, "bare"), (SQL, "sql")):
            ports[name] = stack.enter_context(server("-m", "benchmarks.http_servers", kind, str(folder / kind)))
            _check(answers, load(ports[name], world.requests, 1, keep=True).bodies)
        for connections in CONNECTIONS:
            yield from _rows(bench, world, ports, connections)


class _World:
    """The mix in a data directory and in a SQLite file, people with tokens, and what they ask for."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.rounds = bench.size(5, 1)
        events = mixed(bench)
        directory = DataDirectory(self.data, create=True)
        self._fold(directory, events)
        self._fill_sql(directory)
        self.tokens = self._sign_in([at for at, event in enumerate(events, 1) if isinstance(event, UserRegistered)])
        (folder / "sql").write_bytes(pickle.dumps((folder / "world.sqlite", self.tokens)))
        self.requests = self._requests(events, bench.size(2_000, 200))

    def _fold(self, directory: DataDirectory, events: list[Event]) -> None:
        log = LmdbEventLog(directory.log)
        append_all(log, events)
        log.close()
        command = [sys.executable, "-m", "darkroom.gateway.main", "catch-up", "--data", str(self.data), "--shards", "2"]
        subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_S, cwd=HERE.parent)

    def _fill_sql(self, directory: DataDirectory) -> None:
        log, world = LmdbEventLog(directory.log, create=False), SqlWorld(self.folder / "world.sqlite", feeds=False)
        while records := log.read(world_at := int(world.count()), 20_000):
            world.append(world_at + 1, [one.event for one in records], [one.time_ms for one in records])
        world.connection.execute("ANALYZE")
        world.close()
        log.close()

    def _sign_in(self, users: list[int]) -> dict[str, int]:
        """Tokens of some people, by a password hash that costs nothing: nobody logs in with one here."""
        hashing = PasswordHashing(memory_kib=8, passes=1, lanes=1)
        credentials = Credentials(SqliteCredentialStore(self.data), hashing)
        tokens = {}
        for user in random.Random(5).sample(users, min(SIGNED_IN, len(users) // 2)):
            credentials.bind(credentials.begin(f"bench_{user}", "correct horse battery").claim, user)
            tokens[credentials.issue_token(user, ["read"])] = user
        credentials.close()
        return tokens

    def _requests(self, events: list[Event], count: int) -> list[bytes]:
        chance, tokens = random.Random(6), list(self.tokens)
        posts = [(at, event.author) for at, event in enumerate(events, 1) if isinstance(event, PostPublished)]
        found = []
        for number in range(count):
            post, author = chance.choice(posts)
            home, profile = "/api/v1/timelines/home?limit=20", f"/api/v1/accounts/{author}/statuses?limit=20"
            path = home if number % 10 < 6 else profile if number % 10 < 9 else f"/api/v1/statuses/{post}"
            found.append(get(path, chance.choice(tokens)))
        chance.shuffle(found)
        return found

    def record(self, answers: list[bytes]) -> None:
        """For the bare server."""
        known = {key_of(request): recorded(answer) for request, answer in zip(self.requests, answers, strict=True)}
        (self.folder / "bare").write_bytes(pickle.dumps(known))


def _check(answers: list[bytes], theirs: list[bytes]) -> None:
    """Every answer says the same."""
    for ours, other in zip(answers, theirs, strict=True):
        assert json.loads(recorded(ours)[2]) == json.loads(recorded(other)[2]), f"{other[:500]!r} is not {ours[:500]!r}"


def _rows(bench: Bench, world: _World, ports: dict[str, int], connections: int) -> Iterator[Row]:
    p50s: dict[str, list[float]] = {name: [] for name in ports}
    p99s: dict[str, list[float]] = {name: [] for name in ports}

    def measure(name: str) -> float:
        found = load(ports[name], world.requests * world.rounds, connections)
        p50s[name].append(1e3 * percentile(found.waited_s, 50))
        p99s[name].append(1e3 * percentile(found.waited_s, 99))
        return len(found.waited_s) / found.seconds

    contenders: dict[str, Measurement] = {name: partial(measure, name) for name in ports}
    values = turns(contenders, bench.repeats)
    told = f"{connections} connection{'s' * (connections > 1)}"
    checked = f"{len(world.requests):,} answers are the same, as JSON, from all three servers"
    yield Row(name=f"HTTP reads, {told}", unit="requests/s", values=values, aims=[Aim(0.25, BARE)], checked=checked)
    yield Row(
        name=f"HTTP reads, {told}, p50", unit="ms", values=p50s, aims=[Aim(P50_AIM[connections], BARE, "at most")]
    )
    yield Row(
        name=f"HTTP reads, {told}, p99", unit="ms", values=p99s, aims=[Aim(P99_AIM[connections], BARE, "at most")]
    )
