"""The real `darkroom` command as a child process, and what it said."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forking import run_forked

COMMAND = (sys.executable, "-m", "darkroom.gateway.main")
TIMEOUT_S = 60


@dataclass(frozen=True)
class Said:
    """How a command ended: its exit status, standard output and standard error."""

    status: int
    out: str
    errors: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as JSON, which with --json it is to the last line."""
        return [json.loads(line) for line in self.lines]

    @property
    def object(self) -> dict[str, Any]:
        [only] = self.objects
        return only


def darkroom(
    *arguments: str | Path,
    data: Path | None = None,
    stdin: str | bytes = b"",
    settings: dict[str, str] | None = None,
    through: tuple[str, ...] = (),
) -> Said:
    """Run one command to its end. `settings` go through the environment, `through` is a program that starts it."""
    place = () if data is None else ("--data", str(data))
    command = [*COMMAND, *map(str, arguments), *place]
    given = stdin.encode() if isinstance(stdin, str) else stdin
    if through or not all(name.startswith("DARKROOM_") for name in settings or ()):
        done = subprocess.run(
            [*through, *command],
            input=given,
            capture_output=True,
            timeout=TIMEOUT_S,
            env=environment(settings),
            check=False,
        )
    else:
        done = run_forked(command[1:], stdin=given, environment=environment(settings), timeout_s=TIMEOUT_S)
    said = Said(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in said.errors, said.errors
    return said


def refused(*arguments: str | Path, data: Path | None = None, stdin: str | bytes = b"", **more: Any) -> str:
    """What the command was refused for: one line, and nothing on standard output."""
    said = darkroom(*arguments, data=data, stdin=stdin, **more)
    assert (said.status, said.out) == (1, ""), said
    [line] = said.errors.splitlines()
    assert line.startswith("darkroom: ")
    return line.removeprefix("darkroom: ")


def done(*arguments: str | Path, data: Path | None = None, stdin: str | bytes = b"", **more: Any) -> str:
    """What a command that succeeded printed, without the line end; it had nothing else to say."""
    said = darkroom(*arguments, data=data, stdin=stdin, **more)
    assert (said.status, said.errors) == (0, ""), said
    return said.out.rstrip("\n")


def environment(settings: dict[str, str] | None = None) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    return kept | (settings or {})


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def registered(*names: str) -> Iterator[dict[str, Any]]:
    for name in names:
        yield {"type": "UserRegistered", "username": name, "display_name": name}


def views(count: int) -> str:
    """Records that change nothing."""
    return '{"type": "FeedViewed", "user": 1, "newest": 1}\n' * count


def filled(data: Path, records: Iterable[dict[str, Any]], *, shards: int | None = None) -> Path:
    """A directory that holds these records, caught up over so many shards if any."""
    done("log", "append", "-", data=data, stdin=lines(*records))
    if shards is not None:
        done("catch-up", "--shards", str(shards), data=data)
    return data


def exported(data: Path, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done("log", "export", *options, data=data).splitlines()]


@contextmanager
def served(data: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server on the directory with its URL, killed at the end if it still runs."""
    with listening("serve", "--runtime", "inline", *options, data=data) as server:
        yield server


@contextmanager
def listening(
    name: str, *options: str, data: Path, settings: dict[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A command that serves HTTP, with its URL, killed at the end if it still runs."""
    command = [*COMMAND, name, "--port", "0", *options, "--data", str(data)]
    with (data.parent / "serve-errors").open("a+") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(settings))
        assert server.stdout is not None
        try:
            first = server.stdout.readline()
            errors.seek(0)
            assert first.startswith("Darkroom serves "), errors.read()
            yield server, first.split()[-1]
        finally:
            server.kill()
            server.communicate()
