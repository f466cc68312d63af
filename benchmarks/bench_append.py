"""Durable append, in groups and by many writers

Everybody stores the same bytes; each contender is asked for all that it holds before anything is measured. The peers
are handed events that are encoded already.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.floor_log import FileLog, SqliteLog
from benchmarks.machine import fsyncs_per_s
from benchmarks.measure import OURS, Aim, Measurement, Row, percentile, rate, turns
from benchmarks.peer_environments import PeerMissing, PeerProcess
from benchmarks.run import Bench
from darkroom.events.codec import encode
from darkroom.events.facts import Event, PostLiked
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.writes import Appends

TITLE = "Durable append"
ROUNDS = {1: 1_000, 100: 300, 1_000: 50}
WRITERS = 16
CHECKED = 2_000
AHEAD_MIB = 32
"""More than anybody appends here: at most some 300,000 events of 40 bytes."""
FILE, SQLITE, UMADB, EVENTSOURCING = "write + fdatasync", "sqlite3", "UmaDB", "eventsourcing"
UNTAGGED = "UmaDB, no tags"
GROWN = "the same into a file of zeros"
GROUPED, FSYNC = "fsyncs/s x mean group", "one fsync"
PEERS = {UMADB: "append_umadb", EVENTSOURCING: "append_eventsourcing"}
AIMS = [Aim(0.5, FILE), Aim(3, UMADB), Aim(3, UNTAGGED), Aim(4, EVENTSOURCING)]


def rows(bench: Bench) -> Iterator[Row]:
    for group, rounds in ROUNDS.items():
        yield _groups(bench, group, bench.size(rounds, 1 + rounds // 20))
    yield from _writers(bench, bench.size(500, 30))


def likes(count: int) -> list[Event]:
    return [PostLiked(user=n, post=n + 7, author=n + 3) for n in range(1, count + 1)]


def _groups(bench: Bench, group: int, rounds: int) -> Row:
    with bench.folder() as folder, ExitStack() as stack:
        log = LmdbEventLog(folder / "log")
        stack.callback(log.close)
        file, sqlite = FileLog(folder / "file"), SqliteLog(folder / "sqlite")
        ahead = FileLog(folder / "ahead", ahead_mib=AHEAD_MIB)
        floors = (file, ahead, sqlite)
        for one in floors:
            stack.callback(one.close)
        peers, missing = start_peers(bench, stack, folder)
        _check(log, [one.append for one in floors], [one.bodies for one in floors], list(peers.values()), group)
        events, bodies = likes(group), [encode(event).hex() for event in likes(group)]
        contenders: dict[str, Measurement] = {
            OURS: lambda: rate(rounds * group, lambda: _append(log.append, events, rounds)),
            FILE: lambda: rate(rounds * group, lambda: _append(file.append, events, rounds)),
            GROWN: lambda: rate(rounds * group, lambda: _append(ahead.append, events, rounds)),
            SQLITE: lambda: rate(rounds * group, lambda: _append(sqlite.append, events, rounds)),
        }
        for name, peer in peers.items():
            contenders[name] = partial(_peer_rate, peer, bodies, rounds)
        if UMADB in peers:
            contenders[UNTAGGED] = partial(_peer_rate, peers[UMADB], bodies, rounds, tagged=False)
        values = turns(contenders, bench.repeats)
    return Row(
        name=f"append, groups of {group:,}",
        unit="events/s",
        values=values,
        aims=AIMS if group > 1 else [],
        missing=missing,
        checked=f"each contender gave back the same {CHECKED:,} events, byte for byte and in order",
    )


def start_peers(bench: Bench, stack: ExitStack, folder: Path) -> tuple[dict[str, PeerProcess], dict[str, str]]:
    """Those that can be run, each with an empty log, and why the others cannot."""
    peers, missing = {}, {}
    for name, script in PEERS.items():
        try:
            peers[name] = stack.enter_context(bench.peer(script))
            peers[name].ask("open", folder=str(folder))
        except PeerMissing as reason:
            missing[name] = str(reason)
    return peers, missing


def _check(
    log: LmdbEventLog,
    appends: Sequence[Callable[[Sequence[Event]], object]],
    readers: Sequence[Callable[[], list[bytes]]],
    peers: Sequence[PeerProcess],
    group: int,
) -> None:
    events = likes(CHECKED)
    wanted = [encode(event) for event in events]
    for start in range(0, CHECKED, max(group, 100)):
        for append in (log.append, *appends):
            append(events[start : start + max(group, 100)])
    assert [encode(record.event) for record in log.read(0, CHECKED + 1)] == wanted
    for read in readers:
        assert read() == wanted
    for peer in peers:
        peer.ask("append", bodies=[body.hex() for body in wanted], rounds=1)
        assert peer.ask("bodies") == [body.hex() for body in wanted]


def _append(append: Callable[[Sequence[Event]], object], events: Sequence[Event], rounds: int) -> None:
    for _ in range(rounds):
        append(events)


def _peer_rate(peer: PeerProcess, bodies: list[str], rounds: int, **options: bool) -> float:
    taken: float = peer.ask("append", bodies=bodies, rounds=rounds, **options)
    return len(bodies) * rounds / taken


def _writers(bench: Bench, each: int) -> Iterator[Row]:
    """Each writer appends one event at a time; what they wait is kept for the percentile."""
    waits: dict[str, list[float]] = defaultdict(list)
    with bench.folder() as folder, ExitStack() as stack:
        log = LmdbEventLog(folder / "log")
        stack.callback(log.close)
        peers, missing = start_peers(bench, stack, folder)

        def ours(how: str) -> float:
            taken, waited = TOGETHER[how](log, each)
            waits[how].append(1e3 * percentile(waited, 99))
            return WRITERS * each / taken

        def floor(how: str) -> float:
            syncs = fsyncs_per_s(folder, 0.3)
            waits[f"{FSYNC}, {how}"].append(1e3 / syncs)
            before = log._environment.env.info()["last_txnid"]
            TOGETHER[how](log, each)
            return syncs * WRITERS * each / (log._environment.env.info()["last_txnid"] - before)

        def theirs(name: str, peer: PeerProcess, **options: bool) -> float:
            body = encode(likes(1)[0]).hex()
            told = peer.ask("append_together", body=body, writers=WRITERS, each=each, **options)
            waits[name].append(told["p99_ms"])
            return WRITERS * each / float(told["seconds"])

        contenders: dict[str, Measurement] = {name: partial(theirs, name, peer) for name, peer in peers.items()}
        if UMADB in peers:
            contenders[UNTAGGED] = partial(theirs, UNTAGGED, peers[UMADB], tagged=False)
        beside = list(contenders)
        for how in TOGETHER:
            contenders |= {how: partial(ours, how), f"{GROUPED}, {how}": partial(floor, how)}
        values = turns(contenders, bench.repeats)
        one = bench.repeats * WRITERS * each
        stored = {name: peer.ask("saved_together") for name, peer in peers.items()}
        stored[OURS] = len(log.read(0, log.head() + 1))
        wanted = {EVENTSOURCING: one, UMADB: 2 * one, OURS: 2 * len(TOGETHER) * one}
        assert stored == {name: wanted[name] for name in stored}, f"{stored} are stored"
    for how in TOGETHER:
        yield from _rows_of(how, values, waits, beside, missing)


def _rows_of(
    how: str,
    values: dict[str, list[float]],
    waits: dict[str, list[float]],
    peers: Sequence[str],
    missing: dict[str, str],
) -> Iterator[Row]:
    """Of one way of ours beside what was measured for all."""
    yield Row(
        name=how,
        unit="commands/s",
        values={OURS: values[how], GROUPED: values[f"{GROUPED}, {how}"]} | {name: values[name] for name in peers},
        aims=[Aim(2, UMADB), Aim(2, UNTAGGED)],
        missing=missing,
        checked="as many events were read again from each contender as it had acknowledged",
    )
    yield Row(
        name=f"{how}, p99",
        unit="ms",
        values={OURS: waits[how], FSYNC: waits[f"{FSYNC}, {how}"]} | {name: waits[name] for name in peers},
        aims=[Aim(5, FSYNC, "at most")],
        missing=missing,
    )


def append_together(append: Callable[[], object], each: int) -> tuple[float, list[float]]:
    """`WRITERS` threads, so many appends each: seconds for all, and how long each append took."""
    waited: list[float] = []
    barrier = threading.Barrier(WRITERS + 1)

    def write() -> None:
        mine = []
        barrier.wait()
        for _ in range(each):
            began = time.perf_counter()
            append()
            mine.append(time.perf_counter() - began)
        waited.extend(mine)

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began
    assert len(waited) == WRITERS * each, "a writer failed"
    return taken, waited


def _on_threads(log: LmdbEventLog, each: int) -> tuple[float, list[float]]:
    return append_together(lambda: log.append(likes(1)), each)


def _on_one_loop(log: LmdbEventLog, each: int) -> tuple[float, list[float]]:
    """As `append_together`, by as many callers on one event loop."""
    appends, waited = Appends(log), list[float]()

    async def write() -> None:
        for _ in range(each):
            began = time.perf_counter()
            await appends.append(likes(1)[0])
            waited.append(time.perf_counter() - began)

    async def write_together() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(WRITERS)))
        return time.perf_counter() - began

    try:
        return asyncio.run(write_together()), waited
    finally:
        appends.close()


TOGETHER: dict[str, Callable[[LmdbEventLog, int], tuple[float, list[float]]]] = {
    f"append, {WRITERS} writers, one event each": _on_threads,
    f"append, {WRITERS} callers on one event loop, as the gateway appends": _on_one_loop,
}
