"""A `darkroom serve` under load while each of its servers is killed, or frozen: what is lost, and what is said.

The servers are a set of its own, or Kafka alone is. After every fault nobody mends anything by hand.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from commands_run import listening
from end_to_end.own_servers import OwnServers, own_servers
from end_to_end.told import stored, wrong
from end_to_end.traffic import Client, Known, Ledger, traffic
from end_to_end.twins import check_same, embedded_twin, opened
from services.stack import own_stack
from waiting import until

from darkroom.actors.worker import fault_of
from darkroom.gateway.composition import Darkroom

pytestmark = [pytest.mark.services, pytest.mark.own_servers]

CLIENTS = 4
DEADLINE_S = 3.0
"""Of a server's answer, and of a read's wait for a position."""
READ_S_MAX = 3 * DEADLINE_S
READERS = 200
WRITES_BEFORE, ANSWERS_WHILE, WRITES_AFTER = 30, 8, 30
FROZEN_S = 6.0
WELL_S = 120.0
SETTINGS = {
    "DARKROOM_SERVICE_DEADLINE_MS": f"{1000 * DEADLINE_S:.0f}",
    "DARKROOM_READ_WAIT_MS": f"{1000 * DEADLINE_S:.0f}",
}


@dataclass
class Site:
    """A server with its users, and a look at its log and shards from outside."""

    servers: OwnServers
    url: str
    darkroom: Darkroom
    clients: list[Client]

    def faults(self) -> list[str | None]:
        """Why each shard stands still."""
        folder = self.darkroom.directory.generations
        return [fault_of(folder, 1, shard) for shard in range(2)]

    def is_well(self) -> bool:
        """AssertionError, which says how it is, while it is not."""
        behind = self.darkroom.log.head() - min(self.darkroom.readers.positions())
        assert (behind, self.faults()) == (0, [None, None])
        return True


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("faults")
    with own_servers(folder / "services") as servers, served(folder / "data", servers) as site:
        yield site


@contextmanager
def served(data: Path, servers: OwnServers) -> Iterator[Site]:
    known = Known()
    with ExitStack() as stack:
        variables = stack.enter_context(own_stack(servers)) | SETTINGS
        serve = listening("serve", "--runtime", "inline", "--shards", "2", data=data, settings=variables)
        url = stack.enter_context(serve)[1]
        clients = [Client(url, f"client_{number}", known, Ledger()) for number in range(CLIENTS)]
        for client in clients:
            stack.callback(client.close)
        darkroom = stack.enter_context(opened(data, variables))
        yield Site(servers, url, darkroom, clients)


@dataclass(frozen=True)
class Expected:
    """While the server is down: what shards say that they stand still for, and how is answered."""

    fault: str | None
    writes: frozenset[str]
    reads: frozenset[int]
    sign_ups: frozenset[str]


REFUSED, PENDING = frozenset({"refused"}), frozenset({"pending"})
EXPECTED = {
    # Who was told of nothing knows nothing, so what is there is read on.
    "kafka": Expected("Kafka", REFUSED, frozenset({200}), REFUSED),
    # The log goes on for those who have called before; a name and a password are kept on Cassandra.
    "cassandra": Expected("Cassandra", PENDING, frozenset({503}), REFUSED),
    # Shards stand still where the graph cannot be told; the log goes on, and what was published is read on.
    "neo4j": Expected("Neo4j", PENDING, frozenset({200}), PENDING),
    "redis": Expected(None, PENDING | {"acknowledged"}, frozenset({200}), PENDING | {"acknowledged"}),
}

Broken = Callable[[OwnServers, str], AbstractContextManager[None]]


@contextmanager
def killed(servers: OwnServers, name: str) -> Iterator[None]:
    servers.kill(name)
    yield
    servers.start(name)


def frozen(servers: OwnServers, name: str) -> AbstractContextManager[None]:
    return servers.frozen(name)


@pytest.mark.soak
@pytest.mark.parametrize("server", EXPECTED)
@pytest.mark.parametrize("broken", [killed, frozen])
def test_no_write_is_lost_or_doubled_and_the_shards_come_after_by_themselves(
    site: Site, server: str, broken: Broken
) -> None:
    tried(site, server, broken, FROZEN_S)


@pytest.mark.soak
@pytest.mark.parametrize("server", EXPECTED)
def test_a_minute_without_an_answer_is_survived(site: Site, server: str) -> None:
    tried(site, server, frozen, 60.0)


def tried(site: Site, server: str, broken: Broken, down_s: float) -> None:
    expected = EXPECTED[server]
    with traffic(site.clients) as ledger:
        until(lambda: ledger.outcomes()["acknowledged"] >= WRITES_BEFORE, "writes before")
        with broken(site.servers, server):
            ends_at = time.monotonic() + (down_s if broken is frozen else 0)
            until(lambda: all(says(fault, expected.fault) for fault in site.faults()), "shards say why")
            down = time.monotonic()
            until(lambda: is_answered(ledger.between(down, time.monotonic())), "answers while it is down")
            until(lambda: time.monotonic() >= ends_at, "its time is over", down_s + 1)
            told = ledger.between(down, time.monotonic())
        mended, acknowledged = time.monotonic(), ledger.outcomes()["acknowledged"]
        until(lambda: ledger.outcomes()["acknowledged"] > acknowledged, "a write after", WELL_S)
        served_s = time.monotonic() - mended
        until(lambda: ledger.outcomes()["acknowledged"] >= acknowledged + WRITES_AFTER, "writes after", WELL_S)
    until(site.is_well, "no lag and no fault", WELL_S, meanwhile=AssertionError)
    settled_s = time.monotonic() - mended
    print(f"{server} {broken.__name__}: {figures(told)} while it was down; {figures(ledger)} in all; ", end="")
    print(f"{served_s:.0f} s from then until a write was acknowledged; ", end="")
    print(f"{settled_s:.0f} s until {WRITES_AFTER} were and the lag was 0", flush=True)
    check_told(site, ledger)
    check_while_down(told, expected)


def says(fault: str | None, name: str | None) -> bool:
    return name is None or (fault is not None and name in fault)


def is_answered(ledger: Ledger) -> bool:
    return min(len(ledger.writes), len(ledger.reads)) >= ANSWERS_WHILE


def figures(ledger: Ledger) -> str:
    told = ledger.outcomes()
    writes = ", ".join(f"{told[name]} {name}" for name in ("acknowledged", "pending", "refused"))
    reads = ", ".join(f"{count} × {status}" for status, count in sorted(ledger.read_statuses().items()))
    return f"writes {writes}; reads {reads}, the slowest {ledger.slowest_read_s():.1f} s"


def check_told(site: Site, ledger: Ledger) -> None:
    """With the keys that were left open repeated until they are answered for."""
    for client in site.clients:
        until(lambda client=client: is_settled(client), "open keys")  # type: ignore[misc]
    assert ledger.faults == []
    assert wrong(stored(site.darkroom.log), ledger.writes) == []


def is_settled(client: Client) -> bool:
    for key in list(client.unsettled):
        client.repeat(key)
    return not client.unsettled


def check_while_down(told: Ledger, expected: Expected) -> None:
    """Who repeats a key after the first post can be read is answered without a write, so they are left out."""
    without_key = [write for write in told.writes if write.key is None]
    assert {write.outcome for write in without_key if write.what[0] != "user"} <= expected.writes
    assert {write.outcome for write in without_key if write.what[0] == "user"} <= expected.sign_ups
    assert {read.status for read in told.reads} <= expected.reads
    assert told.slowest_read_s() < READ_S_MAX


@pytest.mark.soak
def test_many_who_read_at_once_from_a_server_that_hangs_are_answered_by_the_deadline(site: Site) -> None:
    limits = httpx.Limits(max_connections=READERS)
    with site.servers.frozen("cassandra"), httpx.Client(base_url=site.url, timeout=60, limits=limits) as http:
        began = time.monotonic()
        with ThreadPoolExecutor(READERS) as threads:
            answers = list(threads.map(http.get, ["/api/v1/accounts/1"] * READERS))
        assert {answer.status_code for answer in answers} == {503}
        answered_s = time.monotonic() - began
        print(f"{READERS} readers, the last answered after {answered_s:.1f} s", flush=True)
        assert answered_s < READ_S_MAX


@pytest.mark.soak
def test_after_all_of_it_everything_is_served_as_from_the_exported_log(site: Site, tmp_path: Path) -> None:
    served_as_embedded(site, tmp_path / "embedded")


def served_as_embedded(site: Site, folder: Path) -> None:
    until(site.is_well, "no lag and no fault", WELL_S, meanwhile=AssertionError)
    with embedded_twin(site.darkroom.log, folder) as twin:
        check_same(site.darkroom, twin)
