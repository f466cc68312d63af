"""When whoever waits for shards gives up."""

import pytest

from darkroom.actors.standstill import SILENT_S_MAX, TRANSIENT_S_MAX, ShardFaulted, Standstill, patiently
from darkroom.events.log import LogUnreachable
from darkroom.events.object_store import ObjectStoreUnavailable
from darkroom.projections.store import StoreRefused, StoreUnavailable

FAULTS = [error("no answer") for error in (StoreUnavailable, LogUnreachable, ObjectStoreUnavailable)]


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_fault_that_no_server_mends_is_told_at_once(clock: Clock) -> None:
    with pytest.raises(ShardFaulted, match=r"^shard 1 stands still at position 8: SettingsError: no$"):
        Standstill(clock).check([7, 8], {1: "SettingsError: no"})


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_server_that_does_not_answer_is_waited_for_while_shards_move_and_a_minute_longer(
    clock: Clock, fault: Exception
) -> None:
    standstill, told = Standstill(clock), {1: f"{type(fault).__name__}: {fault}"}
    for position in range(10):
        standstill.check([position, 3], told)
        clock.now_s += TRANSIENT_S_MAX
    standstill.check([9, 3], told)
    clock.now_s += 1
    with pytest.raises(ShardFaulted, match=rf"^shard 1 stands still at position 3: {told[1]}$"):
        standstill.check([9, 3], told)


def test_shards_that_never_move_and_say_nothing_are_not_waited_for_for_ever(clock: Clock) -> None:
    standstill = Standstill(clock)
    standstill.check([4, 0], {})
    clock.now_s += SILENT_S_MAX
    standstill.check([5, 0], {})
    clock.now_s += SILENT_S_MAX
    standstill.check([5, 0], {})
    clock.now_s += 1
    with pytest.raises(ShardFaulted, match=r"no shard has moved for 601 s.*positions \[5, 0\]"):
        standstill.check([5, 0], {})


class Server:
    """Raises its fault until a moment."""

    def __init__(self, clock: Clock, fault: Exception, well_at_s: float) -> None:
        self.clock = clock
        self.fault = fault
        self.well_at_s = well_at_s

    def ask(self) -> str:
        if self.clock.now_s < self.well_at_s:
            raise self.fault
        return "well"

    def pause(self) -> None:
        self.clock.now_s += 1


@pytest.mark.parametrize("fault", FAULTS[:2], ids=lambda fault: type(fault).__name__)
def test_a_server_that_is_asked_meanwhile_is_waited_for_for_a_minute_too(clock: Clock, fault: Exception) -> None:
    server = Server(clock, fault, clock.now_s + TRANSIENT_S_MAX)
    assert patiently(server.ask, server.pause, clock) == "well"
    server.well_at_s = clock.now_s + TRANSIENT_S_MAX + 2
    with pytest.raises(type(fault)):
        patiently(server.ask, server.pause, clock)


def test_what_a_server_refuses_is_not_asked_again(clock: Clock) -> None:
    server = Server(clock, StoreRefused("no"), clock.now_s + 1)
    with pytest.raises(StoreRefused):
        patiently(server.ask, server.pause, clock)
    assert clock.now_s < server.well_at_s
