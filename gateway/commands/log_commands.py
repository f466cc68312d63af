"""`log append`, `log export`, `log check`: the log as lines, and whether it is whole."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from darkroom.events.clock import system_clock
from darkroom.events.codec import UndecodableEvent
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import Event
from darkroom.events.json_lines import LINE_BYTES_MAX, format_line, parse_line
from darkroom.events.log import LogError
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.commands.console import CommandFailed, Progress, answer
from darkroom.gateway.settings import Settings

BLOCK_LINES = 10_000
READ_RECORDS = 10_000

Block = tuple[list[Event], list[int]]


def append(arguments: argparse.Namespace, settings: Settings) -> int:
    """Append the file's lines, in blocks that are each stored wholly or not at all."""
    with _lines(arguments.file) as stream, opened_log(settings, create=True) as log:
        try:
            for events, times_ms in _blocks(stream):
                log.append(events, times_ms)
        except (UndecodableEvent, LogError) as error:
            raise CommandFailed(f"{error}; the last position is {log.head()}") from None
        answer(str(log.head()))
    return 0


def export(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print records as lines, in log order."""
    with opened_log(settings) as log:
        position, left = arguments.after, arguments.limit
        while left is None or left > 0:
            records = log.read(position, READ_RECORDS if left is None else min(left, READ_RECORDS))
            if not records:
                break
            sys.stdout.buffer.writelines(format_line(record.event, record.time_ms) for record in records)
            position = records[-1].position
            left = None if left is None else left - len(records)
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
def opened_log(settings: Settings, *, create: bool = False) -> Iterator[LmdbEventLog]:
    """The directory's log."""
    log = LmdbEventLog(DataDirectory(settings.data, create=create).log)
    try:
        yield log
    finally:
        log.close()


@contextmanager
def _lines(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as stream:
        yield stream


def _blocks(stream: BinaryIO) -> Iterator[Block]:
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
