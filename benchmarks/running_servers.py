"""Where the servers are that `make services` started, for rows that need them."""

import json
import socket
from pathlib import Path
from typing import Any

from benchmarks.peer_environments import PeerMissing

SERVICES = Path(__file__).parents[1] / ".services" / "services.json"
CONNECT_S = 5.0


def running(*names: str) -> list[dict[str, Any]]:
    """Host, port, user and password of each, in order; PeerMissing where one does not run."""
    told = json.loads(SERVICES.read_text(encoding="utf-8")) if SERVICES.exists() else {}
    found = [told.get(name) for name in names]
    for name, where in zip(names, found, strict=True):
        if not _listens(where):
            raise PeerMissing(f"{name} does not run; start it with `make services`")
    return [where for where in found if where is not None]


def _listens(where: dict[str, Any] | None) -> bool:
    if where is None:
        return False
    try:
        socket.create_connection((where["host"], where["port"]), CONNECT_S).close()
    except OSError:
        return False
    return True
