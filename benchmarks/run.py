"""One run: how much of everything, temporary folders, peers, and the row modules to choose from."""

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from benchmarks.measure import REPEATS, Told, listening
from benchmarks.peer_environments import PeerMissing, PeerProcess, Peers

HERE = Path(__file__).parent


class Bench:
    """What a row is given. `quick` measures little and often enough to see that it works, not to be quoted."""

    def __init__(self, *, quick: bool, peers: Peers, repeats: int | None = None) -> None:
        self.quick = quick
        self.repeats = repeats or REPEATS
        self._peers = peers

    def size(self, full: int, quick: int) -> int:
        """How many of something."""
        return quick if self.quick else full

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
            yield Path(folder)

    @contextmanager
    def peer(self, script: str, *, environment: str = "requirements") -> Iterator[PeerProcess]:
        """`peers/SCRIPT.py` in the environment that `peers/ENVIRONMENT.txt` pins; PeerMissing where there is none."""
        process = self._peers.start(script, environment)
        try:
            yield process
        finally:
            process.close()


def names() -> list[str]:
    """Every row module, by the name that the command line knows."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def module(name: str) -> ModuleType:
    """A row module. It is imported when it is wanted: one that needs what is not there keeps no other from running."""
    return importlib.import_module(f"benchmarks.bench_{name}")


def title(name: str) -> str:
    """The row's own, or the first line of its file."""
    try:
        found = module(name)
    except ImportError as error:
        return f"(cannot be imported: {error})"
    first = (found.__doc__ or name).strip().splitlines()[0].rstrip(".")
    return str(getattr(found, "TITLE", first))


def told(module: ModuleType, bench: Bench) -> Iterator[Told]:
    """What the module measures, as it comes."""
    if hasattr(module, "rows"):
        yield from module.rows(bench)
        return
    with listening() as heard:
        module.main()
    yield from heard


__all__ = ["Bench", "PeerMissing", "module", "names", "title", "told"]
