"""Snapshots of a shard's state: saved and restored beside the bare library, and how soon a lost disk is made good

The object store is moto's server on loopback, a Python program that holds objects in its memory: it sets the pace, so
what counts is the ratio to the bare library's transfer of the same file, and the time to be back.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import httpx
import obstore
from obstore.store import S3Store

from benchmarks.measure import OURS, Row, rate, seconds, turns
from benchmarks.run import Bench
from benchmarks.worlds import append_all
from darkroom.actors.shard import Shard
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.events.object_store import PART_BYTES, PARTS_AT_ONCE, ObjectStoreAddress
from darkroom.gateway.simulation import mix
from darkroom.projections.shard_state import FoldSettings
from darkroom.projections.state_snapshots import SnapshotStore
from darkroom.projections.store import Identity
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore
from darkroom.projections.tables import TABLES

TITLE = "Snapshots of a shard's state"
BARE = "the bare library"
IDENTITY = Identity(FORMAT, 1, 0, 1)
BATCH_EVENTS = 20_000
TAIL_EVENTS = 10_000

_SERVE = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def rows(bench: Bench) -> Iterator[Row]:
    with bench.folder() as folder, _bucket() as address, closing(LmdbEventLog(folder / "log")) as log:
        users = bench.size(8_000, 1_000)
        each = {"follows": 20 * users, "posts": 5 * users, "likes": 10 * users, "changes": 0}
        append_all(log, mix(1, users=users, **each))
        saved_at = log.head() - TAIL_EVENTS
        _fold(log, folder / "shard", saved_at)
        yield from _Trial(bench, folder, address, log, saved_at).rows()


class _Trial:
    """A shard's disk, and places to restore it to."""

    def __init__(
        self, bench: Bench, folder: Path, address: ObjectStoreAddress, log: LmdbEventLog, saved_at: int
    ) -> None:
        self.bench, self.folder, self.address, self.log, self.saved_at = bench, folder, address, log, saved_at
        self.numbers = count()
        self.last = address
        self.copy = folder / "copy"
        self._save()
        snapshots = SnapshotStore(self.last, log, print)
        newest = snapshots.newest(IDENTITY)
        assert newest is not None
        self.megabytes = newest.bytes / 1e6
        assert snapshots.restore(folder / "first", IDENTITY) == saved_at
        assert _contents(folder / "first") == _contents(folder / "shard")
        (folder / "first" / "data.mdb").rename(self.copy)

    def rows(self) -> Iterator[Row]:
        what = f"{self.megabytes:,.0f} MB, position {self.saved_at:,}"
        yield Row(
            name=f"save, {what}",
            unit="MB/s",
            values=turns({OURS: self._save, BARE: self._send}, self.bench.repeats),
            checked="every row of every table is in what is restored, and no other",
            notes=["ours copies and hashes the live store before it sends it, and looks for older ones afterwards"],
        )
        yield Row(
            name=f"restore, {what}",
            unit="MB/s",
            values=turns({OURS: self._restore, BARE: self._fetch}, self.bench.repeats),
            checked="the restored store opens at the position",
            notes=["ours hashes, syncs and opens what it fetched"],
        )
        yield Row(
            name=f"back after a lost disk, {self.log.head():,} events, the last {TAIL_EVENTS:,} after the snapshot",
            unit="s",
            values=turns({OURS: self._back, "replay from 0": self._replayed}, self.bench.repeats),
            checked="both are at the log's head",
        )

    def _new_path(self) -> Path:
        return self.folder / f"lost-{next(self.numbers)}"

    def _save(self) -> float:
        self.last = self.address.below(str(next(self.numbers)))
        snapshots = SnapshotStore(self.last, self.log, print)
        taken = seconds(lambda: snapshots.save(self.folder / "shard"))
        newest = snapshots.newest(IDENTITY)
        assert newest is not None
        return newest.bytes / 1e6 / taken

    def _send(self) -> float:
        key = f"bare-{next(self.numbers)}"
        return self.megabytes * rate(1, lambda: self._send_as(key))

    def _send_as(self, key: str) -> None:
        obstore.put(self._bare, key, self.copy, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        self.sent = key

    def _restore(self) -> float:
        snapshots, path = SnapshotStore(self.last, self.log, print), self._new_path()
        per_s = self.megabytes * rate(1, lambda: snapshots.restore(path, IDENTITY))
        with closing(LmdbShardStore(path)) as store:
            assert store.checkpoint().position == self.saved_at
        return per_s

    def _fetch(self) -> float:
        target = self._new_path()

        def fetch() -> None:
            with target.open("wb") as file:
                for chunk in obstore.get(self._bare, self.sent).stream():
                    file.write(chunk)

        return self.megabytes * rate(1, fetch)

    def _back(self) -> float:
        path, snapshots = self._new_path(), SnapshotStore(self.last, self.log, print)

        def back() -> None:
            assert snapshots.restore(path, IDENTITY) == self.saved_at
            _fold(self.log, path, self.log.head())

        return seconds(back)

    def _replayed(self) -> float:
        path = self._new_path()
        return seconds(lambda: _fold(self.log, path, self.log.head()))

    @property
    def _bare(self) -> S3Store:
        address = self.address
        return S3Store(
            address.bucket,
            endpoint=address.endpoint,
            region=address.region,
            access_key_id=address.access_key,
            secret_access_key=address.secret,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )


def _fold(log: LmdbEventLog, path: Path, until: int) -> None:
    with closing(LmdbShardStore(path, IDENTITY)) as store:
        shard = Shard(log, store, FoldSettings())
        while shard.position < until:
            shard.step(min(BATCH_EVENTS, until - shard.position))


def _contents(path: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    with closing(LmdbShardStore(path)) as store, store.snapshot() as snapshot:
        return {table: snapshot.scan(table, b"", b"\xff" * 512, limit=10**8) for table in TABLES}


@contextmanager
def _bucket() -> Iterator[ObjectStoreAddress]:
    """In a server of its own, which ends with this process whatever happens."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        httpx.put(f"{endpoint}/snapshots").raise_for_status()
        yield ObjectStoreAddress("s3://snapshots", endpoint, access_key="key", secret="secret")
    finally:
        server.kill()
        server.communicate()
