"""Free ports of the loopback interface, taken where Linux gives none to outgoing connections.

A server that comes back keeps its port, so that its clients find it. From the range of outgoing connections, one of
them could have taken it in the meantime.
"""

import random
import socket
from collections.abc import Iterable, Mapping

HOST = "127.0.0.1"
RANGE = range(20_000, 32_000)


def choose(names: Iterable[str], before: Mapping[str, int], taken: Iterable[int], seed: int) -> dict[str, int]:
    """A free port for each name: the one that it had before, if it can be had."""
    avoided = set(taken)
    candidates = iter(random.Random(seed).sample(RANGE, len(RANGE)))
    chosen: dict[str, int] = {}
    for name in names:
        port = before.get(name)
        while port is None or port in avoided or not is_free(port):
            port = next(candidates)
        avoided.add(port)
        chosen[name] = port
    return chosen


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A port whose last connections are still being buried is free: only a listener is in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
