"""`status`: how far the log and the shards are, told at once from what answers, and which server does not.

It asks all servers at the same time, each with a short deadline, waits for none and writes nothing of its own.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

from msgspec.structs import replace

from darkroom.actors.worker import faults_of
from darkroom.events.data_directory import DataDirectory, worker_of
from darkroom.events.log import EventLog, LogUnreachable
from darkroom.gateway.commands.console import answer, answer_json, tell_lag
from darkroom.gateway.composition import data_directory, readable_generations
from darkroom.gateway.log_identity import identity_of
from darkroom.gateway.ownership import check_directory, check_keyspace, check_owner
from darkroom.gateway.servers import Servers, check_addresses, check_cache, is_remote, open_log
from darkroom.gateway.settings import Settings
from darkroom.projections.store import StoreUnavailable

DEADLINE_MS = 2000

T = TypeVar("T")


class _Look:
    """One look at the log and the views; `silent` is server → why it does not answer, of those that do not."""

    def __init__(self, settings: Settings, directory: DataDirectory, stack: ExitStack) -> None:
        deadline_ms = min(settings.service_deadline_ms, DEADLINE_MS)
        self._settings = replace(settings, service_deadline_ms=deadline_ms, service_wait_s=0)
        self._directory = directory
        self._stack = stack
        self.silent: dict[str, str] = {}

    def take(self) -> dict[str, Any]:
        """All that can be told."""
        with ThreadPoolExecutor(4) as threads:
            asked_log = threads.submit(self._of, "kafka", self._log)
            asked_views = threads.submit(self._of, "cassandra", self._views)
            asked_graph = threads.submit(self._of, "neo4j", self._graph)
            asked_cache = threads.submit(
                check_cache, self._settings, lambda why: self.silent.update(redis=why.removeprefix("redis: "))
            )
            log, views, graph = asked_log.result(), asked_views.result(), asked_graph.result()
            asked_cache.result()
        if views is not None and graph is not None:
            views.neo4j = graph.neo4j  # asked apart, so that neither waits for the other; whose they are goes together
        told = self._of("cassandra", lambda: self._shards(log, views)) if views is not None else None
        told = told or {"generation": None, "shards": self._known_here()}
        head = self._of("kafka", log.head) if log is not None else None  # after the positions, for all of them rise
        for shard in told["shards"]:
            shard["lag"] = None if head is None or shard["position"] is None else head - shard["position"]
        size = log.bytes_stored() if log is not None else None
        worker = worker_of(self._directory)
        return {"head": head, "log_bytes": size, **told, "worker": worker, "silent": self.silent}

    def _of(self, server: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except (LogUnreachable, StoreUnavailable) as error:
            self.silent[server] = " ".join(str(error).split())
            return None

    def _log(self) -> EventLog:
        log = open_log(self._settings, self._directory.log, create=False, tell=_nobody, wait_s=0)
        self._stack.callback(log.close)
        return log

    def _views(self) -> Servers:
        servers = Servers(replace(self._settings, neo4j=None), _nobody, wait_s=0, make=False)
        self._stack.callback(servers.close)
        check_keyspace(servers, self._directory.generations)
        return servers

    def _graph(self) -> Servers:
        servers = Servers(replace(self._settings, cassandra=None), _nobody, wait_s=0)
        self._stack.callback(servers.close)
        return servers

    def _shards(self, log: EventLog | None, servers: Servers) -> dict[str, Any]:
        if log is not None and is_remote(self._settings):
            identity = identity_of(self._settings, self._directory.log, log)
            check_owner(servers, self._directory.generations, identity)
        if servers.lacks_keyspace:
            return {"generation": None, "shards": []}
        generation = readable_generations(self._directory, servers).open_serving()
        if generation is None:
            return {"generation": None, "shards": []}
        self._stack.callback(generation.close)
        faults = faults_of(self._directory.generations, generation.number)
        told = zip(generation.positions(), generation.bytes_stored(), strict=True)
        shards = [
            {"shard": shard, "position": position, "lag": None, "bytes": size, "fault": faults.get(shard)}
            for shard, (position, size) in enumerate(told)
        ]
        return {"generation": generation.number, "shards": shards}

    def _known_here(self) -> list[dict[str, Any]]:
        """The faults of the newest generation of which this node knows anything."""
        newest = max((int(path.name) for path in self._directory.generations.glob("[0-9]*")), default=0)
        return [
            {"shard": shard, "position": None, "lag": None, "bytes": None, "fault": fault}
            for shard, fault in faults_of(self._directory.generations, newest).items()
        ]


def status(arguments: argparse.Namespace, settings: Settings) -> int:
    """Head, generation, each shard's position, lag, size and fault, who works here; 1 where a server is silent."""
    directory = data_directory(settings, create=False)
    check_addresses(settings)
    check_directory(settings, directory)
    with ExitStack() as stack:
        told = _Look(settings, directory, stack).take()
    if arguments.json:
        answer_json(told)
    else:
        _show(told)
    positions = [shard["position"] for shard in told["shards"]]
    if told["head"] is not None and None not in positions and "cassandra" not in told["silent"]:
        tell_lag(told["head"], positions)
    return 1 if told["silent"] else 0


def _show(told: dict[str, Any]) -> None:
    for server, why in told["silent"].items():
        answer(f"{server}: does not answer: {why}")
    if told["head"] is not None:
        answer(f"head {told['head']}, log {told['log_bytes']} bytes")
    if "cassandra" not in told["silent"]:
        answer(f"generation {told['generation']}" if told["generation"] else "no generation yet")
    for shard in told["shards"]:
        answer(f"shard {shard['shard']}: {', '.join(_parts(shard))}")
    answer(f"in use by {told['worker']}" if told["worker"] else "nobody works here")


def _parts(shard: dict[str, Any]) -> list[str]:
    parts = []
    if shard["position"] is not None:
        parts.append(f"position {shard['position']}")
        parts += [] if shard["lag"] is None else [f"lag {shard['lag']}"]
        parts.append("views on servers" if shard["bytes"] is None else f"{shard['bytes']} bytes")
    return parts + ([f"stands still: {shard['fault']}"] if shard["fault"] else [])


def _nobody(text: str) -> None:
    """What does not answer is told with the rest."""
