"""People who use a server over HTTP while its stores fail, and a ledger of what they were told of every write."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from waiting import until

PASSWORD = "correct horse battery"
TIMEOUT_S = 60.0
PAUSE_S, RETRY_S = 0.01, 0.25


@dataclass(frozen=True)
class Write:
    """What was asked, `what` naming the fact that it makes, and what was answered."""

    what: tuple[str, ...]
    status: int
    position: int | None
    began: float
    seconds: float
    key: str | None = None
    id: int | None = None

    @property
    def outcome(self) -> str:
        """`pending` is stored and not yet to be read: 202, or 503 with the position where repeating is safe."""
        if self.status == 200:
            return "acknowledged"
        return "pending" if self.position is not None else "refused"


@dataclass(frozen=True)
class Read:
    path: str
    status: int
    began: float
    seconds: float


@dataclass
class Ledger:
    """What happened, in the order of the answers. `faults` are answers that nobody should ever get."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def between(self, begin: float, end: float) -> "Ledger":
        """What was both asked and answered then, on the monotonic clock."""
        return Ledger(
            [one for one in list(self.writes) if begin <= one.began and one.began + one.seconds < end],
            [one for one in list(self.reads) if begin <= one.began and one.began + one.seconds < end],
        )

    def outcomes(self) -> Counter[str]:
        return Counter(write.outcome for write in list(self.writes))

    def read_statuses(self) -> Counter[int]:
        return Counter(read.status for read in list(self.reads))

    def slowest_read_s(self) -> float:
        return max((read.seconds for read in list(self.reads)), default=0.0)


class Known:
    """What everybody may act upon: users and posts that were told of as made."""

    def __init__(self) -> None:
        self.users: list[int] = []
        self.posts: list[int] = []


class Client:
    """One person, on a thread of their own. No fact is asked for twice, but for a post with a key."""

    def __init__(self, url: str, name: str, known: Known, ledger: Ledger) -> None:
        self.ledger = ledger
        self.unsettled: dict[str, tuple[str, ...]] = {}  # by idempotency key: posts not told of as readable yet
        self._name = name
        self._known = known
        self._chance = random.Random(name)
        self._made = 0
        self._answered = True
        self._done: set[tuple[str, ...]] = set()
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S)
        answer = self._ask("POST", "/api/v1/accounts", json={"username": name, "password": PASSWORD})
        assert answer.status_code in (200, 202), answer.text
        self.id = int(answer.headers["darkroom-position"])
        until(self._signs_in, f"{name} may sign in")
        known.users.append(self.id)

    def _signs_in(self) -> bool:
        grant = {"grant_type": "password", "username": self._name, "password": PASSWORD}
        answer = self._ask("POST", "/oauth/token", json=grant)
        if answer.status_code == 200:
            self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer.status_code == 200

    def act(self) -> bool:
        """Whether it was answered, and not refused for now."""
        self._answered = True
        self._chance.choices(
            (self.publish, self.publish_with_key, self.follow, self.like, self.home, self.counters, self.sign_up),
            weights=(6, 6, 4, 6, 10, 4, 1),
        )[0]()
        return self._answered

    def publish(self) -> None:
        self._write(("post", str(self.id), self._caption()), "/api/v1/statuses")

    def publish_with_key(self) -> None:
        """A new one, or again one that was not answered for yet."""
        if not self.unsettled or len(self.unsettled) < 5:
            caption = self._caption()
            self.unsettled[f"key {caption}"] = ("post", str(self.id), caption)
        self.repeat(next(iter(self.unsettled)))

    def repeat(self, key: str) -> None:
        what = self.unsettled.pop(key)
        if self._write(what, "/api/v1/statuses", key).status != 200:
            self.unsettled[key] = what

    def follow(self) -> None:
        self._once("follow", self._known.users, "/api/v1/accounts/{}/follow")

    def like(self) -> None:
        self._once("like", self._known.posts[-50:], "/api/v1/statuses/{}/favourite")

    def _once(self, what: str, ids: list[int], path: str) -> None:
        if not ids:
            return
        chosen = self._chance.choice(ids)
        fact = (what, str(self.id), str(chosen))
        if chosen != self.id and fact not in self._done:
            self._done.add(fact)
            self._write(fact, path.format(chosen))

    def sign_up(self) -> None:
        self._made += 1
        name = f"{self._name}_{self._made}"
        self._write(("user", name), "/api/v1/accounts", body={"username": name, "password": PASSWORD})

    def home(self) -> None:
        self._read("/api/v1/timelines/home")

    def counters(self) -> None:
        self._read(f"/api/v1/accounts/{self._chance.choice(self._known.users)}")

    def _caption(self) -> str:
        self._made += 1
        return f"{self._name} says {self._made}"

    def _write(self, what: tuple[str, ...], path: str, key: str | None = None, body: Any = None) -> Write:
        if what[0] == "post":
            body = {"status": what[2]}
        began = time.monotonic()
        answer = self._ask("POST", path, json=body, headers={"Idempotency-Key": key} if key else {})
        position, made = answer.headers.get("darkroom-position"), answer.status_code == 200 and what[0] == "post"
        write = Write(
            what,
            answer.status_code,
            None if position is None else int(position),
            began,
            time.monotonic() - began,
            key,
            int(answer.json()["id"]) if made else None,
        )
        self.ledger.writes.append(write)
        self._judge(answer, permitted=(200, 202, 503), what=what)
        if write.id is not None:
            self._known.posts.append(write.id)
        elif what[0] == "user" and write.status == 200 and write.position is not None:
            self._known.users.append(write.position)
        return write

    def _read(self, path: str) -> None:
        began = time.monotonic()
        answer = self._ask("GET", path)
        self.ledger.reads.append(Read(path, answer.status_code, began, time.monotonic() - began))
        self._judge(answer, permitted=(200, 503), what=("read", path))

    def _judge(self, answer: httpx.Response, permitted: tuple[int, ...], what: tuple[str, ...]) -> None:
        self._answered = answer.status_code != 503
        if answer.status_code not in permitted:
            self.ledger.faults.append(f"{what}: {answer.status_code} {answer.text}")
        elif answer.status_code == 503 and "retry-after" not in answer.headers:
            self.ledger.faults.append(f"{what}: 503 without Retry-After")

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._http.request(method, path, **options)

    def close(self) -> None:
        self._http.close()


class Traffic:
    """Clients that act until they are told to stop."""

    def __init__(self, clients: list[Client], ledger: Ledger) -> None:
        self.ledger = ledger
        self.clients = clients
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[client]) for client in clients]

    def _run(self, client: Client) -> None:
        pause_s = PAUSE_S
        while not self._stopping.wait(pause_s):
            try:
                pause_s = PAUSE_S if client.act() else RETRY_S
            except Exception as error:
                self.ledger.faults.append(f"{type(error).__name__}: {error}")
                return

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)
            assert not thread.is_alive(), "a request was never answered"


@contextmanager
def traffic(clients: list[Client]) -> Iterator[Ledger]:
    """Load from all of them, with a ledger of its own."""
    ledger = Ledger()
    for client in clients:
        client.ledger = ledger
    running = Traffic(clients, ledger)
    running.start()
    try:
        yield ledger
    finally:
        running.stop()
