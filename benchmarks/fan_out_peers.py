"""Peers of fan-out on a real Redis that is started for them and stopped afterwards: redis-py, and stream-framework.

Redis keeps its rows in memory and writes nothing to the disk, so both are spared what makes the others durable. Their
feeds are trimmed as is usual there.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import Measurement
from benchmarks.peer_environments import HERE, PeerMissing, PeerProcess
from benchmarks.run import Bench
from benchmarks.worlds import Graph
from darkroom.projections.routing import Ids

SERVICES = HERE.parent / "deploy" / "services"
COMMAND_S = 300
GROUPED, BY_POST, STREAM = "redis-py, grouped by feed", "redis-py, post by post", "stream-framework"
SCRIPTS = {GROUPED: "fan_out_redis_py", BY_POST: "fan_out_redis_py", STREAM: "fan_out_stream_framework"}
ENVIRONMENTS = {STREAM: "stream_framework"}
POSTS_MAX = {GROUPED: 20_000, BY_POST: 5_000, STREAM: 1_000}


class RedisPeers:
    """Those of the peers that can be run."""

    def __init__(self, bench: Bench, stack: ExitStack, folder: Path) -> None:
        self.missing: dict[str, str] = {}
        self._peers: dict[str, PeerProcess] = {}
        self._folder = folder
        self._limit = {name: bench.size(posts, posts // 20) for name, posts in POSTS_MAX.items()}
        posts = ", ".join(f"{count:,} ({name})" for name, count in self._limit.items())
        self.notes = [
            "Redis keeps everything in memory and syncs nothing; its feeds are trimmed to 1,000 rows and begin empty. "
            f"Each repeat delivers so many posts: {posts}."
        ]
        try:
            port = self._start(stack)
        except PeerMissing as reason:
            self.missing = dict.fromkeys(SCRIPTS, str(reason))
            return
        for name, script in SCRIPTS.items():
            try:
                peer = bench.peer(script, environment=ENVIRONMENTS.get(name, "requirements"))
                self._peers[name] = stack.enter_context(peer)
            except PeerMissing as reason:
                self.missing[name] = str(reason)
            else:
                self._peers[name].ask("open", port=port, grouped=name == GROUPED)

    def _start(self, stack: ExitStack) -> int:
        """A Redis of its own: the developer's is not filled with our rows."""
        folder = self._folder / "services"
        done = self._control("start", "redis", "--folder", str(folder))
        if done.returncode:
            raise PeerMissing(f"no Redis could be started: {(done.stdout + done.stderr).strip()}")
        stack.callback(self._control, "stop", "--wipe", "--folder", str(folder))
        found = json.loads((folder / "services.json").read_text(encoding="utf-8"))
        return int(found["redis"]["port"])

    def _control(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SERVICES), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, stdin=subprocess.DEVNULL)

    def contenders(self, graph: Graph, authors: Ids) -> dict[str, Measurement]:
        """Each delivers the first of the posts, so many as it can in some seconds, numbered on from call to call."""
        return {name: partial(self._rate, name, graph, authors[: self._limit[name]]) for name in self._peers}

    def _rate(self, name: str, graph: Graph, authors: Ids) -> float:
        index, owners = graph.deliveries(authors)
        path = self._folder / f"{name}.deliveries"
        path.write_bytes(np.stack((index, owners), axis=1).astype("<u8").tobytes())
        taken = float(self._peers[name].ask("deliver", path=str(path)))
        some = np.unique(owners)[:: max(1, len(np.unique(owners)) // 20)].tolist()
        for owner, found in zip(some, self._peers[name].ask("newest", owners=some), strict=True):
            wanted = index[owners == owner][::-1].tolist()
            assert found[: len(wanted)] == wanted[:1000], f"{name}: feed {owner} is not what was delivered"
        return len(owners) / taken
