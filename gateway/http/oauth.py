"""Tokens: the password grant of OAuth, and its end. The other grants come with apps."""

import time
from collections.abc import Collection

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import Json
from darkroom.gateway.http.errors import Refused
from darkroom.gateway.http.messages import Response
from darkroom.projections import people

SCOPES = ("read", "write", "follow", "push")
_TOPS = frozenset((*SCOPES, "profile"))
TEXT_CHARACTERS_MAX = 4096


def token_answer(token: str, scopes: Collection[str], created_s: int) -> Json:
    """Every scope that was asked for is echoed, for clients compare."""
    return {"access_token": token, "token_type": "Bearer", "scope": " ".join(scopes), "created_at": created_s}


async def token(call: Call) -> Response:
    """Sign in: a token for a name (or id) and its password."""
    fields = await call.fields()
    if fields.text("grant_type", TEXT_CHARACTERS_MAX) != "password":
        raise Refused(400, "grant_type must be password", "grant_type", "unsupported_grant_type")
    login = fields.text("username", TEXT_CHARACTERS_MAX) or ""
    password = fields.text("password", TEXT_CHARACTERS_MAX) or ""
    scopes = tuple(dict.fromkeys((fields.text("scope", TEXT_CHARACTERS_MAX) or " ".join(SCOPES)).split()))
    if not scopes or not all(scope.partition(":")[0] in _TOPS for scope in scopes):
        raise Refused(400, f"scope must be among {' '.join(SCOPES)}", "scope", "invalid_scope")
    credentials, run = call.gateway.credentials, call.work.sign_ups.run
    user = await run(credentials.verify, login, password)
    if user is None:
        raise _wrong()
    if not await call.ask(lambda reading: people.is_live(reading, user) or call.may_come(reading, user)):
        await run(credentials.drop, user)  # deleted by another way than here, or with a crash in between
        raise _wrong()
    return call.json(token_answer(await run(credentials.issue_token, user, scopes), scopes, int(time.time())))


def _wrong() -> Refused:
    return Refused(400, "username or password is wrong", "username", "invalid_grant")


async def revoke(call: Call) -> Response:
    """Sign out. Nothing is said of a token that never was."""
    told = (await call.fields()).text("token", TEXT_CHARACTERS_MAX)
    if told:
        await call.work.sign_ups.run(call.gateway.credentials.revoke, told)
    return call.json({})
