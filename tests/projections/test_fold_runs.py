"""Follows that come in a run are folded together, and nothing that is stored tells of it."""

import random

import pytest
from fold_stored import stored
from histories import HUGE_IDS, History, seeded_history

from darkroom.events.facts import (
    Event,
    PostPublished,
    UserBlocked,
    UserDeleted,
    UserFollowed,
    UserRegistered,
    UserUnblocked,
    UserUnfollowed,
    personal,
)
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.projections import fold, pages
from darkroom.projections.shard_state import FoldSettings

NEVER = 1 << 30
SETTINGS = FoldSettings(celebrity_threshold=4)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a handful of entries splits them."""
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", 64)


def history_with_runs(seed: int) -> History:
    """Runs of follows by and of everybody, oneself, the blocked, the deleted and nobody, and what changes their lot."""
    source = random.Random(seed)
    history = seeded_history(seed, 120, users=12)
    users = [position for position, (_, event) in enumerate(history, 1) if isinstance(event, UserRegistered)]
    anybody = [*users, *users, 0, -1, *HUGE_IDS, len(history) + 5]
    events: list[Event] = []
    for _ in range(12):
        for _ in range(source.randint(2, 90)):
            events.append(UserFollowed(follower=source.choice(anybody), followee=source.choice(anybody)))
        for _ in range(source.randint(1, 6)):
            events.append(_change(source, source.choice(users), source.choice(users)))
    return [*history, *((history[-1][0], event) for event in events)]


def _change(source: random.Random, one: int, other: int) -> Event:
    match source.randrange(9):
        case 0:
            return UserBlocked(user=one, target=other)
        case 1:
            return UserUnblocked(user=one, target=other)
        case 2:
            return UserDeleted(user=one)
        case 3 | 4:
            return PostPublished(author=one, caption=personal("after a run"), mentions=(other,))
        case _:
            return UserUnfollowed(follower=one, followee=other)


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("seed", range(8))
def test_a_run_of_follows_stores_what_its_follows_store_one_by_one(
    seed: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, batches = history_with_runs(seed), [[1000], [50, 7, 200], [64], [3]][seed % 4]
    monkeypatch.setattr(fold, "RUN_MIN", NEVER)
    one_by_one = stored(history, shards, batches, SETTINGS)
    for run_min in (1, 20):
        monkeypatch.setattr(fold, "RUN_MIN", run_min)
        assert stored(history, shards, batches, SETTINGS) == one_by_one


def test_a_run_is_so_many_follows_one_after_another() -> None:
    log = MemoryEventLog()
    follow, other = UserFollowed(follower=1, followee=2), UserUnfollowed(follower=1, followee=2)
    least = fold.RUN_MIN
    log.append([*[follow] * (least - 1), other, *[follow] * least, other, other])
    records = log.read(0, 1_000)
    found = [(together, len(run)) for together, run in fold.runs(records)]
    assert found == [(False, least - 1), (False, 1), (True, least), (False, 2)]
    assert [record for _, run in fold.runs(records) for record in run] == records
