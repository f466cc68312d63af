"""Shards on several Ray nodes, over real servers: nodes die, freeze and come back, and nothing is lost.

Each node keeps its shards' state in a folder of its own, so a shard that is started elsewhere finds nothing there.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from histories import seeded_history
from ray_nodes import RayNodes
from services.object_store import Buckets
from services.services import Services
from services.stack import own_stack

from darkroom.actors.runtime import RuntimeFailed
from darkroom.actors.runtimes import ray as ray_runtimes
from darkroom.actors.runtimes.ray import RayRuntime
from darkroom.actors.worker import fault_of, faults_of
from darkroom.events.log_adapters.kafka_mirror import note_topic
from darkroom.gateway.composition import Darkroom
from darkroom.gateway.settings import Settings, load_settings
from darkroom.projections import home_feed
from darkroom.projections.generations import shard_path
from darkroom.projections.reading import Reading
from darkroom.projections.snapshot_schedule import snapshot_status
from darkroom.projections.state_snapshots import SnapshotStore

from .test_runtime import POLL_S, Appender, Chronicle, House, LentRuntime, eventually

pytestmark = [pytest.mark.ray, pytest.mark.services]

SHARDS = 3
HISTORY = 360
PAGE = 20
READ_WAIT_MS = "60000"
FOLD = {"DARKROOM_CELEBRITY_THRESHOLD": "4", "DARKROOM_FEED_ROWS": "10", "DARKROOM_BATCH_EVENTS": "30"}


class ServedHouse(House):
    """A house on servers: nothing but what can be made again lies in its directory."""

    def __init__(self, path: Path, runtime: RayRuntime, chronicle: Chronicle, settings: Settings) -> None:
        self.settings = settings
        self.darkroom = Darkroom(settings, create=True, tell=print)
        self.path = path
        self.ray = runtime
        self.runtime = LentRuntime(runtime)
        self.chronicle = chronicle
        self.log = self.darkroom.log  # type: ignore[assignment]
        self.supervisor = self.darkroom.supervisor(self.runtime)
        self.generations = self.darkroom.directory.generations
        self.readers = self.darkroom.readers

    def places(self, nodes: RayNodes) -> dict[int, tuple[int, int]]:
        """Shard → (node, process), once each has a process."""
        found = eventually(self._processes)
        on = {process: node for node in nodes.all() for process in nodes.processes(node)}
        return {shard: (on[process], process) for (_, shard), process in found.items()}

    def _processes(self) -> dict[tuple[int, int], int]:
        found = self.ray.processes()
        return found if len(found) == SHARDS else {}

    def await_head(self) -> float:
        """Append a record and wait until every shard has published it; the seconds since."""
        began = time.monotonic()
        head = self.append(1)
        eventually(lambda: min(self.positions()) >= head)
        return time.monotonic() - began

    def close(self) -> None:
        self.supervisor.close()
        self.darkroom.close()


class Reader:
    """Reads feeds in a thread of its own while shards move: what is shown is of one position, which never falls."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.reads = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            lowest = 0
            while not self._stop.wait(POLL_S):
                for user in self._house.chronicle.people:
                    positions = self._house.positions()
                    assert min(positions) >= lowest, "a position that was served was taken back"
                    lowest = min(positions)
                    self._read(user)
        except BaseException as failure:
            self._failure = failure

    def _read(self, user: int) -> None:
        def answer(reading: Reading) -> tuple[int, list[int]]:
            page = home_feed.page(reading, user, limit=PAGE)
            return reading.position, [entry.post for entry in page]

        position, page = self._house.readers.try_read(answer)
        assert page == sorted(set(page), reverse=True)
        assert all(post <= position for post in page)
        self.reads += bool(page)

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        assert self.reads


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    nodes = RayNodes()
    yield nodes
    nodes.close()


@pytest.fixture(scope="module")
def runtime(nodes: RayNodes) -> Iterator[RayRuntime]:
    nodes.have(2)
    runtime = RayRuntime(nodes.address)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def chronicle() -> Chronicle:
    return Chronicle(seeded_history(21, HISTORY, users=6))


@pytest.fixture
def stack(service: Services) -> Iterator[dict[str, str]]:
    with own_stack(service, "neo4j") as variables:
        yield variables


@pytest.fixture
def house(
    tmp_path: Path, nodes: RayNodes, runtime: RayRuntime, chronicle: Chronicle, stack: dict[str, str]
) -> Iterator[ServedHouse]:
    nodes.have(2)
    house = opened(tmp_path, runtime, chronicle, stack)
    yield house
    house.close()
    nodes.wipe()


def opened(tmp_path: Path, runtime: RayRuntime, chronicle: Chronicle, variables: dict[str, str]) -> ServedHouse:
    given = {"data": str(tmp_path / "data"), "shards": str(SHARDS), "read_wait_ms": READ_WAIT_MS}
    return ServedHouse(tmp_path, runtime, chronicle, load_settings(given, variables | FOLD, None))


def begun(house: ServedHouse, number: int = 150) -> None:
    """Its supervisor runs, and every shard has caught up with so many records."""
    house.append(number)
    house.supervisor.start()
    house.supervisor.run()
    eventually(lambda: house.positions() == [number] * SHARDS)


def beside_head(places: dict[int, tuple[int, int]]) -> tuple[int, tuple[int, int]]:
    """A shard that is not on the head, whose death is the cluster's; and where it is."""
    return next((shard, place) for shard, place in places.items() if place[0])


@pytest.mark.soak
def test_a_killed_nodes_shards_go_on_elsewhere_from_an_empty_disk(house: ServedHouse, nodes: RayNodes) -> None:
    begun(house)
    places = house.places(nodes)
    assert len({node for node, _ in places.values()}) == SHARDS, "the nodes do not have a shard each"
    shard, (lost, process) = beside_head(places)
    os.kill(process, signal.SIGKILL)
    house.await_head()
    places = house.places(nodes)
    assert places[shard][0] == lost, "the state is there"
    assert places[shard][1] != process
    reader, appender = Reader(house), Appender(house, 0.2, upto=HISTORY - 20)
    eventually(lambda: house.log.head() > 160)
    nodes.signal(lost, signal.SIGKILL)
    print(f"at the head again after {house.await_head():.1f} s")
    found, _ = house.places(nodes)[shard]
    assert found != lost
    assert (shard_path(nodes.state(found) / "generations", 1, shard) / "data.mdb").exists()
    appender.finish()
    house.check()
    reader.finish()


@pytest.mark.soak
def test_a_frozen_node_that_comes_back_harms_nothing(house: ServedHouse, nodes: RayNodes) -> None:
    begun(house)
    shard, (frozen, old) = beside_head(house.places(nodes))
    reader = Reader(house)
    house.append(30)
    nodes.signal(frozen, signal.SIGSTOP)
    print(f"at the head again after {house.await_head():.1f} s")
    assert house.places(nodes)[shard][0] != frozen
    assert old in nodes.processes(frozen)
    appender = Appender(house, 0.02, upto=HISTORY - 20)
    nodes.signal(frozen, signal.SIGCONT)
    eventually(lambda: not nodes.processes(frozen))
    appender.finish()
    house.check()
    reader.finish()


@pytest.mark.soak
def test_a_shard_says_from_another_node_why_it_stands_still(house: ServedHouse, nodes: RayNodes) -> None:
    for node in nodes.all()[1:]:
        note_topic(nodes.state(node) / "log", house.settings.kafka_topic, "another topic's id")
    house.append(50)
    house.supervisor.start()
    house.supervisor.run()
    shard, (node, _) = beside_head(house.places(nodes))
    assert eventually(lambda: fault_of(house.generations, 1, shard)).startswith("TopicRefused: ")
    assert house.ray.faults()[1, shard] == fault_of(house.generations, 1, shard)
    for other in nodes.all()[1:]:
        shutil.rmtree(nodes.state(other) / "log")
    eventually(lambda: house.positions() == [50] * SHARDS)
    assert set(house.ray.faults().values()) == {None}
    eventually(lambda: not faults_of(house.generations, 1))


@pytest.mark.soak
def test_what_stops_has_no_process_left_even_if_it_was_frozen(
    house: ServedHouse, nodes: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(house)
    processes = [process for _, process in house.places(nodes).values()]
    monkeypatch.setattr(ray_runtimes, "CALL_S_MAX", 2.0)
    os.kill(processes[0], signal.SIGSTOP)
    house.supervisor.close()
    left = {process for node in nodes.all() for process in nodes.processes(node)}
    assert not left & {processes[0]}
    stopped_at = house.positions()
    house.append()
    eventually(lambda: not {process for node in nodes.all() for process in nodes.processes(node)} & set(processes))
    assert house.positions() == stopped_at


@pytest.mark.soak
def test_where_a_worker_cannot_be_seen_to_end_stop_says_so(
    house: ServedHouse, nodes: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(house)
    shard, (frozen, process) = beside_head(house.places(nodes))
    monkeypatch.setattr(ray_runtimes, "CALL_S_MAX", 0.5)
    nodes.signal(frozen, signal.SIGSTOP)
    try:
        with pytest.raises(RuntimeFailed, match=rf"generation 1 may still be .*shard {shard}: process {process} is on"):
            house.runtime.stop(1)
    finally:
        nodes.signal(frozen, signal.SIGCONT)
    eventually(lambda: process not in nodes.processes(frozen))


@pytest.mark.soak
def test_a_shard_that_moves_begins_with_its_last_snapshot(
    tmp_path: Path,
    nodes: RayNodes,
    runtime: RayRuntime,
    chronicle: Chronicle,
    stack: dict[str, str],
    object_store: Buckets,
) -> None:
    nodes.have(2)
    bucket = object_store()
    variables = stack | {
        "DARKROOM_OBJECT_STORE": bucket.url,
        "DARKROOM_OBJECT_STORE_ENDPOINT": str(bucket.endpoint),
        "DARKROOM_OBJECT_STORE_ACCESS_KEY": bucket.access_key,
        "DARKROOM_OBJECT_STORE_SECRET_KEY": bucket.secret,
    }
    house = opened(tmp_path, runtime, chronicle, variables)
    begun(house)
    places = house.places(nodes)
    for shard, (node, _) in places.items():
        state = shard_path(nodes.state(node) / "generations", 1, shard)
        assert SnapshotStore(bucket.below("state"), house.log, print).save(state) == 150  # as its schedule would
    shard, (lost, _) = beside_head(places)
    nodes.signal(lost, signal.SIGKILL)
    house.append()
    house.check()
    found, _ = house.places(nodes)[shard]
    state = shard_path(nodes.state(found) / "generations", 1, shard)
    assert snapshot_status(state).position == 150
    house.close()
    nodes.wipe()


@pytest.mark.soak
def test_a_driver_that_is_killed_takes_its_own_actors_along_and_no_others(
    house: ServedHouse, nodes: RayNodes, tmp_path: Path
) -> None:
    begun(house)
    child = Path(__file__).parent / "children/ray_driver.py"
    command = [sys.executable, str(child), nodes.address, str(tmp_path / "other")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    theirs = {int(process) for process in other.stdout.readline().split()}
    ours = {process for _, process in house.places(nodes).values()}
    assert theirs
    assert not theirs & ours
    other.kill()
    other.communicate()
    eventually(lambda: not theirs & set(nodes.processes(0)))
    house.append()
    house.check()
    assert {process for _, process in house.places(nodes).values()} == ours
