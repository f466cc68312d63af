"""What commands print. Answers go to standard output, everything else to standard error.

With `--json` standard output holds only JSON objects, one a line. Progress is shown on a terminal and nowhere else.
"""

import sys
import time
from collections.abc import Iterable, Iterator
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


class Progress:
    """A line on a terminal: what, how far, how fast, how long still. Called with (done, total)."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = sys.stderr.isatty()
        self._started = self._painted = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if not self._shown or (now - self._painted < REPAINT_S and done < total):
            return
        self._painted = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 and total > done else ""
        sys.stderr.write(f"\r\x1b[K{self._what}: {done:,} of {total:,}, {rate:,.0f}/s{left}")
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def arguments_or_stdin(given: Iterable[str]) -> Iterator[str]:
    """The arguments; where one is `-`, the lines of standard input in its place."""
    for argument in given:
        if argument != "-":
            yield argument
            continue
        for number, line in enumerate(sys.stdin.buffer, 1):
            try:
                text = line.decode("utf-8").strip()
            except UnicodeDecodeError:
                raise CommandFailed(f"standard input, line {number}: not UTF-8") from None
            if text:
                yield text
