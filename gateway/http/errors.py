"""What a client is told when something is refused: one table from errors to status codes, one shape of body."""

from darkroom.events.codec import UndecodableEvent
from darkroom.events.log import LogBusy, LogError, LogFull, LogStopped, OutcomeUnknown
from darkroom.events.originals import DamagedOriginal, OriginalMissing, OriginalsFull, OriginalsUnavailable
from darkroom.gateway.credentials import (
    AlreadyBound,
    CredentialRefused,
    CredentialsFull,
    CredentialsUnusable,
    TooManyPending,
    UnknownUser,
)
from darkroom.gateway.media import MediaRefused
from darkroom.gateway.readers import NotThere
from darkroom.gateway.sign_up import NameTaken
from darkroom.gateway.turns import TooBusy
from darkroom.gateway.uploads import UploadsFull, UploadsUnusable
from darkroom.projections.store import StoreError

RETRY_AFTER_S = "1"


class Refused(Exception):
    """The request is not done. `field` names what was wrong with it, where something was."""

    def __init__(self, status: int, error: str, field: str | None = None, code: str | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.field = field
        self.code = code

    @property
    def body(self) -> dict[str, str | None]:
        """With a code (OAuth has names for its errors) the sentence goes where OAuth clients look for it."""
        if self.code is None:
            return {"error": self.error, "field": self.field}
        return {"error": self.code, "error_description": self.error, "field": self.field}

    @property
    def headers(self) -> dict[str, str]:
        if self.status == 503:
            return {"Retry-After": RETRY_AFTER_S}
        if self.status == 401:
            return {"WWW-Authenticate": 'Bearer realm="darkroom"'}
        return {"Connection": "close"} if self.status == 408 else {}


class Pending(Exception):
    """The write is in the log at `position`, but cannot be read yet. `repeatable` says that doing it again is safe."""

    def __init__(self, position: int, *, repeatable: bool) -> None:
        super().__init__(f"position {position} is not there yet")
        self.position = position
        self.repeatable = repeatable


def malformed(field: str, why: str) -> Refused:
    """The request cannot be understood."""
    return Refused(400, f"{field} {why}", field)


def invalid(field: str, why: str) -> Refused:
    """The request is understood, and asks for what is not permitted."""
    return Refused(422, f"{field} {why}", field)


def not_found(what: str, field: str | None = None) -> Refused:
    """It does not exist, does not exist any more, or may not be seen by whoever asks: nobody is told which."""
    return Refused(404, f"there is no such {what}", field)


_STATUSES: dict[type[Exception], int] = {
    NotThere: 503,
    StoreError: 503,
    LogFull: 507,
    LogBusy: 503,
    LogStopped: 503,
    OutcomeUnknown: 503,
    LogError: 500,
    UndecodableEvent: 422,
    NameTaken: 409,
    CredentialRefused: 422,
    TooManyPending: 503,
    CredentialsFull: 507,
    CredentialsUnusable: 503,
    AlreadyBound: 409,
    UnknownUser: 401,
    TooBusy: 503,
    OriginalMissing: 404,
    OriginalsFull: 507,
    OriginalsUnavailable: 503,
    DamagedOriginal: 500,
    UploadsFull: 507,
    UploadsUnusable: 503,
}
_FIELDS = ("username", "password", "scope", "file")


def refusal_of(error: Exception) -> Refused | None:
    """What to tell of the error; None for a fault of ours that has no place in the table."""
    if isinstance(error, Refused):
        return error
    message = str(error)
    if isinstance(error, MediaRefused):
        return Refused(error.status, message, "file" if error.status in (413, 422) else None)
    if isinstance(error, NameTaken):
        return Refused(409, message, "username")
    for kind in type(error).__mro__:
        if issubclass(kind, Exception) and kind in _STATUSES:
            status = _STATUSES[kind]
            field = next((name for name in _FIELDS if status == 422 and message.startswith(name)), None)
            return Refused(status, _told(status, message, kind), field)
    return None


def _told(status: int, message: str, kind: type[Exception]) -> str:
    """Messages of what a client cannot help name our files and servers, which are none of its business."""
    if kind is OutcomeUnknown:
        return "it is not known whether this was stored; look before sending it again, unless it had an Idempotency-Key"
    if status == 507:
        return "there is no room; nothing was stored"
    if status == 500:
        return "something that is stored cannot be read"
    ours = issubclass(kind, StoreError | LogError | CredentialsUnusable | UploadsUnusable) or "/" in message
    return "not possible right now; try again" if status == 503 and ours else message
