"""Grows an environment beyond the map that other processes have of it."""

import struct
import sys
from pathlib import Path

from darkroom.events.lmdb_environments import open_environment


def main(path: str) -> None:
    environment = open_environment(Path(path))
    with environment.write() as transaction:
        for number in range(1000):
            transaction.put(struct.pack(">Q", number), b"x" * 4000)


if __name__ == "__main__":
    main(sys.argv[1])
