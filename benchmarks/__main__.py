"""`python -m benchmarks [ROW…]`: run the rows, print the table, and write it with the machine that it was run on."""

import argparse
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.measure import Row, line
from benchmarks.page import summary, write_page
from benchmarks.peer_environments import HERE, PeerMissing, Peers
from benchmarks.results import FOLDER, Results, Section, markdown, write
from benchmarks.run import Bench, module, names, title, told


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    found.add_argument("rows", nargs="*", metavar="ROW", help="rows to run, by name; all of them if none is named")
    found.add_argument("--list", action="store_true", help="name the rows and stop")
    found.add_argument("--quick", action="store_true", help="small and short: to see that it works, not to be quoted")
    found.add_argument("--repeats", type=int, metavar="N", help="how often each contender runs (5)")
    found.add_argument("--no-install", action="store_true", help="leave out peers that are not installed yet")
    found.add_argument(
        "--peers", type=Path, default=HERE / ".peers", metavar="FOLDER", help="where peers are installed"
    )
    found.add_argument("--results", type=Path, default=FOLDER, metavar="FOLDER", help="where the results are written")
    found.add_argument("--page", type=Path, metavar="RESULTS", help="only write docs/performance.md from these results")
    return found


def main() -> int:
    arguments = parser().parse_args()
    peers = Peers(arguments.peers.resolve(), install=not arguments.no_install)
    if arguments.page is not None:
        write_page(arguments.page, peers)
        return 0
    known = names()
    if arguments.list:
        print("\n".join(f"{name:20} {title(name)}" for name in known))
        return 0
    unknown = [name for name in arguments.rows if name not in known]
    if unknown:
        print(f"there is no row {unknown[0]}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    bench = Bench(quick=arguments.quick, peers=peers, repeats=arguments.repeats)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    results = Results(command=command, quick=arguments.quick, machine=machine())
    path = _run(arguments.rows or known, bench, results, arguments.results)
    print(f"\n{markdown(results)}\n{summary(results)}\n\nwritten to {path}")
    return 1 if any(section.failed for section in results.sections) else 0


def _run(chosen: list[str], bench: Bench, results: Results, folder: Path) -> Path:
    """Every row, written after each, so that an hour is not lost to a fault at its end."""
    stem = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}" + ("-quick" if bench.quick else "")
    print(results.machine.line(), flush=True)
    for name in chosen:
        section = Section(name=name, title=title(name))
        results.sections.append(section)
        _measure(section, bench)
        results.load_average_after = os.getloadavg()
        path = write(results, folder, stem)
    return path


def _measure(section: Section, bench: Bench) -> None:
    """One module; its fault is told, and does not keep the others from running."""
    began = time.monotonic()
    try:
        for one in told(module(section.name), bench):
            if isinstance(one, Row):
                section.rows.append(one)
                print(line(one), flush=True)
            else:
                section.curves.append(one)
                print(f"{one.name}: {len(one.x)} points", flush=True)
    except PeerMissing as missing:
        section.left_out = str(missing)
        print(f"{section.name}: left out, for {missing}", flush=True)
    except Exception as error:
        section.failed = f"{type(error).__name__}: {error}"
        print(f"{section.name}: {section.failed}", file=sys.stderr, flush=True)
        traceback.print_exc()
    finally:
        section.seconds = time.monotonic() - began
        print(f"{section.name} took {section.seconds:,.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
