"""When whoever waits for shards gives up."""

import pytest

from darkroom.actors.standstill import SILENT_S_MAX, TRANSIENT_S_MAX, ShardFaulted, Standstill

UNREACHABLE = "StoreUnavailable: Cassandra did not answer"


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


def test_a_server_that_does_not_answer_is_waited_for_while_shards_move_and_a_minute_longer(clock: Clock) -> None:
    standstill = Standstill(clock)
    for position in range(10):
        standstill.check([position, 3], {1: UNREACHABLE})
        clock.now_s += TRANSIENT_S_MAX
    standstill.check([9, 3], {1: UNREACHABLE})
    clock.now_s += 1
    with pytest.raises(ShardFaulted, match=r"^shard 1 stands still at position 3: StoreUnavailable: "):
        standstill.check([9, 3], {1: UNREACHABLE})


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
