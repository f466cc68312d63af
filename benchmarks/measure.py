"""What is measured, and how: contenders in turns, so that whatever else the machine does hits all of them alike.

The figure is the median of the per-repeat ratios. Absolute rates on a shared machine move by half from run to run.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import msgspec

from benchmarks.machine import show_machine

REPEATS = 5
OURS = "darkroom"

Measurement = Callable[[], float]
"""Does the work once and returns its rate."""


class Aim(msgspec.Struct, frozen=True):
    """What the row must reach: `of` names a contender and `bound` a ratio to it; without `of`, `bound` is absolute."""

    bound: float
    of: str | None = None
    sense: Literal["at least", "at most"] = "at least"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Values of each contender, one a repeat, ours first. `checked` says what was found equal before they counted."""

    name: str
    unit: str
    values: dict[str, list[float]]
    aims: list[Aim] = []
    checked: str = ""
    missing: dict[str, str] = {}
    notes: list[str] = []

    def ratio(self, contender: str) -> float:
        """The median over the repeats of ours divided by theirs."""
        return median_ratio(self.values[OURS], self.values[contender])

    def median(self, contender: str = OURS) -> float:
        return statistics.median(self.values[contender])

    def reached(self, aim: Aim) -> bool | None:
        """Whether the aim was met; None where the contender could not be run."""
        if aim.of is not None and aim.of not in self.values:
            return None
        found = self.median() if aim.of is None else self.ratio(aim.of)
        return found >= aim.bound if aim.sense == "at least" else found <= aim.bound


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """How a few series grow with something. `x` are its values, with `x_name` for the axis."""

    name: str
    unit: str
    x_name: str
    x: list[str]
    series: Mapping[str, Sequence[float | None]]
    notes: list[str] = []


Told = Row | Curve
_heard: ContextVar[list[Told] | None] = ContextVar("heard", default=None)


@contextmanager
def listening() -> Iterator[list[Told]]:
    """Collect what `compare` tells meanwhile."""
    heard: list[Told] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def turns(contenders: Mapping[str, Measurement], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Each contender's values. They run in turns, each repeat begun by another, so that none is always the first."""
    names = list(contenders)
    values: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            values[name].append(contenders[name]())
    return values


def compare(
    name: str, unit: str, ours: Measurement, floors: dict[str, Measurement], repeats: int = REPEATS
) -> dict[str, float]:
    """Run all in turns and tell the row; the median of the ratios to each floor is returned."""
    row = Row(name=name, unit=unit, values=turns({OURS: ours, **floors}, repeats))
    heard = _heard.get()
    if heard is None:
        print(line(row), flush=True)
    else:
        heard.append(row)
    return {floor: row.ratio(floor) for floor in floors}


def line(row: Row) -> str:
    """The row in one line."""
    if OURS not in row.values:
        return f"{row.name}: left out, for {'; '.join(row.missing.values())}"
    others = [name for name in row.values if name != OURS]
    told = ", ".join(f"{row.ratio(name):.2f} x {name} ({figure(row.median(name))})" for name in others)
    return f"{row.name}: {figure(row.median())} {row.unit}" + (f"; {told}" if told else "")


def figure(value: float) -> str:
    """A value with about three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def rate(count: int, work: Callable[[], object]) -> float:
    """Items a second of `work`, which does `count` of them."""
    return count / seconds(work)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, without what it takes to free its result."""
    began = time.perf_counter()
    kept = work()
    taken = time.perf_counter() - began
    del kept
    return taken


@contextmanager
def collector_off() -> Iterator[None]:
    """Without Python's garbage collector, which a shard turns off too while it folds a batch."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of them do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)]


__all__ = ["OURS", "REPEATS", "Aim", "Curve", "Measurement", "Row", "compare", "rate", "show_machine", "turns"]
