"""What processes keep resident, by process and by what it is, from the kernel's own account in /proc.

A page that several processes have mapped is divided among them (Pss), so that sums count it once.
"""

import importlib.util
import re
from collections import Counter
from pathlib import Path

import msgspec

PRIVATE, LOG, SHARDS, FILES = "private", "the log's pages", "the shards' pages", "programs and libraries"
KINDS = (PRIVATE, LOG, SHARDS, FILES)
ACTOR = "ShardActor"  # as its process calls itself; importing it would import Ray
MIB = 2**20
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)")


class Process(msgspec.Struct, frozen=True):
    """One process, in bytes: its share of what is resident by kind, all that it maps, and the most it ever did."""

    name: str
    is_rays: bool
    pss: dict[str, int]
    rss: int
    rss_max: int

    def total(self) -> int:
        return sum(self.pss.values())


def tree(root: int, data: Path) -> list[Process]:
    """`root`, those that it has started, and those that they have; one that ends meanwhile is left out."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    where = data.resolve()  # as the kernel tells what is mapped
    return [one for process in found if (one := _look(Path(f"/proc/{process}"), where)) is not None]


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _look(path: Path, data: Path) -> Process | None:
    try:
        command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        status = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines())
        pss, rss = _mapped((path / "smaps").read_text(), data)
    except (FileNotFoundError, ProcessLookupError):
        return None
    if "VmHWM" not in status:
        return None  # it has ended, and nobody has asked how
    return Process(_name(command), is_rays(command), pss, rss, 1024 * int(status["VmHWM"].split()[0]))


def _mapped(smaps: str, data: Path) -> tuple[dict[str, int], int]:
    pss, rss, kind = Counter(dict.fromkeys(KINDS, 0)), 0, PRIVATE
    for line in smaps.splitlines():
        if mapping := _MAPPING.fullmatch(line):
            kind = _kind(mapping[1], data)
        elif line.startswith("Pss:"):
            pss[kind] += 1024 * int(line.split()[1])
        elif line.startswith("Rss:"):
            rss += 1024 * int(line.split()[1])
    return dict(pss), rss


def _kind(name: str, data: Path) -> str:
    if name.startswith(f"{data}/"):
        return LOG if name.startswith(f"{data}/log/") else SHARDS
    return FILES if name.startswith("/") else PRIVATE


def is_rays(command: str) -> bool:
    """Whether Ray runs it for itself, and not for us: a worker of another class, or what comes out of its package."""
    if command.startswith("ray::"):
        return not command.startswith(f"ray::{ACTOR}")
    ray = importlib.util.find_spec("ray")
    return ray is not None and ray.origin is not None and str(Path(ray.origin).parent) in command


def _name(command: str) -> str:
    """What the process is for, as short as can be."""
    if " darkroom.gateway.main serve " in command:
        return "gateway"
    if command.startswith("ray::"):
        return command.removeprefix("ray::").partition(".")[0]
    words = command.split()
    return next((Path(word).name for word in words if not word.startswith("-") and "python" not in word), command)


def table(processes: list[Process]) -> str:
    """Each of ours with what it is made of, and Ray's own in one line."""
    ours = sorted((one for one in processes if not one.is_rays), key=Process.total, reverse=True)
    lines = [
        f"| MiB | resident | {' | '.join(KINDS)} | all that is mapped (RSS) | its highest |",
        "|---" * (len(KINDS) + 4) + "|",
        *(_line(one.name, [one]) for one in ours),
        _line("**ours**", ours),
        _line("Ray's own", [one for one in processes if one.is_rays]),
    ]
    return "\n".join(lines)


def _line(name: str, processes: list[Process]) -> str:
    pss = [sum(one.pss[kind] for one in processes) for kind in KINDS]
    rss, rss_max = sum(one.rss for one in processes), sum(one.rss_max for one in processes)
    return "| " + " | ".join([name, *(f"{value / MIB:,.0f}" for value in (sum(pss), *pss, rss, rss_max))]) + " |"
