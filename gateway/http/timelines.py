"""The home timeline: chronological, without an end, its ids its cursors."""

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.hydration import Page, Statuses, bytes_of, settled, statuses
from darkroom.gateway.http.messages import Response
from darkroom.gateway.http.paging import links, window
from darkroom.projections import home_feed
from darkroom.projections.reading import Reading


async def home(call: Call) -> Response:
    wanted = window(call.query)

    def answer(reading: Reading) -> Statuses:
        def choose() -> Statuses:
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
            wanted_posts = [(entry.post, entry.author, entry.row) for entry in page]
            return statuses(reading, call.user, call.origin, wanted_posts)

        asker, question = ("home", call.user), (call.origin, wanted)
        return reading.answer(asker, question, lambda: settled(reading, choose), bytes_of)

    return answer_page(call, await call.ask(answer))


def answer_page(call: Call, page: Page) -> Response:
    """A page, newest first, with its links."""
    shown = [item for _, item in page]
    return call.json(shown, headers=links(call, page[0][0], page[-1][0]) if page else None)
