"""Resident memory of a served world: ego-twitter-mutual with 200,000 posts, some thousand pages read

Over all processes besides Ray's own, pages that several have mapped counted once: first with the server that developed
the world from its log, then with one that was started again. What a file's pages take is the kernel's to give and take.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.http_load import get, load
from benchmarks.http_servers import recorded
from benchmarks.measure import OURS, Aim, Row
from benchmarks.resident import KINDS, MIB, Process, table, tree
from benchmarks.run import Bench
from benchmarks.served_world import catch_up, new_directory, requests_of, serve, tokens_of
from benchmarks.worlds import Graph, GraphMissing, follows, posts, real, registrations, simulated_mix
from darkroom.events.data_directory import DataDirectory, worker_of
from darkroom.projections.routing import Ids

TITLE = "Memory of a served world"
GRAPH = "ego-twitter-mutual"
SIGNED_IN = 2_000
RAYS, MAPPED = "Ray's own", "RSS, summed"
LIMIT_MIB = 2048


def rows(bench: Bench) -> Iterator[Row]:
    try:
        graph = simulated_mix(1_000, 30_000) if bench.quick else real(GRAPH)
    except GraphMissing as missing:
        yield Row(name=f"resident, {GRAPH} served", unit="MiB", values={}, missing={GRAPH: str(missing)})
        return
    with bench.folder() as folder:
        world = _World(bench, folder, graph)
        for when in ("as it was developed", "after a restart"):
            yield _row(f"resident, {graph.name} served, {when}", world, world.served())


class _World:
    """The graph and posts by random people in a log, and people who read."""

    def __init__(self, bench: Bench, folder: Path, graph: Graph) -> None:
        self._bench, self.graph = bench, graph
        count = bench.size(200_000, 1_000)
        self.authors: Ids = np.random.default_rng(8).integers(1, graph.users + 1, count, dtype=np.uint64)
        self._first = graph.users + len(graph.followers) + 1
        events = chain(registrations(graph.users), follows(graph), posts(self.authors.tolist()))
        self._directory: DataDirectory = new_directory(folder / "data", events)
        self._tokens = tokens_of(self._directory, range(1, graph.users + 1), SIGNED_IN)
        written = list(enumerate(self.authors.tolist(), self._first))
        self.requests = requests_of(list(self._tokens), written, bench.size(10_000, 200))

    def served(self) -> list[Process]:
        """The server's processes, after its shards are at the head and all that is asked for was answered."""
        with serve(self._bench, self._directory) as port:
            catch_up(self._directory)
            self._check(port)
            load(port, self.requests, 4)
            return tree(self._server(), self._directory.path)

    def _server(self) -> int:
        """Its process id, as whoever looks for the server is told."""
        found = re.match(r"process (\d+) \(darkroom serve", worker_of(self._directory) or "")
        assert found, "nobody serves the directory"
        return int(found[1])

    def _check(self, port: int) -> None:
        """Some people's pages are the newest posts of those whom they follow."""
        asked = dict(list(self._tokens.items())[:20])
        pages = load(port, [get("/api/v1/timelines/home?limit=20", token) for token in asked], 1, keep=True)
        for user, answer in zip(asked.values(), pages.bodies, strict=True):
            found = [int(status["id"]) for status in json.loads(recorded(answer)[2])]
            theirs = np.isin(self.authors, np.append(self.graph.followees(user), np.uint64(user)))
            assert found == (np.flatnonzero(theirs)[::-1][:20] + self._first).tolist(), f"user {user}'s page"


def _row(name: str, world: _World, processes: list[Process]) -> Row:
    ours = [one for one in processes if not one.is_rays]
    parts = {kind: sum(one.pss[kind] for one in ours) for kind in KINDS}
    parts |= {MAPPED: sum(one.rss for one in ours), RAYS: sum(one.total() for one in processes if one.is_rays)}
    told = ", ".join(f"{part} {size / MIB:,.0f}" for part, size in parts.items() if size)
    total = sum(one.total() for one in ours)
    graph = world.graph
    return Row(
        name=name,
        unit="MiB",
        values={OURS: [total / MIB]},
        aims=[Aim(LIMIT_MIB, None, "at most")],
        checked="the first pages of 20 people are the newest posts of those whom they follow",
        notes=[
            f"{graph.users:,} people, {len(graph.followers):,} follows, {len(world.authors):,} posts;"
            f" {len(world.requests):,} requests as in reading over HTTP, by {SIGNED_IN:,} people.",
            f"{name}, in MiB: {told}. By process:\n\n{table(processes)}",
        ],
    )
