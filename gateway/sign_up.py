"""Signing up and in: where credentials and the log meet. Every sign-up ends bound to its user, or not at all.

A pending credential is stored first; UserRegistered carries its claim; whoever then holds the name, as the log's order
decided it, is bound. The other is a user without a name, whom the gateway that took the sign-up deletes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

from darkroom.events.clock import system_clock
from darkroom.events.facts import UserDeleted, UserRegistered, personal
from darkroom.events.log import LogBusy, LogError, LogFull
from darkroom.gateway.composition import Gateway
from darkroom.gateway.credentials import CredentialsFull, CredentialsUnusable
from darkroom.gateway.readers import NotThere
from darkroom.projections import people
from darkroom.projections.store import StoreError

THREADS = 36  # two hash at once and 32 may wait for their turn; the next must reach the queue to be told so
RETRY_S = 0.25
IN_FLIGHT_S = 60
"""No sign-up takes so long: each of its steps has a deadline of seconds."""

UNANSWERED = (NotThere, StoreError, CredentialsFull, CredentialsUnusable, LogError)
"""What keeps a sign-up that the log has from being decided now."""

P = ParamSpec("P")
T = TypeVar("T")


class NameTaken(Exception):
    """Somebody else holds the name; `position` is where the log says so, if it had to be asked by writing."""

    def __init__(self, username: str, position: int | None = None) -> None:
        super().__init__(f"the name {username} is taken")
        self.position = position


class Undecided(Exception):
    """The sign-up is in the log at `position`, but what decides it is not to be had yet. It is settled later."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the sign-up at position {position} is not decided yet")
        self.position = position


class SignUps:
    """Runs on the event loop; what blocks (hashing, SQLite) has threads of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="credentials")
        self._later: set[asyncio.Task[None]] = set()

    async def register(self, username: str, password: str) -> int:
        """The new user's id. CredentialRefused, NameTaken, Undecided, TooBusy, LogError."""
        credentials, writer = self._gateway.credentials, self._gateway.writer
        if await self._gateway.readers.read_async(lambda reading: people.holder_of_name(reading, username)):
            raise NameTaken(username)
        claim = (await self.run(credentials.begin, username, password)).claim
        event = UserRegistered(username=personal(username), display_name=personal(username), claim=claim)
        try:
            written = await writer.write(event)
        except (LogFull, LogBusy):  # surely not stored
            await self.run(credentials.discard, claim)
            raise
        return await self._decided(claim, username, written.position, visible=written.visible)

    async def _decided(self, claim: str, username: str, user: int, *, visible: bool) -> int:
        try:
            if not visible:
                raise NotThere(f"the user's shard has not reached {user}")
            won = await self._decide(claim, username, user, user)
        except UNANSWERED:
            self._later.add(task := asyncio.create_task(self._settle_soon(claim, username, user)))
            task.add_done_callback(self._later.discard)
            raise Undecided(user) from None
        if not won:
            raise NameTaken(username, user)
        return user

    async def _decide(self, claim: str, username: str, user: int, position: int) -> bool:
        """Bind the user, or delete them if the name is another's; again is nothing. NotThere."""
        gateway = self._gateway
        holder = await gateway.readers.read_async(
            lambda reading: people.holder_of_name(reading, username), min_position=position
        )
        if holder == user:
            await self.run(gateway.credentials.bind, claim, user)
            return True
        live = await gateway.readers.read_async(lambda reading: people.is_live(reading, user), min_position=position)
        if live:
            await gateway.writer.write(UserDeleted(user=user), [user])
        await self.run(gateway.credentials.discard, claim)
        return False

    async def _settle_soon(self, claim: str, username: str, user: int) -> None:
        """A shard that is behind is waited for. While a server does not answer, it is left for `settle_left`."""
        with suppress(*UNANSWERED):
            await self._settle(claim, username, user)

    async def settle_left(self) -> None:
        """Finish what a crash left behind, here or in another gateway, once the shards know all that the log holds.

        What began only just may be some gateway's work still, and is left for the next time.
        """
        before_ms = system_clock() - 1000 * IN_FLIGHT_S
        left = [one for one in await self.run(self._gateway.credentials.pending) if one.begun_ms <= before_ms]
        head = await self.run(self._gateway.log.head) if left else 0
        for pending in left:
            await self._settle(pending.claim, pending.username, head)

    async def _settle(self, claim: str, username: str, position: int) -> None:
        gateway = self._gateway
        while True:
            try:
                user = await gateway.readers.read_async(
                    lambda reading: people.user_of_claim(reading, claim), min_position=position
                )
                if user is None:
                    await self.run(gateway.credentials.discard, claim)
                else:
                    await self._decide(claim, username, user, position)
                return
            except NotThere:
                await asyncio.sleep(RETRY_S)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` on a thread of this object's own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))

    def close(self) -> None:
        for task in self._later:
            task.cancel()
        self._threads.shutdown()
