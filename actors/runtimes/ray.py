"""The runtime on Ray: an actor a shard, restarted for ever when it dies.

Actors pull, so no call is ever retried: with retries, calls were seen to complete twice and out of order. An actor that
finds that another incarnation has committed ends its process, for a frozen node may come back with an old one. In a
cluster of several nodes shards are spread over them, and those of a node that died are started on another.
"""

import contextlib
import logging
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

# Darkroom needs no outside network. What Ray would ask there, or open to it, is turned off before Ray is imported, for
# it reads these then; without the third it takes another address than the loopback one that it is given.
for _name, _value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_DISABLE_IMPORT_WARNING", "1"),
    ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"),
):
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray.exceptions import RayError  # noqa: E402

from darkroom.actors.runtime import RuntimeFailed, ShardSpec  # noqa: E402
from darkroom.actors.worker import Worker  # noqa: E402

OBJECT_STORE_BYTES = 80 * 1024 * 1024  # the least that Ray accepts; nothing is kept there
CALL_S_MAX = 30.0

NODE_STATE = "DARKROOM_NODE_STATE"
"""The environment variable by which a node's raylet names another folder for its shards' state than the head's."""


class ShardActor:
    """What runs in the actor's process. Its constructor opens nothing."""

    def __init__(self, spec: ShardSpec) -> None:
        folder = os.environ.get(NODE_STATE)
        if folder:
            spec = replace(spec, generations=Path(folder))
        self._worker = Worker(spec, on_superseded=lambda: os._exit(1))

    def nudge(self) -> None:
        self._worker.nudge()

    def stop(self) -> None:
        self._worker.stop()

    def process(self) -> int:
        """The actor's process id."""
        return os.getpid()

    def node(self) -> str:
        """The id of the node that the actor runs on."""
        return str(ray.get_runtime_context().get_node_id())


class RayRuntime:
    """See `Runtime`. Starts a local Ray of its own on loopback, unless `address` names one that runs, or is `auto`."""

    def __init__(self, address: str = "local", cpus: int | None = None) -> None:
        self._actors: dict[tuple[int, int], Any] = {}
        self._folder: Path | None = None
        try:
            if address == "local":
                self._start_local(cpus)
            else:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            self._remove_folder()
            raise RuntimeFailed(f"Ray did not start: {error}") from error
        options: dict[str, Any] = {
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        self._remote = ray.remote(**options)(ShardActor)

    def _start_local(self, cpus: int | None) -> None:
        # Socket paths end at 107 bytes, so the folder is short, wherever the data lies.
        self._folder = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))
        ray.init(
            address="local",
            num_cpus=cpus or max(1, os.cpu_count() or 1),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(self._folder / "r"),  # Ray opens its own folder to everybody; ours around it is 0700
        )

    def start(self, spec: ShardSpec) -> None:
        self._actors[spec.generation, spec.shard] = self._remote.remote(spec)

    def nudge(self) -> None:
        for actor in list(self._actors.values()):
            with contextlib.suppress(RayError):  # it is restarting; the next nudge finds it
                actor.nudge.remote()

    def processes(self) -> dict[tuple[int, int], int]:
        """(generation, shard) → its actor's process id, of those that answer."""
        return {key: int(process) for key, process in self._answers("process").items()}

    def nodes(self) -> dict[tuple[int, int], str]:
        """(generation, shard) → the id of its node, of those that answer."""
        return {key: str(node) for key, node in self._answers("node").items()}

    def _answers(self, question: str) -> dict[tuple[int, int], Any]:
        found = {}
        for key, actor in self._actors.items():
            with contextlib.suppress(RayError):
                found[key] = ray.get(getattr(actor, question).remote(), timeout=CALL_S_MAX)
        return found

    def stop(self, generation: int) -> None:
        for key in [key for key in self._actors if key[0] == generation]:
            actor = self._actors.pop(key, None)
            if actor is None:
                continue
            with contextlib.suppress(RayError):
                ray.get(actor.stop.remote(), timeout=CALL_S_MAX)
            ray.kill(actor)

    def close(self) -> None:
        for generation in {generation for generation, _ in self._actors}:
            with contextlib.suppress(RayError):
                self.stop(generation)
        ray.shutdown()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
