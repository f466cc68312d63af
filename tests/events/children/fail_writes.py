"""Appends the workload while something keeps its writes from succeeding, and tells what came of each append.

Arguments: the log's folder, the groups. Each line of output is JSON. After an append that stopped the log it tries once
more, reads, opens the log again and goes on with what is missing.
"""

import json
import sys
from pathlib import Path
from typing import Any

from log_trials import ends, expected, group_of, time_of

from darkroom.events.lmdb_environments import EnvironmentUnusable
from darkroom.events.log import LogError, LogFull, LogStopped
from darkroom.events.log_adapters.lmdb import LmdbEventLog

TRIES = 5


def main(path: Path, groups: int) -> None:
    for _ in range(TRIES):
        try:
            log = LmdbEventLog(path)
        except EnvironmentUnusable as error:
            tell(event="not opened", detail=str(error))
            continue
        tell(event="opened", reads=reads(log))
        try:
            append_all(log, groups)
            tell(event="done", reads=reads(log))
            return
        except LogStopped as error:
            tell(event="stopped", detail=str(error), again=append_next(log), reads=reads(log))
        finally:
            log.close()


def append_all(log: LmdbEventLog, groups: int) -> None:
    while (number := ends(groups).index(log.head())) < groups:
        try:
            tell(event="stored", position=append_group(log, number))
        except LogFull as error:
            tell(event="full", detail=str(error), reads=reads(log))


def append_group(log: LmdbEventLog, number: int) -> int:
    events, first = group_of(number), ends(number)[-1] + 1
    return log.append(events, [time_of(first + index) for index in range(len(events))])[-1]


def append_next(log: LmdbEventLog) -> str:
    """What becomes of a further append to a log that has stopped."""
    try:
        return f"stored {append_group(log, 0)}"
    except LogError as error:
        return type(error).__name__


def reads(log: LmdbEventLog) -> str:
    """How many records are read, if they are the right ones."""
    try:
        head = log.head()
        right = log.read(0, 10**6) == expected(60)[:head]
    except LogError as error:
        return type(error).__name__
    return str(head) if right else "other"


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
