"""How a peer is asked: a command with its arguments a line, an answer a line, all JSON. It ends with its input."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def answer(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until there is no more to answer. An error is told to whoever asked, who decides what it means."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            told: dict[str, Any] = {"value": commands[request.pop("command")](**request)}
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)


def blocks(path: str) -> Iterator[bytes]:
    """The parts of a file in which each is led by its length, in four bytes."""
    data = Path(path).read_bytes()
    start = 0
    while start < len(data):
        stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
        yield data[start + 4 : stop]
        start = stop


def write_blocks(path: str, parts: Iterable[bytes]) -> None:
    """What `blocks` reads."""
    with Path(path).open("wb") as file:
        for part in parts:
            file.write(len(part).to_bytes(4, "little") + part)


def digests(tables: Mapping[str, Mapping[int, Any]]) -> dict[str, str]:
    """A digest a table of owners and their entries, so that a difference is found where it is."""
    return {name: digest(table) for name, table in tables.items()}


def digest(table: Mapping[int, Any]) -> str:
    """Whatever the order in which owners came."""
    data = json.dumps([[owner, table[owner]] for owner in sorted(table)], separators=(",", ":"))
    return hashlib.sha256(data.encode()).hexdigest()[:16]
