"""How the gateway writes: append, then wait a little for the shards of those whom the event names.

Every write has a position. When the shards are not there in time the write is done all the same, and the caller is told
that it cannot be read yet.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from darkroom.events.codec import encode
from darkroom.events.facts import Event, UserRegistered
from darkroom.events.log import EventLog, LogBusy, LogStopped
from darkroom.gateway.readers import Readers
from darkroom.projections.store import StoreError

WAITING_EVENTS_MAX = 10_000
WAITING_BYTES_MAX = 32 << 20
"""What waits goes to the log in one piece, so these are limits of a group too, and far below those of any log."""


class _Waiting(NamedTuple):
    event: Event
    position: asyncio.Future[int]


class Appends:
    """One append at a time, on a thread, of all that the callers on one event loop brought meanwhile.

    Waking a thread and the loop for each event was most of its price. Several groups under way at once gained nothing,
    on LMDB or on Kafka.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._is_sending = False

    async def append(self, event: Event) -> int:
        """The event's position. UndecodableEvent is the caller's alone; what the log raises is told to the whole group.

        LogBusy where too much waits, LogStopped once it is closed. Who is cancelled may have appended all the same.
        """
        size = len(encode(event))  # what is wrong with it is found here, before it shares a group with others'
        self._refuse_excess(size)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(event, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += size
        if not self._is_sending:
            self._is_sending = True
            loop.call_soon(self._send)
        return await waiting.position

    def _refuse_excess(self, size: int) -> None:
        if len(self._waiting) >= WAITING_EVENTS_MAX:
            raise LogBusy(f"{len(self._waiting)} events wait to be appended; the limit is {WAITING_EVENTS_MAX}")
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise LogBusy(f"{self._waiting_bytes} bytes wait to be appended; the limit is {WAITING_BYTES_MAX}")

    def _send(self) -> None:
        group = [waiting for waiting in self._waiting if not waiting.position.done()]
        self._waiting, self._waiting_bytes = [], 0
        self._is_sending = bool(group)
        if not group:
            return
        events = [waiting.event for waiting in group]
        try:
            sent = asyncio.get_running_loop().run_in_executor(self._thread, self._log.append, events)
        except RuntimeError as error:
            self._is_sending = False
            _refuse(group, LogStopped(f"nothing more is appended from here: {error}"))
        else:
            sent.add_done_callback(partial(self._tell, group))

    def _tell(self, group: list[_Waiting], sent: asyncio.Future[Sequence[int]]) -> None:
        error = sent.exception()
        if error is None:
            for waiting, position in zip(group, sent.result(), strict=True):
                if not waiting.position.done():
                    waiting.position.set_result(position)
        else:
            _refuse(group, error)
        asyncio.get_running_loop().call_soon(self._send)  # after those who were told, for they may come again

    def close(self) -> None:
        """Wait for the append that is under way. What waits behind it is refused, as is all that comes later."""
        self._thread.shutdown()


def _refuse(group: list[_Waiting], error: BaseException) -> None:
    for waiting in group:
        if not waiting.position.done():
            waiting.position.set_exception(error)


@dataclass(frozen=True)
class Written:
    """Where the event lies, and whether the shards concerned had it before the wait was over."""

    position: int
    visible: bool


class Writer:
    """Appends what is written at the same time together, so that it shares an fsync. It serves one event loop."""

    def __init__(self, log: EventLog, readers: Readers, *, wait_ms: int) -> None:
        self._appends = Appends(log)
        self._readers = readers
        self._wait_ms = wait_ms

    async def write(self, event: Event, users: Iterable[int] = ()) -> Written:
        """Append one event; LogError or UndecodableEvent where it cannot be.

        `users` are those whom it names; a new user, whose id is the position, is among them unasked.
        """
        position = await self._appends.append(event)
        concerned = {*users, position} if isinstance(event, UserRegistered) else {*users}
        return Written(position, await self._visible(position, concerned))

    async def _visible(self, position: int, users: set[int]) -> bool:
        """Once it is in the log the write is done: views that cannot be asked only keep it from being seen."""
        try:
            return await self._readers.wait_for(position, users, self._wait_ms)
        except StoreError:
            return False

    def close(self) -> None:
        self._appends.close()
