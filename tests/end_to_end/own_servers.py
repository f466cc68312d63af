"""A set of servers of a test's own, which it may kill, freeze and wipe. It shares only the jars with the others."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.services import Address, address, control, own_folder, started

NAMES = ("kafka", "cassandra", "neo4j", "redis")


class OwnServers:
    """Call it for a server's address, as the fixture `service`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str) -> Address:
        return address(name, self._folder)

    def kill(self, name: str) -> None:
        """kill -9: whatever it had not written to the disk is lost."""
        self._signal(name, signal.SIGKILL)

    def start(self, name: str) -> None:
        """By the command that a developer uses; it answers when this returns."""
        started(name, self._folder)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """It takes connections, and answers nothing."""
        self._signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: int) -> None:
        os.kill(self(name)["process"]["pid"], number)


@contextmanager
def own_servers(folder: Path, *names: str) -> Iterator[OwnServers]:
    """All of them unless some are named."""
    names = names or NAMES
    own_folder(folder)
    try:
        control("start", *names, folder=folder)  # all at once; what went wrong is told by the next line
        for name in names:
            started(name, folder)
        yield OwnServers(folder)
    finally:
        control("stop", folder=folder)
