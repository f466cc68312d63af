"""LMDB environments, one per path and process, with the habits that keep them safe.

LMDB's locks belong to a process and a file, so a process that opens a file twice loses them: `open_environment` shares
one environment by reference count. No WRITEMAP, for a full disk would then be a SIGBUS. Environments do not survive a
fork; processes are spawned.
"""

from __future__ import annotations  # LMDB's classes are generic to type checkers only

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

MAP_BYTES = 1 << 40  # address space, not disk: the file grows as it is written
READERS_MAX = 510
WRITE_LOCK_TIMEOUT_S = 10.0


class EnvironmentUnusable(Exception):
    """The environment cannot be opened: missing, not writable, damaged, or of another format."""


class WriteLockTimeout(Exception):
    """Another process holds the write lock; the message names it."""


class LmdbEnvironment:
    """One open environment. `env` is LMDB's own; use `read` and `write` for transactions."""

    def __init__(self, path: Path, *, create: bool, tables: int) -> None:
        self.path = path
        if create:
            path.mkdir(parents=True, exist_ok=True)
        elif not (path / "data.mdb").exists():
            raise EnvironmentUnusable(f"{path} holds no data")
        try:
            self.env = lmdb.open(
                str(path),
                map_size=MAP_BYTES,
                max_dbs=tables,
                max_readers=READERS_MAX,
                readahead=False,
                meminit=False,
                lib_version=0,
            )
            self._lock_file = os.open(path / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (lmdb.Error, OSError) as error:
            raise EnvironmentUnusable(f"{path}: {error}") from error
        self._writer = threading.Lock()
        self._readers = 0
        self._no_readers = threading.Condition()
        # A reader that was killed keeps its slot, and with it every page freed since: 100 times the disk in a trial.
        self.env.reader_check()

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction[bytes]]:
        """A snapshot; everything read in it is of one moment."""
        with self._reading(), self._begin() as transaction:
            yield transaction

    @contextmanager
    def read_in_place(self) -> Iterator[lmdb.Transaction[memoryview[int]]]:
        """A snapshot whose keys and values are the map's own memory, and live no longer than it does."""
        with self._reading(), self._begin(), self.env.begin(buffers=True) as transaction:
            yield transaction

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._no_readers:
            self._readers += 1
        try:
            yield
        finally:
            with self._no_readers:
                self._readers -= 1
                if not self._readers:
                    self._no_readers.notify_all()

    def _begin(self) -> lmdb.Transaction[bytes]:
        try:
            return self.env.begin()
        except lmdb.MapResizedError:
            # Another process has grown the map. It may be taken over only while nothing here reads.
            with self._no_readers:
                self._no_readers.wait_for(lambda: self._readers <= 1, WRITE_LOCK_TIMEOUT_S)
                self.env.set_mapsize(0)
            return self.env.begin()

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
                with self.env.begin(write=True) as transaction:
                    yield transaction
            finally:
                fcntl.lockf(self._lock_file, fcntl.LOCK_UN)
        finally:
            self._writer.release()

    def _lock_between_processes(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        pause_s = 0.0001
        while True:
            try:
                fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= deadline:
                    holder = os.pread(self._lock_file, 32, 0).decode(errors="replace").strip("\0 \n")
                    message = f"{self.path}: process {holder} has held the write lock for over {timeout_s:g} s"
                    raise WriteLockTimeout(message) from None
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.005)
            else:
                os.pwrite(self._lock_file, f"{os.getpid():<31}\n".encode(), 0)
                return

    def close(self) -> None:
        self.env.close()
        os.close(self._lock_file)


_open: dict[Path, tuple[LmdbEnvironment, int]] = {}
_open_lock = threading.Lock()


def open_environment(path: Path, *, create: bool = True, tables: int = 0) -> LmdbEnvironment:
    """This process's environment at `path`; every open needs one `close_environment`."""
    path = path.absolute()
    with _open_lock:
        environment, uses = _open.get(path, (None, 0))
        if environment is None:
            environment = LmdbEnvironment(path, create=create, tables=tables)
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
