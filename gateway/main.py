"""The `darkroom` command. Exit status: 0 done, 1 not done or not all there, 2 not understood."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.actors.runtime import RuntimeFailed
from darkroom.actors.standstill import ShardFaulted
from darkroom.actors.supervisor import OtherShardCount
from darkroom.events.codec import UndecodableEvent
from darkroom.events.data_directory import DirectoryBusy, DirectoryUnusable
from darkroom.events.lmdb_environments import EnvironmentUnusable
from darkroom.events.log import LogError
from darkroom.gateway.commands import imports, log_commands, queries, work
from darkroom.gateway.commands import status as status_command
from darkroom.gateway.commands.console import CommandFailed
from darkroom.gateway.credentials import CredentialsError
from darkroom.gateway.readers import NotThere
from darkroom.gateway.settings import KEYS, Settings, SettingsError, load_settings
from darkroom.projections.generations import PointerDamaged
from darkroom.projections.store import StoreError

Command = Callable[[argparse.Namespace, Settings], int]

REFUSALS = (
    CommandFailed,
    CredentialsError,
    DirectoryBusy,
    DirectoryUnusable,
    EnvironmentUnusable,
    LogError,
    NotThere,
    OtherShardCount,
    PointerDamaged,
    RuntimeFailed,
    SettingsError,
    ShardFaulted,
    StoreError,
    UndecodableEvent,
    OSError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what it is refused for is one line on standard error."""
    _prepare_streams()
    arguments = build_parser().parse_args(argv)
    flags = {name: getattr(arguments, name) for name in KEYS if hasattr(arguments, name)}
    command: Command = arguments.command
    try:
        status = command(arguments, load_settings(flags, os.environ, arguments.config))
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()  # whoever read us has seen enough
        return 1
    except KeyboardInterrupt:
        return 130
    except REFUSALS as refusal:
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        print(f"darkroom: {told(refusal)}", file=sys.stderr)
        return 1
    return status


def _prepare_streams() -> None:
    """Output is UTF-8, wherever we run. A standard stream that was closed is the null device instead.

    Otherwise the first file that is opened, the log perhaps, would get its number and what is printed to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or Path(os.devnull).open()  # noqa: SIM115  # as long as the process
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _drop_output() -> None:
    """What could not be printed is not tried again at exit, where it would end in a second complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def told(refusal: Exception) -> str:
    """What is said of one of the REFUSALS, in a line."""
    if isinstance(refusal, OSError) and refusal.strerror:
        return f"{os.fsdecode(refusal.filename)}: {refusal.strerror}" if refusal.filename else refusal.strerror
    return " ".join(str(refusal).split())  # a driver may have told of each server on a line of its own


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; docs/operations.md tells of every command (a test compares)."""
    parser = argparse.ArgumentParser(prog="darkroom", description="A photo-sharing backend developed from one log.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_work(commands)
    _add_log(commands)
    _add_imports(commands)
    _add_queries(commands)
    _add_traffic(commands)
    return parser


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _add(commands: _Commands, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--data", metavar="DIR", help=KEYS["data"].help)
    parser.add_argument("--config", metavar="FILE", type=Path, help="A cluster.yaml to take settings from.")
    parser.set_defaults(command=command)
    return parser


def _add_setting(parser: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        parser.add_argument(KEYS[name].flag, dest=name, metavar=name.upper(), help=KEYS[name].help)


def _add_work(commands: _Commands) -> None:
    serve = _add(commands, "serve", work.serve, "Run the gateway and the shards.")
    _add_setting(serve, "host", "port", "gateways", "shards", "runtime")
    gateway = _add(commands, "gateway", work.gateway, "Run one more gateway, beside a `serve` that runs the shards.")
    _add_setting(gateway, "host", "port", "gateways")
    catch_up = _add(commands, "catch-up", work.catch_up, "Bring the shards to the log's head.")
    _add_setting(catch_up, "shards", "runtime")
    rebuild = _add(commands, "rebuild", work.rebuild, "Fill a new generation from the log and switch to it.")
    _add_setting(rebuild, "shards", "runtime")
    status = _add(commands, "status", status_command.status, "Tell how far the shards are.")
    _add_json(status)


def _add_log(commands: _Commands) -> None:
    log = _group(commands, "log", "The log as JSON lines.")
    append = _add(log, "append", log_commands.append, "Append a file's lines in blocks of 10,000.")
    append.add_argument("file", metavar="FILE", help="A file of JSON lines, or - for standard input.")
    export = _add(log, "export", log_commands.export, "Print records as JSON lines.")
    export.add_argument("--after", metavar="P", type=_whole, default=0, help="Begin behind this position.")
    export.add_argument("--limit", metavar="N", type=_whole, help="Print at most so many.")
    _add(log, "check", log_commands.check, "Read every record and check that it is whole.")


def _add_imports(commands: _Commands) -> None:
    files = _group(commands, "import", "Real graphs into the log.")
    follows = _add(files, "follows", imports.follows, "Append a follow for each line `follower followee`.")
    favourites = _add(files, "favourites", imports.favourites, "Append photos, and a like for each line `user photo`.")
    favourites.add_argument("--seed", type=_whole, default=1, help="Draws each photo's author (1 unless told).")
    for parser in (follows, favourites):
        parser.add_argument("file", metavar="FILE", help="Plain or .gz; lines beginning with # are skipped.")


def _add_queries(commands: _Commands) -> None:
    feed = _add(commands, "feed", queries.feed, "Print home feeds.")
    _add_asked(feed, "users")
    feed.add_argument("--before", metavar="POSITION", type=_whole, help="Only posts below this position.")
    feed.add_argument("--limit", metavar="N", type=_whole, default=20, help="Posts a feed: 20 unless told, 1 to 1000.")
    graph = _group(commands, "graph", "The social graph.")
    for name, text in (("followers", "Who follows."), ("following", "Who is followed."), ("posts", "Whose posts.")):
        _add_graph(_add(graph, name, queries.graph_users, text), name, "users")
    for name, text in (("likers", "Who likes a post."), ("comments", "The live comments of a post.")):
        _add_graph(_add(graph, name, queries.graph_posts, text), name, "posts")
    text = "Live posts of AUTHOR that carry a live comment by COMMENTER."
    commented = _add(graph, "commented", queries.graph_commented, text)
    commented.add_argument("author", metavar="AUTHOR")
    commented.add_argument("commenter", metavar="COMMENTER")
    _add_json(commented)
    counters = _group(commands, "counters", "Counters, each the size of its set.")
    _add_asked(_add(counters, "user", queries.counters_user, "Followers, following and posts."), "users")
    _add_asked(_add(counters, "post", queries.counters_post, "Likes and comments."), "posts")
    activity = _add(commands, "activity", queries.activity_of, "What a user did, and what was done to them.")
    _add_asked(activity, "users")


def _add_graph(parser: argparse.ArgumentParser, query: str, asked: str) -> None:
    _add_asked(parser, asked)
    parser.add_argument("--limit", metavar="N", type=_whole, default=1000, help="1000 unless told, 0 for all.")
    parser.set_defaults(query=query)


def _add_asked(parser: argparse.ArgumentParser, name: str) -> None:
    text = "An id or a name" if name == "users" else "An id"
    parser.add_argument(name, metavar=name[:-1].upper(), nargs="+", help=f"{text}; - reads them from standard input.")
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print JSON objects, one a line.")


def _add_traffic(commands: _Commands) -> None:
    simulate = _add(commands, "simulate", _simulate, "Append seeded traffic.")
    simulate.add_argument("--seed", type=_whole, default=1, help="1 unless told.")
    simulate.add_argument("--users", metavar="N", type=_whole, default=100, help="How many people: 100 unless told.")
    simulate.add_argument("--events", metavar="N", type=_whole, default=10_000, help="How many: 10000 unless told.")
    _add(commands, "demo", _demo, "Fill a small demo world, the first time.")


def _simulate(arguments: argparse.Namespace, settings: Settings) -> int:
    from darkroom.gateway.commands import traffic  # pictures and media take long to import

    return traffic.simulate(arguments, settings)


def _demo(arguments: argparse.Namespace, settings: Settings) -> int:
    from darkroom.gateway.commands import traffic

    return traffic.demo(arguments, settings)


def _group(commands: _Commands, name: str, text: str) -> _Commands:
    group = commands.add_parser(name, help=text, description=text)
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _whole(text: str) -> int:
    """A non-negative integer of a sensible length."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
