"""Pages by id: what a client asks for, and the links to the next and the previous page.

`max_id` and `since_id` give the newest below and above; `min_id` gives the page immediately above it. A link to older
pages carries the position of this one as the lowest that it accepts, so that no page is older than the one before.
"""

from dataclasses import dataclass

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.fields import Fields
from darkroom.projections.routing import ID_MASK


@dataclass(frozen=True)
class Window:
    """At most `limit` ids with above < id < below: the newest of them, or with `upwards` the oldest."""

    limit: int
    below: int
    above: int
    upwards: bool


def window(query: Fields, limit: int = 20, limit_max: int = 40) -> Window:
    """What the query asks for; Refused 400 where it cannot be read."""
    upwards = "min_id" in query
    return Window(
        limit=query.whole("limit", limit, 1, limit_max),
        below=query.whole("max_id", ID_MASK + 1, 0, ID_MASK + 1),
        above=query.whole("min_id" if upwards else "since_id", 0, 0, ID_MASK),
        upwards=upwards,
    )


def links(call: Call, first: int | None, last: int | None) -> dict[str, str]:
    """The Link header of a page from `first` (the newest) to `last`; none for an empty one. `next` stands first.

    While a shard lags no position is asked of the next page: the lagging shard could not have it.
    """
    if first is None or last is None:
        return {}
    kept = call.query.without_cursors
    page = f"{call.origin}{call.request.path}?{kept}{'&' if kept else ''}"
    older = f"max_id={last}"
    if call.position is not None and call.position <= ID_MASK and not call.lagging:
        older += f"&min_position={call.position}"
    return {"Link": f'<{page}{older}>; rel="next", <{page}min_id={first}>; rel="prev"'}
