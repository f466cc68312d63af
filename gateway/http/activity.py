"""What somebody did and what was done to them, newest first: the source that notifications are made from."""

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Gathered, Json, account
from darkroom.gateway.http.errors import malformed
from darkroom.gateway.http.hydration import Page, gather_people, settled
from darkroom.gateway.http.messages import Response
from darkroom.gateway.http.paging import window
from darkroom.gateway.http.timelines import answer_page
from darkroom.projections import activity
from darkroom.projections.activity import Activity
from darkroom.projections.reading import Reading

LISTS = ("done", "received")


async def show(call: Call) -> Response:
    """One of the caller's two lists, `of=done` or `of=received`; it goes back `activity_rows` rows."""
    which = call.query.text("of", 20) or "received"
    if which not in LISTS:
        raise malformed("of", "must be done or received")
    wanted = window(call.query)
    read = activity.done_by if which == "done" else activity.received_by

    def answer(reading: Reading) -> Page:
        def choose() -> Page:
            rows = read(reading, call.user, limit=call.settings.activity_rows)
            rows = [row for row in rows if wanted.above < row.position < wanted.below]
            return _shown(call, reading, rows[-wanted.limit :] if wanted.upwards else rows[: wanted.limit])

        return settled(reading, choose)

    return answer_page(call, await call.ask(answer))


def _shown(call: Call, reading: Reading, rows: list[Activity]) -> list[tuple[int, Json]]:
    gathered = gather_people(reading, call.origin, sorted({user for row in rows for user in (row.actor, row.owner)}))
    return [(row.position, _deed(row, gathered)) for row in rows if row.actor in gathered.profiles]


def _deed(row: Activity, gathered: Gathered) -> Json:
    return {
        "id": str(row.position),
        "type": row.kind,
        "account": account(row.actor, gathered),
        "post_id": None if row.kind == "follow" else str(row.object),
        "target": account(row.owner, gathered),
    }
