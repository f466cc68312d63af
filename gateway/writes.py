"""How the gateway writes: append, then wait a little for the shards of those whom the event names.

Every write has a position. When the shards are not there in time the write is done all the same, and the caller is told
that it cannot be read yet.
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from darkroom.events.facts import Event, UserRegistered
from darkroom.events.log import EventLog
from darkroom.gateway.readers import Readers
from darkroom.projections.store import StoreError

APPENDERS = 32


@dataclass(frozen=True)
class Written:
    """Where the event lies, and whether the shards concerned had it before the wait was over."""

    position: int
    visible: bool


class Writer:
    """Appends on threads of its own, so that concurrent writes share an fsync."""

    def __init__(self, log: EventLog, readers: Readers, *, wait_ms: int) -> None:
        self._log = log
        self._readers = readers
        self._wait_ms = wait_ms
        self._threads = ThreadPoolExecutor(APPENDERS, thread_name_prefix="append")

    async def write(self, event: Event, users: Iterable[int] = ()) -> Written:
        """Append one event; LogError or UndecodableEvent where it cannot be.

        `users` are those whom it names; a new user, whose id is the position, is among them unasked.
        """
        loop = asyncio.get_running_loop()
        [position] = await loop.run_in_executor(self._threads, self._log.append, [event])
        concerned = {*users, position} if isinstance(event, UserRegistered) else {*users}
        return Written(position, await self._visible(position, concerned))

    async def _visible(self, position: int, users: set[int]) -> bool:
        """Once it is in the log the write is done: views that cannot be asked only keep it from being seen.

        A server that hangs holds up each look for as long as its own deadline, but not who waits here.
        """
        try:
            async with asyncio.timeout(self._wait_ms / 1000):
                return await self._readers.wait_for(position, users, self._wait_ms)
        except (StoreError, TimeoutError):
            return False

    def close(self) -> None:
        self._threads.shutdown()
