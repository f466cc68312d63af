"""Several gateways on one port: all of them answer, alike, and they end together unless one ends alone."""

import asyncio
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from commands_run import COMMAND, done, environment, filled, listening, refused, registered, served
from waiting import until

from darkroom.gateway.commands.console import CommandFailed
from darkroom.gateway.commands.gateway_pool import GatewayPool
from darkroom.gateway.composition import Darkroom, Gateway
from darkroom.gateway.http import server
from darkroom.gateway.http.app import App
from darkroom.gateway.http.limits import Limits
from darkroom.gateway.settings import Settings
from darkroom.projections.generations import drop_others

CONNECTIONS = 64
"""That all of them are dealt to one of two is as likely as 63 coins that fall alike."""

STATUS, TO_COME = "/api/darkroom/v1/status", "/api/v1/accounts/1/statuses?min_position=1000000"
"""What is answered at once, and what is waited for in vain."""

IMPATIENT = {"DARKROOM_READ_WAIT_MS": "1500"}
PERSON = {"username": "cy", "password": "correct horse battery"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return filled(tmp_path / "data", registered("ada", "bo"), shards=1)


@contextmanager
def connected(url: str) -> Iterator[list[socket.socket]]:
    """Connections that have been answered once, so that each has a gateway of its own."""
    host, port = url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        found = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(CONNECTIONS)
        ]
        ask(found)
        for one in found:
            assert answered(one)
        yield found


def ask(connections: Sequence[socket.socket], path: str = STATUS) -> None:
    for one in connections:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def answered(connection: socket.socket) -> bool:
    """Whether what was asked is answered, rightly."""
    return answer_of(connection) == 200


def answer_of(connection: socket.socket) -> int:
    said = b""
    while b"\r\n\r\n" not in said:
        said += received(connection)
    head, _, body = said.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += received(connection)
    return int(head.split()[1])


def received(connection: socket.socket) -> bytes:
    found = connection.recv(65536)
    assert found, "the connection was closed"
    return found


def workers_of(process: int) -> set[int]:
    """The gateways that a process has started and that still run."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent, state = (folder / "stat").read_text().rpartition(")")[2].split()[1::-1]
            if int(parent) == process and state != "Z" and b"gateway_worker" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def sockets_on(url: str, state: str) -> list[list[str]]:
    """The kernel's lines of sockets whose own port is the URL's (proc_pid_net(5))."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    listed = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [fields for fields in listed if fields[1].endswith(port) and fields[3] == state]


def listeners_on(url: str) -> int:
    """How many sockets accept connections to it."""
    return len(sockets_on(url, "0A"))


def are_under_way(url: str) -> bool:
    """Whether all that was sent to it has been read."""
    return all(fields[4].endswith(":00000000") for fields in sockets_on(url, "01"))


def is_alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def told_in(data: Path) -> str:
    return (data.parent / "serve-errors").read_text()


def only_refused(told: str) -> bool:
    """Whether it was told of requests that waited in vain, and of nothing else."""
    return told != "" and all(line.endswith(" was asked for") for line in told.splitlines())


def test_each_answers_some_of_the_connections_and_together_they_answer_all(data: Path) -> None:
    with served(data, "--gateways", "2") as (process, url), connected(url) as connections:
        [worker] = workers_of(process.pid)
        for one in (process.pid, worker):
            os.kill(one, signal.SIGSTOP)
            try:
                ask(connections)
                by_the_other, _, _ = select.select(connections, [], [], 60)
                assert by_the_other, f"of {process.pid} and {worker}, only {one} answers"
            finally:
                os.kill(one, signal.SIGCONT)
            assert all(map(answered, connections))


def test_what_one_has_written_all_have(data: Path) -> None:
    with served(data, "--gateways", "3") as (_, url):
        signed_up = httpx.post(f"{url}/api/v1/accounts", json=PERSON, timeout=60)
        token = {"Authorization": f"Bearer {signed_up.json()['access_token']}"}
        for number in range(8):  # each on a connection of its own
            said = httpx.post(f"{url}/api/v1/statuses", json={"status": f"{number}"}, headers=token, timeout=60)
            assert said.status_code == 200, said.text
            for _ in range(4):
                home = httpx.get(f"{url}/api/v1/timelines/home", headers=token, timeout=60)
                assert home.json()[0] == said.json(), home.text
            assert len(home.json()) == number + 1


def test_gateways_beside_a_server_share_a_port_too(data: Path) -> None:
    with served(data), listening("gateway", "--gateways", "2", data=data) as (process, url), connected(url):
        assert (len(workers_of(process.pid)), listeners_on(url)) == (1, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert listeners_on(url) == 0


def test_one_that_is_killed_is_told_of_and_replaced(data: Path) -> None:
    with served(data, "--gateways", "2") as (process, url):
        [worker] = workers_of(process.pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda: workers_of(process.pid) - {worker} and listeners_on(url) == 2, "there are two again")
        assert told_in(data) == "one of the gateways has ended, killed by signal 9; another takes its place\n"
        with connected(url):
            pass  # they are all answered


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_they_all_finish_what_is_under_way_and_end(data: Path, number: signal.Signals) -> None:
    with listening("serve", "--runtime", "inline", "--gateways", "3", data=data, settings=IMPATIENT) as (process, url):
        workers = workers_of(process.pid)
        assert (len(workers), listeners_on(url)) == (2, 3)
        with connected(url) as connections:
            ask(connections, TO_COME)
            until(lambda: are_under_way(url), "all are waiting")
            process.send_signal(number)
            assert {answer_of(one) for one in connections} == {503}, "all of them waited for what did not come"
        assert process.wait(30) == 0
        assert not any(map(is_alive, workers))
    assert only_refused(told_in(data))


def test_a_terminals_interrupt_of_them_all_is_the_servers_to_tell(data: Path) -> None:
    command = [*COMMAND, "serve", "--runtime", "inline", "--port", "0", "--gateways", "2", "--data", str(data)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(IMPATIENT),
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with connected(url) as connections:
            ask(connections, TO_COME)
            until(lambda: are_under_way(url), "all are waiting")
            os.killpg(process.pid, signal.SIGINT)
            assert {answer_of(one) for one in connections} == {503}
        assert only_refused(process.communicate(timeout=30)[1])
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_they_end_with_a_server_that_is_killed(data: Path) -> None:
    with served(data, "--gateways", "2") as (process, url):
        [worker] = workers_of(process.pid)
        process.kill()
        process.wait(30)
        until(lambda: not is_alive(worker), "it ends too")
        assert listeners_on(url) == 0


def test_a_port_that_others_have_is_refused_even_if_they_would_share_it(data: Path) -> None:
    for share in (False, True):
        with server.listening("127.0.0.1", 0, shared=share) as taken:
            if not share:
                taken.listen()
            port = str(taken.getsockname()[1])
            for gateways in ("1", "2"):
                told = refused("serve", "--runtime", "inline", "--gateways", gateways, "--port", port, data=data)
                assert told == f"127.0.0.1:{port}: Address already in use"


def test_how_many_there_may_be(data: Path) -> None:
    for wrong in ("0", "65", "two"):
        told = refused("serve", "--gateways", wrong, data=data)
        assert told == f"--gateways: '{wrong}' is not permitted; gateways must be an integer from 1 to 64"


def test_one_that_cannot_serve_is_told_of_and_none_is_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with server.listening("127.0.0.1", 0, shared=True) as listener:
        pool = GatewayPool(Settings(data=tmp_path / "none", gateways=2), listener)
        with pytest.raises(CommandFailed, match="one of the gateways ended before it served, with status 1"), pool:
            pass
        assert workers_of(os.getpid()) == set()
        assert listeners_on(f"http://127.0.0.1:{listener.getsockname()[1]}") == 1
    assert capfd.readouterr().err == f"darkroom: {tmp_path}/none is not a Darkroom data directory\n"


def test_one_is_replaced_as_soon_as_that_can_be_whatever_happens_to_what_is_told(data: Path) -> None:
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        raise OSError("the disk is full")

    with server.listening("127.0.0.1", 0, shared=True) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with GatewayPool(Settings(data=data, gateways=2), listener, tell, pause_s=0.01):
            [worker] = workers_of(os.getpid())
            elsewhere = data.rename(data.with_name("elsewhere"))
            os.kill(worker, signal.SIGKILL)
            ended = "one of the gateways has ended, with status 1; another takes its place"
            until(lambda: told.count(ended) == 2, "two could not serve")
            elsewhere.rename(data)
            until(lambda: listeners_on(url) == 2, "another does")
        assert workers_of(os.getpid()) == set()
        assert listeners_on(url) == 1


def test_one_that_is_asked_nothing_lets_go_of_a_generation_that_no_longer_serves(data: Path) -> None:
    def held() -> list[int]:
        return drop_others(data / "generations", {2})

    async def live(app: App) -> None:
        async def receive() -> dict[str, str]:
            async with asyncio.timeout(60):
                while given and held():
                    await asyncio.sleep(0.01)
            given.append("lifespan")
            return {"type": "lifespan"}

        async def send(message: object) -> None:
            given.append(str(message))

        given: list[str] = []
        await app({"type": "lifespan"}, receive, send)

    with Darkroom(Settings(data=data)) as darkroom, closing(Gateway(darkroom)) as gateway:
        assert len(darkroom.readers.positions()) == 1
        assert done("rebuild", data=data) == "generation 2 serves"
        assert held() == [1]
        asyncio.run(live(App(gateway, Limits())))
        assert held() == []
