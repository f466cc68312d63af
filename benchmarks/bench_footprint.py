"""Bytes on the disk: what a follow, a feed row, a post, a like and a user take, beside their packed size

The standard mix on two shards. The packed size is what the bare numbers and bytes would take; a table that is kept in
the shards of both ends is counted twice, as it is stored.
"""

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.bench_read import SHARDS, developed_stores
from benchmarks.bench_rebuild import mixed
from benchmarks.developed import developed
from benchmarks.floor_fold import bodies_of, decode_and_apply
from benchmarks.footprint import table_bytes
from benchmarks.measure import OURS, Aim, Row
from benchmarks.run import Bench
from darkroom.events.codec import encode
from darkroom.events.facts import PostPublished, UserRegistered
from darkroom.projections.stores.lmdb import LmdbShardStore
from darkroom.projections.tables import (
    FEED_HEADS,
    FEEDS,
    FOLLOWERS,
    FOLLOWING,
    LIKED,
    LIKERS,
    POSTS,
    PROFILES,
    RECEIVED,
)

TITLE = "Bytes on the disk"
PACKED = "packed"


def rows(bench: Bench) -> Iterator[Row]:
    events = mixed(bench)
    users = [at for at, event in enumerate(events, 1) if isinstance(event, UserRegistered)]
    with bench.folder() as folder, ExitStack() as stack:
        stores = developed_stores(folder, events, stack)
        bodies = bodies_of(events)
        wanted, found = decode_and_apply(bodies).tables(), developed(stores, users)
        assert found["following"] == wanted["following"]
        assert found["likers"] == wanted["likers"]
        assert found["feeds"] == {user: feed[-len(found["feeds"][user]) :] for user, feed in wanted["feeds"].items()}
        used = table_bytes(store for store in stores if isinstance(store, LmdbShardStore))
        posts = [event for event in events if isinstance(event, PostPublished)]
        names = [event for event in events if isinstance(event, UserRegistered)]
        assert found["received"] == wanted["received"]
        counts = {name: sum(map(len, found[name].values())) for name in ("following", "feeds", "likers", "received")}
        post_bytes = sum(len(encode(post)) for post in posts) / len(posts)
        name_bytes = sum(len(encode(name)) for name in names) / len(names)
        for what, tables, count, packed in (
            ("follow", (FOLLOWING, FOLLOWERS), counts["following"], 16.0),
            ("feed row", (FEED_HEADS, FEEDS), counts["feeds"], 8.0),
            ("like", (LIKERS, LIKED), counts["likers"], 16.0),
            ("notification", (RECEIVED,), counts["received"], 32.0),
            ("post", (POSTS,), len(posts), post_bytes),
            ("user", (PROFILES,), len(users), name_bytes),
        ):
            yield Row(
                name=f"a {what} ({', '.join(tables)})",
                unit="bytes",
                values={OURS: [sum(used.get(table, 0) for table in tables) / count], PACKED: [packed]},
                aims=[Aim(3, PACKED, "at most")],
                checked=f"{SHARDS} shards hold what the floor holds, of the longest feeds the newest rows",
            )
        event_bytes = sum(map(len, bodies)) / len(events)
        yield Row(
            name="everything that both shards hold, an event",
            unit="bytes",
            values={OURS: [sum(used.values()) / len(events)], "the event's own": [event_bytes]},
        )
