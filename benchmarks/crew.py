"""Processes that work at once: each holds one object of ours and calls the methods that it is told to."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

ANSWER_S = 1800
STOP_S = 30


class CrewFailed(Exception):
    """One of the processes could not do what it was told; the message is its own."""


class Crew:
    """One process for each tuple of arguments, in which `make(*arguments)` lives."""

    def __init__(self, make: Callable[..., object], arguments: Sequence[tuple[Any, ...]]) -> None:
        context = multiprocessing.get_context("spawn")  # LMDB's environments must not be forked
        self._pipes: list[Connection] = []
        self._processes = []
        for one in arguments:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, make, one), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._answers()

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Each one's answer to the same call, made by all at once."""
        for pipe in self._pipes:
            pipe.send((method, arguments))
        return self._answers()

    def seconds(self, method: str, *arguments: Any) -> float:
        """How long the call takes until the last one has done it."""
        began = time.perf_counter()
        self.call(method, *arguments)
        return time.perf_counter() - began

    def _answers(self) -> list[Any]:
        return [self._answer(pipe) for pipe in self._pipes]

    def _answer(self, pipe: Connection) -> Any:
        if not pipe.poll(ANSWER_S):
            raise CrewFailed(f"no answer within {ANSWER_S} s")
        try:
            failed, value = pipe.recv()
        except EOFError:
            raise CrewFailed("a process ended before it answered") from None
        if failed:
            raise CrewFailed(value)
        return value

    def close(self) -> None:
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
            pipe.close()
        for process in self._processes:
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()


def _work(pipe: Connection, make: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    worker = None
    try:
        worker = make(*arguments)
        pipe.send((False, None))
        while (told := pipe.recv()) is not None:
            pipe.send((False, getattr(worker, told[0])(*told[1])))
    except EOFError:
        pass
    except Exception as error:
        pipe.send((True, f"{type(error).__name__}: {error}"))
    finally:
        if worker is not None:
            worker.close()  # type: ignore[attr-defined]  # whatever holds files says how they are closed
