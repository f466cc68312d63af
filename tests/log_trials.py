"""What the trials of the log share: a workload that knows what must be stored, and how their children are run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from darkroom.events.facts import CommentAdded, Event, PostLiked, Recorded, RecordParked, UserFollowed, personal

TESTS = Path(__file__).parent
CHILDREN = TESTS / "events" / "children"
TIMEOUT_S = 60.0

# The system calls by which bytes leave a process for a file, and the two that make a disk keep them.
WRITES = "pwrite64,pwritev,pwritev2,writev,write,fdatasync,fsync"

_SIZES = (1, 3, 1, 20, 2, 1, 7, 1, 60)


def group_of(number: int) -> list[Event]:
    """The events of the workload's group `number`: of several types and sizes, some too large for one page."""
    events: list[Event] = []
    for index in range(_SIZES[number % len(_SIZES)]):
        serial = number * 100 + index
        match serial % 5:
            case 0:
                events.append(UserFollowed(follower=serial, followee=serial % 97))
            case 1:
                events.append(PostLiked(user=serial, post=serial % 89, author=serial % 97))
            case 2:
                text = personal(f"comment {serial} " + "é" * (serial % 40))
                events.append(CommentAdded(user=serial, post=1, author=2, text=text, key=str(serial)))
            case 3:
                events.append(UserFollowed(follower=serial, followee=2, carried={"serial": serial}))
            case _:
                events.append(RecordParked(position=serial, reason="r" * (6000 if serial % 3 == 0 else 30)))
    return events


def time_of(position: int) -> int:
    return 1_700_000_000_000 + 10 * position


def expected(groups: int) -> list[Recorded]:
    """The records that the first `groups` groups make."""
    events = [event for number in range(groups) for event in group_of(number)]
    return [Recorded(position, time_of(position), event) for position, event in enumerate(events, 1)]


def ends(groups: int) -> list[int]:
    """The head after 0, 1, 2 … groups: the only heads that a log of this workload may have."""
    heads = [0]
    for number in range(groups):
        heads.append(heads[-1] + len(group_of(number)))
    return heads


def ram_folder() -> str | None:
    """Memory, where there is some: these trials decide themselves what a disk keeps, and a disk may be busy."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def strace_works() -> bool:
    """Whether there is a strace that may trace; in some containers there is one that may not."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, timeout=TIMEOUT_S, check=False)
    return tried.returncode == 0


def child(name: str, *arguments: object, strace: Sequence[str] = ()) -> list[str]:
    """The command that runs tests/events/children/`name`.py, under strace with these options where there are any."""
    prefix = ["strace", "-f", *strace] if strace else []
    return [*prefix, sys.executable, str(CHILDREN / f"{name}.py"), *map(str, arguments)]


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=child_environment()
    )


def child_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1"}


def acknowledged(output: str) -> int:
    """The last position that a child of `append_groups` acknowledged in a whole line."""
    whole, _, _ = output.rpartition("\n")
    return int(whole.rsplit(" ", 1)[-1]) if whole else 0
