"""LMDB environments, one per path and process, with the habits that keep them safe.

LMDB's locks belong to a process and a file, so a process that opens a file twice loses them: `open_environment` shares
one environment by reference count. No WRITEMAP, for a full disk would then be a SIGBUS. Environments do not survive a
fork; processes are spawned. Beside LMDB's files lies `writer.lock`: a lock with a deadline, and a witness of the last
commit.
"""

from __future__ import annotations  # LMDB's classes are generic to type checkers only

import errno
import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import lmdb

from darkroom.events.lmdb_pages import contradiction, witness

MAP_BYTES = 1 << 40  # address space, not disk: the file grows as it is written
READERS_MAX = 510
_LOCK_FILE_BYTES = (READERS_MAX + 2) * 64
WRITE_LOCK_TIMEOUT_S = 10.0
ROOM_BYTES_MIN = 1 << 20

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_WITNESS_START, _WITNESS_BYTES = 32, 32  # in writer.lock; before it older versions wrote their process id
_WRITE_BYTE, _TURNSTILE_BYTE = 0, 1  # of the same file, for locks
_FLOCK = struct.Struct("hhqqi4x")  # what F_GETLK fills in: kind, whence, start, length, process id
_Result = TypeVar("_Result")


class EnvironmentUnusable(Exception):
    """The environment cannot be opened: missing, not writable, damaged, or of another format."""


class WriteLockTimeout(Exception):
    """Another process holds the write lock; the message names it."""


class LmdbEnvironment:
    """One open environment. `env` is LMDB's own; use `read` and `write` for transactions."""

    def __init__(self, path: Path, *, create: bool, tables: int, append_only: bool) -> None:
        self.path = path
        try:
            if not create and not _size(path / "data.mdb"):
                raise EnvironmentUnusable(f"{path} holds no data")
            with ExitStack() as undo:
                folders = _make_folders(path)
                self._lock_file = os.open(path / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                undo.callback(os.close, self._lock_file)
                self._refuse_damage(path / "data.mdb", append_only=append_only)
                _reserve_reader_slots(path / "lock.mdb")
                # `meminit` stays on: without it, what this process had in memory, passwords too, ends up in the file.
                self.env = lmdb.open(
                    str(path),
                    map_size=MAP_BYTES,
                    max_dbs=tables,
                    max_readers=READERS_MAX,
                    readahead=False,
                    lib_version=0,
                )
                undo.callback(self.env.close)
                self._data_file = os.open(path / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
                undo.callback(os.close, self._data_file)
                meta_bytes = 2 * self.env.stat()["psize"]
                self._metas = undo.enter_context(mmap.mmap(self._data_file, meta_bytes, prot=mmap.PROT_READ))
                if not self.env.info()["last_txnid"]:
                    self.env.sync(True)
                    _sync_folders([path, path.parent, *folders])
                    self._write_witness()
                undo.pop_all()
        except (lmdb.Error, OSError, ValueError) as error:  # the last where the file is too short to be mapped
            raise EnvironmentUnusable(f"{path}: {error}") from error
        self.databases: dict[str, object] = {}  # handles of named databases: one opening serves the whole process
        self._writer = threading.Lock()
        self._readers = 0
        self._no_readers = threading.Condition()
        # A reader that was killed keeps its slot, and with it every page freed since: 100 times the disk in a trial.
        self.env.reader_check()

    def _refuse_damage(self, data_file: Path, *, append_only: bool) -> None:
        last_witness = self._last_witness()  # before the pages are read, for other processes commit meanwhile
        reason = contradiction(data_file, last_witness, append_only=append_only)
        if reason is not None:
            raise EnvironmentUnusable(f"{data_file} is damaged: {reason}")

    def read(self) -> Read:
        """A snapshot, as a context manager; everything read in it is of one moment."""
        return Read(self)

    def begin_reading(self) -> lmdb.Transaction[bytes]:
        with self._no_readers:
            try:
                transaction = self.env.begin()
            except lmdb.MapResizedError:
                self._take_over_map()
                transaction = self.env.begin()
            self._readers += 1
            return transaction

    def end_reading(self, transaction: lmdb.Transaction[bytes]) -> None:
        transaction.abort()
        with self._no_readers:
            self._readers -= 1
            if not self._readers:
                self._no_readers.notify_all()

    def _begin_writing(self) -> lmdb.Transaction[bytes]:
        try:
            return self.env.begin(write=True)
        except lmdb.MapResizedError:
            with self._no_readers:
                self._take_over_map()
            return self.env.begin(write=True)

    def _take_over_map(self) -> None:
        """Another process has grown the map. That may be followed only while nothing here reads."""
        self._no_readers.wait_for(lambda: not self._readers, WRITE_LOCK_TIMEOUT_S)
        if not self._readers:
            self.env.set_mapsize(0)

    @contextmanager
    def write(self, timeout_s: float = WRITE_LOCK_TIMEOUT_S) -> Iterator[lmdb.Transaction[bytes]]:
        """The one write transaction; WriteLockTimeout names who holds the lock for longer than `timeout_s`.

        LMDB's own lock is waited for without a limit and without a name, so a lock that has both is taken first.
        """
        if not self._writer.acquire(timeout=timeout_s):
            raise WriteLockTimeout(f"{self.path}: another thread of process {os.getpid()} has been writing for long")
        try:
            self._lock_between_processes(timeout_s)
            try:
                with self._begin_writing() as transaction:
                    yield transaction
                # Not synced, so after a power cut it may be behind, but never ahead: meta pages that are older than
                # this are damaged.
                self._write_witness()
            finally:
                self._unlock(_WRITE_BYTE)
        finally:
            self._writer.release()

    def _lock_between_processes(self, timeout_s: float) -> None:
        # Who waits for the lock holds the turnstile, so that whoever had the lock last does not pass it again at once:
        # without it a process waited up to 1.3 s beside one that never paused.
        deadline = time.monotonic() + timeout_s
        both = self._try_lock(_WRITE_BYTE, 2)
        if both or self._lock(_TURNSTILE_BYTE, deadline):
            try:
                if both or self._lock(_WRITE_BYTE, deadline):
                    return
            finally:
                self._unlock(_TURNSTILE_BYTE)
        raise WriteLockTimeout(f"{self.path}: {self._holder()} has held the write lock for over {timeout_s:g} s")

    def _lock(self, byte: int, deadline: float) -> bool:
        pause_s = 0.00005
        while not self._try_lock(byte, 1):
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.3, 0.001)
        return True

    def _try_lock(self, byte: int, count: int) -> bool:
        try:
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, byte)
        except OSError:
            return False
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, byte)

    def _holder(self) -> str:
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _WRITE_BYTE, 1, 0)
        kind, *_, process = _FLOCK.unpack(fcntl.fcntl(self._lock_file, fcntl.F_GETLK, wanted))
        return f"process {process}" if kind != fcntl.F_UNLCK and process > 0 else "another process"

    def _last_witness(self) -> str:
        line = os.pread(self._lock_file, _WITNESS_BYTES, _WITNESS_START)
        return line.decode("ascii", errors="replace").strip("\0 \n")

    def _write_witness(self) -> None:
        # A courtesy: a disk too full for it says so when the data are written.
        with suppress(OSError):
            line = f"{witness(self._metas):<{_WITNESS_BYTES - 1}}\n"
            os.pwrite(self._lock_file, line.encode("ascii"), _WITNESS_START)

    def is_full(self) -> bool:
        """Whether the file cannot grow. LMDB calls a write cut short by that EIO, like one that the disk failed."""
        try:
            os.posix_fallocate(self._data_file, os.fstat(self._data_file).st_size, ROOM_BYTES_MIN)
        except OSError as error:
            return error.errno in NO_ROOM
        return False

    def close(self) -> None:
        """Close it once nobody reads: the memory of a read in place would go with it."""
        with self._no_readers:
            self._no_readers.wait_for(lambda: not self._readers, WRITE_LOCK_TIMEOUT_S)
            self.env.close()
        self._metas.close()
        os.close(self._data_file)
        os.close(self._lock_file)


class Read:
    """A read transaction while it is entered. A class, for a generator costs more than the transaction."""

    __slots__ = ("_environment", "_transaction")

    def __init__(self, environment: LmdbEnvironment) -> None:
        self._environment = environment
        self._transaction: lmdb.Transaction[bytes]

    def __enter__(self) -> lmdb.Transaction[bytes]:
        self._transaction = self._environment.begin_reading()
        return self._transaction

    def __exit__(self, *exception: object) -> None:
        self._environment.end_reading(self._transaction)


def _make_folders(path: Path) -> list[Path]:
    """Make `path`, and return the folders that have a new entry now."""
    parents = [folder.parent for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return parents


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _reserve_reader_slots(file: Path) -> None:
    """Give LMDB's table of readers its blocks. It is mapped: a slot first used when the disk is full is a SIGBUS."""
    # Only while this process has the environment closed, for closing the file gives up the locks that it has there.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with suppress(OSError):
            os.posix_fallocate(descriptor, 0, _LOCK_FILE_BYTES)
    finally:
        os.close(descriptor)


def _sync_folders(folders: list[Path]) -> None:
    """A file is found after a power cut only if the entry that names it was written too."""
    for folder in folders:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


_open: dict[Path, tuple[LmdbEnvironment, int]] = {}
_open_lock = threading.Lock()


def open_environment(path: Path, *, create: bool = True, tables: int = 0, append_only: bool = False) -> LmdbEnvironment:
    """This process's environment at `path`; every open needs one `close_environment`.

    `append_only` promises that every transaction adds records and removes none, so that more damage can be told.
    """
    path = path.resolve()
    with _open_lock:
        environment, uses = _open.get(path, (None, 0))
        if environment is None:
            environment = LmdbEnvironment(path, create=create, tables=tables, append_only=append_only)
        _open[path] = (environment, uses + 1)
        return environment


def close_environment(environment: LmdbEnvironment) -> None:
    """Give back one use; the last one closes it."""
    with _open_lock:
        _, uses = _open[environment.path]
        if uses > 1:
            _open[environment.path] = (environment, uses - 1)
            return
        del _open[environment.path]
        environment.close()
