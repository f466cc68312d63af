"""What commands print. Answers go to standard output, everything else to standard error.

With `--json` standard output holds only JSON objects, one a line. Progress is shown on a terminal and nowhere else.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

REPAINT_S = 0.2


class CommandFailed(Exception):
    """The command cannot do what was asked; the message is for the person who asked."""


def answer(line: str) -> None:
    """One line of the answer."""
    sys.stdout.write(line + "\n")


def answer_json(fields: dict[str, Any]) -> None:
    """One JSON object of the answer."""
    sys.stdout.write(msgspec.json.encode(fields).decode() + "\n")


def notice(text: str) -> None:
    """Something worth knowing, which is not part of the answer and no failure."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def tell_lag(head: int, positions: Sequence[int]) -> None:
    """Say how far the shards are behind. `head` is read after `positions`, for all of them rise."""
    behind = head - min(positions, default=0)
    if behind > 0:
        notice(f"{behind} records behind; run catch-up")
    if max(positions, default=0) > head:
        notice(f"the log ends at {head}, before the shards: it is not the log that they folded")


class Progress:
    """A line on a terminal: what, how far, how fast, how long still. Called with (done, total); total 0 is unknown."""

    def __init__(self, what: str, *, shown: bool = True) -> None:
        self._what = what
        self._shown = shown and sys.stderr.isatty()
        self._started = self._painted = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if not self._shown or (now - self._painted < REPAINT_S and done != total):
            return
        self._painted = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 and total > done else ""
        of = f" of {total:,}" if total else ""
        sys.stderr.write(f"\r\x1b[K{self._what}: {done:,}{of}, {rate:,.0f}/s{left}")
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def arguments_or_stdin(given: Iterable[str]) -> Iterator[str]:
    """The arguments; where one is `-`, the lines of standard input in its place.

    What is not UTF-8 is replaced by U+FFFD, which no name holds, so that it is unknown rather than the end of it all.
    """
    for argument in given:
        if argument != "-":
            yield os.fsencode(argument).decode("utf-8", errors="replace")
            continue
        for line in sys.stdin.buffer:
            if text := line.decode("utf-8", errors="replace").strip():
                yield text
