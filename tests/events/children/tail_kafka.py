"""Opens a log on Kafka, says so when its own tail has taken over the mirror, and keeps it open until it is killed."""

import os
import sys
from pathlib import Path

from waiting import until

from darkroom.events.log_adapters.kafka import KafkaAddress, KafkaEventLog
from darkroom.events.log_adapters.kafka_mirror import Notes


def main(servers: str, topic: str, mirror: str) -> None:
    log = KafkaEventLog(KafkaAddress(servers, topic), Path(mirror))
    notes = Notes(Path(mirror))
    until(lambda: notes.tail_process == os.getpid(), "another process is the tail")
    print("tailing", flush=True)
    sys.stdin.read()
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
