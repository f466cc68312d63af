"""Processes that outlive the command that started them: started apart, known again, and ended.

A process is known by its id, its start time and the machine's boot, never by its id alone: ids are used again, and what
has ours by chance must not be signalled. Besides, each carries a mark in its environment, by which it is found where
the command died before it could write the id down. Linux only: it reads /proc and waits on process file descriptors.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from refusals import ServiceError

MARK = "DARKROOM_SERVICE"
TERM_S = 20.0  # Cassandra and Neo4j flush what they hold first
KILL_S = 10.0


@dataclass(frozen=True)
class Process:
    """One process of this boot or of an earlier one; `started_ticks` is /proc's, since the boot."""

    pid: int
    started_ticks: int
    boot: str


def spawn(command: Sequence[str], mark: str, folder: Path, log: Path, environment: Mapping[str, str]) -> Process:
    """Start a process in a session of its own, so that an interrupt at the terminal does not reach it."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**environment, MARK: mark},
            start_new_session=True,
        )
    child.returncode = 0  # not ours to wait for: it goes on after this command
    started_ticks = _started_ticks(child.pid)
    assert started_ticks is not None, "a child that has ended stays in /proc until its parent has asked for its status"
    return Process(child.pid, started_ticks, _boot())


def runs(process: Process) -> bool:
    """Until its last thread has ended: so long a killed one holds its ports."""
    return not ends_within(process, 0)


def wake(process: Process) -> None:
    """Let a process go on that a signal has stopped; the others do not notice."""
    _signal(process, signal.SIGCONT)


def ask_to_end(process: Process) -> None:
    """Do not wait for it: several can be asked before `end` waits for each."""
    _signal(process, signal.SIGTERM, signal.SIGCONT)  # one that is stopped sees nothing else


def ends_within(process: Process, seconds: float) -> bool:
    """Wait until the process has ended, so many seconds at most."""
    descriptor = _open(process)
    if descriptor is None:
        return True
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    ended = bool(poller.poll(seconds * 1000))
    os.close(descriptor)
    return ended


def end(process: Process) -> bool:
    """Ask the process to end, kill it if it does not; False if it had ended already. Raises `ServiceError`."""
    if not runs(process):
        return False
    ask_to_end(process)
    if not ends_within(process, TERM_S):
        _signal(process, signal.SIGKILL)
        if not ends_within(process, KILL_S):
            raise ServiceError(f"process {process.pid} does not end, even when it is killed")
    return True


def marked(mark: str) -> list[Process]:
    """Every process that carries the mark and may be read by us."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and f"{MARK}={mark}".encode() in _environment(folder):
            started_ticks = _started_ticks(int(folder.name))
            if started_ticks is not None:
                found.append(Process(int(folder.name), started_ticks, _boot()))
    return found


def _signal(process: Process, *signals: signal.Signals) -> None:
    descriptor = _open(process)
    if descriptor is None:
        return
    with suppress(ProcessLookupError):
        for number in signals:
            signal.pidfd_send_signal(descriptor, number)
    os.close(descriptor)


def _open(process: Process) -> int | None:
    """A descriptor of this very process: the check comes after the opening, so the id cannot change hands between."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    if _started_ticks(process.pid) == process.started_ticks and process.boot == _boot():
        return descriptor
    os.close(descriptor)
    return None


def _started_ticks(pid: int) -> int | None:
    """The twenty-second field; the name, which is the second, is in brackets and may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def _environment(folder: Path) -> list[bytes]:
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
