"""The home timeline: chronological, without an end, its ids its cursors."""

from starlette.responses import Response

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Json
from darkroom.gateway.http.hydration import posts, settled, statuses
from darkroom.gateway.http.paging import links, window
from darkroom.projections import home_feed
from darkroom.projections.reading import Reading


async def home(call: Call) -> Response:
    wanted = window(call.query)

    def answer(reading: Reading) -> list[Json]:
        def choose() -> list[Json]:
            if wanted.upwards:
                page = home_feed.page_upwards(
                    reading, call.user, above=wanted.above, below=wanted.below, limit=wanted.limit
                )
            else:
                page = home_feed.page(
                    reading,
                    call.user,
                    below=wanted.below,
                    above=wanted.above,
                    limit=wanted.limit,
                    cache=call.gateway.readers.cache,
                )
            entries = posts(reading, [(entry.post, entry.author, entry.row) for entry in page])
            return statuses(reading, call.user, call.origin, entries)

        return settled(reading, choose)

    page = await call.ask(answer)
    return call.json(page, headers=page_links(call, page))


def page_links(call: Call, page: list[Json]) -> dict[str, str]:
    """The links of a page of statuses, newest first."""
    return links(call, int(page[0]["id"]), int(page[-1]["id"])) if page else {}
