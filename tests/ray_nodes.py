"""Several Ray nodes on this machine: separately started, on loopback, each with a folder for its shards' state.

A node's processes are known by that folder, which is in their environment, so nothing else is ever signalled.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from darkroom.actors.runtimes.ray import NODE_STATE, OBJECT_STORE_BYTES

RAY = Path(sys.executable).with_name("ray")
START_S = 120.0

QUICK = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # A frozen node counts as dead after two seconds without an answer instead of twenty.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}
HEAD = (
    *(str(RAY), "start", "--head", "--port=0", "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--num-cpus=1"),
    *("--include-dashboard=false", "--dashboard-host=127.0.0.1", "--include-log-monitor=false"),
    f"--object-store-memory={OBJECT_STORE_BYTES}",
)
JOIN = (sys.executable, str(Path(__file__).parent / "actors/children/ray_node.py"))


class RayNodes:
    """A cluster. The head is node 0, and the first that is started."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        """`settings` of Ray's, in place of QUICK."""
        # Socket paths end at 107 bytes, so the folder is short.
        self._folder = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))
        self._environment = {**os.environ, **(QUICK if settings is None else settings)}
        self._started = 1
        self._run(0, *HEAD, f"--temp-dir={self._folder / 'r'}")
        self.address = (self._folder / "r/ray_current_cluster").read_text().strip()

    def all(self) -> range:
        return range(self._started)

    def have(self, others: int) -> None:
        """Start nodes until so many live beside the head."""
        for _ in range(others - sum(bool(self.processes(node)) for node in self.all()[1:])):
            self.add()

    def state(self, node: int) -> Path:
        """Where the node keeps its shards' state."""
        return self._folder / f"node-{node}"

    def wipe(self) -> None:
        """Forget all state, of shards that nobody works for any more."""
        for node in self.all():
            shutil.rmtree(self.state(node), ignore_errors=True)

    def add(self) -> int:
        """Start one more node; which. Nodes of one folder that start at the same time get in each other's way."""
        node = self._started
        self._started += 1
        self._run(node, *JOIN, self.address, str(self._folder / "r"))
        return node

    def _run(self, node: int, *words: str) -> None:
        with (self._folder / f"start-{node}").open("w+") as said:
            done = subprocess.run(
                words,
                env={**self._environment, NODE_STATE: str(self.state(node))},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=START_S,
            )
            said.seek(0)
            assert done.returncode == 0, said.read()

    def processes(self, node: int) -> list[int]:
        """Of Ray and of its workers, on this node."""
        marked = f"{NODE_STATE}={self.state(node)}\0".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    marked in (place / "environ").read_bytes() + b"\0"
                    and b"\nState:\tZ" not in (place / "status").read_bytes()
                ):
                    found.append(int(place.name))
            except (OSError, ValueError):
                continue  # it has ended, or is somebody else's
        return found

    def signal(self, node: int, number: signal.Signals) -> None:
        """SIGKILL is what a lost machine is like; SIGSTOP, one that is frozen, and SIGCONT its coming back."""
        while found := self.processes(node):
            for process in found:
                try:
                    os.kill(process, number)
                except ProcessLookupError:
                    continue
            if number != signal.SIGKILL:
                return

    def close(self) -> None:
        for node in range(self._started):
            self.signal(node, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)
