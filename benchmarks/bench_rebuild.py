"""Rebuild of all projections from the log, on one and on two shards

The whole standard mix, durably, until every table equals that of the floor, which decodes the same bytes and applies
them to dictionaries in memory.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from benchmarks.crew import Crew
from benchmarks.developed import developed
from benchmarks.fan_out_contenders import ShardContender
from benchmarks.floor_fold import as_call, bodies_of, decode_and_apply
from benchmarks.measure import OURS, Aim, Measurement, Row, seconds, turns
from benchmarks.peer_environments import PeerMissing, PeerProcess
from benchmarks.peers.protocol import digests, write_blocks
from benchmarks.run import Bench
from benchmarks.worlds import append_all
from darkroom.events.facts import Event, UserRegistered
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.simulation import mix
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.stores.lmdb import LmdbShardStore

TITLE = "Rebuild of all projections"
BATCH = 100_000
UNTRIMMED = FoldSettings(feed_rows=1_000_000)
FLOOR, RUNNER, BYTEWAX, ONE = "decode + apply", "ProjectionRunner", "bytewax", "one shard"
PEERS = {RUNNER: "rebuild_eventsourcing", BYTEWAX: "rebuild_bytewax"}


def mixed(bench: Bench) -> list[Event]:
    """The standard mix, or a tenth of it."""
    if bench.quick:
        return list(mix(1, users=1_000, follows=20_000, posts=1_000, likes=5_000, changes=1_000))
    return list(mix(1))


def rows(bench: Bench) -> Iterator[Row]:
    events = mixed(bench)
    with bench.folder() as folder, ExitStack() as stack:
        log = LmdbEventLog(folder / "log")
        append_all(log, events)
        log.close()
        write_blocks(str(folder / "calls"), (msgspec.msgpack.encode(as_call(event)) for event in events))
        rebuild = _Rebuild(folder, events)
        peers, missing = _peers(bench, stack, folder / "calls")
        rebuild.check(peers)
        yield _row(bench, rebuild, peers, missing)
        yield _two_shards(bench, rebuild)


class _Rebuild:
    """The contenders, all over the same events."""

    def __init__(self, folder: Path, events: list[Event]) -> None:
        self.folder, self.count = folder, len(events)
        self._bodies = bodies_of(events)
        self._users = [position for position, event in enumerate(events, 1) if isinstance(event, UserRegistered)]
        self._tries = 0

    def ours(self, shards: int) -> float:
        folder = self._fold(shards)[1]
        return self.count / folder

    def _fold(self, shards: int) -> tuple[Path, float]:
        """Where the shards are, and the seconds until the last was done."""
        self._tries += 1
        folder = self.folder / f"try-{self._tries}"
        folder.mkdir()
        crew = Crew(ShardContender, [(folder, self.folder / "log", UNTRIMMED, n, shards) for n in range(shards)])
        try:
            return folder, crew.seconds("fold_to", self.count, BATCH)
        finally:
            crew.close()

    def floor(self) -> float:
        return self.count / seconds(lambda: decode_and_apply(self._bodies))

    def check(self, peers: dict[str, PeerProcess]) -> None:
        wanted = digests(decode_and_apply(self._bodies).tables())
        for shards in (1, 2):
            folder, _ = self._fold(shards)
            stores = [LmdbShardStore(folder / f"darkroom-{shard}-of-{shards}") for shard in range(shards)]
            found = digests(developed(stores, self._users))
            for store in stores:
                store.close()
            assert found == wanted, f"{shards} shards: {found}, not {wanted}"
        for name, peer in peers.items():
            peer.ask("rebuild")
            assert peer.ask("digests") == wanted, f"{name} folded something else"


def _peers(bench: Bench, stack: ExitStack, calls: Path) -> tuple[dict[str, PeerProcess], dict[str, str]]:
    peers, missing = {}, {}
    for name, script in PEERS.items():
        try:
            peers[name] = stack.enter_context(bench.peer(script))
            peers[name].ask("load", path=str(calls))
        except PeerMissing as reason:
            missing[name] = str(reason)
    return peers, missing


def _row(bench: Bench, rebuild: _Rebuild, peers: dict[str, PeerProcess], missing: dict[str, str]) -> Row:
    contenders: dict[str, Measurement] = {OURS: lambda: rebuild.ours(1), FLOOR: rebuild.floor}
    for name, peer in peers.items():
        contenders[name] = lambda peer=peer: rebuild.count / peer.ask("rebuild")  # type: ignore[misc]
    return Row(
        name="rebuild, one shard",
        unit="events/s",
        values=turns(contenders, bench.repeats),
        aims=[Aim(0.5, FLOOR), Aim(5, RUNNER)],
        missing=missing,
        checked=f"after {rebuild.count:,} events all hold the same follows, timelines, likes, activities and feeds",
    )


def _two_shards(bench: Bench, rebuild: _Rebuild) -> Row:
    contenders: dict[str, Measurement] = {OURS: lambda: rebuild.ours(2), ONE: lambda: rebuild.ours(1)}
    return Row(
        name="rebuild, two shards",
        unit="events/s",
        values=turns(contenders, bench.repeats),
        aims=[Aim(1.6, ONE)],
    )
