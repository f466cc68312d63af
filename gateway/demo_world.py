"""A small world to look at before there is one's own: a dozen invented people, and pictures that nobody took.

It is told once, in one order, and only to a log that is empty or that begins with it. Whatever the log holds of it
already is not told again, so that a telling that was interrupted goes on where it stopped. No person's name is in it.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle, permutations
from random import Random
from typing import NamedTuple

from darkroom.events.facts import (
    CommentAdded,
    Event,
    Medium,
    Place,
    PostLiked,
    PostPublished,
    ProfileChanged,
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserRegistered,
    personal,
)
from darkroom.events.log import EventLog, LogBusy, LogFull
from darkroom.gateway.composition import Gateway
from darkroom.gateway.credentials import UnknownClaim
from darkroom.gateway.demo_pictures import description, picture, shape
from darkroom.gateway.media import Photo

PASSWORD = "darkroom-demo"
READ_RECORDS = 1000
PAINTERS = 2  # one paints while the other's picture is developed
AVATAR_PX = 400

CAST = {
    "aperture": ("Aperture Wide", "Ridges, mostly from the next ridge. Wide open since f/1.4."),
    "bokeh": ("Bokeh Balls", "The street is beautiful as soon as it is out of focus."),
    "cyanotype": ("Cyan O. Type", "Ferns, iron salts and patience. Everything here was rinsed twice."),
    "darkslide": ("Dark Slide", "Large format. I forgot to pull it out again."),
    "emulsion": ("Emulsion Side Down", "Fog is just the forest's own diffusion filter."),
    "fstop": ("F. Stop", "Sand gets into everything, the shutter first."),
    "goldenhour": ("Golden Hour", "I am awake for two hours of the day. Guess which."),
    "halide": ("Silver Halide", "One flower at a time."),
    "infinity": ("Infinity Focus", "Thirty seconds, f/2, ISO 3200, frozen fingers."),
    "parallax": ("Parallax Error", "What I saw and what I got, side by side."),
    "tungsten": ("Tungsten 3200 K", "White balance is a matter of opinion."),
    "vignette": ("Vignette, Soft", "Look at the middle."),
}
BLOCK, MUTE = ("vignette", "tungsten"), ("parallax", "bokeh")

PLACES = {
    "Lofoten": (68.15, 13.61),
    "Dolomites": (46.41, 11.84),
    "Namib": (-24.73, 15.29),
    "Lisbon": (38.72, -9.14),
    "Isle of Skye": (57.27, -6.22),
    "Abisko": (68.35, 18.83),
    "Black Forest": (48.05, 8.2),
    "Kyoto": (35.01, 135.77),
}

POSTS: tuple[tuple[str, tuple[int, ...], str, str | None], ...] = (
    ("aperture", (36,), "Counted seven ridges before the light went. #bluehour #ridges", None),
    ("goldenhour", (37,), "The one minute it was worth getting up for. #goldenhour #sea", "Lisbon"),
    ("emulsion", (38,), "No filter needed, the valley brought its own. #fog #forest", "Black Forest"),
    ("darkslide", (39,), "Last light on the west face, one sheet left. #4x5 #mountains", "Dolomites"),
    ("infinity", (40,), "Thirty seconds of holding my breath. #night #stars", None),
    ("fstop", (41,), "Expired film does this to sand. I am keeping it. #dunes #expired", "Namib"),
    ("bokeh", (42,), "Taxi rank, thirty steps too close. #bokeh #night", "Kyoto"),
    ("cyanotype", (43,), "Eleven minutes of June sun. #cyanotype #ferns", None),
    ("halide", (44,), "The neighbour said I could. #dahlia #macro", None),
    ("aperture", (45,), "Dust in the air and none on the sensor, for once. #ridges #goldenhour", "Dolomites"),
    ("goldenhour", (46,), "Cold water, warm hands. #sea", "Isle of Skye"),
    ("emulsion", (47,), "They look like a choir to me. #forest", "Black Forest"),
    ("darkslide", (48,), "@aperture told me about this lake. I owe you a coffee. #mountains #reflection", "Dolomites"),
    ("infinity", (49,), "Moonless, windless, thermos empty. #stars #night", "Abisko"),
    ("fstop", (50, 59), "Two sides of the same morning. #dunes #monochrome", "Namib"),
    ("bokeh", (51,), "Every lamp of the festival at f/1.2. #bokeh #festival", "Kyoto"),
    ("cyanotype", (52,), "Second rinse, peroxide, and there is the blue. #cyanotype", None),
    ("halide", (53,), "Yellow is the hardest to expose. #dahlia", None),
    ("parallax", (54,), "In the finder there was also a bird. #monochrome #ridges", "Isle of Skye"),
    ("goldenhour", (55,), "Nothing but a horizon. #minimal #sea", "Lisbon"),
    ("tungsten", (56,), "Daylight film, sunrise, no correction. Fight me. #forest #film", None),
    ("darkslide", (57,), "Waited two days for the wind to drop. #reflection #4x5", None),
    ("infinity", (58,), "It went violet for about a minute. #aurora #night", "Abisko"),
    ("vignette", (60,), "Someone's whole evening, out of focus. #night #bokeh", "Lisbon"),
    ("cyanotype", (61,), "Left them a hand's breadth apart on purpose. #cyanotype #ferns #minimal", None),
    ("halide", (62,), "Two hundred petals. I know because I counted. #dahlia #macro", None),
    ("aperture", (63,), "Square, because everything else was distraction. #ridges", None),
    ("parallax", (64,), "Level horizon at the ninth attempt. #sea", None),
    ("emulsion", (65,), "Somewhere in there is @darkslide, looking for the tripod. #fog #forest", "Black Forest"),
    ("tungsten", (66,), "It was this colour. I was there. #mountains #film", "Dolomites"),
    ("infinity", (67,), "The galaxy, with some trees for scale. #stars", "Lofoten"),
    ("fstop", (68,), "Ten minutes later the wind had redrawn all of it. #dunes", "Namib"),
    ("vignette", (69,), "Rain on the window, lens at its nearest. #bokeh #rain", None),
    ("cyanotype", (70,), "Ran out of paper before I ran out of ferns. #cyanotype #ferns", None),
    ("goldenhour", (10,), "No gold today. I like it better. #mist #sea", "Isle of Skye"),
    ("darkslide", (21,), "Cold enough that the bellows creaked. #mountains #reflection", "Lofoten"),
    ("infinity", (22,), "@goldenhour you should stay up for once. #aurora", "Abisko"),
    ("fstop", (14,), "Noon is for sleeping, this is for walking. #dunes #goldenhour", "Namib"),
    ("halide", (71,), "The last one before the frost. #dahlia #autumn", None),
)

REMARKS = {
    0: ("I lost count at five ridges.", "The haze does all the work here.", "Which one did you climb?", "Prints well?"),
    1: ("I can smell the salt.", "How many frames for that path?", "Calm day!", "The horizon is so straight it hums."),
    2: ("So quiet.", "Fog, or a very slow shutter?", "I would get lost in there within a minute.", "The back row!"),
    3: ("Which half is the lake?", "Did you meter for the snow?", "The far peak is unreal.", "Worth carrying the 4x5."),
    4: ("How dark is it there, really?", "Which lens? Mine has coma.", "I saw only clouds.", "Frozen fingers +1"),
    5: ("The shadow is the picture.", "Like folded paper.", "Is there sand in the lens now?", "No footprints, how?"),
    6: ("Now I want to know what it was.", "Round to the edge, what glass is this?", "Warm!", "I hear the traffic."),
    7: ("That blue never gets old.", "Toned, or bare?", "The brushed edge makes it.", "How long in the sun?"),
    8: ("I can't look away from the middle.", "What was the reflector?", "Poor bee, no room.", "Stacked?"),
}
ANSWERS = (
    "Thank you! It was mostly waiting.",
    "Ha, pure luck.",
    "A borrowed lens, sadly.",
    "I wish I had written it down.",
    "Ask me again when it is printed.",
    "Three frames, and this is the first.",
)
THANKS = ("Worth the wait, then.", "That counts as skill.", "Please never write it down.", "Hang it somewhere big!")
KEYS, LAST_KEY = [f"demo/{number}" for number in range(len(POSTS))], "demo/last"


class _Person(NamedTuple):
    user: int
    claim: str | None


def fill(gateway: Gateway, log: EventLog, console: Callable[[str], None]) -> bool:
    """Tell the demo world to a log that is empty, or the rest of it to one that begins with it; whether anything was.

    What the log, the media or the credentials raise is let through; called again, it goes on from there.
    """
    world = _World(gateway, log)
    if not world.read():
        console("This directory has records of its own, so the demo world is left out.")
        return False
    signs_in = f"Sign in as any of {', '.join(CAST)}; the password is {PASSWORD}."
    if world.is_complete:
        console(f"The demo world is there already. {signs_in}")
        return False
    console(f"Filling a demo world: {len(CAST)} people and {len(POSTS)} posts with generated photographs …")
    world.tell()
    console(f"The demo world is there. {signs_in}")
    return True


class _World:
    """What the log holds of the demo world, and what happens next in it."""

    def __init__(self, gateway: Gateway, log: EventLog) -> None:
        self._gateway = gateway
        self._log = log
        self._told: dict[Hashable, int] = {}
        self._people: dict[str, _Person] = {}
        self._remarks = {scene: cycle(remarks) for scene, remarks in REMARKS.items()}
        self._answers, self._thanks = cycle(ANSWERS), cycle(THANKS)
        self.is_complete = False

    def read(self) -> bool:
        """Learn what was told; False for a log that begins otherwise, or in which one of the names is another's."""
        position = 0
        while not self.is_complete and (records := self._log.read(position, READ_RECORDS)):
            if not all(self._learn(record.position, record.event) for record in records):
                return False
            position = records[-1].position
        return True

    def _learn(self, position: int, event: Event) -> bool:
        self._told.setdefault(_identity(event), position)
        if isinstance(event, UserRegistered):
            name = event.username.data.decode(errors="replace").lower()
            if name in CAST and name not in self._people:
                self._people[name] = _Person(position, event.claim)
                return event.display_name == personal(CAST[name][0])
        if isinstance(event, CommentAdded) and event.key == LAST_KEY:
            author = self._people.get(POSTS[-1][0])
            self.is_complete |= author is not None and event.user == author.user
        return bool(self._people)

    def tell(self) -> None:
        with self._photos() as photos:
            for name in CAST:
                self._register(name)
            for name in CAST:
                self._introduce(name, photos)
            self._meet()
            for number in range(len(POSTS)):
                post = self._publish(number, photos)
                self._admire(number, post)
        self._comment(POSTS[-1][0], number, post, "Thanks, all of you. See you next season.", LAST_KEY)

    @contextmanager
    def _photos(self) -> Iterator[dict[int, Future[Photo]]]:
        """The photos that are still to be shown, by seed, being painted and developed while others are posted."""

        def paint(seed: int, width: int, height: int) -> Photo:
            return self._gateway.media.accept(picture(seed, width, height))

        painters = ThreadPoolExecutor(PAINTERS, thread_name_prefix="painter")
        try:
            yield {seed: painters.submit(paint, seed, *size) for seed, size in self._wanted()}
        finally:
            painters.shutdown(cancel_futures=True)

    def _wanted(self) -> Iterator[tuple[int, tuple[int, int]]]:
        ids = {name: person.user for name, person in self._people.items()}
        for name in CAST:
            if (ProfileChanged, ids.get(name)) not in self._told:
                yield _avatar(name), (AVATAR_PX, AVATAR_PX)
        for number, (author, seeds, _, _) in enumerate(POSTS):
            if (ids.get(author), KEYS[number]) not in self._told:
                yield from ((seed, shape(seed)) for seed in seeds)

    def _happen(self, identity: Hashable, event: Callable[[], Event]) -> int:
        """Where it stands in the log: it is told now if it was not told before."""
        if identity not in self._told:
            [self._told[identity]] = self._log.append([event()])
        return self._told[identity]

    def _register(self, name: str) -> None:
        """A credential waits under a claim, the log makes a user of it, and then the two are bound."""
        credentials = self._gateway.credentials
        if name not in self._people:
            claim = credentials.begin(name, PASSWORD).claim
            event = UserRegistered(username=personal(name), display_name=personal(CAST[name][0]), claim=claim)
            try:
                [user] = self._log.append([event])
            except (LogFull, LogBusy):  # surely not stored
                credentials.discard(claim)
                raise
            self._people[name] = _Person(user, claim)
        person = self._people[name]
        if person.claim is not None:
            # Bound again it is nothing; a claim that nobody knows is of credentials that were lost or dropped.
            with suppress(UnknownClaim):
                credentials.bind(person.claim, person.user)

    def _introduce(self, name: str, photos: Mapping[int, Future[Photo]]) -> None:
        user = self._people[name].user

        def event() -> Event:
            return ProfileChanged(user=user, bio=personal(CAST[name][1]), avatar=photos[_avatar(name)].result().hash)

        self._happen((ProfileChanged, user), event)

    def _meet(self) -> None:
        """Most follow most; one has muted and one has blocked another, so that there is something to see of it."""
        chance = Random("follows")
        self._edge(UserBlocked, "user", "target", BLOCK)
        for pair in permutations(CAST, 2):
            likely = 0.75 if pair[1] in ("aperture", "goldenhour", "infinity") else 0.45
            if chance.random() < likely and set(pair) != set(BLOCK):
                self._edge(UserFollowed, "follower", "followee", pair)
        self._edge(UserMuted, "user", "target", MUTE)

    def _edge(self, kind: Callable[..., Event], one: str, other: str, pair: tuple[str, str]) -> None:
        event = kind(**{one: self._people[pair[0]].user, other: self._people[pair[1]].user})
        self._happen(event, lambda: event)

    def _publish(self, number: int, photos: Mapping[int, Future[Photo]]) -> int:
        author, seeds, caption, where = POSTS[number]
        user = self._people[author].user

        def event() -> Event:
            return PostPublished(
                author=user,
                caption=personal(caption),
                media=tuple(_medium(seed, photos[seed].result()) for seed in seeds),
                tags=tuple(_marked(caption, "#")),
                mentions=self._mentioned(caption),
                place=Place(personal(where), *PLACES[where]) if where else None,
                key=KEYS[number],
            )

        return self._happen((user, KEYS[number]), event)

    def _admire(self, number: int, post: int) -> None:
        """Likes, and a little talk that the author answers. What is drawn never depends on what was told before."""
        author, seeds, _, _ = POSTS[number]
        chance = Random(number)
        guests = [name for name in CAST if name != author and {name, author} != set(BLOCK)]
        for name in guests:
            if chance.random() < 0.5:
                like = PostLiked(user=self._people[name].user, post=post, author=self._people[author].user)
                self._happen(like, lambda like=like: like)  # type: ignore[misc]
        for index, name in enumerate(chance.sample(guests, chance.choice((0, 1, 1, 2)))):
            key, remark = f"{KEYS[number]}/{index}", next(self._remarks[seeds[0] % 9])
            answered, thanked = chance.random() < 0.7, chance.random() < 0.4
            first = self._comment(name, number, post, remark, key)
            if answered:
                answer = self._comment(author, number, post, next(self._answers), f"{key}/a", (first, name))
                if thanked:
                    self._comment(name, number, post, next(self._thanks), f"{key}/b", (answer, author))

    def _comment(
        self, name: str, number: int, post: int, text: str, key: str, to: tuple[int, str] | None = None
    ) -> int:
        event = CommentAdded(
            user=self._people[name].user,
            post=post,
            author=self._people[POSTS[number][0]].user,
            text=personal(text),
            mentions=self._mentioned(text),
            in_reply_to=to and to[0],
            in_reply_to_user=to and self._people[to[1]].user,
            key=key,
        )
        return self._happen((event.user, key), lambda: event)

    def _mentioned(self, text: str) -> tuple[int, ...]:
        return tuple(self._people[name].user for name in _marked(text, "@"))


def _identity(event: Event) -> Hashable:
    """What makes it the same thing told twice: a key with whose it is, or all of it."""
    if isinstance(event, PostPublished) and event.key is not None:
        return event.author, event.key
    if isinstance(event, CommentAdded) and event.key is not None:
        return event.user, event.key
    if isinstance(event, ProfileChanged):
        return ProfileChanged, event.user
    is_edge = isinstance(event, PostLiked | UserFollowed | UserBlocked | UserMuted) and event.carried is None
    return event if is_edge else type(event)


def _avatar(name: str) -> int:
    """The seed of a picture of what the person likes to photograph."""
    return 981 + next(seeds[0] for author, seeds, _, _ in POSTS if author == name)


def _medium(seed: int, photo: Photo) -> Medium:
    return Medium(photo.hash, photo.width, photo.height, photo.placeholder, personal(description(seed)))


def _marked(text: str, mark: str) -> list[str]:
    """The words with that mark before them, without it."""
    return [word[1:].rstrip(".,!?") for word in text.split() if word.startswith(mark)]
