"""One request being answered: who calls, what they say, what is read and written for them, and the headers of that.

Reads run on the event loop, straight from the shards. A write's outcome is always read at the position that the append
gave: the log's order decides, and the gateway only reports.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import msgspec

from darkroom.events.facts import Event
from darkroom.gateway.composition import Gateway
from darkroom.gateway.credentials import Grant
from darkroom.gateway.http.errors import Pending, Refused, malformed, not_found
from darkroom.gateway.http.fields import Fields, form_fields, json_fields, parse_id, query_of
from darkroom.gateway.http.messages import JSON, Request, Response
from darkroom.gateway.http.multipart import parse_multipart
from darkroom.gateway.http.work import Work
from darkroom.gateway.readers import NotThere
from darkroom.projections import people
from darkroom.projections.reading import Behind, Reading
from darkroom.projections.routing import ID_MASK, shard_of
from darkroom.projections.store import StoreError, StoreUnavailable

KEY_CHARACTERS_MAX = 255

P = ParamSpec("P")
T = TypeVar("T")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


@dataclass(frozen=True)
class Access:
    """Who may call a route: anybody, or whoever's token has one of the scopes."""

    scopes: tuple[str, ...] = ()
    signed_in: bool = True


class Call:
    """`query`, `viewer` (None for anonymous) and `origin` are of the request; the rest is done for it."""

    def __init__(self, request: Request, gateway: Gateway, work: Work) -> None:
        self.request = request
        self.gateway = gateway
        self.settings = gateway.settings
        self.work = work
        self.query = query_of(request.query)
        self.grant: Grant | None = None
        self.position: int | None = None
        self.lagging = False
        self._min_position = 0
        self._written: tuple[int, frozenset[int], bool] | None = None

    async def admit(self, access: Access) -> None:
        """Find out who calls; Refused 401 or 403 where they may not."""
        self._min_position = self.query.position("min_position")
        header = self.request.headers.get("authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() == "bearer":
                self.grant = await self._granted(token.strip())
            if self.grant is None:
                raise Refused(401, "the access token is invalid")
        if self.grant is None:
            if access.signed_in:
                raise Refused(401, "this method requires an access token")
        elif access.scopes and not any(self.grant.allows(scope) for scope in access.scopes):
            raise Refused(403, f"the access token lacks the scope {access.scopes[0]}")

    async def _granted(self, token: str) -> Grant | None:
        """Where no thread could ask by the deadline, what is remembered counts, as it does after asking in vain."""
        try:
            return await self.look_up(self.gateway.credentials.resolve, token)
        except StoreUnavailable:
            grant = self.gateway.credentials.remembered(token)
            if grant is None:
                raise
            return grant

    @property
    def viewer(self) -> int | None:
        return None if self.grant is None else self.grant.user

    @property
    def user(self) -> int:
        """Whoever is signed in, where the route requires that somebody is."""
        assert self.grant is not None
        return self.grant.user

    @property
    def origin(self) -> str:
        """Scheme and host as the client knows them."""
        host = self.request.headers.get("host", "")
        return f"{self.request.scheme}://{host if _HOST.fullmatch(host) else 'localhost'}"

    def path_id(self, name: str = "id") -> int:
        """The id in the path. What cannot be one names nothing."""
        found = parse_id(self.request.path_params[name])
        if found is None or found > ID_MASK:
            raise not_found("id", name)
        return found

    def idempotency_key(self) -> str | None:
        key = self.request.headers.get("idempotency-key", "").strip()
        if len(key) > KEY_CHARACTERS_MAX:
            raise malformed("Idempotency-Key", f"has {len(key)} characters; the limit is {KEY_CHARACTERS_MAX}")
        return key or None

    async def fields(self) -> Fields:
        """The body's fields, from JSON or from a form."""
        return (await self.fields_and_files())[0]

    async def fields_and_files(self) -> tuple[Fields, dict[str, bytes]]:
        content_type = self.request.headers.get("content-type", "")
        kind = content_type.partition(";")[0].strip().lower()
        body = await self.request.body.read()
        if kind == "multipart/form-data":
            return await self.work.on_file_thread(parse_multipart, content_type, body)
        if kind == "application/json":
            return json_fields(body), {}
        if kind in ("application/x-www-form-urlencoded", "") or not body:
            return form_fields(body), {}
        raise Refused(415, "the body must be JSON or a form", "Content-Type")

    async def look_up(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What one short look-up says, in credentials or uploads."""
        return await self.gateway.readers.ask(lambda: question(*args, **kwargs))

    async def ask(self, answer: Callable[[Reading], T]) -> T:
        """`answer` of a reading at `min_position` or later; it must be short, for it holds up everybody else."""
        value, self.position, self.lagging = await self.gateway.readers.read_async(
            self._noted(answer), min_position=self._min_position
        )
        return value

    async def check(self, answer: Callable[[Reading], T]) -> T | None:
        """As `ask`, before a write. None where it is not to be known now: the write may go on, for the log decides.

        NotThere only for whoever names a position that is to be looked at first.
        """
        try:
            return await self.ask(answer)
        except StoreUnavailable:
            return None
        except NotThere:
            if self._min_position:
                raise
            return None

    async def require_live(self) -> None:
        """Refused 401 where the caller's account is known to be gone; `ask` sees to it unasked."""
        await self.check(lambda reading: reading.position)

    async def write(self, event: Event, users: Iterable[int], key: str | None = None) -> int:
        """Append, wait until it can be read by those whom it names, and return its position. Pending, LogError."""
        concerned = frozenset(users)
        written = await self.gateway.writer.write(event, concerned)
        self._written = written.position, concerned, key is not None
        if not written.visible:
            raise Pending(written.position, repeatable=key is not None)
        return written.position

    @property
    def has_written(self) -> bool:
        return self._written is not None

    async def outcome(self, answer: Callable[[Reading], T]) -> T:
        """`answer` of a reading in which what `write` appended has been decided."""
        assert self._written is not None
        position, users, repeatable = self._written

        def decided(reading: Reading) -> T:
            for user in users:
                reached = reading.of(user).checkpoint.position
                if reached < position:
                    raise Behind(shard_of(user, reading.shards), reached, position)
            return answer(reading)

        try:
            value, _, self.lagging = await self.gateway.readers.read_async(self._noted(decided))
        except (NotThere, StoreError):
            # It is in the log, whatever keeps its outcome from being read.
            raise Pending(position, repeatable=repeatable) from None
        return value

    def _noted(self, answer: Callable[[Reading], T]) -> Callable[[Reading], tuple[T, int, bool]]:
        """`answer`, with the position that it is of, for a viewer who is there."""

        def noted(reading: Reading) -> tuple[T, int, bool]:
            if self.viewer is not None and not people.is_live(reading, self.viewer):
                self.may_come(reading, self.viewer)
                raise Refused(401, "the access token's account was deleted")
            value = answer(reading)
            return value, reading.position, bool(reading.lagging)

        return noted

    def missing(self, reading: Reading, what: str, wanted: int, field: str | None = None) -> Refused:
        """What to raise where the shards hold no such id: they may not have come that far yet, and then they are
        waited for, so that an id can be read as soon as anybody has heard of it."""
        self.await_id(reading, wanted, reading.position)
        if reading.lagging:
            raise NotThere("a shard lags, so it is not known whether that exists; try again")
        return not_found(what, field)

    def may_come(self, reading: Reading, user: int) -> bool:
        """False, or Behind where the user's shard has not come as far as the user."""
        self.await_id(reading, user, reading.of(user).checkpoint.position)
        return False

    def await_id(self, reading: Reading, wanted: int, reached: int) -> None:
        """Behind, where the shards may still come to know the id."""
        if reached < wanted <= self.gateway.log.head():
            raise Behind(shard_of(wanted, reading.shards), reached, wanted)

    def json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """The answer, as JSON."""
        return Response(msgspec.json.encode(value), status, headers, JSON)

    def stamp(self, response: Response) -> Response:
        """Add at which position this was written or read. What was refused without having written has none."""
        position = self.position if self._written is None else self._written[0]
        if self._written is None and self.request.method not in ("GET", "HEAD") and response.status_code >= 400:
            position = None
        if position is not None and position < ID_MASK:
            response.headers["Darkroom-Position"] = str(position)
        if self.lagging:
            response.headers["Darkroom-Lagging"] = "true"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def stamped_at(self, position: int) -> None:
        """A write that was made elsewhere for this call."""
        self._written = self._written or (position, frozenset(), False)
