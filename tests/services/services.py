"""Real servers for tests, by the command that a developer uses: `service("redis")` is where Redis answers.

What ran before the tests goes on afterwards, with its data: a test makes names of its own. What the tests started is
stopped at their end. Where a program is missing, a test is skipped, and says so; where CI is set, it fails.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypedDict

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".services"
PROGRAM = ROOT / "deploy/services"
COMMAND_S = 1200
DONE, FAILED, TOOL_MISSING = 0, 1, 3


class Process(TypedDict):
    """The server's process, for tests that kill it."""

    pid: int
    started_ticks: int
    boot: str


class Address(TypedDict):
    """Where a server is; user and password are empty where nobody logs in."""

    host: str
    port: int
    user: str
    password: str
    ports: dict[str, int]
    process: Process


Services = Callable[[str], Address]


def control(
    *words: str, folder: Path = FOLDER, environment: dict[str, str] | None = None, program: Path = PROGRAM
) -> tuple[int, str]:
    """Run the command, or a copy of it with other configurations; its exit status, and what it said."""
    command = [sys.executable, str(program), *words, "--folder", str(folder)]
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_S,
    )
    return done.returncode, done.stdout


def address(name: str, folder: Path = FOLDER) -> Address:
    found: dict[str, Address] = json.loads((folder / "services.json").read_text(encoding="utf-8"))
    return found[name]


def started(name: str, folder: Path = FOLDER, program: Path = PROGRAM) -> Address:
    """Where the server is, once it answers; without its program, the test is skipped, or fails in CI."""
    status, words = control("start", name, folder=folder, program=program)
    if status == TOOL_MISSING:
        _without(words)
    assert status == DONE, words
    return address(name, folder)


def own_folder(folder: Path) -> Path:
    """Made for servers that a test may stop and kill; they share only the jars with the others."""
    folder.mkdir(mode=0o700)
    if (FOLDER / "jars").exists():
        (folder / "jars").symlink_to(FOLDER / "jars")
    return folder


@pytest.fixture(scope="session")
def service() -> Iterator[Services]:
    """Call it as often as you like: a server that was killed is started again, one that is stopped goes on."""
    ran_before: dict[str, bool] = {}

    def start(name: str) -> Address:
        if name not in ran_before:
            ran_before[name] = control("status", name)[0] == DONE
        return started(name)

    yield start
    ours = [name for name, ran in ran_before.items() if not ran]
    if ours:
        control("stop", *ours)


def _without(words: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"in CI, every server has to be there: {words}")
    pytest.skip(words)
