"""Durable append in groups, beside a loop that packs, checksums, writes and syncs the same events to a file.

python -m benchmarks.bench_append
"""

import os
import struct
import tempfile
import zlib
from pathlib import Path

from benchmarks.measure import compare, rate, show_machine
from darkroom.events.codec import encode
from darkroom.events.facts import Event, PostLiked
from darkroom.events.log_adapters.lmdb import LmdbEventLog

ROUNDS = {1: 1_000, 100: 500, 1_000: 100}
_TIME = struct.Struct("<Q").pack


def main() -> None:
    show_machine()
    for group, rounds in ROUNDS.items():
        events: list[Event] = [PostLiked(user=n, post=n + 7, author=n + 3) for n in range(group)]
        with tempfile.TemporaryDirectory() as folder:
            log = LmdbEventLog(Path(folder) / "log")
            floor = os.open(Path(folder) / "floor", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

            def ours(log: LmdbEventLog = log, events: list[Event] = events, rounds: int = rounds) -> float:
                return rate(rounds * len(events), lambda: _append(log, events, rounds))

            def raw(floor: int = floor, events: list[Event] = events, rounds: int = rounds) -> float:
                return rate(rounds * len(events), lambda: _write(floor, events, rounds))

            compare(f"append, groups of {group}", "events/s", ours, {"write and fdatasync": raw})
            assert len(log.read(log.head() - group, group)) == group
            log.close()
            os.close(floor)


def _append(log: LmdbEventLog, events: list[Event], rounds: int) -> None:
    for _ in range(rounds):
        log.append(events)


def _write(descriptor: int, events: list[Event], rounds: int) -> None:
    for _ in range(rounds):
        parts = []
        for event in events:
            body = _TIME(0) + encode(event)
            parts += [len(body).to_bytes(4, "little"), zlib.crc32(body).to_bytes(4, "little"), body]
        os.write(descriptor, b"".join(parts))
        os.fdatasync(descriptor)


if __name__ == "__main__":
    main()
