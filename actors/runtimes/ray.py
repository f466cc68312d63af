"""The runtime on Ray: an actor a shard, restarted for ever when it dies.

Actors pull, so no call is ever retried: with retries, calls were seen to complete twice and out of order. An actor that
finds that another incarnation has committed ends its process, for a frozen node may come back with an old one. In a
cluster of several nodes shards are divided among them, and those of a node that died are started on another. Actors are
their driver's: they end with it, and no other driver can find them.
"""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

# Darkroom needs no outside network. What Ray would ask there, or open to it, is turned off before Ray is imported, for
# it reads these then; without the third it takes another address than the loopback one that it is given.
for _name, _value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_DISABLE_IMPORT_WARNING", "1"),
    ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"),
):
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
import ray._private.state  # noqa: E402
from ray._private.authentication.authentication_token_setup import (  # noqa: E402
    maybe_enable_token_auth_if_token_available,
)
from ray.exceptions import RayError  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from darkroom.actors.runtime import RuntimeFailed, ShardSpec  # noqa: E402
from darkroom.actors.worker import Worker  # noqa: E402

OBJECT_STORE_BYTES = 80 * 1024 * 1024  # the least that Ray accepts; nothing is kept there
CALL_S_MAX = 30.0
FAULT_S_MAX = 2.0
END_S_MAX = 10.0
POLL_S = 0.02
PENDING_CALLS_MAX = 64
"""Nudges of an actor that cannot be reached wait; what does not fit is lost, as a nudge may be."""

PREFERRED_MAX = 4
NODE_LABEL = "ray.io/node-id"

NODE_STATE = "DARKROOM_STATE"
"""The setting `state` in the environment of a node's raylet: where shards on this node keep theirs."""


Key = TypeVar("Key")


class ShardActor:
    """What runs in the actor's process. Its constructor opens nothing."""

    def __init__(self, spec: ShardSpec, here: bool) -> None:
        state = os.environ.get(NODE_STATE)
        if state and not here:
            # A raylet's working directory is nobody's choice, so a relative path counts from the home directory.
            spec = replace(spec, generations=Path.home() / state / "generations")
        self._worker = Worker(spec, on_superseded=lambda: os._exit(1))

    def nudge(self) -> None:
        self._worker.nudge()

    def stop(self) -> None:
        self._worker.stop()

    def fault(self) -> str | None:
        """Why the shard stands still, NOT_BEGUN, or None."""
        return self._worker.fault

    def process(self) -> int:
        """The actor's process id."""
        return os.getpid()

    def node(self) -> str:
        """The id of the node that the actor runs on."""
        return str(ray.get_runtime_context().get_node_id())


class RayRuntime:
    """See `Runtime`. Starts a local Ray of its own on loopback, unless `address` names one that runs, or is `auto`.

    With `here` every shard is on this node, which has the log and what is read; otherwise they are divided among all.
    """

    def __init__(self, address: str = "local", cpus: int | None = None, *, here: bool = False) -> None:
        self._actors: dict[tuple[int, int], Any] = {}
        self._folder: Path | None = None
        # A Ray of our own has no node but this, and its environment is ours, in which the setting counts already.
        self._here = here or address == "local"
        try:
            if address == "local":
                self._start_local(cpus)
            else:
                # `ray start` asks for the token of the user who started it; Ray itself hands it over to `auto` alone.
                maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            self._remove_folder()
            raise RuntimeFailed(f"Ray did not start: {error}") from error
        options: dict[str, Any] = {
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": 0,
            "max_pending_calls": PENDING_CALLS_MAX,
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
        remote = self._remote.options(**self._place(spec.shard))
        self._actors[spec.generation, spec.shard] = remote.remote(spec, self._here)

    def _place(self, shard: int) -> dict[str, Any]:
        """The shard's node, to which it also returns, for its state is there; where that is lost, another.

        Neither SPREAD nor a soft affinity does it: for an actor that asks for no CPU, both draw a node at random.
        """
        if self._here:
            return {"scheduling_strategy": _on(ray.get_runtime_context().get_node_id())}
        first, *others = [{"label_selector": {NODE_LABEL: node}} for node in _preferred(shard, sorted(_alive()))]
        return {**first, "fallback_strategy": [*others, {"label_selector": {}}]}

    def nudge(self) -> None:
        for actor in list(self._actors.values()):
            with contextlib.suppress(RayError):  # it is restarting; the next nudge finds it
                actor.nudge.remote()

    def faults(self) -> dict[tuple[int, int], str | None]:
        return _answers(self._actors, "fault", FAULT_S_MAX)

    def processes(self) -> dict[tuple[int, int], int]:
        """(generation, shard) → its actor's process id, of those that answer."""
        return {key: int(process) for key, process in _answers(self._actors, "process", CALL_S_MAX).items()}

    def nodes(self) -> dict[tuple[int, int], str]:
        """(generation, shard) → the id of its node, of those that answer."""
        return {key: str(node) for key, node in _answers(self._actors, "node", CALL_S_MAX).items()}

    def stop(self, generation: int) -> None:
        """As in the port. RuntimeFailed where a worker neither answers nor can be seen to have ended."""
        actors = {}
        for key in [key for key in self._actors if key[0] == generation]:
            actor = self._actors.pop(key, None)
            if actor is not None:  # None where another thread stops it too
                actors[key[1]] = actor
        still = _answers(actors, "stop", CALL_S_MAX)
        left = {}
        for shard, actor in actors.items():
            try:
                _end(actor, stands_still=shard in still)
            except Exception as error:
                left[shard] = str(error) or type(error).__name__
        if left:
            told = "; ".join(f"shard {shard}: {why}" for shard, why in left.items())
            raise RuntimeFailed(f"generation {generation} may still be worked on, for Ray cannot end all of it: {told}")

    def close(self) -> None:
        """As in the port; RuntimeFailed as in `stop`, after everything else has been ended."""
        failures = []
        for generation in {generation for generation, _ in self._actors}:
            try:
                self.stop(generation)
            except RuntimeFailed as failure:
                failures.append(failure)
        ray.shutdown()
        self._remove_folder()
        if failures:
            raise failures[0]

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _preferred(shard: int, nodes: Sequence[str]) -> list[str]:
    """The node that is the shard's, and those to go to instead: other ones for the next shard of the same node."""
    turn, own = divmod(shard, len(nodes))
    others = [*nodes[own + 1 :], *nodes[:own]]
    turned = turn % max(1, len(others))
    return [nodes[own], *others[turned:], *others[:turned]][:PREFERRED_MAX]


def _alive() -> list[str]:
    """The ids of the nodes that Ray reaches."""
    return [str(node["NodeID"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _answers(actors: Mapping[Key, Any], question: str, wait_s: float) -> dict[Key, Any]:
    """What each actor answers, of those that do in time; all are asked at once."""
    asked = {}
    for key, actor in list(actors.items()):
        with contextlib.suppress(RayError):  # too much waits for it already
            asked[key] = getattr(actor, question).remote()
    ends_at, found = time.monotonic() + wait_s, {}
    for key, answer in asked.items():
        with contextlib.suppress(RayError):
            found[key] = ray.get(answer, timeout=max(0.0, ends_at - time.monotonic()))
    return found


def _end(actor: Any, *, stands_still: bool) -> None:
    """End the actor for good. RuntimeFailed where its process is not seen to end, unless it has said that it stopped.

    Ray calls an actor dead as soon as it has been asked to end it, also when its process is frozen and lives on.
    """
    where = {} if stands_still else ray._private.state.actors(actor._actor_id.hex())
    ray.kill(actor)
    if where.get("State") != "ALIVE":
        return  # it has stopped, or waits for a place to start at, which it gets no more
    process, node = int(where["Pid"]), str(where["Address"]["NodeID"])
    if node not in _alive():
        raise RuntimeFailed(f"process {process} is on node {node}, which Ray cannot reach")
    options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": _on(node)}
    ended: Any = ray.remote(**options)(_end_process)
    try:
        has_ended = ray.get(ended.remote(process), timeout=CALL_S_MAX)
    except RayError as error:
        raise RuntimeFailed(f"process {process} is on node {node}, which does not answer: {error}") from None
    if not has_ended:
        raise RuntimeFailed(f"process {process} on node {node} does not end")


def _end_process(process: int) -> bool:
    """Kill it, on its own node; whether it is gone."""
    ends_at = time.monotonic() + END_S_MAX
    while time.monotonic() < ends_at:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            return True
        time.sleep(POLL_S)
    return False
