"""Reads damaged copies of a log, each in a process of its own, for a damaged map can kill its reader.

Arguments: a folder with an intact log, the groups in it, a scratch folder. Each line of standard input is one case, a
JSON list of edits: ["flip", offset, bit], ["cut", length]; or one ["image", folder], the files that a crash left. Each
line of output is what came of it.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from log_trials import expected, group_of, time_of

from darkroom.events.codec import UndecodableEvent
from darkroom.events.facts import Recorded
from darkroom.events.lmdb_environments import EnvironmentUnusable
from darkroom.events.log import DamagedRecord, LogError
from darkroom.events.log_adapters.lmdb import LmdbEventLog

HUNG_S = 10
APPENDS = 12
SEEK_EVERY = 5


def main(intact: Path, groups: int, scratch: Path) -> None:
    records = expected(groups)
    for line in sys.stdin:
        print(json.dumps(in_a_process(partial(trial, intact, json.loads(line), scratch, records, groups))))


def in_a_process(job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `job` returns; how its process ended, where it returned nothing. Nothing is open here that a fork harms."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(HUNG_S)
        # The last words of LMDB's assertions are not of interest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            result = job()
        except BaseException as error:
            result = {"outcome": "unclean", "detail": repr(error)}
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        answer = stream.read()
    _, status = os.waitpid(pid, 0)
    if answer:
        return dict(json.loads(answer))
    killer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {"outcome": "hung" if killer == signal.SIGALRM else "died" if killer else "unclean", "detail": killer}


def trial(intact: Path, edits: list[list[Any]], scratch: Path, records: list[Recorded], groups: int) -> dict[str, Any]:
    if edits[0][0] == "image":
        return open_image(Path(edits[0][1]), records)
    path = damaged_copy(intact, edits, scratch)
    found = look(path, records)
    if found["outcome"] == "intact":
        found["afterwards"] = append_and_look(path, records, groups)
    return found


def damaged_copy(intact: Path, edits: list[list[Any]], scratch: Path) -> Path:
    path = scratch / "log"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for file in intact.iterdir():
        if file.name != "lock.mdb":
            shutil.copyfile(file, path / file.name)
    with (path / "data.mdb").open("r+b") as data:
        for edit, *arguments in edits:
            if edit == "flip":
                offset, bit = arguments
                data.seek(offset)
                (byte,) = data.read(1)
                data.seek(offset)
                data.write(bytes([byte ^ 1 << bit]))
            elif edit == "cut":
                data.truncate(arguments[0])
    return path


def look(path: Path, records: list[Recorded]) -> dict[str, Any]:
    """What a reader makes of the log, that holds `records` or is damaged; "other" is what must not be."""
    try:
        log = LmdbEventLog(path, create=False)
    except (EnvironmentUnusable, LogError) as error:
        return {"outcome": "refused", "position": getattr(error, "position", None), "detail": str(error)}
    except Exception as error:
        return {"outcome": "unclean", "detail": repr(error)}
    try:
        found = scan(log, records)
        # Records are sought too, for a seek goes down the tree by other pages and keys than a scan.
        sought = {seek(log, records, after) for after in range(0, len(records), SEEK_EVERY)}
        for worse in ("other", "unclean"):
            if worse in sought:
                return {"outcome": worse, "detail": "met by a seek"}
        if "damaged" in sought and found["outcome"] == "intact":
            return {"outcome": "damaged", "position": None, "detail": "only a seek meets it"}
        return found
    finally:
        log.close()


def scan(log: LmdbEventLog, records: list[Recorded]) -> dict[str, Any]:
    read: list[Recorded] = []
    try:
        while new := log.read(len(read), 50):
            read += new
            if read != records[: len(read)]:
                return {"outcome": "other", "detail": f"a record up to {len(read)} is not what was written"}
        head = log.head()
    except (LogError, UndecodableEvent) as error:
        position = error.position if isinstance(error, DamagedRecord) else len(read) + 1
        return {"outcome": "damaged", "position": position, "detail": str(error)}
    except Exception as error:
        return {"outcome": "unclean", "detail": repr(error)}
    if len(read) != len(records) or head != len(records):
        return {"outcome": "other", "detail": f"{len(read)} records, head {head}, of {len(records)}"}
    return {"outcome": "intact"}


def seek(log: LmdbEventLog, records: list[Recorded], after: int) -> str:
    try:
        return "intact" if log.read(after, 2) == records[after : after + 2] else shorter(log, records, after)
    except (LogError, UndecodableEvent):
        return "damaged"
    except Exception:
        return "unclean"


def shorter(log: LmdbEventLog, records: list[Recorded], after: int) -> str:
    """One record where there are two is right if the second is then an error."""
    if log.read(after, 2) != records[after : after + 1]:
        return "other"
    return "damaged" if seek(log, records, after + 1) == "damaged" else "other"


def open_image(path: Path, records: list[Recorded]) -> dict[str, Any]:
    """How many of `records` the log has and whether it goes on, twice."""
    counts = []
    for _ in range(2):
        try:
            log = LmdbEventLog(path)
        except (EnvironmentUnusable, LogError) as error:
            return {"outcome": "refused", "detail": str(error)}
        head = log.head()
        read = log.read(0, head + 1)
        if len(read) != head or read[: len(records)] != records[:head]:
            return {"outcome": "other", "detail": f"{len(read)} records, head {head}"}
        counts.append(head)
        log.append([records[head].event] if head < len(records) else group_of(0), [time_of(head + 1)])
        log.close()
    return {"outcome": "prefix" if counts[1] == counts[0] + 1 else "other", "records": counts[0]}


def append_and_look(path: Path, records: list[Recorded], groups: int) -> dict[str, Any]:
    """The same after more was appended on top, which uses the store's list of free pages, too."""
    grown = list(records)
    try:
        log = LmdbEventLog(path, create=False)
        for number in range(groups, groups + APPENDS):
            events = group_of(number)
            times = [time_of(len(grown) + index) for index in range(1, len(events) + 1)]
            for position, time_ms, event in zip(log.append(events, times), times, events, strict=True):
                grown.append(Recorded(position, time_ms, event))
        log.close()
    except (EnvironmentUnusable, LogError) as error:
        return {"outcome": "refused", "detail": str(error)}
    except Exception as error:
        return {"outcome": "unclean", "detail": repr(error)}
    return look(path, grown)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
