"""Starting, stopping and looking: one command at a time in one folder, and the record is written before the waiting.

What may be left of a command or a server that died is put in order by the next start: a process that runs is taken as
it is if it answers and replaced if it does not, one that is marked as ours but is not in the record is ended, and a
server that is gone comes back on its ports with its data.
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import answers
import configuration
import ports
import processes
import records
from catalogue import SERVICES, Service, Site
from records import Record
from refusals import ServiceError

ANSWER_S = 120.0
POLL_S = 0.1
LOG_LINES = 20

Say = Callable[[str], None]


class Supervision:
    """The servers of one folder."""

    def __init__(self, root: Path, say: Say) -> None:
        self.root = root
        self.say = say

    def start(self, names: Sequence[str]) -> None:
        """Start what does not run, all at once, and wait until each answers. Raises `ServiceError`."""
        with self._alone():
            chosen = [SERVICES[name] for name in names]
            for service in chosen:
                self._end_strays(service)
            idle = [service for service in chosen if not self._runs(service.name)]
            for service in idle:
                service.needs(self.root)
            began = {service.name: self._spawn(service) for service in idle}
            for service in chosen:
                self._await(service, began.get(service.name))
            configuration.write(self.root, records.read(self.root))

    def stop(self, names: Sequence[str], wipe: bool) -> None:
        """Stop what runs and is ours; with `wipe`, remove its data, its log and its password too."""
        with self._alone():
            ran = [name for name in names if self._runs(name)]
            for record in (records.read(self.root)[name] for name in ran):
                if record.process:
                    processes.ask_to_end(record.process)
            for name in names:
                ended = self._end(SERVICES[name]) or name in ran
                if wipe:
                    self._wipe(SERVICES[name])
                self.say(f"{name}: {'stopped' if ended else 'did not run'}{', its data removed' if wipe else ''}")

    def status(self, names: Sequence[str]) -> bool:
        """Say how each is; True if all answer."""
        states = {name: self._state(name) for name in names}
        for name, (_, words) in states.items():
            self.say(f"{name}: {words}")
        return all(answer for answer, _ in states.values())

    def _spawn(self, service: Service) -> float:
        """Configure and start the server; returns when that began, by the monotonic clock."""
        began = time.monotonic()
        known = records.read(self.root)
        before = known.pop(service.name, None)
        if service.user and before is None and (self.root / service.name / "data").exists():
            raise ServiceError(f"{service.name} has data, and its password is lost: remove it by stop --wipe")
        taken = [port for record in known.values() for port in record.ports.values()]
        site = Site(
            service.name,
            self.root,
            ports.choose(service.port_names, before.ports if before else {}, taken, secrets.randbits(64)),
            before.password if before else secrets.token_hex(16) if service.user else "",
        )
        site.folder.mkdir(mode=0o700, exist_ok=True)
        record = Record(ports.HOST, site.port, service.user, site.password, site.ports, None)
        records.write(self.root, known | {service.name: record})  # the password, before it is set
        command = service.command(site)
        if site.log.exists():
            site.log.replace(site.log.with_name("log.before"))
        process = processes.spawn(command, self._mark(service), site.folder, site.log, _environment())
        records.write(self.root, known | {service.name: replace(record, process=process)})
        return began

    def _await(self, service: Service, began: float | None) -> None:
        """Wait until the server answers; one that ran before, and does not, is replaced."""
        if not self._answers_in_time(service):
            if began is not None:
                raise ServiceError(self._failure(service))
            how = "does not answer" if self._runs(service.name) else "has just ended"
            self.say(f"{service.name}: {how}, so it is started again")
            self._end(service)
            self._await(service, self._spawn(service))
            return
        record = records.read(self.root)[service.name]
        how = "runs already" if began is None else f"answers after {time.monotonic() - began:.1f} s"
        self.say(f"{service.name}: {_place(record)} {how}")

    def _answers_in_time(self, service: Service) -> bool:
        record = records.read(self.root)[service.name]
        if record.process is not None:
            processes.wake(record.process)
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            if self._answers(service, record):
                return True
            if record.process is None or processes.ends_within(record.process, POLL_S):
                return False
        return False

    def _answers(self, service: Service, record: Record) -> bool:
        try:
            service.ask(Site(service.name, self.root, record.ports, record.password))
        except answers.Unanswered:
            return False
        return True

    def _failure(self, service: Service) -> str:
        """Why it did not start, by its own words; what still runs of it is ended."""
        outcome = f"does not answer after {ANSWER_S:.0f} s" if self._runs(service.name) else "ended while it started"
        log = self.root / service.name / "log"
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
        self._end(service)
        return "\n".join([f"{service.name} {outcome}; {log} ends with:", *last])

    def _end(self, service: Service) -> bool:
        """End the server; False if it had ended already."""
        known = records.read(self.root)
        record = known.get(service.name)
        ended = False
        if record is not None:
            ended = record.process is not None and processes.end(record.process)
            records.write(self.root, known | {service.name: replace(record, process=None)})
        return self._end_strays(service) or ended

    def _wipe(self, service: Service) -> None:
        folder = self.root / service.name
        if folder.exists():
            shutil.rmtree(folder)
        known = records.read(self.root)
        known.pop(service.name, None)
        records.write(self.root, known)

    def _end_strays(self, service: Service) -> bool:
        """End what a command started and died before it could record."""
        record = records.read(self.root).get(service.name)
        strays = [found for found in processes.marked(self._mark(service)) if not record or found != record.process]
        for stray in strays:
            processes.end(stray)
        return bool(strays)

    def _state(self, name: str) -> tuple[bool, str]:
        record = records.read(self.root).get(name)
        if record is None or record.process is None or not processes.runs(record.process):
            return False, "does not run"
        if not self._answers(SERVICES[name], record):
            return False, f"{_place(record)} does not answer"
        return True, f"{_place(record)} answers"

    def _runs(self, name: str) -> bool:
        record = records.read(self.root).get(name)
        return record is not None and record.process is not None and processes.runs(record.process)

    def _mark(self, service: Service) -> str:
        return str(self.root / service.name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("waiting for another start or stop in this folder")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _place(record: Record) -> str:
    pid = f" (pid {record.process.pid})" if record.process else ""
    return f"{record.host}:{record.port}{pid}"


def _environment() -> dict[str, str]:
    """No setting of the one who starts reaches a server: the same command gives the same server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
