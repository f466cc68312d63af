"""`feed`, `graph`, `counters`, `activity`: answers from the projections, as far as those have read the log.

Answers come in the order asked. One that does not exist is an error in its place, and the exit status 1 at the end.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from darkroom.gateway.commands.console import CommandFailed, answer, answer_json, arguments_or_stdin, tell_lag
from darkroom.gateway.composition import Darkroom
from darkroom.gateway.settings import Settings
from darkroom.projections import activity, engagement, home_feed, people, timelines
from darkroom.projections.graph import Found, Graph, Page
from darkroom.projections.reading import Reading
from darkroom.projections.routing import ID_MASK

FEED_LIMIT_MAX = 1000
ALL = 1 << 62

Answer = dict[str, Any]


class _Unknown(Exception):
    """There is no such user or post."""


def feed(arguments: argparse.Namespace, settings: Settings) -> int:
    """Home feeds, newest first."""
    if not 1 <= arguments.limit <= FEED_LIMIT_MAX:
        raise CommandFailed(f"--limit must be from 1 to {FEED_LIMIT_MAX}")
    below = ID_MASK + 1 if arguments.before is None else min(arguments.before, ID_MASK + 1)

    def page(reading: Reading, asked: str) -> Answer:
        user = _user(reading, asked)
        entries = home_feed.page(reading, user, below=below, limit=arguments.limit)
        posts = [{"id": str(entry.post), "author": str(entry.author)} for entry in entries]
        return {"user": str(user), "position": reading.position, "posts": posts}

    return _answer_each(arguments, settings, arguments.users, page)


def graph_users(arguments: argparse.Namespace, settings: Settings) -> int:
    """Followers, followed or posts of users."""

    def of_user(reading: Reading, graph: Graph, asked: str) -> Answer:
        user = _user(reading, asked)
        questions = {"followers": graph.followers, "following": graph.following, "posts": graph.posts}
        page = Page(_limit(arguments), newest_first=arguments.query == "posts")
        return _ids(user, questions[arguments.query](user, page))

    return _answer_each_of_graph(arguments, settings, arguments.users, of_user)


def graph_posts(arguments: argparse.Namespace, settings: Settings) -> int:
    """Likers or comments of posts."""

    def of_post(reading: Reading, graph: Graph, asked: str) -> Answer:
        post, author = _post(reading, asked)
        questions = {"likers": graph.likers, "comments": graph.comments}
        return _ids(post, questions[arguments.query](post, author, Page(_limit(arguments))))

    return _answer_each_of_graph(arguments, settings, arguments.posts, of_post)


def graph_commented(arguments: argparse.Namespace, settings: Settings) -> int:
    """Live posts of one user that carry a live comment by another."""

    def of_pair(reading: Reading, graph: Graph, asked: str) -> Answer:
        author, commenter = _user(reading, asked), _user(reading, arguments.commenter)
        found = graph.posts_commented_on(author, commenter, Page(ALL, newest_first=True))
        return {"id": str(author), "commenter": str(commenter), **_ids(author, found)}

    return _answer_each_of_graph(arguments, settings, [arguments.author], of_pair)


def counters_user(arguments: argparse.Namespace, settings: Settings) -> int:
    """Followers, following and posts, as numbers."""

    def of_user(reading: Reading, asked: str) -> Answer:
        user = _user(reading, asked)
        shard = reading.of(user)
        counters = engagement.user_counters(shard, user)
        return {"id": str(user), "position": shard.checkpoint.position, **msgspec.structs.asdict(counters)}

    return _answer_each(arguments, settings, arguments.users, of_user)


def counters_post(arguments: argparse.Namespace, settings: Settings) -> int:
    """Likes and comments, as numbers."""

    def of_post(reading: Reading, asked: str) -> Answer:
        post, author = _post(reading, asked)
        shard = reading.of(author)
        counters = engagement.post_counters(shard, post)
        return {"id": str(post), "position": shard.checkpoint.position, **msgspec.structs.asdict(counters)}

    return _answer_each(arguments, settings, arguments.posts, of_post)


def activity_of(arguments: argparse.Namespace, settings: Settings) -> int:
    """What a user did, and what was done to them and their posts."""
    limit = settings.activity_rows

    def of_user(reading: Reading, asked: str) -> Answer:
        user = _user(reading, asked)
        did = [_deed(row) for row in activity.done_by(reading, user, limit=limit)]
        received = [_deed(row) for row in activity.received_by(reading, user, limit=limit)]
        return {"id": str(user), "position": reading.position, "did": did, "received": received}

    return _answer_each(arguments, settings, arguments.users, of_user)


def _deed(row: activity.Activity) -> Answer:
    concerned = {"user": str(row.object)} if row.kind == "follow" else {"post": str(row.object)}
    return {"position": row.position, "kind": row.kind, "actor": str(row.actor), **concerned}


def _limit(arguments: argparse.Namespace) -> int:
    limit: int = arguments.limit
    return limit or ALL


def _ids(owner: int, found: Found) -> Answer:
    """An answer of the graph holds at its own position, whatever shards were asked for the name or the post."""
    return {"id": str(owner), "position": found.position, "ids": [str(one) for one in found.ids]}


def _user(reading: Reading, asked: str) -> int:
    """The live user of that id or name."""
    if asked.isascii() and asked.isdigit():
        user = int(asked) if len(asked) <= 15 else 0
        if people.is_live(reading, user):
            return user
    else:
        named = people.user_named(reading, asked)
        if named is not None:
            return named
    raise _Unknown(f"there is no user {asked}")


def _post(reading: Reading, asked: str) -> tuple[int, int]:
    """(post, author) of the live post of that id."""
    post = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 15 else 0
    row = timelines.find_post(reading, post)
    if row is None:
        raise _Unknown(f"there is no post {asked}")
    return post, timelines.author_of(row)


def _answer_each(
    arguments: argparse.Namespace, settings: Settings, asked: Iterable[str], query: Callable[[Reading, str], Answer]
) -> int:
    return _answer_each_of_graph(arguments, settings, asked, lambda reading, graph, one: query(reading, one))  # noqa: ARG005


def _answer_each_of_graph(
    arguments: argparse.Namespace,
    settings: Settings,
    asked: Iterable[str],
    query: Callable[[Reading, Graph, str], Answer],
) -> int:
    status = 0
    show = answer_json if arguments.json else _show
    with Darkroom(settings) as darkroom:
        for one in arguments_or_stdin(asked):
            try:
                show(darkroom.readers.read(partial(_of_graph, darkroom.readers.graph, query, one)))
            except _Unknown as unknown:
                show({"id": one, "error": str(unknown)})
                status = 1
        positions = darkroom.readers.positions()
        tell_lag(darkroom.log.head(), positions)
    return status


def _of_graph(
    graph: Callable[[Reading], Graph], query: Callable[[Reading, Graph, str], Answer], asked: str, reading: Reading
) -> Answer:
    return query(reading, graph(reading), asked)


def _show(fields: Answer) -> None:
    """The same for people: a heading, then a line for each entry."""
    if "error" in fields:
        answer(f"{fields['id']}: {fields['error']}")
        return
    lists = {name: value for name, value in fields.items() if isinstance(value, list)}
    answer(", ".join(f"{name} {value}" for name, value in fields.items() if name not in lists))
    for name, entries in lists.items():
        if len(lists) > 1:
            answer(f"  {name}:")
        for entry in entries:
            shown = ", ".join(f"{key} {value}" for key, value in entry.items()) if isinstance(entry, dict) else entry
            answer(f"  {shown}")
