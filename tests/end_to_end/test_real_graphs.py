"""A real photo-sharing graph with real likes, through the command line, against a computation from the files alone."""

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from end_to_end.real_graphs import graph, pairs
from forking import run_forked

pytestmark = [pytest.mark.real_data, pytest.mark.ray]


def darkroom(*arguments: str, data: Path, lines: list[str] | None = None, timeout_s: int = 300) -> list[str]:
    """A command's answer, line by line."""
    command = ["-m", "darkroom.gateway.main", *arguments, "--data", str(data)]
    done = run_forked(command, stdin="\n".join(lines or []).encode(), timeout_s=timeout_s)
    done.check_returncode()
    return done.stdout.decode().splitlines()


def answers(*arguments: str, data: Path, asked: list[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in darkroom(*arguments, "--json", "-", data=data, lines=asked)]
    assert len(found) == len(asked)
    return found


class World:
    """What the files say, with the people's and photos' ids read from the exported log."""

    def __init__(self, data: Path, follows: list[tuple[int, int]], likes: list[tuple[int, int]]) -> None:
        self.person: dict[int, int] = {}
        photo: dict[int, int] = {}
        self.author: dict[int, int] = {}
        for position, line in enumerate(darkroom("log", "export", data=data), 1):
            record = json.loads(line)
            if record["type"] == "UserRegistered":
                self.person[int(record["username"][1:])] = position
            elif record["type"] == "PostPublished":
                photo[int(record["caption"].split()[1])] = position
                self.author[position] = record["author"]
        self.following: dict[int, set[int]] = defaultdict(set)
        self.followers: dict[int, set[int]] = defaultdict(set)
        self.likers: dict[int, set[int]] = defaultdict(set)
        self.posts: dict[int, list[int]] = defaultdict(list)
        for follower, followee in follows:
            self.following[self.person[follower]].add(self.person[followee])
            self.followers[self.person[followee]].add(self.person[follower])
        for person, liked in likes:
            self.likers[photo[liked]].add(self.person[person])
        for post, author in self.author.items():
            self.posts[author].append(post)

    def feed(self, user: int) -> list[int]:
        authors = self.following[user] | {user}
        return sorted((post for author in authors for post in self.posts[author]), reverse=True)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    follows, likes = graph("flickr-social.edges.tsv.gz"), graph("flickr-favourites.user_photo.tsv.gz")
    data = tmp_path_factory.mktemp("flickr") / "data"
    darkroom("import", "follows", str(follows), data=data)
    head = darkroom("import", "favourites", str(likes), data=data)
    assert darkroom("import", "favourites", str(likes), data=data) == head, "importing again adds nothing"
    assert darkroom("catch-up", "--shards", "2", "--runtime", "ray", data=data) == head
    return data, World(data, pairs(follows), pairs(likes))


def test_feeds_of_a_hundred_people_are_those_computed_from_the_files(imported: tuple[Path, World]) -> None:
    data, world = imported
    people = random.Random(1).sample(sorted(world.person.values()), 100)
    found = answers("feed", "--limit", "1000", data=data, asked=[str(user) for user in people])
    for user, feed in zip(people, found, strict=True):
        assert feed["user"] == str(user)
        posts = [int(post["id"]) for post in feed["posts"]]
        assert posts == world.feed(user)[:1000]
        assert all(world.author[int(post["id"])] == int(post["author"]) for post in feed["posts"])
    busiest = max(people, key=lambda user: len(world.feed(user)))
    whole = world.feed(busiest)
    for index in (0, len(whole) // 2, len(whole) - 10):
        [page] = answers("feed", "--before", str(whole[index]), data=data, asked=[str(busiest)])
        assert [int(post["id"]) for post in page["posts"]] == whole[index + 1 : index + 21]


def test_counters_and_graph_answers_are_those_computed_from_the_files(imported: tuple[Path, World]) -> None:
    data, world = imported
    numbers = random.Random(2).sample(sorted(world.person), 100)
    people = [world.person[number] for number in numbers]
    asked = [f"U{number}" for number in numbers]
    for user, counters in zip(people, answers("counters", "user", data=data, asked=asked), strict=True):
        shown = (counters["id"], counters["followers"], counters["following"], counters["posts"])
        sets = (world.followers[user], world.following[user], world.posts[user])
        assert shown == (str(user), *(len(entries) for entries in sets))
    for query, sets_of, down in (
        ("followers", world.followers, False),
        ("following", world.following, False),
        ("posts", world.posts, True),
    ):
        for user, told in zip(people, answers("graph", query, "--limit", "0", data=data, asked=asked), strict=True):
            assert [int(one) for one in told["ids"]] == sorted(sets_of[user], reverse=down)
    posts = random.Random(3).sample(sorted(world.author), 100)
    asked = [str(post) for post in posts]
    for post, told in zip(posts, answers("graph", "likers", "--limit", "0", data=data, asked=asked), strict=True):
        assert [int(one) for one in told["ids"]] == sorted(world.likers[post])
    for post, told in zip(posts, answers("counters", "post", data=data, asked=asked), strict=True):
        assert (told["likes"], told["comments"]) == (len(world.likers[post]), 0)


@pytest.mark.soak
def test_a_rebuild_to_another_number_of_shards_serves_the_same(imported: tuple[Path, World]) -> None:
    data, world = imported
    people = random.Random(4).sample(sorted(world.person.values()), 20)
    darkroom("rebuild", "--shards", "3", data=data)
    found = answers("feed", "--limit", "300", data=data, asked=[str(user) for user in people])
    for user, feed in zip(people, found, strict=True):
        assert [int(post["id"]) for post in feed["posts"]] == world.feed(user)[:300]
