"""Peers: other people's programs, each in a process of its own, in a virtual environment with pins of its own.

A peer's script (in `peers/`) answers commands line by line in JSON; it measures its own work, so that no figure holds
the time that a question takes to reach it. An environment is made once, and again when its pins change.
"""

import hashlib
import json
import selectors
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INSTALL_S = 600
ANSWER_S = 900
STOP_S = 30


class PeerMissing(Exception):
    """The peer cannot be run here; the message says why."""


class PeerFailed(Exception):
    """The peer was started and did not do what it was asked."""


class PeerProcess:
    """One running peer."""

    def __init__(self, python: Path, script: str) -> None:
        self._name = script
        self._process = subprocess.Popen(
            [str(python), "-u", "-m", f"benchmarks.peers.{script}"],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to one command; PeerFailed with the peer's own words."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(f"{self._name} ended before {command}") from None
        answer = json.loads(self._line(command))
        if "error" in answer:
            raise PeerFailed(f"{self._name}: {command}: {answer['error']}")
        return answer["value"]

    def _line(self, command: str) -> str:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_S):
                raise PeerFailed(f"{self._name}: {command}: no answer within {ANSWER_S} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(f"{self._name}: {command}: it ended with status {self._process.wait(STOP_S)}")
        return line

    def close(self) -> None:
        """It ends when its input does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Peers:
    """The environments under `folder`; with `install` they are made when first asked for."""

    def __init__(self, folder: Path, *, install: bool) -> None:
        self._folder = folder
        self._install = install
        self._missing: dict[str, str] = {}

    def start(self, script: str, environment: str) -> PeerProcess:
        return PeerProcess(self.python(environment), script)

    def python(self, environment: str) -> Path:
        """The environment's interpreter; PeerMissing where it cannot be had."""
        if environment in self._missing:
            raise PeerMissing(self._missing[environment])
        pins = HERE / "peers" / f"{environment}.txt"
        digest = hashlib.sha256(pins.read_bytes()).hexdigest()
        folder = self._folder / environment
        ready = folder / "installed"
        if not (ready.exists() and ready.read_text(encoding="utf-8") == digest):
            self._make(environment, folder, pins)
            ready.write_text(digest, encoding="utf-8")
        return folder / "bin" / "python"

    def _make(self, environment: str, folder: Path, pins: Path) -> None:
        if not self._install:
            self._refuse(environment, "its environment is not installed (leave --no-install out)")
        print(f"installing {pins.relative_to(HERE.parent)} into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run(
                [*command, "-r", str(pins)], check=True, timeout=INSTALL_S, stdout=subprocess.DEVNULL, text=True
            )
        except (subprocess.SubprocessError, OSError) as error:
            self._refuse(environment, f"it could not be installed: {error}")

    def _refuse(self, environment: str, reason: str) -> None:
        self._missing[environment] = reason
        raise PeerMissing(reason)
