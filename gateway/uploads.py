"""Photos that were uploaded and may be posted: whose they are, and what was said of them.

Nothing here is a fact: a photo becomes one when it is posted, and the post carries all of it. So an upload is forgotten
after a day, and a user's oldest go first above a limit; being posted does not use it up, for a post may be sent twice.
"""

import secrets
from typing import Protocol

import msgspec

from darkroom.gateway.media import Photo

UPLOADS_PER_USER_MAX = 100
KEPT_MS = 24 * 60 * 60 * 1000


class UploadsUnusable(Exception):
    """They cannot be opened, read or written; the message says where they are."""


class UploadsFull(UploadsUnusable):
    """No room: nothing was stored."""


class Upload(msgspec.Struct, frozen=True):
    """One photo that its user may post. Ids lie above every log position's, so none is taken for another."""

    id: int
    user: int
    photo: Photo
    description: str | None


class Uploads(Protocol):
    """Any number of threads and processes may call. UploadsUnusable, UploadsFull or TooBusy from whatever fails."""

    def add(self, user: int, photo: Photo, description: str | None) -> Upload:
        """Remember it, durably; what is too old or too many is forgotten."""

    def find(self, user: int, upload_ids: list[int]) -> list[Upload]:
        """Those of the uploads that are the user's, in the order asked for."""

    def describe(self, user: int, upload_id: int, description: str | None) -> Upload | None:
        """Replace the description; None where it is not the user's upload."""

    def forget(self, user: int) -> None:
        """The user is gone, and with them what they have not posted."""

    def close(self) -> None:
        """Free what it holds."""


def new_upload(user: int, photo: Photo, description: str | None) -> Upload:
    """Under an id that nobody can guess."""
    return Upload(1 << 62 | secrets.randbits(62), user, photo, description)
