"""The demo world is told once, whole, also by someone who was interrupted; and its pictures are pictures."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from oracle import Oracle
from PIL import Image

from darkroom.events.facts import (
    CommentAdded,
    Event,
    PostPublished,
    ProfileChanged,
    Recorded,
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserRegistered,
    personal,
)
from darkroom.events.log import LogFull
from darkroom.events.log_adapters.memory import MemoryEventLog
from darkroom.gateway import demo_world
from darkroom.gateway.composition import Darkroom, Gateway
from darkroom.gateway.credentials import Credentials
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.demo_pictures import SCENES, SHAPES, description, picture, shape
from darkroom.gateway.demo_world import CAST, PASSWORD, PLACES, POSTS, fill
from darkroom.gateway.media_protocol import KINDS
from darkroom.gateway.passwords import PasswordHashing
from darkroom.gateway.settings import Settings

READ_MAX = 100_000
CHEAP = PasswordHashing(memory_kib=8, passes=1, lanes=1)


class Interrupted(MemoryEventLog):
    """Has room for so many more records."""

    def __init__(self) -> None:
        super().__init__()
        self.room = READ_MAX

    def append(self, events: Sequence[Event], times_ms: Sequence[int] | None = None) -> range:
        if self.room < len(events):
            raise LogFull("no room")
        self.room -= len(events)
        return super().append(events, times_ms)


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway whose passwords are cheap, in a world of small pictures."""
    monkeypatch.setattr(demo_world, "picture", lambda seed, width, height: picture(seed, width // 6, height // 6))
    with Darkroom(Settings(data=tmp_path / "data"), create=True) as darkroom:
        gateway = Gateway(darkroom)
        gateway.credentials.close()
        gateway.credentials = Credentials(SqliteCredentialStore(darkroom.directory.path), CHEAP)
        yield gateway
        gateway.credentials.close()
        gateway.close()


@pytest.fixture
def log() -> Interrupted:
    return Interrupted()


def silent(_line: str) -> None:
    pass


def records_of(log: MemoryEventLog) -> list[Recorded]:
    return log.read(0, READ_MAX)


def without_claims(log: MemoryEventLog) -> list[Event]:
    events = [record.event for record in records_of(log)]
    return [msgspec.structs.replace(e, claim=None) if isinstance(e, UserRegistered) else e for e in events]


def signs_in(gateway: Gateway) -> list[int | None]:
    return [gateway.credentials.verify(name.upper(), PASSWORD) for name in CAST]


def test_it_is_told_whole_and_every_record_changes_something(gateway: Gateway, log: Interrupted) -> None:
    assert fill(gateway, log, silent)
    records, oracle = records_of(log), Oracle()
    for record in records:
        before = oracle.world()
        oracle.apply(record)
        assert oracle.world() != before, record
    assert [oracle.username(user) for user in range(1, 13)] == list(CAST)
    assert len(oracle.posts) == len(POSTS)
    assert all(oracle.counters_user(user)[2] and oracle.followers(user) for user in range(1, 13))
    kinds = {type(record.event).__name__ for record in records}
    assert {UserBlocked.__name__, UserMuted.__name__, UserFollowed.__name__} <= kinds
    assert [1 for record in records if isinstance(record.event, CommentAdded) and record.event.in_reply_to]


def test_its_people_can_sign_in_and_the_password_is_told(gateway: Gateway, log: Interrupted) -> None:
    lines: list[str] = []
    fill(gateway, log, lines.append)
    assert signs_in(gateway) == list(range(1, 13))
    assert not gateway.credentials.pending()
    assert PASSWORD in lines[-1]
    assert "aperture" in lines[-1]


def test_a_second_time_nothing_is_added(gateway: Gateway, log: Interrupted) -> None:
    fill(gateway, log, silent)
    head = log.head()
    log.append([CommentAdded(user=1, post=88, author=1, text=personal("mine"), key=demo_world.LAST_KEY)])
    assert not fill(gateway, log, silent)
    assert log.head() == head + 1
    assert not gateway.credentials.pending()


@pytest.mark.parametrize("room", [1, 11, 20, 50, 120, 300])
def test_what_was_interrupted_is_told_to_the_same_end(gateway: Gateway, log: Interrupted, room: int) -> None:
    log.room = room
    with pytest.raises(LogFull):
        fill(gateway, log, silent)
    assert log.head() == room
    log.room = READ_MAX
    assert not gateway.credentials.pending()
    assert fill(gateway, log, silent)
    assert signs_in(gateway) == list(range(1, 13))
    whole = Oracle()
    for record in records_of(log):
        whole.apply(record)
    assert len(whole.posts) == len(POSTS)
    assert not fill(gateway, log, silent)


def test_it_is_the_same_world_interrupted_or_not(
    gateway: Gateway, log: Interrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (5, 30, 100, 7, 90, READ_MAX):
        log.room = room
        try:
            fill(gateway, log, silent)
        except LogFull:
            continue
    with Darkroom(Settings(data=tmp_path / "other"), create=True) as darkroom:
        other, at_once = Gateway(darkroom), Interrupted()
        monkeypatch.setattr(other.credentials, "_hashing", CHEAP)
        fill(other, at_once, silent)
        other.close()
    assert without_claims(log) == without_claims(at_once)


def test_whoever_was_registered_but_not_bound_is_bound_the_next_time(
    gateway: Gateway, log: Interrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_claim: str, _user: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gateway.credentials, "bind", killed)
        with pytest.raises(KeyboardInterrupt):
            fill(gateway, log, silent)
    assert (log.head(), len(gateway.credentials.pending())) == (1, 1)
    assert fill(gateway, log, silent)
    assert signs_in(gateway) == list(range(1, 13))
    assert not gateway.credentials.pending()


@pytest.mark.parametrize("name", ["ada", "aperture"])
def test_a_log_that_begins_otherwise_is_left_as_it_is(gateway: Gateway, log: Interrupted, name: str) -> None:
    log.append([UserRegistered(username=personal(name), display_name=personal(name))])
    assert not fill(gateway, log, silent)
    assert log.head() == 1
    assert not gateway.credentials.pending()


def test_nobody_is_given_the_pictures_of_another(gateway: Gateway, log: Interrupted) -> None:
    log.room = 3
    with pytest.raises(LogFull):
        fill(gateway, log, silent)
    log.room = READ_MAX
    log.append([UserRegistered(username=personal("Vignette"), display_name=personal("Vignette"))])
    assert not fill(gateway, log, silent)
    assert log.head() == 4
    assert not [name for name, (shown, _) in CAST.items() if shown.lower() == name], "as sign-up would show them"


def test_every_photo_can_be_shown_and_is_described(gateway: Gateway, log: Interrupted) -> None:
    fill(gateway, log, silent)
    events = [record.event for record in records_of(log)]
    media = [medium for event in events if isinstance(event, PostPublished) for medium in event.media]
    avatars = [event.avatar for event in events if isinstance(event, ProfileChanged)]
    assert len({medium.hash for medium in media} | set(avatars)) == len(media) + len(CAST)
    for medium in media:
        assert medium.description
        assert medium.description.text
        assert all(gateway.media.rendition(medium.hash, kind).read_bytes() for kind in KINDS)
    assert all(avatar and gateway.media.rendition(avatar, "thumbnail").read_bytes() for avatar in avatars)


def test_captions_say_what_is_tagged_and_who_is_mentioned(gateway: Gateway, log: Interrupted) -> None:
    fill(gateway, log, silent)
    names = list(CAST)
    posts = [record.event for record in records_of(log) if isinstance(record.event, PostPublished)]
    for post in posts:
        assert post.tags
        assert all(tag == tag.lower() and f"#{tag}" in post.caption.text for tag in post.tags)
        assert all(f"@{names[user - 1]}" in post.caption.text for user in post.mentions)
        assert post.caption.text.count("@") == len(post.mentions)
    assert {post.place.name.text for post in posts if post.place} == set(PLACES)
    assert [1 for post in posts if post.mentions]


@pytest.mark.parametrize("seed", range(len(SCENES)))
def test_a_picture_is_a_photo_of_the_size_asked_for(seed: int) -> None:
    with Image.open(io.BytesIO(picture(seed, 240, 180))) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (240, 180))
        pixels = np.asarray(image, np.float32)
    assert pixels.std() > 12, "it is not one colour"
    assert 10 < pixels.mean() < 245, "it is neither black nor white"
    assert description(seed)


def test_the_same_seed_gives_the_same_picture_and_another_another() -> None:
    pictures = [picture(seed, 96, 96) for seed in range(3 * len(SCENES))]
    assert len(set(pictures)) == len(pictures)
    assert pictures == [picture(seed, 96, 96) for seed in range(3 * len(SCENES))]


def test_each_kind_of_scene_comes_in_every_shape() -> None:
    pairs = {(seed % len(SCENES), shape(seed)) for seed in range(900)}
    assert len(pairs) == len(SCENES) * len(SHAPES)
    assert {(width > height) - (width < height) for width, height in SHAPES} == {-1, 0, 1}


def test_unlikely_sizes_are_painted_and_impossible_ones_refused() -> None:
    for seed in range(len(SCENES)):
        assert picture(seed, 64, 300)
        assert picture(seed, 300, 64)
    for size in ((63, 100), (100, 4097), (0, 0), (-1, 64)):
        with pytest.raises(ValueError, match="pixels"):
            picture(1, *size)
