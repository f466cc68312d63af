"""What a query says, whether it is short, and kept, or too long for that."""

import pytest

from darkroom.gateway.http.fields import KEPT_BYTES_MAX, query_of

SAID = b"limit=20&max_id=7&tag=a%20%22b%22&id[]=1&id[]=2&empty="


@pytest.mark.parametrize("more", [b"", b"&more=" + b"x" * KEPT_BYTES_MAX])
def test_a_query_is_read_and_asked_again_without_its_cursors(more: bytes) -> None:
    query = query_of(SAID + more)
    assert (query.whole("limit", 1, 1, 40), query.whole("max_id", 1, 0, 100)) == (20, 7)
    assert (query.text("tag", 10), query.ids("id"), query.text("empty", 10)) == ('a "b"', [1, 2], "")
    assert query.without_cursors == "limit=20&tag=a+%22b%22&id%5B%5D=1&id%5B%5D=2&empty=" + more.decode()


def test_only_short_queries_are_kept() -> None:
    short, long = b"a=" + b"x" * (KEPT_BYTES_MAX - 2), b"a=" + b"x" * (KEPT_BYTES_MAX - 1)
    assert query_of(short) is query_of(short)
    assert query_of(long) is not query_of(long)
