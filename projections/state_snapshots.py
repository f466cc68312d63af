"""Snapshots of shards' states in the object store, so that a shard that lost its disk need not begin at position 0.

A snapshot counts once its manifest is there, which is written last. One that is not whole, not of this shard or not of
this log is never loaded. Its position may lie below what the shard has published: a replay publishes the same again.
"""

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec

from darkroom.events.clock import Clock, system_clock
from darkroom.events.log import EventLog
from darkroom.events.object_store import (
    PART_BYTES,
    PARTS_AT_ONCE,
    PARTS_MAX,
    ObjectMissing,
    ObjectStore,
    ObjectStoreAddress,
)
from darkroom.projections.state_copies import (
    SnapshotFailed,
    StateCopy,
    copy_state,
    fault_in,
    place_for,
    put_in_place,
    read_back,
    write_state,
)
from darkroom.projections.store import Identity, StoreError
from darkroom.projections.stores.lmdb import LmdbShardStore

SNAPSHOTS_KEPT = 2
MANIFEST = "manifest.json"


class SnapshotRefused(StoreError):
    """This snapshot is damaged or another's, and was not loaded; the message says which and why."""

    def __init__(self, message: str, *, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged


class Manifest(msgspec.Struct, frozen=True):
    """What makes a snapshot count: whose state it is and where in the log, and what its bytes must be.

    `record` tells of the record at the position, so that another log's state is not taken for this one's.
    """

    identity: Identity
    position: int
    record: str
    bytes: int
    sha256: str
    saved_ms: int


class SnapshotStore:
    """The snapshots of one log's shards below an address. Opens nothing before it is asked; one thread may call.

    Every method raises ObjectStoreError where the object store fails. `tell` hears of each snapshot that is refused.
    """

    def __init__(
        self,
        address: ObjectStoreAddress,
        log: EventLog,
        tell: Callable[[str], None],
        clock: Clock = system_clock,
    ) -> None:
        self._objects = ObjectStore(address)
        self._log = log
        self._tell = tell
        self._clock = clock
        self._damaged: set[str] = set()

    def save(self, path: Path, stopping: threading.Event | None = None) -> int:
        """Save the state of the shard's store at `path` as it is now, and return its position.

        Nothing is sent where that position is saved already. SnapshotFailed, also when `stopping` is set meanwhile;
        StoreFull.
        """
        stopping = stopping or threading.Event()
        with closing(LmdbShardStore(path)) as store:
            identity, position = store.identity, store.checkpoint().position
        if position in {0, *(manifest.position for manifest in self._usable(identity).values())}:
            return position
        with tempfile.TemporaryFile(dir=path) as file:
            copy = copy_state(path, file, stopping)
            manifest = self._manifest(copy)
            folder = f"{_shard_folder(identity)}/{copy.position:020}"
            # Named by its content: another incarnation that saves the same position writes beside it, not over it.
            part_bytes = max(PART_BYTES, -(-copy.bytes // PARTS_MAX))
            self._objects.put_parts(f"{folder}/{copy.sha256}", read_back(file, stopping), part_bytes)
        self._objects.put(f"{folder}/{MANIFEST}", msgspec.json.encode(manifest))
        self._damaged.discard(folder)
        self._keep_newest(manifest)
        return copy.position

    def restore(self, path: Path, identity: Identity) -> int | None:
        """Lay the newest whole snapshot of this shard at `path`, where there is no store yet; its position.

        None where there is none that can be used. SnapshotFailed where it cannot be told: somebody else restores there
        too, or the log does not reach so far. StoreFull.
        """
        with place_for(path) as staging:
            for folder, manifest in reversed(self._manifests(identity).items()):
                try:
                    return self._load(folder, manifest, identity, staging)
                except SnapshotRefused as refused:
                    if refused.damaged:
                        self._damaged.add(folder)
                    self._tell(f"a snapshot was not used: {refused}")
        return None

    def newest(self, identity: Identity) -> Manifest | None:
        """The newest snapshot that this shard could use, as its manifest tells it."""
        return next(reversed(self._usable(identity).values()), None)

    def generations(self) -> set[int]:
        """Of which generations there are snapshots, or what is left of some."""
        folders = {key.partition("/")[0] for key in self._objects.keys("")}
        return {int(folder) for folder in folders if folder.isdecimal()}

    def drop(self, generation: int) -> None:
        """Delete all snapshots of a generation that is dropped."""
        self._delete(self._objects.keys(f"{generation:06}/"))

    def _manifest(self, copy: StateCopy) -> Manifest:
        record = self._record_at(copy.position)
        if record is None:
            raise SnapshotFailed(f"the log ends at {self._log.head()}, below the state's position {copy.position}")
        return Manifest(copy.identity, copy.position, record, copy.bytes, copy.sha256, self._clock())

    def _record_at(self, position: int) -> str | None:
        """What tells the record there from that of another log: nothing that a newer version would read otherwise."""
        found = self._log.read(position - 1, 1)
        return f"{found[0].time_ms} {type(found[0].event).__name__}" if found else None

    def _usable(self, identity: Identity) -> dict[str, Manifest]:
        """Those of this shard and log that were not found damaged, ascending, by folder."""
        return {
            folder: manifest
            for folder, manifest in self._manifests(identity).items()
            if isinstance(manifest, Manifest)
            and manifest.identity == identity
            and manifest.record == self._record_at(manifest.position)
            and folder not in self._damaged
        }

    def _manifests(self, identity: Identity) -> dict[str, Manifest | str]:
        """All that lie where the shard's do, ascending, by folder: the manifest, or what is wrong with it."""
        found: dict[str, Manifest | str] = {}
        for key in self._objects.keys(_shard_folder(identity)):
            if _name_of(key) == MANIFEST:
                try:
                    found[_folder_of(key)] = msgspec.json.decode(self._objects.get(key), type=Manifest)
                except msgspec.MsgspecError as error:
                    found[_folder_of(key)] = str(error)
                except ObjectMissing:
                    continue  # another incarnation has just deleted it
        return found

    def _keep_newest(self, saved: Manifest) -> None:
        """Delete what lies below the newest, and what was found damaged, unless it is of another log."""
        manifests = self._manifests(saved.identity)
        others = {
            folder
            for folder, manifest in manifests.items()
            if isinstance(manifest, Manifest) and manifest.record != self._record_at(manifest.position)
        }
        usable = {manifest.position for manifest in self._usable(saved.identity).values()} | {saved.position}
        oldest_kept = f"{_shard_folder(saved.identity)}/{sorted(usable)[-SNAPSHOTS_KEPT:][0]:020}"
        keys = [key for key in self._objects.keys(_shard_folder(saved.identity)) if _folder_of(key) not in others]
        self._delete([key for key in keys if _folder_of(key) < oldest_kept or _folder_of(key) in self._damaged])

    def _delete(self, keys: list[str]) -> None:
        """Manifests first: bytes without a manifest count for nothing, whoever is killed in between."""
        self._objects.delete([key for key in keys if _name_of(key) == MANIFEST])
        self._objects.delete([key for key in keys if _name_of(key) != MANIFEST])

    def _load(self, folder: str, manifest: Manifest | str, identity: Identity, staging: Path) -> int:
        if isinstance(manifest, str):
            raise SnapshotRefused(f"{folder} has a damaged manifest: {manifest}", damaged=True)
        if manifest.identity != identity:
            raise SnapshotRefused(f"{folder} is of {manifest.identity}, not {identity}", damaged=False)
        record = self._record_at(manifest.position)
        if record is None:
            raise SnapshotFailed(
                f"the log ends at {self._log.head()}, below the snapshot {folder}: wait until it is there, or, if this "
                "is another log, name another prefix"
            )
        if record != manifest.record:
            raise SnapshotRefused(f"{folder} is of another log: {manifest.record} there, {record} here", damaged=False)
        self._fetch(f"{folder}/{manifest.sha256}", manifest, staging)
        put_in_place(staging)
        return manifest.position

    def _fetch(self, key: str, manifest: Manifest, staging: Path) -> None:
        """Into a place of its own: what turns out damaged never stands where a store is looked for."""
        try:
            size = self._objects.size(key)
            if size != manifest.bytes:
                raise SnapshotRefused(f"{key} has {size} bytes, not {manifest.bytes}", damaged=True)
            with closing(self._parts(key, size)) as parts:
                found = write_state(parts, size, staging)
        except ObjectMissing:
            raise SnapshotRefused(f"{key} is not there", damaged=True) from None
        if found != manifest.sha256:
            raise SnapshotRefused(f"{key} is not what was saved", damaged=True)
        fault = fault_in(staging, manifest.identity, manifest.position)
        if fault is not None:
            raise SnapshotRefused(f"{key} is not what its manifest says: {fault}", damaged=True)

    def _parts(self, key: str, size: int) -> Generator[bytes, None, None]:
        """In order, a few fetched ahead, each by a request with a deadline of its own."""

        def fetch(start: int) -> bytes:
            return self._objects.get_range(key, start, min(start + PART_BYTES, size))

        starts = iter(range(0, size, PART_BYTES))
        with ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
            ahead = deque(threads.submit(fetch, start) for start in islice(starts, PARTS_AT_ONCE))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(threads.submit(fetch, start) for start in islice(starts, 1))


def _shard_folder(identity: Identity) -> str:
    return f"{identity.generation:06}/{identity.shard:04}"


def _folder_of(key: str) -> str:
    return key.rpartition("/")[0]


def _name_of(key: str) -> str:
    return key.rpartition("/")[2]
