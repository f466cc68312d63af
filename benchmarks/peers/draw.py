"""Plots of a results file as SVG: `draw.py RESULTS.json FOLDER`. Runs in the peers' environment, which has pygal."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pygal  # type: ignore[import-not-found]
from pygal.style import CleanStyle  # type: ignore[import-not-found]

OURS = "darkroom"


def main(source: Path, folder: Path) -> None:
    results = json.loads(source.read_text(encoding="utf-8"))
    for section in results["sections"]:
        compared = [row for row in section["rows"] if len(row["values"]) > 1]
        if compared:
            ratios(section["title"], compared).render_to_file(str(folder / f"{section['name']}-ratios.svg"))
        for number, curve in enumerate(section["curves"], 1):
            growth(curve).render_to_file(str(folder / f"{section['name']}-curve-{number}.svg"))


def chart(kind: Any, title: str, **options: Any) -> Any:
    # No script and no identifiers of its own making: the same results give the same bytes.
    return kind(
        title=title,
        style=CleanStyle,
        js=[],
        disable_xml_declaration=False,
        no_prefix=True,
        human_readable=True,
        legend_at_bottom=True,
        **options,
    )


def ratios(title: str, rows: list[dict[str, Any]]) -> Any:
    """Darkroom's value divided by each contender's, on a logarithmic axis; 1 is as fast."""
    names = list(dict.fromkeys(name for row in rows for name in row["values"] if name != OURS))
    found = [value for row in rows for name in names if (value := ratio(row["values"], name))]
    plot = chart(
        pygal.HorizontalBar,
        f"{title}: Darkroom / other",
        logarithmic=True,
        height=160 + 60 * len(rows),
        range=(min([*found, 1]) / 2, max([*found, 1]) * 1.2),  # a bar as short as the axis' beginning is not seen
        truncate_legend=-1,
    )
    plot.x_labels = [row["name"] for row in rows][::-1]
    for name in names:
        plot.add(name, [ratio(row["values"], name) for row in rows][::-1])
    return plot


def ratio(values: dict[str, list[float]], name: str) -> float | None:
    if name not in values:
        return None
    return round(statistics.median(a / b for a, b in zip(values[OURS], values[name], strict=True)), 3)


def growth(curve: dict[str, Any]) -> Any:
    """The series of one curve, on a logarithmic axis."""
    plot = chart(pygal.Line, f"{curve['name']} ({curve['unit']})", logarithmic=True, x_title=curve["x_name"])
    plot.x_labels = curve["x"]
    for name, values in curve["series"].items():
        plot.add(name, values)
    return plot


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
