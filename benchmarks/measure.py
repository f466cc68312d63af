"""How rows are measured and shown: floor and Darkroom in turns, and what machine it was."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

Measurement = Callable[[], float]
"""Does the work once and returns its rate."""


def fsyncs_per_s(folder: Path, seconds: float = 0.5) -> float:
    """How many small durable writes the disk takes a second."""
    descriptor = os.open(folder / "fsyncs", os.O_CREAT | os.O_WRONLY)
    try:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            os.pwrite(descriptor, b"x" * 64, 64 * count)
            os.fdatasync(descriptor)
            count += 1
        return count / (time.perf_counter() - began)
    finally:
        os.close(descriptor)


def show_machine() -> None:
    """What to keep beside every figure."""
    with tempfile.TemporaryDirectory() as folder:
        fsyncs = fsyncs_per_s(Path(folder))
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(f"load {load}, {fsyncs:,.0f} fsyncs/s")


def compare(
    name: str, unit: str, ours: Measurement, floors: dict[str, Measurement], repeats: int = 5
) -> dict[str, float]:
    """Run all in turns; print each one's median rate, and the median of the ratios to each floor, which is returned."""
    rates: dict[str, list[float]] = {"darkroom": [], **{floor: [] for floor in floors}}
    for _ in range(repeats):
        rates["darkroom"].append(ours())
        for floor, measurement in floors.items():
            rates[floor].append(measurement())
    ratios = {floor: _median_ratio(rates["darkroom"], rates[floor]) for floor in floors}
    told = ", ".join(
        f"{ratio:.2f} x {floor} ({statistics.median(rates[floor]):,.0f})" for floor, ratio in ratios.items()
    )
    print(f"{name}: {statistics.median(rates['darkroom']):,.0f} {unit}; {told}", flush=True)
    return ratios


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def rate(count: int, work: Callable[[], None]) -> float:
    """Items a second of `work`, which does `count` of them."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)
