"""A shard's state as one file: taken from a store while it is written, and laid where there is no store yet.

Taking is LMDB's compact copy from one read transaction: it takes no lock that a commit needs, but while it runs, pages
that commits replace are not freed, so its time is bounded. Laying is a rename of what was found whole.
"""

from __future__ import annotations  # LMDB's classes are generic to type checkers only

import fcntl
import hashlib
import os
import select
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import lmdb

from darkroom.events.lmdb_environments import NO_ROOM, EnvironmentUnusable, close_environment, open_environment
from darkroom.projections.store import Identity, StoreError, StoreFull
from darkroom.projections.stores.lmdb import LmdbShardStore, LmdbSnapshot

COPY_S_MAX = 120.0
ROOM_LEFT_BYTES_MIN = 64 << 20
"""A copy is not begun where it could leave the shard less room than this to go on in."""

_CHUNK_BYTES = 1 << 20
_DATA = "data.mdb"


class SnapshotFailed(StoreError):
    """The state was not copied, saved or looked for. The shard is as it was; it may be tried again."""


class StateCopy(NamedTuple):
    """What a copy is of, and its bytes."""

    identity: Identity
    position: int
    bytes: int
    sha256: str


def copy_state(path: Path, target: IO[bytes], stopping: threading.Event) -> StateCopy:
    """Copy the shard's store at `path` as it is at one moment into a new file. SnapshotFailed, StoreFull.

    It goes on no longer than COPY_S_MAX, and ends soon after `stopping` is set.
    """
    with closing(LmdbShardStore(path)) as store:
        if shutil.disk_usage(path).free - store.bytes_stored() < ROOM_LEFT_BYTES_MIN:
            raise StoreFull(f"no room in {path} for a copy of {store.bytes_stored()} bytes")
        environment = open_environment(path, create=False)
        try:
            with environment.read() as transaction:
                position = LmdbSnapshot(transaction, environment.databases).checkpoint.position
                size, digest = _copy(environment.env, transaction, target, stopping)
        finally:
            close_environment(environment)
        return StateCopy(store.identity, position, size, digest)


def read_back(file: IO[bytes], stopping: threading.Event) -> Iterator[bytes]:
    """What was copied, in chunks; SnapshotFailed when `stopping` is set meanwhile."""
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        if stopping.is_set():
            raise SnapshotFailed("the shard stops; its snapshot was given up")
        yield chunk


@contextmanager
def place_for(path: Path) -> Iterator[Path]:
    """A folder of its own to lay a state down in on its way to `path`, held against others; SnapshotFailed."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    staging = path / "restoring"
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SnapshotFailed(f"somebody else restores {path}") from None
        if (path / _DATA).exists():
            raise SnapshotFailed(f"{path} holds a store; a snapshot is loaded only where there is none")
        shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(descriptor)


def write_state(parts: Iterator[bytes], size: int, staging: Path) -> str:
    """Lay the parts down, durably, and return their hash; StoreFull."""
    digest = hashlib.sha256()
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        with (staging / _DATA).open("xb") as file:
            for part in parts:
                digest.update(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StoreFull(f"no room in {staging.parent} for a snapshot of {size} bytes") from error
        raise
    return digest.hexdigest()


def fault_in(staging: Path, identity: Identity, position: int) -> str | None:
    """Why what was laid down is not this shard's state at this position; None where it is."""
    try:
        with closing(LmdbShardStore(staging)) as store:
            found = store.identity, store.checkpoint().position
    except EnvironmentUnusable as error:
        return str(error)
    return None if found == (identity, position) else f"it holds {found[0]} at position {found[1]}"


def put_in_place(staging: Path) -> None:
    """Make what was laid down the store."""
    folder = staging.parent
    # What is left of a lost store must not speak for this one: LMDB's locks, and the witness of its last commit.
    for name in ("lock.mdb", "writer.lock"):
        (folder / name).unlink(missing_ok=True)
    (staging / _DATA).rename(folder / _DATA)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(
    env: lmdb.Environment, transaction: lmdb.Transaction[bytes], target: IO[bytes], stopping: threading.Event
) -> tuple[int, str]:
    """Through a pipe, for LMDB copies to the end once it has begun: unless nobody reads any more."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
    digest, size, deadline = hashlib.sha256(), 0, time.monotonic() + COPY_S_MAX
    with ThreadPoolExecutor(1, "state-copy") as thread:
        copying = thread.submit(_copy_into, env, transaction, writing)
        try:
            while chunk := _next_chunk(reading, deadline, stopping):
                digest.update(chunk)
                target.write(chunk)
                size += len(chunk)
            target.flush()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StoreFull(f"no room for a copy of the state: {error.strerror}") from error
            raise
        finally:
            os.close(reading)
        try:
            copying.result()
        except lmdb.Error as error:
            raise SnapshotFailed(f"the state could not be copied: {error}") from error
    return size, digest.hexdigest()


def _copy_into(env: lmdb.Environment, transaction: lmdb.Transaction[bytes], writing: int) -> None:
    try:
        env.copyfd(writing, compact=True, txn=transaction)
    finally:
        os.close(writing)


def _next_chunk(reading: int, deadline: float, stopping: threading.Event) -> bytes:
    if stopping.is_set():
        raise SnapshotFailed("the shard stops; its snapshot was given up")
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not select.select([reading], [], [], left_s)[0]:
        raise SnapshotFailed(f"copying the state took more than {COPY_S_MAX:g} s")
    return os.read(reading, _CHUNK_BYTES)
