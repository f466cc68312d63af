"""What to keep beside every figure: the machine, the date, the load, and how fast its disk syncs."""

import os
import platform
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """The machine at the beginning of a run."""

    date: str
    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    load_average: tuple[float, float, float]
    fsyncs_per_s: float
    commit: str = ""

    def line(self) -> str:
        load = ", ".join(f"{value:.2f}" for value in self.load_average)
        return (
            f"{self.date}, {self.cores} cores ({self.processor}), {self.memory_gib:.0f} GiB, {self.system}, "
            f"Python {self.python}, load {load}, {self.fsyncs_per_s:,.0f} fsyncs/s"
            + (f", commit {self.commit}" if self.commit else "")
        )


def machine() -> Machine:
    """Look at it now."""
    with tempfile.TemporaryDirectory() as folder:
        fsyncs = fsyncs_per_s(Path(folder))
    return Machine(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_average=os.getloadavg(),
        fsyncs_per_s=fsyncs,
        commit=_commit(),
    )


def _commit() -> str:
    """What was measured, with a plus where something in the tree differs from it; nothing where there is no Git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def fsyncs_per_s(folder: Path, seconds: float = 0.5) -> float:
    """How many small durable writes the disk takes a second."""
    descriptor = os.open(folder / "fsyncs", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
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
    """Print it, for a row that is run by itself."""
    print(machine().line())
