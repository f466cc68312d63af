"""Opens a log on Kafka, says so when its own tail has taken over the mirror, and keeps it open until it is killed."""

import os
import sys
import time
from pathlib import Path

from darkroom.events.log_adapters.kafka import KafkaAddress, KafkaEventLog
from darkroom.events.log_adapters.kafka_mirror import Notes

DEADLINE_S = 30.0


def main(servers: str, topic: str, mirror: str) -> None:
    log = KafkaEventLog(KafkaAddress(servers, topic), Path(mirror))
    notes, ends_at = Notes(Path(mirror)), time.monotonic() + DEADLINE_S
    while notes.tail_process != os.getpid():
        assert time.monotonic() < ends_at, "another process is the tail"
        time.sleep(0.005)
    print("tailing", flush=True)
    sys.stdin.read()
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
