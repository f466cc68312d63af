"""Appends until there is no room, looks, makes room, goes on; once for each amount of room, and tells what came of it.

Arguments: a folder; "disk" when it lies on a small disk of its own, to be filled, or "limit" for the limit on the size
of a file that a process may write; the steps to try and the bytes of each.
"""

import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

from log_trials import ends, expected, group_of, time_of

from darkroom.events.log import LogFull
from darkroom.events.log_adapters.lmdb import LmdbEventLog

GROUPS = 40
BLOCK = bytes(64 * 1024)


def main(folder: Path, means: str, steps: int, step_bytes: int) -> None:
    make_room = {"disk": fill_disk, "limit": limit_files}[means]
    for step in range(steps):
        print(json.dumps(trial(folder, lambda log, room=step * step_bytes: make_room(folder, log, room))), flush=True)


def trial(folder: Path, leave_only: Any) -> dict[str, Any]:
    path = folder / "log"
    shutil.rmtree(path, ignore_errors=True)
    log = LmdbEventLog(path)
    append(log, 0)
    give_room = leave_only(log)
    refused = 0
    try:
        for number in range(1, GROUPS):
            append(log, number)
    except LogFull:
        refused = 1
        refused += is_full(log, ends(GROUPS).index(log.head()))
    head_when_full = log.head()
    right_when_full = log.read(0, 10**6) == expected(GROUPS)[:head_when_full] and head_when_full in ends(GROUPS)
    give_room()
    for number in range(ends(GROUPS).index(log.head()), GROUPS):
        append(log, number)
    log.close()
    log = LmdbEventLog(path, create=False)
    right_at_last = log.read(0, 10**6) == expected(GROUPS)
    log.close()
    return {"refused": refused, "reads go on": right_when_full, "goes on": right_at_last, "head": head_when_full}


def append(log: LmdbEventLog, number: int) -> None:
    events, first = group_of(number), log.head() + 1
    log.append(events, [time_of(first + index) for index in range(len(events))])


def is_full(log: LmdbEventLog, number: int) -> bool:
    """Whether the same append is refused again: nothing about it has changed."""
    try:
        append(log, number)
    except LogFull:
        return True
    return False


def fill_disk(folder: Path, _: LmdbEventLog, room: int) -> Any:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(BLOCK)
        except OSError:
            pass
    os.truncate(filler, max(filler.stat().st_size - room, 0))
    return filler.unlink


def limit_files(_: Path, log: LmdbEventLog, room: int) -> Any:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.bytes_stored() + room, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
