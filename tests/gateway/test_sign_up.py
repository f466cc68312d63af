"""A sign-up that is in the log has a position, whatever fails before it is decided, and is settled when it can be."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from darkroom.actors.runtimes.inline import InlineRuntime
from darkroom.events.facts import Event, UserRegistered
from darkroom.gateway import sign_up
from darkroom.gateway.composition import Darkroom, Gateway
from darkroom.gateway.credentials import Credentials, CredentialsUnusable
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.passwords import PasswordHashing
from darkroom.gateway.settings import Settings
from darkroom.gateway.sign_up import SignUps, Undecided
from darkroom.gateway.writes import Writer, Written
from darkroom.projections.generations import FolderGenerations
from darkroom.projections.store import StoreUnavailable

PASSWORD = "correct horse battery"
CHEAP = PasswordHashing(memory_kib=8, passes=1, lanes=1)
WAIT_MS = 60_000


class Outage:
    """Begins as soon as a sign-up is in the log and can be read."""

    def __init__(self) -> None:
        self.lasts = False


class LastWrite(Writer):
    """After it the outage begins."""

    def __init__(self, darkroom: Darkroom, outage: Outage) -> None:
        super().__init__(darkroom.log, darkroom.readers, wait_ms=WAIT_MS)
        self._outage = outage

    async def write(self, event: Event, users: Iterable[int] = ()) -> Written:
        written = await super().write(event, users)
        assert written.visible
        self._outage.lasts = True
        return written


class CutOffGenerations(FolderGenerations):
    def __init__(self, folder: Path, outage: Outage) -> None:
        super().__init__(folder)
        self._outage = outage

    def look(self) -> object:
        if self._outage.lasts:
            raise StoreUnavailable("no answer")
        return super().look()


class CutOffCredentials(SqliteCredentialStore):
    def __init__(self, folder: Path, outage: Outage) -> None:
        super().__init__(folder)
        self._outage = outage

    def bind(self, claim: str, user: int) -> None:
        if self._outage.lasts:
            raise CredentialsUnusable("no answer")
        super().bind(claim, user)


@pytest.fixture
def outage() -> Outage:
    return Outage()


@pytest.fixture
def gateway(tmp_path: Path, outage: Outage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """Serves by itself, and nothing is cut off yet but what its first write begins."""
    monkeypatch.setattr(sign_up, "IN_FLIGHT_S", -1)  # what is left is settled at once
    with Darkroom(Settings(data=tmp_path / "data", shards=2), create=True) as darkroom:
        supervisor = darkroom.supervisor(InlineRuntime())
        supervisor.start()
        supervisor.run()
        gateway = Gateway(darkroom)
        gateway.writer.close()
        gateway.writer = LastWrite(darkroom, outage)
        use(gateway, SqliteCredentialStore(darkroom.directory.path))
        yield gateway
        gateway.credentials.close()
        gateway.writer.close()
        gateway.close()
        supervisor.close()


def use(gateway: Gateway, store: SqliteCredentialStore) -> None:
    gateway.credentials.close()
    gateway.credentials = Credentials(store, CHEAP)


def cut_off_views(gateway: Gateway, outage: Outage) -> None:
    gateway.readers._generations = CutOffGenerations(gateway._folder, outage)


def cut_off_credentials(gateway: Gateway, outage: Outage) -> None:
    use(gateway, CutOffCredentials(gateway.settings.data, outage))


@pytest.mark.parametrize("cut_off", [cut_off_views, cut_off_credentials])
def test_a_sign_up_that_cannot_be_decided_is_told_its_position_and_settled_afterwards(
    gateway: Gateway, outage: Outage, cut_off: Callable[[Gateway, Outage], None]
) -> None:
    cut_off(gateway, outage)
    sign_ups = SignUps(gateway)

    async def trial() -> int:
        with pytest.raises(Undecided) as told:
            await sign_ups.register("ada", PASSWORD)
        assert await asyncio.gather(*sign_ups._later) == [None], "it is tried again, and then left"
        assert gateway.credentials.verify("ada", PASSWORD) is None
        outage.lasts = False
        await sign_ups.settle_left()
        return told.value.position

    try:
        user = asyncio.run(trial())
    finally:
        sign_ups.close()
    [record] = gateway.log.read(0, 100)
    assert isinstance(record.event, UserRegistered)
    assert gateway.credentials.verify("ada", PASSWORD) == user == record.position
    assert gateway.credentials.pending() == []
