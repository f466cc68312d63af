"""One read: the shards that it touches, each at one moment, and the position at which it answers.

A read answers at the lowest position of the shards it touched. Nothing above that is shown, so that whoever asks later
for what is newer misses nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

from darkroom.projections.kept_answers import KeptAnswers
from darkroom.projections.routing import ID_MASK, shard_of, shard_of_text
from darkroom.projections.traces import Trace
from darkroom.projections.views import ShardViews, View

V = TypeVar("V")
Lagging = Callable[[int, int], bool]
"""(shard, its position) → whether it lags so much that others should no longer be held back by it."""


class Behind(Exception):
    """A shard has not reached the lowest position that the read accepts."""

    def __init__(self, shard: int, position: int, wanted: int) -> None:
        super().__init__(f"shard {shard} is at position {position}, {wanted} was asked for")
        self.shard = shard
        self.position = position
        self.wanted = wanted


def never_lagging(shard: int, position: int) -> bool:  # noqa: ARG001
    """Every shard counts, however far behind."""
    return False


class Reading:
    """Opens a view of each shard when it is first touched. Use as a context manager.

    With `min_position` every shard touched must have reached it (Behind otherwise) and none is left out as lagging.
    """

    def __init__(
        self,
        shards: Sequence[ShardViews],
        *,
        min_position: int = 0,
        lagging: Lagging = never_lagging,
        generation: int = 0,
        holders: dict[str, int] | None = None,
        answers: KeptAnswers | None = None,
    ) -> None:
        """`generation` is the number of the one that the shards are of; `holders`, whose names are known already;
        `answers`, what was answered before.
        """
        self._shards = shards
        self.min_position = min_position
        self.is_lagging = lagging
        self._views: dict[int, View] = {}
        self._stack = ExitStack()
        self._position: int | None = None
        self.lagging: set[int] = set()
        self.generation = generation
        self.holders = {} if holders is None else holders
        self._answers = KeptAnswers() if answers is None else answers
        self._traces: dict[int, Trace] | None = None  # while an answer is made

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def shards(self) -> int:
        return len(self._shards)

    @property
    def position(self) -> int:
        """The lowest position of the shards touched so far, lagging ones left out; a further one can only lower it."""
        if self._position is not None:
            return self._position
        # Only lagging shards were touched, or none: what they say is of their own positions.
        return min((view.checkpoint.position for view in self._views.values()), default=ID_MASK)

    def of(self, user: int) -> View:
        """The user's shard."""
        return self.shard(shard_of(user, len(self._shards)))

    def of_text(self, text: str) -> View:
        """The shard that keeps the name or claim."""
        return self.shard(shard_of_text(text, len(self._shards)))

    def shard(self, shard: int) -> View:
        view = self._views.get(shard)
        if view is None:
            view = self._open(shard)
        return view

    def _open(self, shard: int) -> View:
        view = self._stack.enter_context(self._shards[shard].view())
        position = view.checkpoint.position
        if position < self.min_position:
            raise Behind(shard, position, self.min_position)
        self._views[shard] = view
        if self._traces is not None:
            self._trace(shard, self._traces)
        if not self.min_position and self.is_lagging(shard, position):
            self.lagging.add(shard)
        else:
            self._position = position if self._position is None else min(self._position, position)
        return view

    def answer(self, asker: Hashable, question: Hashable, make: Callable[[], V], size: Callable[[V], int]) -> V:
        """What `make` says, or said to the asker when that was asked last and would say now. It asks this reading and
        nothing else, and what it gives, of that size in bytes, is not to be changed.
        """
        assert self._traces is None, "an answer is made from views, not from answers"
        kept = self._answers.find(asker, question)
        if kept is not None and self._stands(kept.traces):
            value: V = kept.answer
            return value
        traces: dict[int, Trace] = {}
        self._traces = traces
        for shard in self._views:
            self._trace(shard, traces)
        try:
            value = make()
            told = self._traces is not None
        finally:
            self._traces = None
            for view in self._views.values():
                view.note_in(None)
        if told:
            self._answers.keep(asker, question, value, size(value), traces)
        return value

    def _stands(self, traces: Mapping[int, Trace]) -> bool:
        """Shard by shard in the order in which they were asked, and no further than to the first that has changed: an
        answer made anew opens the same ones, which matters to the position that it is of.
        """
        return all(self.shard(shard).stands(trace) for shard, trace in traces.items())

    def _trace(self, shard: int, traces: dict[int, Trace]) -> None:
        view = self._views[shard]
        traces[shard] = Trace(view.checkpoint.position)
        view.note_in(traces[shard])

    def asked_others(self) -> None:
        """What is being answered rests on more than what the views say."""
        self._traces = None

    def grouped(self, users: Iterable[int]) -> Iterator[tuple[View, list[int]]]:
        """The users by shard, so that each shard is asked once."""
        groups: defaultdict[int, list[int]] = defaultdict(list)
        shards = len(self._shards)
        for user in users:
            groups[shard_of(user, shards)].append(user)
        for shard, members in groups.items():
            yield self.shard(shard), members
