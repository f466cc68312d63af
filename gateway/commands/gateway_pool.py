"""More gateways on the port of the one that asks for them, for an interpreter answers on one core of however many.

The kernel deals connections out among them. They share what gateways on several machines share, the log and the views,
and nothing else. One that ends unasked is replaced.
"""

import pickle
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, cast

from msgspec.structs import replace

from darkroom.gateway.commands.console import CommandFailed, notice
from darkroom.gateway.settings import Settings

START_S_MAX = 60.0
STOP_S_MAX = 30.0
"""A server waits 10 s for what is under way, and then for a photo that is being decoded."""

PAUSE_S_MIN, PAUSE_S_MAX = 1.0, 60.0
"""Before one is replaced; twice as long each time, until one has lived for as long as the longest pause."""

Process = subprocess.Popen[bytes]


class GatewayPool:
    """The `settings.gateways` less the caller, who has `listener`, which is shared. Once it is entered all serve."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        tell: Callable[[str], None] = notice,
        pause_s: float = PAUSE_S_MIN,
    ) -> None:
        # The address, for a name may mean another one the next time.
        host, port = listener.getsockname()[:2]
        self._settings = replace(settings, host=host, port=port)
        self._tell = tell
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._processes: list[Process] = []
        self._keepers: list[threading.Thread] = []

    def __enter__(self) -> "GatewayPool":
        """CommandFailed where one of them cannot be started, or does not serve in time."""
        try:
            self._start_all()
        except BaseException:
            self._leave(0.0)
            raise
        return self

    def _start_all(self) -> None:
        count = self._settings.gateways
        for number in range(2, count + 1):
            try:
                self._processes.append(self._started())
            except OSError as error:
                raise CommandFailed(f"gateways: number {number} of {count} cannot be started: {error}") from None
        ends_at = time.monotonic() + START_S_MAX
        for process in self._processes:
            _await_ready(process, ends_at)
        for place in range(count - 1):
            keeper = threading.Thread(target=self._keep, args=(place,), name=f"gateway-{place + 2}", daemon=True)
            keeper.start()
            self._keepers.append(keeper)

    def __exit__(self, *exception: object) -> None:
        self._leave(STOP_S_MAX)

    def _leave(self, within_s: float) -> None:
        try:
            self.stop()
        finally:
            self._end(within_s)

    def stop(self) -> None:
        """Have all of them accept no more, finish what is under way and end. It is not waited for."""
        self._stopping.set()
        with self._lock:
            for process in self._processes:
                with suppress(OSError):
                    _input(process).close()

    def _end(self, within_s: float) -> None:
        """Wait until all have ended; who takes longer is killed, as are all if the wait is broken off."""
        ends_at = time.monotonic() + within_s
        try:
            for process in self._processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, ends_at - time.monotonic()))
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
                _close(process)
        for keeper in self._keepers:
            keeper.join()

    def _keep(self, place: int) -> None:
        """Another in the place of one that ends, until all are to end."""
        pause_s = self._pause_s
        while True:
            began = time.monotonic()
            status = self._processes[place].wait()
            if time.monotonic() - began > PAUSE_S_MAX:
                pause_s = self._pause_s
            # First the pause, for who tells all of us to stop may tell them before us.
            if self._stopping.wait(pause_s):
                return
            with suppress(Exception):  # what cannot be said must not keep it from being replaced
                self._tell(f"one of the gateways has ended, {_told(status)}; another takes its place")
            if not self._replace(place):
                return
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _replace(self, place: int) -> bool:
        """False where all are to end."""
        with self._lock:
            if self._stopping.is_set():
                return False
            former = self._processes[place]
            try:
                self._processes[place] = self._started()
            except OSError as error:  # no room for a process now, perhaps; the dead one is met again
                with suppress(Exception):
                    self._tell(f"one of the gateways cannot be started: {error}")
            else:
                _close(former)
            return True

    def _started(self) -> Process:
        """A process that begins to serve."""
        # -P: the folder that we were started in may hold an `http` of its own, and is no place to import from. A
        # session of its own: what a terminal tells all of us, we tell it.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "darkroom.gateway.commands.gateway_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        with suppress(BrokenPipeError):  # it has ended already, which is found by whoever waits for it
            _input(process).write(pickle.dumps(self._settings))  # secrets among them, so neither words nor variables
            _input(process).flush()
        return process


def _await_ready(process: Process, ends_at: float) -> None:
    ready = select.poll()
    ready.register(_output(process), select.POLLIN)
    if not ready.poll(1e3 * max(0.0, ends_at - time.monotonic())):
        raise CommandFailed(f"one of the gateways did not serve within {START_S_MAX:g} s")
    if not _output(process).readline():
        raise CommandFailed(f"one of the gateways ended before it served, {_told(process.wait())}")


def _close(process: Process) -> None:
    _output(process).close()
    with suppress(OSError):  # what was written and not read cannot be flushed
        _input(process).close()


def _told(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"with status {status}"


def _input(process: Process) -> IO[bytes]:
    return cast(IO[bytes], process.stdin)


def _output(process: Process) -> IO[bytes]:
    return cast(IO[bytes], process.stdout)
