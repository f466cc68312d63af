"""Rebuilds the generation of a data directory, a record a commit, so that there is time to be killed on the way.

Arguments: the data directory. The only output is a line once the first records are folded into the new generation.
"""

import sys
from pathlib import Path

from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.actors.supervisor import Supervisor
from darkroom.events.data_directory import DataDirectory, WorkLock
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.settings import Settings
from darkroom.gateway.shard_wiring import ShardsOf
from darkroom.projections.generations import FolderGenerations
from darkroom.projections.shard_state import FoldSettings


def main(path: Path) -> None:
    directory = DataDirectory(path, create=False)
    lock = WorkLock(directory, "rebuild")
    log = LmdbEventLog(directory.log, create=False)
    supervisor = Supervisor(
        directory,
        log,
        InlineRuntime(),
        ShardsOf(Settings(), directory.log),
        FolderGenerations(directory.generations),
        FoldSettings(),
        batch_events=1,
    )
    supervisor.start()

    def on_the_way(folded: int, total: int) -> None:
        if 0 < folded < total:
            print(f"{folded} of {total}", flush=True)

    supervisor.rebuild(None, on_the_way)
    lock.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
