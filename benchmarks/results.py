"""What a run measured, as JSON for programs and Markdown for people; the two files of a run bear the same name."""

from pathlib import Path

import msgspec

from benchmarks.machine import Machine
from benchmarks.measure import OURS, Aim, Curve, Row, figure

FOLDER = Path(__file__).parent / "results"


class Section(msgspec.Struct, kw_only=True):
    """What one row module told; `failed` says why it told no more, `left_out` why it cannot be run here."""

    name: str
    title: str
    rows: list[Row] = []
    curves: list[Curve] = []
    seconds: float = 0.0
    failed: str | None = None
    left_out: str | None = None


class Results(msgspec.Struct, kw_only=True):
    """One run. `quick` results show that everything works, and are not to be quoted."""

    command: str
    quick: bool
    machine: Machine
    load_average_after: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sections: list[Section] = []


def write(results: Results, folder: Path, stem: str) -> Path:
    """Write both files; where the JSON is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    path.with_suffix(".md").write_text("# Results\n\n" + markdown(results), encoding="utf-8")
    return path


def read(path: Path) -> Results:
    return msgspec.json.decode(path.read_bytes(), type=Results)


def markdown(results: Results, plots: dict[str, list[str]] | None = None) -> str:
    """The whole run; `plots` are pictures by section, as paths."""
    load = ", ".join(f"{value:.2f}" for value in results.load_average_after)
    parts = [f"`{results.command}`\n\n{results.machine.line()}; load afterwards {load}.\n"]
    if results.quick:
        parts.append("**A quick run: it shows that everything works. Its figures are not to be quoted.**\n")
    for section in results.sections:
        parts += [f"## {section.title}\n", *_section(section)]
        parts += [f"![{section.title}]({path})\n" for path in (plots or {}).get(section.name, [])]
    return "\n".join(parts)


def _section(section: Section) -> list[str]:
    parts = [f"`python -m benchmarks {section.name}`, {section.seconds:,.0f} s.\n"]
    if section.rows:
        parts.append(_table(section.rows))
    parts += [_curve(curve) for curve in section.curves]
    told: list[Row | Curve] = [*section.rows, *section.curves]
    missing = {peer: reason for row in section.rows for peer, reason in row.missing.items()}
    parts += [f"Checked: {text}.\n" for text in dict.fromkeys(row.checked for row in section.rows if row.checked)]
    parts += [f"{note}\n" for note in dict.fromkeys(note for one in told for note in one.notes)]
    parts += [f"Left out: {peer}, for {reason}.\n" for peer, reason in missing.items()]
    if section.left_out:
        parts.append(f"Left out: {section.left_out}.\n")
    if section.failed:
        parts.append(f"**Not finished: {section.failed}**\n")
    return parts


def _table(rows: list[Row]) -> str:
    lines = ["| row | Darkroom | beside | theirs | ratio | aim | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if OURS in row.values:
            lines += _lines(row)
    return "\n".join(lines) + "\n"


def _lines(row: Row) -> list[str]:
    others = [name for name in row.values if name != OURS]
    aims = {aim.of: aim for aim in row.aims}
    ours = f"{figure(row.median())} {row.unit}"
    own = aims.get(None)
    lines = [_cells(row.name, ours, "", "", "", own, row)] if own or not others else []
    for name in others:
        shown = (row.name, ours) if not lines else ("", "")
        ratio = f"{row.ratio(name):.2f}"
        lines.append(_cells(*shown, name, figure(row.median(name)), ratio, aims.get(name), row))
    return lines


def _cells(name: str, ours: str, other: str, theirs: str, ratio: str, aim: Aim | None, row: Row) -> str:
    if aim is None:
        wanted, reached = "", ""
    else:
        wanted = f"{'≥' if aim.sense == 'at least' else '≤'} {aim.bound:,.9g}"
        reached = {True: "yes", False: "**no**", None: "?"}[row.reached(aim)]
    return f"| {name} | {ours} | {other} | {theirs} | {ratio} | {wanted} | {reached} |"


def _curve(curve: Curve) -> str:
    names = list(curve.series)
    lines = [
        f"{curve.name} ({curve.unit}):\n",
        f"| {curve.x_name} | {' | '.join(names)} |",
        "|---" * (1 + len(names)) + "|",
    ]
    for index, x in enumerate(curve.x):
        values = [curve.series[name][index] for name in names]
        lines.append(f"| {x} | {' | '.join('' if value is None else figure(value) for value in values)} |")
    return "\n".join(lines) + "\n"
