"""What somebody did and what was done to them, newest first: the source that notifications are made from."""

from starlette.responses import Response

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Json, account
from darkroom.gateway.http.errors import malformed
from darkroom.gateway.http.hydration import gather_people, settled
from darkroom.gateway.http.paging import links, window
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

    def answer(reading: Reading) -> list[Json]:
        def choose() -> list[Json]:
            rows = read(reading, call.user, limit=call.settings.activity_rows)
            rows = [row for row in rows if wanted.above < row.position < wanted.below]
            return _shown(call, reading, rows[-wanted.limit :] if wanted.upwards else rows[: wanted.limit])

        return settled(reading, choose)

    page = await call.ask(answer)
    return call.json(page, headers=links(call, int(page[0]["id"]), int(page[-1]["id"])) if page else None)


def _shown(call: Call, reading: Reading, rows: list[Activity]) -> list[Json]:
    gathered = gather_people(reading, call.origin, sorted({user for row in rows for user in (row.actor, row.owner)}))
    return [
        {
            "id": str(row.position),
            "type": row.kind,
            "account": account(row.actor, gathered),
            "post_id": None if row.kind == "follow" else str(row.object),
            "target": account(row.owner, gathered),
        }
        for row in rows
        if row.actor in gathered.profiles
    ]
