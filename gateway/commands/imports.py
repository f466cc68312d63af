"""`import follows`, `import favourites`: real graphs into the log, as facts. Importing a file again adds nothing.

People become `uN`, found by reading the log. A file is read whole before anything is appended, so a bad line leaves
nothing behind.
"""

import argparse
import gzip
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from darkroom.events.facts import (
    Event,
    PostLiked,
    PostPublished,
    UserFollowed,
    UserRegistered,
    personal,
)
from darkroom.events.log import EventLog
from darkroom.gateway.commands.console import CommandFailed, Progress, answer
from darkroom.gateway.commands.log_commands import READ_RECORDS, opened_log
from darkroom.gateway.settings import Settings

GROUP_EVENTS = 20_000
NUMBER_MAX = 2**31 - 1
PHOTO_KEY = "import/photo/"

T = TypeVar("T")


class _Known:
    """What the log already holds of earlier imports."""

    def __init__(self, log: EventLog, *, follows: bool) -> None:
        self.people: dict[int, int] = {}
        self.photos: dict[int, tuple[int, int]] = {}
        self.pairs: set[tuple[int, int]] = set()
        position, head, progress = 0, log.head(), Progress("reading the log")
        while records := log.read(position, READ_RECORDS):
            for record in records:
                self._learn(record.position, record.event, follows=follows)
            position = records[-1].position
            progress(position, head)
        progress.end()

    def _learn(self, position: int, event: Event, *, follows: bool) -> None:
        if isinstance(event, UserFollowed):
            if follows:
                self.pairs.add((event.follower, event.followee))
        elif isinstance(event, PostLiked):
            if not follows:
                self.pairs.add((event.user, event.post))
        elif isinstance(event, UserRegistered):
            number = _numbered(event.username.text.lower(), "u")
            if number is not None:
                self.people.setdefault(number, position)
        elif isinstance(event, PostPublished) and event.key is not None:
            photo = _numbered(event.key, PHOTO_KEY)
            if photo is not None:
                self.photos.setdefault(photo, (position, event.author))

    def register(self, log: EventLog, numbers: Iterable[int]) -> None:
        """Have everybody of those numbers."""
        missing = sorted({*numbers} - self.people.keys())
        for group, positions in _append(log, "people", missing, _person):
            self.people.update(zip(group, positions, strict=True))


def follows(arguments: argparse.Namespace, settings: Settings) -> int:
    """Append a follow for each line `follower followee` that the log does not hold yet."""
    edges = dict.fromkeys(_pairs(Path(arguments.file), columns=2))
    with opened_log(settings, create=True) as log:
        known = _Known(log, follows=True)
        known.register(log, {number for edge in edges for number in edge})
        people = known.people
        new = [pair for a, b in edges if (pair := (people[a], people[b])) not in known.pairs]
        _exhaust(_append(log, "follows", new, lambda pair: UserFollowed(follower=pair[0], followee=pair[1])))
        answer(str(log.head()))
    return 0


def favourites(arguments: argparse.Namespace, settings: Settings) -> int:
    """Append the photos, then a like for each line `user photo …` that the log does not hold yet."""
    pairs = dict.fromkeys(_pairs(Path(arguments.file), columns=3))
    with opened_log(settings, create=True) as log:
        known = _Known(log, follows=False)
        known.register(log, {user for user, _ in pairs})
        authors = [known.people[number] for number in sorted(known.people)]
        photos = known.photos
        missing = [
            (photo, _author(arguments.seed, photo, authors)) for photo in sorted({p for _, p in pairs} - photos.keys())
        ]
        for group, positions in _append(log, "photos", missing, _photo):
            photos.update((photo, (post, author)) for (photo, author), post in zip(group, positions, strict=True))
        likes = [(known.people[user], *photos[photo]) for user, photo in pairs]
        new = [like for like in likes if like[:2] not in known.pairs]
        _exhaust(_append(log, "likes", new, lambda like: PostLiked(user=like[0], post=like[1], author=like[2])))
        answer(str(log.head()))
    return 0


def _person(number: int) -> Event:
    return UserRegistered(username=personal(f"u{number}"), display_name=personal(f"u{number}"))


def _photo(photo_and_author: tuple[int, int]) -> Event:
    photo, author = photo_and_author
    return PostPublished(author=author, caption=personal(f"photo {photo}"), key=f"{PHOTO_KEY}{photo}")


def _author(seed: int, photo: int, authors: Sequence[int]) -> int:
    """Drawn by seed for each photo by itself, whatever other photos the file has."""
    return random.Random(zlib.crc32(b"%d/%d" % (seed, photo))).choice(authors)


def _append(
    log: EventLog, what: str, items: Sequence[T], event: Callable[[T], Event]
) -> Iterator[tuple[list[T], Sequence[int]]]:
    """Append an event for each item, in groups, and tell where each group went."""
    progress, remaining, done = Progress(what), iter(items), 0
    try:
        while group := list(islice(remaining, GROUP_EVENTS)):
            yield group, log.append([event(item) for item in group])
            done += len(group)
            progress(done, len(items))
    finally:
        progress.end()


def _exhaust(groups: Iterable[object]) -> None:
    for _ in groups:
        pass


def _pairs(path: Path, *, columns: int) -> Iterator[tuple[int, int]]:
    """The first two numbers of each line; plain or .gz, `#` lines and empty ones skipped. A fault names its line."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip() and not line.startswith(b"#"):
                    yield _pair(path, number, line, columns)
    except (OSError, EOFError, zlib.error) as error:
        raise CommandFailed(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _pair(path: Path, number: int, line: bytes, columns: int) -> tuple[int, int]:
    fields = line.split()
    if not 2 <= len(fields) <= columns or not all(field.isdigit() for field in fields[:2]):
        shown = line[:60].decode(errors="replace").rstrip()
        raise CommandFailed(f"{path}, line {number}: {shown!r} is not two numbers from 0 to {NUMBER_MAX}")
    # Only so many digits are turned into a number, for Python refuses to from 4,300 on.
    one, other = (int(field.lstrip(b"0")[:11] or b"0") for field in fields[:2])
    if max(one, other) > NUMBER_MAX:
        raise CommandFailed(f"{path}, line {number}: a number is above {NUMBER_MAX}")
    return one, other


def _numbered(text: str, prefix: str) -> int | None:
    digits = text[len(prefix) :]
    if not text.startswith(prefix) or not digits.isascii() or not digits.isdigit() or len(digits) > 10:
        return None
    return int(digits) if str(int(digits)) == digits else None
