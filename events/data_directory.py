"""The data directory: what lies where, of which format, and who works in it.

One process at a time runs shards in a directory: it holds the work lock. Any number may append to the log and read.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO

FORMAT = 1
LOCK_TRIES, LOCK_PAUSE_S = 10, 0.005


class DirectoryUnusable(Exception):
    """There is no data directory there, it is not writable, lacks its log, or was made by a newer version."""


class DirectoryBusy(Exception):
    """Another process works in the directory; the message names it, and `holder` is how it describes itself."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by {holder}")
        self.holder = holder


class DirectoryPaths:
    """Paths within one directory, which need not be there."""

    def __init__(self, path: Path, *, state: Path | None = None, keeps_log: bool = True) -> None:
        """`state` is where generations lie, if elsewhere; without `keeps_log` what lies in `log` is a copy."""
        self.path = path.absolute()
        self._state = self.path if state is None else state.absolute()
        self._keeps_log = keeps_log

    @property
    def log(self) -> Path:
        return (self.path if self._keeps_log else self._state) / "log"

    @property
    def originals(self) -> Path:
        return self.path / "originals"

    @property
    def renditions(self) -> Path:
        return self.path / "renditions"

    @property
    def generations(self) -> Path:
        return self._state / "generations"

    @property
    def requests(self) -> Path:
        """What operators ask of the process that works here (see `darkroom.actors.supervisor`)."""
        return self.path / "requests"


class DataDirectory(DirectoryPaths):
    """A directory that is there. With `create` it is made if need be; DirectoryUnusable otherwise."""

    def __init__(self, path: Path, *, create: bool, state: Path | None = None, keeps_log: bool = True) -> None:
        super().__init__(path, state=state, keeps_log=keeps_log)
        marker = self.path / "darkroom.json"
        try:
            if create:
                self._create(marker)
            text = marker.read_bytes()
        except FileNotFoundError:
            raise DirectoryUnusable(f"{path} is not a Darkroom data directory") from None
        except (FileExistsError, NotADirectoryError):
            raise DirectoryUnusable(f"{path} is not a directory") from None
        except OSError as error:
            raise DirectoryUnusable(f"{path}: {error.strerror}") from None
        self._check_format(text)
        self._check_log(create=create)
        if not os.access(self.path, os.W_OK):
            raise DirectoryUnusable(f"{path} is not writable")

    def _create(self, marker: Path) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if marker.exists():
            return
        # Others may be making it too, or were killed while they did: their files are no strangers, and once the marker
        # is there, nothing is.
        strangers = [path for path in self.path.iterdir() if not path.name.startswith("darkroom.")]
        if strangers and not marker.exists():
            raise DirectoryUnusable(f"{self.path} holds other files; name an empty or a new directory")
        temporary = marker.with_suffix(f".{os.getpid()}")
        with temporary.open("w") as file:
            file.write(json.dumps({"format": FORMAT}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(marker)

    def _check_format(self, text: bytes) -> None:
        try:
            found = json.loads(text)["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if type(found) is not int or found < 1:
            raise DirectoryUnusable(f"{self.path}/darkroom.json is not what Darkroom writes")
        if found > FORMAT:
            raise DirectoryUnusable(f"{self.path} was made by a newer version (format {found}, known: {FORMAT})")

    def _check_log(self, *, create: bool) -> None:
        """An empty log in a lost one's place would pass for it, and give its positions, which are ids, to others."""
        if self._keeps_log and not (self.log / "data.mdb").exists() and (not create or self.generations.exists()):
            raise DirectoryUnusable(f"{self.path} has no log; restore it")


class WorkLock:
    """The right to run shards in a directory, held until it is closed or the process ends, however it ends."""

    def __init__(self, directory: DataDirectory, what: str) -> None:
        """`what` tells others what this process does. DirectoryBusy if another holds the lock."""
        self._file: IO[str] = (directory.path / "work.lock").open("a+")
        if not self._locked():
            holder = _holder(self._file)
            self._file.close()
            raise DirectoryBusy(directory.path, holder)
        self.describe(what)

    def _locked(self) -> bool:
        # More than one try, for whoever looks who works here has the lock for a moment.
        for last in (False,) * (LOCK_TRIES - 1) + (True,):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not last:
                    time.sleep(LOCK_PAUSE_S)
            else:
                return True
        return False

    def describe(self, what: str) -> None:
        """Replace what others are told."""
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} ({what})")
        self._file.flush()

    def close(self) -> None:
        self._file.truncate(0)
        self._file.close()


def worker_of(directory: DataDirectory) -> str | None:
    """Who holds the work lock, as they describe themselves; None where nobody does."""
    try:
        with (directory.path / "work.lock").open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _holder(file)
    except FileNotFoundError:
        return None
    return None


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "another process"
