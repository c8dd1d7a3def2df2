"""The comparison with peers, without any peer: what is asked, what counts as done, and what is told of results."""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List
from xml.etree import ElementTree

import pytest

from benchmarks import measure
from benchmarks.bench import ROOT
from benchmarks.graphs import Graph
from benchmarks.peers import cell, charts, children, page, program, readme, workloads
from benchmarks.peers.field import FIELD, LEVELS, PINS, Entry, entries, pins
from benchmarks.peers.results import Results
from benchmarks.peers.workloads import GRAPHS, WORKLOADS

CONTESTANTS = ROOT / "benchmarks" / "peers" / "contestants"
#: What each kind of workload is called in a contestant's file.
FUNCTIONS = {
    **dict.fromkeys(GRAPHS, "graph"),
    **{name: name for name in ("runs", "cron", "late", "idle")},
    "kill": "carry",
}
BLAZE = "blaze:process"


@pytest.fixture(autouse=True)
def _short_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SPIN_ROUNDS", 1_000)


def entry_of(key: str) -> Entry:
    return next(entry for entry in entries() if entry.key == key)


# ---------------------------------------------------------------------- who takes part


def test_every_pin_is_one_version_of_one_package() -> None:
    parser = configparser.ConfigParser()
    parser.read_string(PINS.read_text(encoding="utf-8"))
    for section in parser.sections():
        for name, version in parser[section].items():
            assert re.fullmatch(r"[a-z][a-z0-9-]*", name)
            assert re.fullmatch(r"\d+(\.\d+)+", version), f"{section}: {name} {version}"


def test_every_peer_has_an_environment_of_its_own_and_every_environment_a_peer() -> None:
    peers = [contestant for contestant in FIELD if contestant.venv != "blaze"]
    assert {contestant.venv for contestant in peers} == set(pins())
    assert len({contestant.venv for contestant in peers}) == len(peers)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/.venv-peers/" in ignored


def test_a_contestant_can_do_a_workload_or_says_why_not() -> None:
    for contestant in FIELD:
        tree = ast.parse((CONTESTANTS / f"{contestant.key}.py").read_bytes())
        known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        for setting in contestant.settings:
            entry = Entry(contestant, setting)
            for workload, function in FUNCTIONS.items():
                assert entry.why_not(workload) or function in known, f"{entry.key}: {workload}"
            assert setting.level in LEVELS and set(setting.levels.values()) <= set(LEVELS)
            named = {*setting.cannot, *setting.sizes, *setting.levels, *contestant.cannot, *contestant.sizes}
            assert named <= set(WORKLOADS)


def test_every_peer_says_what_it_does_that_blaze_does_not() -> None:
    for contestant in FIELD:
        if contestant.key not in ("blaze", "bare_loops"):
            assert len(contestant.strength) > 40 and len(contestant.reading) > 40, contestant.key


def test_a_contestant_has_a_hello_of_its_own() -> None:
    for contestant in FIELD:
        if contestant.key not in ("blaze", "bare_loops"):
            path = ROOT / "benchmarks" / "peers" / "hello" / f"hello_{contestant.key}.py"
            assert path.is_file()


def test_children_know_nothing_of_the_user_and_report_nothing_home(tmp_path: Path) -> None:
    found = children.environment(tmp_path, "mark")
    assert found["DO_NOT_TRACK"] == "1" and found["DAGSTER_DISABLE_TELEMETRY"] == "yes"
    assert found["HOME"] == str(tmp_path) and Path(found["PREFECT_HOME"]).is_relative_to(tmp_path)


# ---------------------------------------------------------------------- what counts as done


@pytest.mark.parametrize("workload", GRAPHS)
def test_a_task_that_is_left_out_shows_in_the_last_output(workload: str) -> None:
    graph = workloads.graph_of(workload, 12)
    expected = graph.expected()
    workloads.require_graph(graph, expected[graph.tasks[-1].name])
    outputs: Dict[str, int] = {}
    for task in graph.tasks:
        outputs[task.name] = 500_000 if task is graph.tasks[len(graph.tasks) // 2] else task(outputs)
    with pytest.raises(measure.WrongResult, match="not"):
        workloads.require_graph(graph, outputs[graph.tasks[-1].name])
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", task.name) for task in graph.tasks)


def test_runs_and_jobs_are_counted_and_compared() -> None:
    workloads.require_runs(2, [12, 12])
    with pytest.raises(measure.WrongResult, match="1 runs ended, not 2"):
        workloads.require_runs(2, [12])
    with pytest.raises(measure.WrongResult, match="1 outputs are wrong"):
        workloads.require_runs(2, [12, 13])
    with pytest.raises(measure.WrongResult, match="3 jobs are there, not 4"):
        workloads.require_jobs(4, 3)


def test_lateness_counts_what_was_missed_and_what_fired_twice() -> None:
    ticks = [("job-0", 100.0, 100.001), ("job-1", 100.0, 100.004), ("job-0", 101.0, 101.002), ("job-0", 101.0, 101.5)]
    found = workloads.lateness_of(ticks, count=2, seconds=2)
    assert (found.due, found.fired, found.missed, found.twice) == (4, 4, 1, 1)
    assert found.most == pytest.approx(500.0) and found.p50 == pytest.approx(4.0)


def test_a_witness_tells_completed_steps_from_those_in_flight_and_a_torn_line_from_a_whole_one() -> None:
    line, side, last = workloads.doomed_names()
    before = [f"{what} {name}" for name in line[:-1] for what in "BE"] + [f"B {line[-1]}", "E c"]
    after = [f"{what} {name}" for name in (line[0], line[-2], line[-1], *side[:-1]) for what in "BE"]
    found = workloads.aftermath("\n".join(before), "\n".join(after) + "\n")
    assert found.completed_again == (line[0], line[-2])
    assert found.built_upon_again == (line[0], line[-2])  # the last of the chain had begun to build upon it
    assert found.in_flight_again == (line[-1],)
    assert found.never == (side[-1], last)
    assert found.completed == len(line) - 1


def test_a_completed_step_that_nothing_was_built_upon_is_counted_apart() -> None:
    line, _, _ = workloads.doomed_names()
    before = f"B {line[0]}\nE {line[0]}\n"
    found = workloads.aftermath(before, before)
    assert (found.completed_again, found.built_upon_again) == ((line[0],), ())


class Wrong:
    """A contestant that answers fast and wrongly."""

    @staticmethod
    def graph(setting: str, graph: Graph, place: Path) -> Any:
        class Context:
            def __enter__(self) -> Callable[[], Any]:
                return lambda: (measure.Timed(1e-9, 1e-9), 41)

            def __exit__(self, *error: object) -> None:
                pass

        return Context()


def test_a_repetition_with_a_wrong_output_is_no_figure(tmp_path: Path) -> None:
    answers = cell.answers(Wrong, "default", "chain", 5, tmp_path, "")
    with pytest.raises(measure.WrongResult, match="the output is 41, not 4"):
        next(answers)


def test_a_child_that_does_not_answer_in_time_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = children.Child(Path(sys.executable), entry_of("bare_loops:F1"), "idle", 3, tmp_path)
    child.send()
    child.answer()
    with pytest.raises(children.Failed, match="no answer within"):
        child.answer(limit=0.0)
    assert children.marked(child.mark) == []


def test_a_contestant_that_is_not_installed_fails_alone_and_says_so(tmp_path: Path) -> None:
    child = children.Child(Path(sys.executable), entry_of("huey:default"), "chain", 3, tmp_path)
    try:
        with pytest.raises(children.Failed, match="No module named 'huey'"):
            child.ask()
    finally:
        child.kill()


# ---------------------------------------------------------------------- Blaze and the bare loops do run


def measured(directory: Path, workload: str, only: str = "blaze,bare_loops") -> Dict[str, Dict[str, Any]]:
    written = directory / "results.json"
    arguments = ["--quick", f"--only={only}", f"--workload={workload}", f"--dir={directory}", f"--results={written}"]
    status = program.main(arguments)
    found: Dict[str, Dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))["cells"]
    assert status == 0, found
    return found


def test_blaze_and_the_bare_loops_take_turns_and_leave_figures(tmp_path: Path) -> None:
    found = measured(tmp_path, "chain,rnaseq,runs,cron")
    for workload, cells in found.items():
        for entry in entries():
            if entry.contestant.venv == "blaze" and not entry.why_not(workload):
                assert len(cells[entry.key]["times"]) == len(cells[entry.key]["spins"]) == 1
    assert set(found) == {"chain", "rnaseq", "runs", "cron"}


def test_what_blaze_completed_is_not_repeated_after_a_kill(tmp_path: Path) -> None:
    kills = measured(tmp_path, "kill", BLAZE)["kill"][BLAZE]["kills"]
    assert len(kills) > 1
    for kill in kills:
        assert kill["finished"] and not kill["never"] and not kill["built_upon_again"]


def test_blaze_fires_idles_and_starts(tmp_path: Path) -> None:
    found = measured(tmp_path, "late,idle,import,hello", "blaze:process")
    (window,) = found["late"][BLAZE]["windows"]
    assert (window["missed"], window["twice"]) == (0, 0)
    assert found["idle"][BLAZE]["cpu_per_minute"] >= 0
    for workload in ("import", "hello"):
        assert found[workload][BLAZE]["memory"][0] > 1e6


def test_results_that_are_not_asked_for_stay(tmp_path: Path) -> None:
    measured(tmp_path, "chain", BLAZE)
    found = measured(tmp_path, "chain", "bare_loops:F1")
    assert set(found["chain"]) == {BLAZE, "bare_loops:F1"}


def test_a_name_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    for argument in ("--only=hui", "--workload=chian"):
        with pytest.raises(SystemExit) as refused:
            program.main([argument])
        assert refused.value.code == 2
    told = capsys.readouterr().err
    assert "no contestant 'hui'" in told and "no workload 'chian'" in told


# ---------------------------------------------------------------------- what is told


@pytest.fixture
def recorded(tmp_path: Path) -> Results:
    """Results with figures that were made up, and one cell that failed."""
    results = Results(tmp_path / "results.json", machine={"python": "CPython 3", "processors": 2})
    results.installed["huey"] = {"bytes": 2_500_000, "distributions": {"huey": "3.5.4"}}
    for workload in ("chain", "runs", "montage", "cron"):
        for number, entry in enumerate(entries()):
            if not entry.why_not(workload):
                made = results.begin(workload, entry.key, entry.size(workload))
                made.update(times=[0.25 * (number + 2), 0.5 * (number + 2)], cpus=[0.1, 0.2], spins=[25.0, 50.0])
        results.stamp(workload, {"rounds": 2, "shrink": 1, "seconds": 60.0})
    results.cells["chain"]["dbos:default"] = {"size": 500, "error": "TypeError: a | b\nno"}
    lateness = {"due": 8, "fired": 8, "missed": 1, "twice": 0, "p50": 1.5, "p99": 2.0, "most": 3.0}
    results.begin("late", BLAZE, 4)["windows"] = [lateness, lateness]
    kill = {"completed_again": ["c00"], "built_upon_again": [], "in_flight_again": ["c01"], "never": ["sink"]}
    results.begin("kill", "huey:quick", 1)["kills"] = [{**kill, "completed": 3, "finished": False}]
    results.begin("hello", BLAZE, 1).update(times=[0.1], cpus=[0.05], memory=[2.0**20], spins=[25.0])
    return results


def rows_of(text: str) -> List[List[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_the_page_has_a_row_for_every_figure_and_a_reason_for_every_empty_cell(recorded: Results) -> None:
    text = page.text(recorded, {"chain": "chain.svg"})
    rows = rows_of(text)
    (nosync,) = [row for row in rows if row[0].startswith("Huey: SqliteHuey, fsync=False") and row[3] == "200"]
    spread = recorded.per_unit("chain", "huey:nosync")
    assert spread is not None and charts.duration(spread.median) in nosync
    assert "DBOS: TypeError: a \\| b no" in text
    assert "APScheduler: jobs, no graphs" in text
    assert "![A chain of steps](charts/chain.svg)" in text
    assert next(row for row in rows if len(row) == 8 and "Blaze" in row[0])[:3] == [
        "**Blaze: durability=process (default)**",
        "process",
        "1.5 ms (1.5 – 1.5)",
    ]
    for contestant in FIELD:
        assert not contestant.strength or contestant.strength in text


def test_a_figure_at_the_reference_spin_is_corrected_repetition_by_repetition(recorded: Results) -> None:
    made = recorded.begin("chain", BLAZE, 10)
    made.update(times=[1.0, 4.0, 3.0], cpus=[1.0, 4.0, 3.0], spins=[25.0, 50.0, 25.0])
    assert recorded.at_reference("chain", BLAZE) == pytest.approx(0.2)
    assert recorded.per_unit("chain", BLAZE) == measure.Spread(pytest.approx(0.3), 0.1, 0.4)


def test_whoever_is_faster_than_blaze_is_named_with_how_much(recorded: Results) -> None:
    made = recorded.begin("runs", "luigi:files", 100)
    made.update(times=[1e-6], cpus=[1e-6], spins=[25.0])
    told = page.text(recorded, {}).partition("## Where Blaze is not the fastest")[2].partition("## A fair")[0]
    assert "**Many runs of a 3-step pipeline, process**: Luigi" in told


def test_every_row_of_a_table_has_the_columns_of_its_head(recorded: Results) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", page.text(recorded, {}), re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1, table


def test_a_chart_is_well_formed_and_says_everything_in_words(recorded: Results, tmp_path: Path) -> None:
    written = charts.write(recorded, tmp_path / "charts")
    assert {"chain", "runs", "montage"} <= set(written)
    for name in written.values():
        text = (tmp_path / "charts" / name).read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        space = "{http://www.w3.org/2000/svg}"
        labels = [text.text or "" for text in root.iter(f"{space}text")]
        assert root.get("viewBox") and "prefers-color-scheme:dark" in text
        assert any(label.startswith("Blaze") for label in labels)
        description = root.findtext(f"{space}desc") or ""
        assert all(
            figure in description
            for figure in labels
            if re.fullmatch(r"[\d.,]+ (s|ms|µs)", figure) and "Blaze" in figure
        )
        for bar in root.iter(f"{space}rect"):
            assert 0 < float(bar.get("width", "0")) <= charts.WIDTH
            assert float(bar.get("x", "0")) + float(bar.get("width", "0")) <= charts.WIDTH


def test_quick_figures_are_called_so(recorded: Results) -> None:
    recorded.measured["chain"]["shrink"] = 50
    assert "no measurement: chain**" in page.text(recorded, {})


def test_results_are_read_as_they_were_written(recorded: Results) -> None:
    recorded.save()
    assert recorded.path is not None
    again = Results.read(recorded.path)
    assert (again.cells, again.measured, again.installed) == (recorded.cells, recorded.measured, recorded.installed)
    assert [path.name for path in recorded.path.parent.iterdir()] == ["results.json"]


def test_the_table_of_the_readme_stands_between_its_marks(recorded: Results, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        readme.update(recorded, path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| **Blaze (durability=process)** | process |" in text and "| 0 of 3 |" in text
    path.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="no place for the table"):
        readme.update(recorded, path)


def test_the_readme_has_a_place_for_the_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index(readme.BEGIN) < text.index(readme.END)
