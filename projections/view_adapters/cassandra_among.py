"""Keys of many owners merged into one order, read from Cassandra no deeper than it takes to know the first of them.

Every owner is asked at once for a few; those whose few end before enough is known are asked for more. What is known is
complete up to where the first of those stops of whom there may be more.
"""

from collections.abc import Iterator, Sequence

from darkroom.projections.cassandra_requests import Request
from darkroom.projections.cassandra_session import CassandraSession
from darkroom.projections.pages import KEY_MAX
from darkroom.projections.view_adapters.cassandra_queries import Order, Queries
from darkroom.projections.view_adapters.cassandra_tables import entry_place

OWNERS_MAX = 32
FIRST_KEYS_MIN = 4
_BIGINT_MAX = (1 << 63) - 1

Span = tuple[int, int, int]
"""(owner, above, below): what of an owner is not known yet, exclusive on both sides."""


def among(
    session: CassandraSession,
    queries: Queries,
    shard: int,
    table: str,
    bounds: Sequence[tuple[int, int]],
    *,
    above: int,
    limit: int,
    order: Order,
) -> tuple[list[tuple[int, int]], int]:
    """See `View.newest_among` (DESC) and `View.oldest_among` (ASC). Of tables in which an owner is a partition."""
    assert entry_place(table, 1) == (1, 0), f"an owner of {table} is no partition"
    unknown: dict[int, Span] = {owner: (owner, above, min(below, _BIGINT_MAX)) for owner, below in bounds}
    asked = [span for span in unknown.values() if span[1] + 1 < span[2]]
    unknown = {span[0]: span for span in asked}
    found: list[tuple[int, int]] = []
    keys_each = min(limit, max(FIRST_KEYS_MIN, -(-2 * limit // max(1, len(asked)))))
    together = OWNERS_MAX
    while asked:
        groups = list(_groups(asked, together, order))
        requests = [_request(queries, shard, table, group, keys_each, order) for group in groups]
        for group, rows in zip(groups, session.execute_all(requests), strict=True):
            keys: dict[int, list[int]] = {owner: [] for owner, _, _ in group}
            for owner, key in rows:
                keys[owner].append(key)
            for span in group:
                _learn(unknown, found, span, keys[span[0]], keys_each, order)
        found.sort(reverse=order == "DESC")
        asked = _still_needed(unknown, found, limit, order)
        keys_each, together = min(limit, 4 * keys_each), 1
    if order == "DESC":
        low = max([above, *(below - 1 for _, _, below in unknown.values())])
        return [entry for entry in found if entry[0] > low], low
    high = min([KEY_MAX, *(after for _, after, _ in unknown.values())])
    return [entry for entry in found if entry[0] <= high], high


def _groups(asked: list[Span], together: int, order: Order) -> Iterator[list[Span]]:
    """Spans that are asked for by one statement, and so between the widest bounds of them all: neighbours."""
    asked = sorted(asked, key=lambda span: span[2] if order == "DESC" else span[1])
    for start in range(0, len(asked), together):
        yield asked[start : start + together]


def _request(queries: Queries, shard: int, table: str, group: list[Span], keys_each: int, order: Order) -> Request:
    owners = [owner for owner, _, _ in group]
    above, below = min(span[1] for span in group), max(span[2] for span in group)
    return queries.among[order], (shard, table, owners, above, below, keys_each)


def _learn(
    unknown: dict[int, Span], found: list[tuple[int, int]], span: Span, keys: list[int], keys_each: int, order: Order
) -> None:
    """The owner's next keys, in order, some perhaps outside of the span; fewer than were asked for are the last."""
    owner, above, below = span
    found += [(key, owner) for key in keys if above < key < below]
    if order == "DESC":
        left = (owner, above, min(below, keys[-1]) if keys else below)
    else:
        left = (owner, max(above, keys[-1]) if keys else above, below)
    if len(keys) < keys_each or left[1] + 1 >= left[2]:
        del unknown[owner]
    else:
        unknown[owner] = left


def _still_needed(unknown: dict[int, Span], found: list[tuple[int, int]], limit: int, order: Order) -> list[Span]:
    """Those of whom there may be something before the last key that is needed."""
    if len(found) < limit:
        return list(unknown.values())
    last = found[limit - 1][0]
    if order == "DESC":
        return [span for span in unknown.values() if span[2] > last]
    return [span for span in unknown.values() if span[1] < last]
