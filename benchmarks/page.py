"""docs/performance.md from a results file: what stands between its two marks is generated, with the plots.

The plots are drawn by pygal in the peers' environment, so that nobody who runs Darkroom needs it.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.peer_environments import HERE, Peers
from benchmarks.results import Results, markdown, read

DOCS = HERE.parent / "docs"
PAGE = DOCS / "performance.md"
PLOTS = "performance"
BEGIN, END = "<!-- begin: python -m benchmarks --page -->", "<!-- end -->"
DRAW_S = 120


class PageUnmarked(Exception):
    """The page has no place for the results."""


def write_page(source: Path, peers: Peers, page: Path = PAGE) -> None:
    """Draw the plots of the results file and put tables and plots between the page's marks."""
    plots = draw(source, peers, page.parent / PLOTS)
    named = {section: [f"{PLOTS}/{path.name}" for path in paths] for section, paths in plots.items()}
    told = markdown(read(source), named)
    page.write_text(between_marks(page.read_text(encoding="utf-8"), told), encoding="utf-8")


def between_marks(page: str, told: str) -> str:
    """The page with other text between its marks; PageUnmarked where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageUnmarked(f"the page must have the lines {BEGIN} and {END}, between which the results go")
    return f"{before}{BEGIN}\n\n{told}\n{END}{after}"


def draw(source: Path, peers: Peers, folder: Path) -> dict[str, list[Path]]:
    """The plots by section; those of earlier results are removed once these are drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as drawn:
        command = [str(peers.python("requirements")), str(HERE / "peers" / "draw.py"), str(source), drawn]
        subprocess.run(command, check=True, timeout=DRAW_S)
        for old in folder.glob("*.svg"):
            old.unlink()
        for new in Path(drawn).glob("*.svg"):
            shutil.copyfile(new, folder / new.name)
    return {
        section.name: found
        for section in read(source).sections
        if (found := sorted(folder.glob(f"{section.name}-*.svg")))
    }


def summary(results: Results) -> str:
    """One line an aim: what was wanted and whether it was reached."""
    lines = []
    for section in results.sections:
        for row in section.rows:
            for aim in row.aims:
                reached = {True: "reached", False: "MISSED", None: "not measured"}[row.reached(aim)]
                found = row.median() if aim.of is None else row.ratio(aim.of) if aim.of in row.values else float("nan")
                wanted = f"{aim.bound:,.9g} {row.unit}" if aim.of is None else f"{aim.bound:g} x {aim.of}"
                lines.append(f"{reached:12} {found:12,.4g} {aim.sense} {wanted}: {row.name}")
    return "\n".join(lines)
