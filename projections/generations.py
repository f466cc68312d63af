"""Generations: whole sets of projections, numbered. One serves; a rebuild fills the next and switches in one step.

A pointer names the serving generation and its shard count. It is replaced atomically, read once per request, and
carries the highest number ever given, which is never given again. Readers in any process hold a shared lock on the
generation that they read, so that it is dropped only when nobody does.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import msgspec

from darkroom.events.lmdb_environments import EnvironmentUnusable
from darkroom.projections.routing import SHARDS_MAX
from darkroom.projections.store import Identity, StoreError
from darkroom.projections.store_views import StoreViews
from darkroom.projections.stores.lmdb import FORMAT, LmdbShardStore, OtherFormat
from darkroom.projections.views import ShardViews

_OPEN_TRIES = 100


class Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which generation serves (0: none yet), over how many shards, and the highest number given so far."""

    generation: int = 0
    shards: int = 0
    highest: int = 0


class PointerDamaged(Exception):
    """The pointer is not what Darkroom writes."""


class OpenGeneration(Protocol):
    """A generation that can be read: its number, and the views of its shards."""

    number: int

    @property
    def views(self) -> Sequence[ShardViews]: ...

    def positions(self) -> list[int]:
        """Each shard's position."""

    def bytes_stored(self) -> list[int | None]:
        """How many bytes each shard has on this node's disk; None where it has them elsewhere."""

    def release_dead_readers(self) -> None:
        """Free what readers that were killed still hold."""

    def close(self) -> None:
        """Free what it holds."""


class Generations(Protocol):
    """All generations, and the pointer to the one that serves."""

    def look(self) -> object:
        """What is another object whenever the pointer has changed; cheap, for every read asks."""

    def pointer(self) -> Pointer:
        """The pointer; `Pointer()` where there is none. PointerDamaged where it makes no sense."""

    def allot(self) -> int:
        """A new generation's number, noted before it is used, and never given again."""

    def create(self, number: int, shards: int) -> OpenGeneration:
        """An empty generation of that number."""

    def serve(self, pointer: Pointer) -> None:
        """Replace the pointer, durably and in one step. Only the one supervisor may."""

    def open_serving(self) -> OpenGeneration | None:
        """The serving generation, or None where there is none yet."""

    def drop_others(self, keep: set[int]) -> list[int]:
        """Delete the generations besides `keep` that nobody reads; which are left because somebody does."""


class FolderGenerations:
    """Generations in a folder; see `Generations`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pointer = str(folder / "current.json")  # every read looks at it, and a Path takes longer than the look

    def look(self) -> object:
        try:
            status = os.stat(self._pointer)  # noqa: PTH116
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def pointer(self) -> Pointer:
        return read_pointer(self.folder)

    def allot(self) -> int:
        return allot(self.folder)

    def create(self, number: int, shards: int) -> "Generation":
        return Generation(self.folder, number, shards, create=True)

    def serve(self, pointer: Pointer) -> None:
        write_pointer(self.folder, pointer)

    def open_serving(self) -> "Generation | None":
        return open_serving(self.folder)

    def drop_others(self, keep: set[int]) -> list[int]:
        return drop_others(self.folder, keep)


class Generation:
    """An open generation: its number, its shards' stores, and the views of them."""

    def __init__(self, folder: Path, number: int, shards: int, *, create: bool = False) -> None:
        self.number = number
        self.path = generation_path(folder, number)
        self.stores: list[LmdbShardStore] = []
        self.views: list[StoreViews] = []
        if create:
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = (self.path / "readers.lock").open("a" if create else "r")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            for shard in range(shards):
                identity = Identity(FORMAT, number, shard, shards) if create else None
                self.stores.append(LmdbShardStore(shard_path(folder, number, shard), identity))
            self.views += map(StoreViews, self.stores)
        except BaseException:
            self.close()
            raise

    def positions(self) -> list[int]:
        """Each shard's position."""
        return [store.checkpoint().position for store in self.stores]

    def bytes_stored(self) -> list[int | None]:
        return [store.bytes_stored() for store in self.stores]

    def release_dead_readers(self) -> None:
        for store in self.stores:
            store.release_dead_readers()

    def close(self) -> None:
        for store in self.stores:
            store.close()
        self.stores, self.views = [], []
        self._lock.close()


def generation_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}"


def shard_path(folder: Path, number: int, shard: int) -> Path:
    return generation_path(folder, number) / f"shard-{shard:04}"


def read_pointer(folder: Path) -> Pointer:
    """The pointer; `Pointer()` where there is none. PointerDamaged where it makes no sense."""
    try:
        data = (folder / "current.json").read_bytes()
    except FileNotFoundError:
        return Pointer()
    try:
        pointer = msgspec.json.decode(data, type=Pointer)
    except msgspec.MsgspecError as error:
        raise PointerDamaged(f"{folder / 'current.json'}: {error}") from None
    if not 0 <= pointer.generation <= pointer.highest or not 0 <= pointer.shards <= SHARDS_MAX:
        raise PointerDamaged(f"{folder / 'current.json'} names what cannot be: {pointer}")
    return pointer


def write_pointer(folder: Path, pointer: Pointer) -> None:
    """Replace the pointer, durably. Only the holder of the work lock may."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "current.json.new"
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(pointer) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "current.json")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_serving(folder: Path) -> Generation | None:
    """The serving generation, or None where there is none yet."""
    for last in (False,) * (_OPEN_TRIES - 1) + (True,):
        pointer = read_pointer(folder)
        if not pointer.generation:
            return None
        try:
            return Generation(folder, pointer.generation, pointer.shards)
        except Exception:
            # It may have been dropped between the look and the opening; then the pointer names another.
            if last or read_pointer(folder) == pointer:
                raise
    raise AssertionError("unreachable")


def refuse_other_format(folder: Path) -> None:
    """OtherFormat where a store of the serving generation has one. Its shard tells what else may be wrong with it."""
    pointer = read_pointer(folder)
    for shard in range(pointer.shards if pointer.generation else 0):
        try:
            LmdbShardStore(shard_path(folder, pointer.generation, shard)).close()
        except OtherFormat:
            raise
        except (EnvironmentUnusable, StoreError):
            continue


@contextmanager
def serving(folder: Path) -> Iterator[Generation | None]:
    """`open_serving` for a while."""
    generation = open_serving(folder)
    try:
        yield generation
    finally:
        if generation is not None:
            generation.close()


def allot(folder: Path) -> int:
    """A new generation's number, noted before it is used."""
    pointer = read_pointer(folder)
    number = pointer.highest + 1
    write_pointer(folder, Pointer(pointer.generation, pointer.shards, number))
    return number


def drop_others(folder: Path, keep: set[int]) -> list[int]:
    """Delete the generations besides `keep` that no reader holds; which are left because one does."""
    held = []
    for path in sorted(folder.glob("[0-9]*")):
        number = int(path.name)
        if number not in keep and not _drop(path):
            held.append(number)
    return held


def _drop(path: Path) -> bool:
    try:
        with (path / "readers.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
    except FileNotFoundError:
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return False
    return True
