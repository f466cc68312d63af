"""One of several processes that append to one log on Kafka, each under its name; they share a mirror.

They begin when all have appended once. In the first half each lets another go before it goes again; in the second none
waits for any.
"""

import json
import sys
from pathlib import Path

from darkroom.events.facts import PostLiked
from darkroom.events.log_adapters.kafka import KafkaAddress, KafkaEventLog

DEADLINE_S = 60.0
TURN_S = 0.02


def main(servers: str, topic: str, mirror: str, name: int, writers: int, rounds: int) -> None:
    log = KafkaEventLog(KafkaAddress(servers, topic), Path(mirror))
    positions: list[int] = []
    for number in range(rounds):
        size = 1 + (name + number) % 4
        positions += log.append([PostLiked(user=name, post=number, author=index) for index in range(size)])
        if number == 0:
            assert log.wait(sum(1 + writer % 4 for writer in range(writers)), DEADLINE_S)
        elif number < rounds // 2:
            log.wait(positions[-1] + 1, TURN_S)
    log.close()
    print(json.dumps(positions), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))  # type: ignore[arg-type]
