"""Worlds to be served: a data directory that the command line has filled, people with tokens, and what they ask for.

Everything goes through the doors that users have, but for the passwords: a hash that costs nothing, for nobody logs in.
"""

import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

from benchmarks.http_load import get
from benchmarks.http_servers import server
from benchmarks.peer_environments import HERE
from benchmarks.run import Bench
from benchmarks.worlds import append_all
from darkroom.events.data_directory import DataDirectory
from darkroom.events.facts import Event
from darkroom.events.log_adapters.lmdb import LmdbEventLog
from darkroom.gateway.credentials import Credentials
from darkroom.gateway.credentials_sqlite import SqliteCredentialStore
from darkroom.gateway.passwords import PasswordHashing

COMMAND_S = 900
DARKROOM = ("-m", "darkroom.gateway.main")

Posts = Sequence[tuple[int, int]]
"""(position, author) of each post that may be asked for."""


def new_directory(path: Path, events: Iterable[Event]) -> DataDirectory:
    """A data directory whose log holds these events, and nothing developed from it yet."""
    directory = DataDirectory(path, create=True)
    with closing(LmdbEventLog(directory.log)) as log:
        append_all(log, events)
    return directory


def catch_up(directory: DataDirectory) -> None:
    """Have the shards at the log's head; those of a server, if one works there."""
    command = [sys.executable, *DARKROOM, "catch-up", "--data", str(directory.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, cwd=HERE.parent)
    assert done.returncode == 0, done.stderr


def serve(bench: Bench, directory: DataDirectory) -> AbstractContextManager[int]:
    """`darkroom serve` on Ray, or inline where the run is a quick one; its port."""
    runtime = "inline" if bench.quick else "ray"
    return server(*DARKROOM, "serve", "--data", str(directory.path), "--port", "0", "--runtime", runtime)


def gateways(directory: DataDirectory, count: int) -> AbstractContextManager[int]:
    """So many gateways beside a `serve`, on one port of their own."""
    return server(*DARKROOM, "gateway", "--data", str(directory.path), "--port", "0", "--gateways", str(count))


def tokens_of(directory: DataDirectory, users: Sequence[int], count: int) -> dict[str, int]:
    """Tokens of some of these people, and whose they are."""
    hashing = PasswordHashing(memory_kib=8, passes=1, lanes=1)
    with closing(Credentials(SqliteCredentialStore(directory.path), hashing)) as credentials:
        tokens = {}
        for user in random.Random(5).sample(users, min(count, len(users) // 2)):
            credentials.bind(credentials.begin(f"bench_{user}", "correct horse battery").claim, user)
            tokens[credentials.issue_token(user, ["read"])] = user
        return tokens


def requests_of(tokens: Sequence[str], posts: Posts, count: int) -> list[bytes]:
    """60 % home pages, 30 % profiles, 10 % single posts, in no order."""
    chance, found = random.Random(6), []
    for number in range(count):
        post, author = chance.choice(posts)
        home, profile = "/api/v1/timelines/home?limit=20", f"/api/v1/accounts/{author}/statuses?limit=20"
        path = home if number % 10 < 6 else profile if number % 10 < 9 else f"/api/v1/statuses/{post}"
        found.append(get(path, chance.choice(tokens)))
    chance.shuffle(found)
    return found
