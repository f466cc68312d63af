"""Durable fan-out through whole shards, beside raw loops that store the same deliveries and nothing else

The shard reads and decodes the log, decides, and keeps every projection, with ordinary settings; the floors are handed
each batch's deliveries in memory and never drop a row. Everybody's store holds many rows before anything is measured,
for an empty store flatters all.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.crew import Crew
from benchmarks.fan_out_contenders import FLOORS, FloorContender, ShardContender, delivery_count
from benchmarks.fan_out_peers import BY_POST, RedisPeers
from benchmarks.fan_out_peers import GROUPED as REDIS_GROUPED
from benchmarks.measure import OURS, Aim, Measurement, Row, turns
from benchmarks.run import Bench
from benchmarks.worlds import Graph, GraphMissing, append_all, follows, posts, real, registrations, simulated_mix
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.projections.routing import Ids, shard_of
from darkroom.projections.shard_state import FoldSettings

TITLE = "Durable fan-out"
BACKLOG = 100_000
BATCHES = (1_000, 5_000, 20_000, BACKLOG)
WITH_PEERS = 20_000
FILL_BATCH = 100_000
PACKED, KEYED, SQLITE = FLOORS
SAMPLED = 50
DEEP = 200


def rows(bench: Bench) -> Iterator[Row]:
    users = 4_000 if bench.quick else None
    graphs = {
        "ego-twitter-mutual": partial(real, "ego-twitter-mutual", users),
        "soc-slashdot0902": partial(real, "soc-slashdot0902", users),
        "mix": simulated_mix if not bench.quick else partial(simulated_mix, 1_000, 30_000),
    }
    for name, make in graphs.items():
        try:
            graph = make()
        except GraphMissing as missing:
            yield Row(name=f"fan-out, {name}", unit="deliveries/s", values={}, missing={name: str(missing)})
            continue
        for processes in (1, 2):
            with bench.folder() as folder:
                yield from _World(bench, folder, name, graph, processes).rows()


class _World:
    """One graph on so many shards, a process each: stores filled alike, and posts to come for every batch size."""

    def __init__(self, bench: Bench, folder: Path, name: str, graph: Graph, processes: int) -> None:
        self.bench, self.folder, self.name, self.graph, self.processes = bench, folder, name, graph, processes
        chance = np.random.default_rng(2)
        each = delivery_count(graph, np.arange(1, graph.users + 1, dtype=np.uint64)) / graph.users
        self.filling = int(bench.size(20_000_000, 100_000) / each)
        self.batches = [bench.size(batch, batch // 50) for batch in BATCHES]
        self.count = {batch: max(batch, bench.size(10_000, 100)) for batch in self.batches}
        total = self.filling + bench.repeats * sum(self.count.values())
        self.authors: Ids = chance.integers(1, graph.users + 1, total, dtype=np.uint64)
        self.first = self._write_log()
        self.next = self.first
        graph.save(folder / "graph.npz")
        np.save(folder / "authors.npy", self.authors)

    def _write_log(self) -> int:
        log = LmdbEventLog(self.folder / "log")
        append_all(log, registrations(self.graph.users))
        first = append_all(log, follows(self.graph)) + 1
        append_all(log, posts(self.authors.tolist()))
        log.close()
        return first

    def rows(self) -> Iterator[Row]:
        with ExitStack() as stack:
            crews = {OURS: self._crew(stack, ShardContender, self.folder, self.folder / "log", FoldSettings())}
            crews[OURS].call("fold_to", self.first - 1, FILL_BATCH)
            for floor in FLOORS if self.processes == 1 else (PACKED, KEYED):
                where = (floor, self.folder, self.folder / "graph.npz", self.folder / "authors.npy", self.first)
                crews[floor] = self._crew(stack, FloorContender, *where)
            for crew in crews.values():
                crew.call("prepare", self.next, self.filling, FILL_BATCH)
                crew.call("deliver", self.next, self.filling, FILL_BATCH)
            self.next += self.filling
            self._check(crews)
            for batch in self.batches:
                peers = RedisPeers(self.bench, stack, self.folder) if self._with_peers(batch) else None
                yield self._row(crews, batch, peers)
                self._check(crews)

    def _with_peers(self, batch: int) -> bool:
        return self.processes == 1 and batch == self.batches[BATCHES.index(WITH_PEERS)]

    def _crew(self, stack: ExitStack, make: type[ShardContender] | type[FloorContender], *arguments: object) -> Crew:
        crew = Crew(make, [(*arguments, shard, self.processes) for shard in range(self.processes)])
        stack.callback(crew.close)
        return crew

    def _row(self, crews: dict[str, Crew], batch: int, peers: RedisPeers | None) -> Row:
        count = self.count[batch]
        starts = dict.fromkeys(crews, self.next)

        def measure(name: str) -> float:
            start = starts[name]
            starts[name] += count
            crews[name].call("prepare", start, count, batch)
            taken = crews[name].seconds("deliver", start, count, batch)
            return self._deliveries(start, count) / taken

        contenders: dict[str, Measurement] = {name: partial(measure, name) for name in crews}
        if peers is not None:
            contenders |= peers.contenders(self.graph, self.authors[-count:])
        values = turns(contenders, self.bench.repeats)
        self.next += self.bench.repeats * count
        return Row(
            name=f"fan-out, {self.name}, {self.processes} process{'es' * (self.processes > 1)}, batches of {batch:,}",
            unit="deliveries/s",
            values=values,
            aims=self._aims(batch, values),
            missing=peers.missing if peers is not None else {},
            checked=f"the newest {DEEP} rows of {SAMPLED} feeds are the same in all LMDB and SQLite stores, and "
            "Redis's feeds those that were delivered",
            notes=[self._filled(), *(peers.notes if peers is not None else [])],
        )

    def _filled(self) -> str:
        rows = self._deliveries(self.first, self.filling)
        return (
            f"{self.name}: {self.graph.users:,} users, {len(self.graph.followers):,} follows, {rows:,} deliveries"
            f" before, of which Darkroom keeps the newest {FoldSettings().feed_rows:,} of each feed and the floors all."
        )

    def _aims(self, batch: int, values: dict[str, list[float]]) -> list[Aim]:
        best = max((PACKED, KEYED), key=lambda name: float(np.median(values[name])))
        aims = [Aim(0.6, best), Aim(2, SQLITE), Aim(10, BY_POST), Aim(10, REDIS_GROUPED)]
        aims = [aim for aim in aims if aim.of in values or self._with_peers(batch)]
        if self.processes == 2 and self.name.startswith("ego") and batch == self.batches[-1]:
            aims.append(Aim(1_000_000))
        return aims

    def _deliveries(self, start: int, count: int) -> int:
        return delivery_count(self.graph, self.authors[start - self.first : start - self.first + count])

    def _check(self, crews: dict[str, Crew]) -> None:
        """The newest rows of some feeds, asked of whichever process has them."""
        owners = np.random.default_rng(self.next).integers(1, self.graph.users + 1, SAMPLED).tolist()
        for owner in owners:
            shard = shard_of(owner, self.processes)
            found = {name: crew.call("newest", owner, DEEP)[shard] for name, crew in crews.items()}
            assert all(rows == found[PACKED] for rows in found.values()), f"feed {owner} is not the same everywhere"
