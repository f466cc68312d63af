"""Appends the workload's groups from the first that is missing, and acknowledges each in one line when it is stored."""

import os
import sys
from pathlib import Path

from log_trials import ends, group_of, time_of

from darkroom.events.log_adapters.lmdb import LmdbEventLog


def main(path: str, groups: int) -> None:
    log = LmdbEventLog(Path(path))
    for number in range(ends(groups).index(log.head()), groups):
        first = log.head() + 1
        events = group_of(number)
        stored = log.append(events, [time_of(first + index) for index in range(len(events))])
        os.write(1, f"stored {stored[-1]}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
