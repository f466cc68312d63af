"""A bounded pool of decoding processes: started when first needed, reused, replaced when they die.

A file that kills its process or outlasts its deadline is refused; the next file gets another process. They are run as
programs of their own (never forked), which costs a tenth of a second once and shares nothing with the gateway.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, TypeVar, cast

from darkroom.gateway.media_protocol import (
    DecodingLimits,
    Developed,
    MediaRefused,
    read_answer,
    read_frame,
    write_frame,
)
from darkroom.gateway.turns import TooBusy, Turns

WAITING_MAX = 16
WAIT_S_MAX = 60.0
START_S_MAX = 30.0
FILES_PER_PROCESS_MAX = 1_000  # decoders leak; a process that is ended now and then cannot leak for long

_Answer = TypeVar("_Answer")


class _Died(Exception):
    """The process ended, or was ended, before it had answered; the message says why."""


class DecodingPool:
    """At most `processes` files are decoded at once; more wait their turn, and too many are refused with 503."""

    def __init__(self, processes: int, limits: DecodingLimits) -> None:
        self._limits = limits
        self._turns = Turns("decoding", processes, WAITING_MAX, WAIT_S_MAX)
        self._idle: list[_Process] = []
        self._closed = False
        self._lock = threading.Lock()

    def develop(self, data: bytes) -> Developed:
        """Blocks until the file is decoded; MediaRefused says why it was not."""
        try:
            with self._turns.turn():
                return self._develop(data)
        except TooBusy as busy:
            raise MediaRefused(503, str(busy)) from None

    def _develop(self, data: bytes) -> Developed:
        process = self._take()
        try:
            return process.develop(data)
        except _Died as died:
            raise MediaRefused(422, f"file could not be decoded: {died}") from None
        finally:
            self._give_back(process)

    def _take(self) -> "_Process":
        with self._lock:
            if self._closed:
                raise MediaRefused(503, "decoding has been closed")
            while self._idle:
                process = self._idle.pop()
                if process.is_usable():
                    return process
                process.end()
        return _Process(self._limits)

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            if process.is_usable() and not self._closed:
                self._idle.append(process)
                return
        process.end()

    def close(self) -> None:
        """End every process; files under way are finished first."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()


class _Process:
    """One decoding process and the pipes to it; used by one thread at a time. MediaRefused 503 if it cannot start."""

    def __init__(self, limits: DecodingLimits) -> None:
        self._limits = limits
        self._files = 0
        self._answered = True
        self._late = threading.Event()
        # -P: the folder that the gateway was started in may hold an `http` of its own, and is no place to import from.
        command = [sys.executable, "-P", "-m", "darkroom.gateway.media_worker"]
        command += [str(limits.memory_bytes), str(limits.cpu_s)]
        try:
            self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise MediaRefused(503, f"decoding could not be started: {error}") from None
        self._requests = cast(BinaryIO, self._popen.stdin)
        self._answers = cast(BinaryIO, self._popen.stdout)
        try:
            self._within(START_S_MAX, lambda: read_frame(self._answers, 16))
        except _Died as died:
            self.end()
            raise MediaRefused(503, f"decoding could not be started: {died}") from None

    def develop(self, data: bytes) -> Developed:
        """The answer to one file; MediaRefused is an answer too, _Died is none."""
        # Whatever breaks in here, even an interrupt, an answer that was not fetched must never be the next file's.
        self._files, self._answered = self._files + 1, False
        try:
            photo = self._within(self._limits.deadline_s, lambda: self._ask(data))
        except MediaRefused:
            self._answered = True
            raise
        self._answered = True
        return photo

    def is_usable(self) -> bool:
        fit = self._answered and not self._late.is_set() and self._files < FILES_PER_PROCESS_MAX
        return fit and self._popen.poll() is None

    def end(self) -> None:
        """Nothing is lost: a process that is not asked holds nothing."""
        self._popen.kill()
        self._popen.wait()
        self._answers.close()
        with suppress(OSError):  # what was written and not read cannot be flushed
            self._requests.close()

    def _ask(self, data: bytes) -> Developed:
        write_frame(self._requests, data)
        return read_answer(self._answers)

    def _within(self, seconds: float, talk: Callable[[], _Answer]) -> _Answer:
        """What `talk` returns; the process is killed when it takes longer, which ends the talk wherever it is."""
        timer = threading.Timer(seconds, self._kill_late)
        timer.start()
        try:
            return talk()
        except (EOFError, OSError, ValueError) as error:
            self._popen.kill()
            raise _Died(self._cause(self._popen.wait(), seconds, error)) from None
        finally:
            timer.cancel()
            timer.join()

    def _kill_late(self) -> None:
        self._late.set()
        self._popen.kill()

    def _cause(self, exit_code: int, seconds: float, error: Exception) -> str:
        if self._late.is_set():
            return f"it took longer than the limit of {seconds:g} s"
        if exit_code == -signal.SIGXCPU:
            return f"it needed more processor time than the limit of {self._limits.cpu_s} s"
        return f"the decoder stopped ({error})"
