"""`log append`, `log export`, `log check`: the log as lines, and whether it is whole."""

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from darkroom.events.clock import system_clock
from darkroom.events.codec import UndecodableEvent
from darkroom.events.facts import Event
from darkroom.events.json_lines import LINE_BYTES_MAX, format_line, parse_line
from darkroom.events.log import POSITION_MAX, EventLog, LogError
from darkroom.gateway.commands.console import CommandFailed, Progress, answer, notice
from darkroom.gateway.composition import data_directory, directory_paths
from darkroom.gateway.log_identity import foreseen_identity
from darkroom.gateway.servers import open_log
from darkroom.gateway.settings import Settings

BLOCK_LINES = 10_000
READ_RECORDS = 10_000

Block = tuple[list[Event], list[int]]


def append(arguments: argparse.Namespace, settings: Settings) -> int:
    """Append the file's lines, in blocks that are each stored wholly or not at all."""
    with _lines(arguments.file) as stream, opened_log(settings, create=True) as log:
        progress, lines = Progress("appending bytes"), _Counted(stream)
        try:
            for events, times_ms in _blocks(lines):
                log.append(events, times_ms)
                progress(lines.bytes_read, lines.bytes_in_all)
        except (CommandFailed, LogError, OSError) as error:
            raise CommandFailed(f"{error}; the last position is {log.head()}") from None
        finally:
            progress.end()
        answer(str(log.head()))
    return 0


def export(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print records as lines, in log order.

    Times are log time, the running maximum: recorded times may go back, and `append` would then refuse the lines.
    """
    with opened_log(settings) as log:
        position, head, time_ms = arguments.after, log.head(), 0
        left = POSITION_MAX if arguments.limit is None else arguments.limit
        end = min(head, position + left)
        progress = Progress("exporting", shown=not sys.stdout.isatty())
        try:
            while left and (records := log.read(position, min(left, READ_RECORDS))):
                for record in records:
                    time_ms = max(time_ms, record.time_ms)
                    sys.stdout.buffer.write(format_line(record.event, time_ms))
                position, left = records[-1].position, left - len(records)
                progress(position - arguments.after, end - arguments.after)
        finally:
            progress.end()
    return 0


def check(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001
    """Read every record; CommandFailed at the first that is damaged or unknown."""
    with opened_log(settings) as log:
        position, head, progress = 0, log.head(), Progress("checking")
        try:
            while records := log.read(position, READ_RECORDS):
                position = records[-1].position
                progress(position, head)
        except (LogError, UndecodableEvent) as error:
            raise CommandFailed(str(error)) from None
        finally:
            progress.end()
        answer(f"{position} records, all whole")
    return 0


@contextmanager
def opened_log(settings: Settings, *, create: bool = False) -> Iterator[EventLog]:
    """The directory's log, or the one on Kafka."""
    if create:
        foreseen_identity(settings, directory_paths(settings).log, create=True, tell=notice)
    folder = data_directory(settings, create=create).log
    log = open_log(settings, folder, create=create, tell=notice, wait_s=settings.service_wait_s)
    try:
        yield log
    finally:
        log.close()


class _Counted:
    """A stream's lines, and how far it is read; `bytes_in_all` is 0 where it is no file."""

    def __init__(self, stream: BinaryIO) -> None:
        status = os.fstat(stream.fileno())
        self._stream = stream
        self.bytes_read = 0
        self.bytes_in_all = status.st_size if stat.S_ISREG(status.st_mode) else 0

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(limit)
        self.bytes_read += len(line)
        return line


@contextmanager
def _lines(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as stream:
        yield stream


def _blocks(stream: _Counted) -> Iterator[Block]:
    """Lines as events with times that never go back, BLOCK_LINES at a time; a fault names its line."""
    events: list[Event] = []
    times_ms: list[int] = []
    previous_ms = number = 0
    while line := stream.readline(LINE_BYTES_MAX + 2):
        number += 1
        if line.strip():
            try:
                time_ms, event = parse_line(line.rstrip(b"\r\n"))
            except UndecodableEvent as error:
                raise CommandFailed(f"line {number}: {error}") from None
            if time_ms is None:
                time_ms = max(system_clock(), previous_ms)
            elif time_ms < previous_ms:
                raise CommandFailed(f"line {number}: time_ms {time_ms} is below the previous line's, {previous_ms}")
            events.append(event)
            times_ms.append(time_ms)
            previous_ms = time_ms
        if number % BLOCK_LINES == 0 and events:
            yield events, times_ms
            events, times_ms = [], []
    if events:
        yield events, times_ms
