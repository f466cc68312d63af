"""Where real graphs lie, and how a test says that they are not there. They are no part of the project."""

import gzip
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("REAL_GRAPHS") or Path(__file__).parents[2] / ".." / "shared" / "data").resolve()


def graph(name: str) -> Path:
    """The file, or a visible skip."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not there; REAL_GRAPHS names the folder that holds it")
    return path


def pairs(path: Path) -> list[tuple[int, int]]:
    """The first two numbers of each line."""
    with gzip.open(path, "rt") as lines:
        return [(int(one), int(other)) for one, other, *_ in (line.split() for line in lines if line[0] != "#")]
