"""A real photo-sharing graph with its likes, imported through Kafka into all real stores, and folded embedded."""

import gzip
import time
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from end_to_end.real_graphs import graph
from end_to_end.twins import caught_up, check_same, copy_log, opened
from services.services import Services
from services.stack import own_stack

from darkroom.gateway.commands import imports
from darkroom.gateway.settings import load_settings
from darkroom.projections.digests import PROJECTIONS

pytestmark = [pytest.mark.services, pytest.mark.real_data]

FOLLOWS, FAVOURITES = "flickr-social.edges.tsv.gz", "flickr-favourites.user_photo.tsv.gz"
PART_LINES = 500


@pytest.fixture
def stack(service: Services) -> Iterator[dict[str, str]]:
    with own_stack(service) as variables:
        yield variables


def test_a_part_of_a_real_graph_is_served_from_all_servers_as_by_one_process(
    stack: dict[str, str], tmp_path: Path
) -> None:
    files = [first_lines(graph(name), tmp_path / name) for name in (FOLLOWS, FAVOURITES)]
    imported_is_the_same(files, stack, tmp_path)


@pytest.mark.soak
def test_a_real_graph_is_served_from_all_servers_as_by_one_process(stack: dict[str, str], tmp_path: Path) -> None:
    imported_is_the_same([graph(name) for name in (FOLLOWS, FAVOURITES)], stack, tmp_path)


def first_lines(path: Path, copy: Path) -> Path:
    with gzip.open(path, "rt") as lines, gzip.open(copy, "wt") as some:
        some.writelines(islice(lines, PART_LINES))
    return copy


def imported_is_the_same(files: list[Path], stack: dict[str, str], folder: Path) -> None:
    served, embedded, began = folder / "served", folder / "embedded", time.monotonic()
    settings = load_settings({"data": served}, stack, None)
    imports.follows(Namespace(file=files[0]), settings)
    imports.favourites(Namespace(file=files[1], seed=1), settings)
    imported = time.monotonic()
    with opened(served, stack) as on_servers, opened(embedded) as twin:
        head = caught_up(on_servers)
        published = time.monotonic()
        copy_log(on_servers.log, twin.log)
        assert caught_up(twin) == head
        folded = time.monotonic()
        found = check_same(on_servers, twin)
    assert found.total("likes").rows > 0
    assert found.total("home feeds").rows > 0
    rows = sum(found.total(projection).rows for projection in PROJECTIONS)
    print(
        f"{head} events imported in {imported - began:.0f} s, published on servers in {published - imported:.0f} s"
        f" ({head / (published - imported):.0f} events/s), folded embedded in {folded - published:.0f} s;"
        f" {rows} rows digested twice in {time.monotonic() - folded:.0f} s"
    )
