"""Links that lose, repeat, delay and tear what they carry to a real Redis."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar, cast

from redis import ConnectionError as ConnectionLost
from redis import Redis

from darkroom.projections.redis_link import RedisAddress, RedisLink

T = TypeVar("T")


class Fate(Enum):
    """What becomes of a request. Of what is not answered, the asker learns nothing."""

    ANSWERED = "answered"
    LOST = "never arrives"
    UNANSWERED = "is done, and its answer lost"
    LATE = "is done some time after it was given up"
    CUT = "is done by half"
    TORN = "is answered, but half way a replica took over that had seen nothing of it"
    OVERTAKEN = "is answered, but somebody else was quicker"


class MoodyLink(RedisLink):
    """A link whose requests meet the fates that they are given."""

    def __init__(
        self, address: RedisAddress, save: Callable[[], None], revive: Callable[[], None], overtake: Callable[[], None]
    ) -> None:
        super().__init__(address, address.tell_s)
        self.fates: list[Fate] = []
        self.late: list[Callable[[Redis], Any]] = []
        self._save, self._revive, self._overtake = save, revive, overtake

    def ask(self, work: Callable[[Redis], T]) -> T | None:
        fate = self.fates.pop(0) if self.fates else Fate.ANSWERED
        if fate is Fate.OVERTAKEN:
            self._overtake()
        if fate in (Fate.ANSWERED, Fate.OVERTAKEN):
            return super().ask(work)
        if fate is Fate.TORN:
            self._save()
            return super().ask(lambda client: work(_halving(client, self._revive)))
        if fate is Fate.UNANSWERED:
            super().ask(work)
        elif fate is Fate.LATE:
            self.late.append(work)
        elif fate is Fate.CUT:
            super().ask(lambda client: work(_halving(client, _cut)))
        return None

    def deliver(self, which: int) -> None:
        if self.late:
            super().ask(self.late.pop(which % len(self.late)))


def _cut() -> None:
    raise ConnectionLost("cut")


def _halving(client: Redis, between: Callable[[], None]) -> Redis:
    return cast("Redis", _HalvingClient(client, between))


class _HalvingClient:
    """Sends a pipeline in two halves, and calls `between` them."""

    def __init__(self, client: Redis, between: Callable[[], None]) -> None:
        self._client, self._between = client, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, transaction: bool) -> "_HalvingPipeline":
        assert not transaction
        return _HalvingPipeline(self._client, self._between)


class _HalvingPipeline:
    def __init__(self, client: Redis, between: Callable[[], None]) -> None:
        self._client, self._between = client, between
        self._commands: list[tuple[Any, ...]] = []

    def evalsha(self, *command: Any) -> None:
        self._commands.append(command)

    def execute(self, raise_on_error: bool) -> list[Any]:
        half = (len(self._commands) + 1) // 2
        answers = self._send(self._commands[:half], raise_on_error)
        self._between()
        return answers + self._send(self._commands[half:], raise_on_error)

    def _send(self, commands: Sequence[tuple[Any, ...]], raise_on_error: bool) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.evalsha(*command)
        answers: list[Any] = pipeline.execute(raise_on_error)
        return answers
