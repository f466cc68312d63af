"""Holds a transaction of an environment open, "write" or "read", says so, and waits to be killed."""

import sys
from pathlib import Path

from darkroom.events.lmdb_environments import open_environment


def main(path: str, kind: str) -> None:
    environment = open_environment(Path(path))
    if kind == "write":
        with environment.write() as transaction:
            transaction.put(b"key", b"half written")
            wait()
    else:
        with environment.read():
            wait()


def wait() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
