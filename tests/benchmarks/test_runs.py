"""The command of the benchmarks: what it lists, measures, writes, and puts into the page."""

import subprocess
import sys
from pathlib import Path

import pytest
import ray

from benchmarks.machine import machine
from benchmarks.measure import OURS, Aim, Curve, Row, compare, listening, turns
from benchmarks.page import BEGIN, END, PageUnmarked, between_marks, summary
from benchmarks.peer_environments import HERE, PeerMissing, Peers
from benchmarks.resident import LOG, PRIVATE, SHARDS, is_rays, tree
from benchmarks.results import Results, Section, markdown, read, write
from benchmarks.run import names, title
from darkroom.actors.runtimes.ray import ShardActor

ROW = Row(
    name="speed",
    unit="events/s",
    values={OURS: [10.0, 20.0, 90.0], "floor": [20.0, 20.0, 30.0]},
    aims=[Aim(0.9, "floor"), Aim(1.5, "floor", "at most"), Aim(30), Aim(2, "gone")],
    missing={"gone": "it is not to be had"},
)
CURVE = Curve(name="growth", unit="us", x_name="users", x=["1", "2"], series={"p50": [1.0, None]})


def results(*, quick: bool = False) -> Results:
    section = Section(name="some", title="Some rows", rows=[ROW], curves=[CURVE])
    return Results(command="python -m benchmarks some", quick=quick, machine=machine(), sections=[section])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=120)


def test_the_ratio_is_the_median_of_the_repeats_ratios() -> None:
    assert ROW.ratio("floor") == 1.0  # of 0.5, 1 and 3; the medians' quotient would be the same only by chance


def test_an_aim_is_reached_missed_or_not_known() -> None:
    assert [ROW.reached(aim) for aim in ROW.aims] == [True, True, False, None]
    assert [line.split()[0] for line in summary(results()).splitlines()] == ["reached", "reached", "MISSED", "not"]


def test_contenders_run_in_turns_each_repeat_begun_by_another() -> None:
    order: list[str] = []
    contenders = {name: lambda name=name: float(order.append(name) or 1) for name in "abc"}  # type: ignore[func-returns-value]
    assert turns(contenders, 3) == {name: [1.0] * 3 for name in "abc"}
    assert "".join(order) == "abcbcacab"


def test_what_a_module_compares_is_collected() -> None:
    with listening() as heard:
        assert compare("speed", "x/s", lambda: 2.0, {"floor": lambda: 4.0}, 3) == {"floor": 0.5}
    assert heard == [Row(name="speed", unit="x/s", values={OURS: [2.0] * 3, "floor": [4.0] * 3})]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = write(results(), tmp_path, "run")
    assert read(path).sections == results().sections
    told = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "| speed | 30 events/s |  |  |  | ≥ 30 | **no** |".replace("30 events", "20 events") in told
    assert "|  |  | floor | 20 | 1.00 |" in told
    assert "Left out: gone, for it is not to be had." in told
    assert "| 2 |  |" in told


def test_quick_results_say_that_they_are_not_to_be_quoted() -> None:
    assert "not to be quoted" in markdown(results(quick=True))
    assert "not to be quoted" not in markdown(results())


def test_only_what_stands_between_the_marks_of_the_page_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert between_marks(page, "new") == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    with pytest.raises(PageUnmarked, match="begin"):
        between_marks("nothing is marked here", "new")


def test_the_page_has_its_marks() -> None:
    page = (HERE.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert between_marks(page, "new") != page


def test_every_row_says_what_it_is() -> None:
    wanted = {"append", "fan_out", "rebuild", "end_to_end", "http", "celebrity", "hot_key", "growth"}
    wanted |= {"rebuild_serving", "memory"}
    assert wanted <= set(names())
    assert not [name for name in wanted if title(name).startswith("(cannot")]


def test_the_command_lists_rows_and_refuses_others(tmp_path: Path) -> None:
    listed = run("--list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == names()
    refused = run("nothing", "--results", str(tmp_path))
    assert refused.returncode == 2
    assert "there is no row nothing; there are append" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_quick_row_is_measured_and_written(tmp_path: Path) -> None:
    done = run("hot_key", "--quick", "--repeats", "1", "--no-install", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.json")
    assert path.with_suffix(".md").exists()
    [section] = read(path).sections
    assert [len(row.values) for row in section.rows] == [2, 2]


@pytest.mark.parametrize("row", ["rebuild_serving", "memory"])
def test_a_row_of_a_served_world_is_measured(tmp_path: Path, row: str) -> None:
    done = run(row, "--quick", "--repeats", "1", "--no-install", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"{row} took" in done.stdout
    [path] = tmp_path.glob("*.json")
    [section] = read(path).sections
    assert section.rows
    assert all(value > 0 for one in section.rows for values in one.values.values() for value in values)


def test_processes_are_told_apart_by_what_they_run() -> None:
    assert not is_rays(f"ray::{ShardActor.__name__}")
    assert not is_rays(f"{sys.executable} -m darkroom.gateway.main serve --data world")
    assert is_rays("ray::DashboardAgent")
    assert is_rays(f"{ray.__path__[0]}/core/src/ray/raylet/raylet --raylet_socket_name=socket")


def test_what_a_process_has_mapped_is_told_by_what_it_is(tmp_path: Path) -> None:
    code = (
        "import mmap, sys; held = bytes(range(256)) * 40_000; file = open(sys.argv[1], 'rb');"
        " mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); sum(mapped[::4096]); print(flush=True); input()"
    )
    path = tmp_path / "log" / "data.mdb"
    path.parent.mkdir()
    path.write_bytes(bytes(5_000 * 4096))
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        [found] = tree(process.pid, tmp_path)
    assert found.pss[LOG] == path.stat().st_size
    assert found.pss[PRIVATE] > 10_000_000
    assert found.pss[SHARDS] == 0
    assert found.rss_max >= found.rss >= found.total()


def test_a_peer_that_is_not_installed_is_named_and_left_out(tmp_path: Path) -> None:
    with pytest.raises(PeerMissing, match="not installed"):
        Peers(tmp_path, install=False).start("append_umadb", "requirements")
