"""The command: `python deploy/services start|stop|status [NAME…]`.

Exit status: 0 done, or all run; 1 something went wrong, or does not run; 2 the command line was not understood; 3 the
machine lacks a program; 130 interrupted.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from catalogue import SERVICES
from refusals import ServiceError, ToolMissing
from supervision import Supervision

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    options = build_parser().parse_args()
    supervision = Supervision(options.folder.resolve(), say)
    names = list(dict.fromkeys(options.names)) or list(SERVICES)
    try:
        if options.action == "status":
            return 0 if supervision.status(names) else 1
        if options.action == "start":
            supervision.start(names)
        else:
            supervision.stop(names, options.wipe)
    except ToolMissing as error:
        return complain(error, 3)
    except (ServiceError, OSError, subprocess.TimeoutExpired) as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python deploy/services",
        description="Cassandra, Kafka, Neo4j and Redis on the loopback interface, without Docker.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="start|stop|status")
    for action, words in (
        ("start", "fetch and start what does not run, and wait until it answers"),
        ("stop", "stop what was started here"),
        ("status", "say what runs; exit status 1 unless all does"),
    ):
        command = actions.add_parser(action, help=words, description=words)
        command.add_argument("names", nargs="*", metavar="NAME", type=known, help=", ".join(SERVICES))
        command.add_argument("--folder", type=Path, default=ROOT / ".services", help="where everything is kept")
        if action == "stop":
            command.add_argument("--wipe", action="store_true", help="remove the data, the logs and the passwords too")
    return parser


def known(name: str) -> str:
    if name not in SERVICES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SERVICES)}")
    return name


def say(words: str) -> None:
    print(words, flush=True)


def complain(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
