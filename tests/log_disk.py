"""A disk rebuilt from a trace of system calls, that forgets at a crash what nobody synced.

A kill alone cannot show a missing sync, for the page cache survives it. Here each sector of a file is, after a crash,
what it was at the last sync or at any moment since; a file without a synced entry in its folder may be gone.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512

_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass
class _File:
    live: bytearray = field(default_factory=bytearray)
    synced: dict[int, bytes] = field(default_factory=dict)
    since: dict[int, list[bytes]] = field(default_factory=dict)
    has_entry: bool = False

    def write(self, offset: int, data: bytes, *, synchronous: bool) -> None:
        if len(self.live) < offset + len(data):
            self.live.extend(bytes(offset + len(data) - len(self.live)))
        self.live[offset : offset + len(data)] = data
        for sector in range(offset // SECTOR_BYTES, (offset + len(data) - 1) // SECTOR_BYTES + 1):
            content = bytes(self.live[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES])
            if synchronous:
                self.synced[sector] = content
                self.since.pop(sector, None)
            else:
                self.since.setdefault(sector, []).append(content)

    def sync(self) -> None:
        self.synced |= {sector: versions[-1] for sector, versions in self.since.items()}
        self.since.clear()

    def image(self, sectors: dict[int, bytes]) -> bytes:
        image = bytearray()
        for sector, content in sorted(sectors.items()):
            image.extend(bytes(sector * SECTOR_BYTES - len(image)))
            image += content
        return bytes(image)


@dataclass(frozen=True)
class Crash:
    """The files that are left, by name, and the last position that had been acknowledged."""

    files: dict[str, bytes]
    acknowledged: int


class Disk:
    """The files in one folder, as the calls of one single-threaded process make them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "traced" / "log"
        self._open: dict[int, tuple[Path, bool]] = {}
        self._offsets: dict[int, int] = {}
        self.files: dict[str, _File] = {}
        self.synced_folders: set[Path] = set()
        self.acknowledged = 0

    def apply(self, line: str) -> bool:
        """Follow one line of the trace; whether it changed anything that matters after a crash."""
        call = _CALL.match(line)
        if call is None or int(call[3]) < 0:
            return False
        name, arguments, result = call[1], call[2], int(call[3])
        first = int(arguments.split(",")[0]) if arguments[:1].isdigit() else -1
        match name:
            case "openat":
                self._opened(result, arguments)
            case "close":
                self._open.pop(first, None)
            case "lseek":
                self._offsets[first] = result
            case "write" if first == 1:
                self.acknowledged = int(_bytes(arguments).split()[-1])
                return True
            case "pwrite64" | "writev" | "write":
                return self._written(first, arguments, result, at_offset=name == "pwrite64")
            case "fdatasync" | "fsync":
                return self._synced(first)
            case "pwritev" | "pwritev2" | "ftruncate":
                assert first not in self._open, f"{name} is not followed yet"
        return False

    def _opened(self, descriptor: int, arguments: str) -> None:
        path = Path(_bytes(arguments).decode())
        self._open[descriptor] = (path, "O_DSYNC" in arguments)
        self._offsets[descriptor] = 0
        if path.parent == self._folder and "O_DIRECTORY" not in arguments and path.name != "lock.mdb":
            self.files.setdefault(path.name, _File())

    def _written(self, descriptor: int, arguments: str, length: int, *, at_offset: bool) -> bool:
        path, synchronous = self._open.get(descriptor, (Path(), False))
        if path.parent != self._folder or path.name not in self.files:
            return False
        data = _bytes(arguments)
        assert len(data) == length
        offset = int(arguments.rsplit(",", 1)[1]) if at_offset else self._offsets[descriptor]
        if not at_offset:
            self._offsets[descriptor] += length
        self.files[path.name].write(offset, data, synchronous=synchronous)
        return True

    def _synced(self, descriptor: int) -> bool:
        path, _ = self._open[descriptor]
        if path == self._folder:
            for file in self.files.values():
                file.has_entry = True
        elif path.parent == self._folder and path.name in self.files:
            self.files[path.name].sync()
        self.synced_folders.add(path)
        return True

    def left(self, choose: random.Random | bool) -> Crash:
        """What a crash leaves: only what was synced (False), all that was written (True), or what chance says."""
        files = {}
        for name, file in self.files.items():
            if not file.has_entry and not (choose if isinstance(choose, bool) else choose.random() < 0.5):
                continue
            sectors = dict(file.synced)
            for sector, versions in file.since.items():
                if isinstance(choose, bool):
                    kept = versions[-1] if choose else None
                else:
                    kept = choose.choice([None, *versions])
                if kept is not None:
                    sectors[sector] = kept
            files[name] = file.image(sectors)
        return Crash(files, self.acknowledged)


def crashes(disk: Disk, trace: Sequence[str], *, subsets: int, seed: int) -> Iterator[Crash]:
    """Every different state that a crash after some call can leave, with `subsets` tries of chance for each call."""
    chance = random.Random(seed)
    seen = set()
    for line in trace:
        if not disk.apply(line):
            continue
        choices: list[random.Random | bool] = [False, True, *[chance] * subsets]
        for choose in choices:
            crash = disk.left(choose)
            state = (tuple(sorted(crash.files.items())), crash.acknowledged)
            if state not in seen:
                seen.add(state)
                yield crash


def _bytes(arguments: str) -> bytes:
    """All the strings among a call's arguments, put together."""
    parts = _TEXT.findall(arguments)
    assert not any(cut for _, cut in parts), "the trace cut a string short"
    return bytes.fromhex("".join(part for part, _ in parts).replace("\\x", ""))
