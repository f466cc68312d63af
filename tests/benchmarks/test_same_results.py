"""Floors, peers and Darkroom compute the same thing, or a ratio between them would mean nothing."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.developed import developed
from benchmarks.fan_out_contenders import FLOORS, deliveries
from benchmarks.floor_fold import as_call, bodies_of, decode_and_apply
from benchmarks.floor_log import FileLog, SqliteLog
from benchmarks.floor_sql import SqlWorld
from benchmarks.peer_environments import HERE, PeerMissing, PeerProcess, Peers
from benchmarks.peers.protocol import digests, write_blocks
from benchmarks.reads import LIMIT, Pages
from benchmarks.small_world import folded, log_of, small_mix, users_of
from benchmarks.worlds import Graph, power_law
from darkroom.events.codec import encode
from darkroom.projections.routing import ROUTE_BITS, Ids, shard_of

TABLES = ("following", "followers", "timelines", "liked", "received", "feeds", "likers")


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_hold_what_the_floor_of_a_rebuild_holds(tmp_path: Path, shards: int) -> None:
    events = small_mix()
    wanted = decode_and_apply(bodies_of(events)).tables()
    with log_of(tmp_path, events) as log, folded(tmp_path, log, shards) as stores:
        found = developed(stores, users_of(events))
    for table in TABLES:
        assert wanted[table], f"the mix has no {table}, and would prove nothing"
        assert found[table] == wanted[table]


def test_the_sql_world_holds_what_the_floor_of_a_rebuild_holds(tmp_path: Path) -> None:
    events = small_mix()
    world = SqlWorld(tmp_path / "world.sqlite")
    for start in range(0, len(events), 100):
        group = events[start : start + 100]
        world.append(start + 1, group, [0] * len(group))
    wanted = decode_and_apply(bodies_of(events)).tables()
    for table, held in world.tables().items():
        assert held == wanted[table]
    world.close()


def test_home_pages_are_a_merge_of_the_floors_timelines(tmp_path: Path) -> None:
    events = small_mix()
    world = decode_and_apply(bodies_of(events))
    with log_of(tmp_path, events) as log, folded(tmp_path, log, 2) as stores:
        pages = Pages(stores)
        for user in users_of(events)[::10]:
            followed = [*world.following[user], user]
            wanted = sorted((post for author in followed for post in world.timelines[author]), reverse=True)
            assert [entry.post for entry in pages.entries(user)] == wanted[:LIMIT]


def plain_deliveries(graph: Graph, first: int, authors: Ids) -> dict[int, list[int]]:
    """Feed to posts, by a loop."""
    feeds: dict[int, list[int]] = {}
    for post, author in enumerate(authors.tolist(), first):
        for owner in {*graph.of(author).tolist(), author}:
            feeds.setdefault(owner, []).append(post)
    return feeds


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("floor", FLOORS)
def test_the_floors_of_fan_out_store_every_delivery(tmp_path: Path, floor: str, shards: int) -> None:
    graph = power_law(300, 12)
    authors = np.random.default_rng(1).integers(1, graph.users + 1, 9_000, dtype=np.uint64)
    stores = [FLOORS[floor](tmp_path / f"{shard}") for shard in range(shards)]
    for start in range(0, len(authors), 3_000):  # feeds grow over many pages, in several batches
        for shard, store in enumerate(stores):
            store.write(*deliveries(graph, 1_000 + start, authors[start : start + 3_000], shard, shards))
    wanted = plain_deliveries(graph, 1_000, authors)
    assert max(map(len, wanted.values())) > 500, "no feed spilled over several pages"
    for owner, posts in wanted.items():
        words = stores[shard_of(owner, shards)].newest(owner, 400)
        assert [word >> ROUTE_BITS for word in words] == posts[::-1][:400]
    for store in stores:
        store.close()


def test_the_floors_of_append_store_the_same_bytes(tmp_path: Path) -> None:
    events = small_mix()[:1_000]
    logs = FileLog(tmp_path / "file"), SqliteLog(tmp_path / "sqlite")
    for log in logs:
        for start in range(0, len(events), 100):
            log.append(events[start : start + 100])
        assert log.bodies() == [encode(event) for event in events]
        log.close()


@pytest.fixture(params=["rebuild_eventsourcing", "rebuild_bytewax"])
def peer(request: pytest.FixtureRequest) -> Iterator[PeerProcess]:
    try:
        process = Peers(HERE / ".peers", install=False).start(request.param, "requirements")
    except PeerMissing as reason:
        pytest.skip(f"{request.param}: {reason}")
    yield process
    process.close()


def test_peers_fold_what_the_floor_of_a_rebuild_folds(tmp_path: Path, peer: PeerProcess) -> None:
    events = small_mix()
    write_blocks(str(tmp_path / "calls"), (msgspec.msgpack.encode(as_call(event)) for event in events))
    assert peer.ask("load", path=str(tmp_path / "calls")) == len(events)
    assert peer.ask("rebuild") > 0
    assert peer.ask("digests") == digests(decode_and_apply(bodies_of(events)).tables())
