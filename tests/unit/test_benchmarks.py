"""The benchmarks work: every row comes out, and one whose work was not done is called wrong. No timing is tested."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest

from benchmarks import bare, daemon, engine, graphs, measure, program, report, scheduler, steps, testing_kit
from benchmarks.bench import ROOT, Sizes

TINY = Sizes(
    steps=20,
    runs=3,
    growth=2,
    leak_runs=20,
    leak_seconds=5.0,
    megabytes=1,
    jobs=20,
    stored_jobs=30,
    late_jobs=4,
    late_seconds=1,
    processes=2,
    idle_jobs=3,
    idle_seconds=0.01,
    settle_seconds=0.01,
    calls=10,
    clients=2,
    starts=1,
    warmups=0,
    workflows=(("montage-chameleon-2mass-01d-001", 1),),
)
KEYS = {
    *("chain", "chain-power", "fan", "dag", "chain-memory", "chain-memory-blaze", "fan-memory", "fan-memory-blaze"),
    *("runs", "runs-triggered", "import", "hello", "leak", "leak-memory", "passing", "passing-unkept"),
    *(f"growth-{kind}-{phase}" for kind in ("chain", "fan") for phase in ("validate", "first", "total")),
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    # What the tests before have left is left out of the collections between two turns.
    gc.freeze()
    # Nothing is timed here: what the interpreters compile is kept from one session to the next.
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(request.config.cache.mkdir("compiled")))
    monkeypatch.setattr(program, "QUICK", TINY)
    monkeypatch.setattr(measure, "SPIN_ROUNDS", 1_000)


def measured(directory: Path, only: str, status: int = 0, main: Any = engine.main) -> Dict[str, Any]:
    """What a program writes about these rows."""
    written = directory / "figures.json"
    work = directory / "work"
    arguments = ["--quick", "--repeat=1", f"--only={only}", f"--dir={work}", f"--json={written}"]
    assert main(arguments) == status
    assert list(work.iterdir()) == []
    found: Dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    return found


def test_every_row_comes_out_in_the_table_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(tmp_path, "*")
    printed = capsys.readouterr().out
    assert found["wrong"] == []
    assert {row["key"] for row in found["rows"]} == KEYS
    for row in found["rows"]:
        assert row["blaze"]["low"] <= row["blaze"]["median"] <= row["blaze"]["high"]
        assert f"\n{row['key']} " in printed and f"\n{row['key']}: {row['what']}" in printed
        assert row["goal"] == "" or row["reached"] in (True, False)
    assert found["machine"]["python"] in printed and found["machine"]["sqlite"] in printed
    # These two are no question of speed.
    assert {row["key"] for row in found["rows"] if row["key"].startswith("passing") and row["reached"]} == {
        "passing",
        "passing-unkept",
    }


def test_every_row_of_the_scheduler_comes_out(tmp_path: Path) -> None:
    found = measured(tmp_path, "*", main=scheduler.main)
    assert found["wrong"] == []
    keys = {"submit", "start", "resident", "late-bare", "late", "late-together", "idle", "day"}
    assert {row["key"] for row in found["rows"]} == keys


def test_every_row_of_the_socket_comes_out(tmp_path: Path) -> None:
    found = measured(tmp_path, "*", main=daemon.main)
    assert found["wrong"] == []
    assert {row["key"] for row in found["rows"]} == {
        *(f"{kind}{how}" for kind in ("socket", "status", "submit") for how in ("", "-anew", "-many")),
        *("status-of-20", "status-after-20", "memory", "detach", "help", "status-json"),
    }


def test_every_row_of_the_testing_kit_comes_out(tmp_path: Path) -> None:
    found = measured(tmp_path, "*", main=testing_kit.main)
    assert found["wrong"] == []
    assert {row["key"] for row in found["rows"]} == {"start", "set-up", "run-sequence", "year"}


def test_with_json_on_stdout_there_is_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--repeat=2", "--only=chain-memory", "--json=-", f"--dir={tmp_path}"]
    assert engine.main(arguments) == 0
    out, err = capsys.readouterr()
    (row, _) = json.loads(out)["rows"]
    assert row["key"] == "chain-memory" and row["goal"] == "≤ 0.8 ×, ≤ 9 µs/step"
    assert "chain-memory-blaze" in err


def test_quick_leaves_out_what_takes_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[str] = []
    monkeypatch.setattr(program, "_measure", lambda bench, key, work: asked.append(key))
    assert engine.main(["--quick", f"--dir={tmp_path}"]) == 0
    assert set(engine.WORK) - set(asked) == {"leak", "leak-memory"}


def test_a_row_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        engine.main(["--only=chian"])
    assert refused.value.code == 2
    assert "no row 'chian'" in capsys.readouterr().err


def test_help_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as helped:
        engine.main(["--help"])
    assert helped.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {key} " in printed for key in engine.WORK)


# ---------------------------------------------------------------------- wrong results


def test_an_output_that_is_not_the_expected_one_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = graphs.Graph.expected
    monkeypatch.setattr(graphs.Graph, "expected", lambda graph: {**true(graph), graph.tasks[-1].name: -1})
    monkeypatch.setattr(steps, "_committed", lambda *arguments: lambda: measure.Timed(1.0, 1.0))
    found = measured(tmp_path, "chain,runs", status=1)
    (wrong,) = found["wrong"]
    assert wrong["key"] == "chain" and "Blaze: the output is 19, not -1" in wrong["what"]
    assert [row["key"] for row in found["rows"]] == ["runs", "runs-triggered"]  # the other rows come out all the same


def test_a_bare_loop_that_stores_too_little_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_one = (
        "INSERT OR IGNORE INTO steps SELECT column1, 'one', 'COMPLETED', column3, column4, column5 "
        "FROM (VALUES (?, ?, ?, ?, ?))"
    )
    monkeypatch.setattr(bare, "STEP", only_one)
    (wrong,) = measured(tmp_path, "chain", status=1)["wrong"]
    assert wrong["what"] == "bare: rows in the database are {'steps': 1}, not {'steps': 20}"


def test_a_bare_pool_that_leaves_a_task_out_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = bare.pooled
    monkeypatch.setattr(bare, "pooled", lambda graph, workers: true(replace(graph, tasks=graph.tasks[:-1]), workers))
    (wrong,) = measured(tmp_path, "fan-memory", status=1)["wrong"]
    assert wrong["what"] == "bare: 21 outputs of 22; wrong or missing: sink"


def test_a_row_that_breaks_is_wrong_and_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "workflows", lambda parts: 1 // 0)
    (wrong,) = measured(tmp_path, "dag", status=1)["wrong"]
    assert wrong["what"].startswith("ZeroDivisionError")
    printed = capsys.readouterr()
    assert "WRONG dag: ZeroDivisionError" in printed.out and "Traceback" in printed.err


# ---------------------------------------------------------------------- the parts


def test_the_large_graph_has_the_size_that_the_goal_names() -> None:
    graph = graphs.workflows(Sizes().workflows)
    assert (len(graph.tasks), graph.edges) == (1_993, 5_600)
    seen = set()
    for task in graph.tasks:
        assert seen.issuperset(task.parents)
        seen.add(task.name)


@pytest.mark.parametrize(
    ("ratio", "value", "words", "reached"),
    [(0.8, 9.0, True, True), (0.9, 9.0, True, False), (0.8, 9.1, True, False), (0.8, 9.0, False, False)],
)
def test_a_goal_is_reached_when_all_of_it_is(ratio: float, value: float, words: bool, reached: bool) -> None:
    goal = report.Goal(ratio=0.8, value=9.0, words="no copy")
    assert goal.told("µs") == "≤ 0.8 ×, ≤ 9 µs, no copy"
    assert goal.reached(measure.Spread.of([ratio]), measure.Spread.of([value]), words) is reached
    assert report.Goal().reached(None, measure.Spread.of([1.0]), True) is None


def test_contestants_take_turns_and_the_ratio_is_made_within_each_pair() -> None:
    turns: List[str] = []
    times = {"bare": iter([9.0, 1.0, 10.0]), "blaze": iter([9.0, 2.0, 30.0])}

    def contestant(name: str) -> measure.Repetition:
        return lambda: (turns.append(name), measure.Timed(next(times[name]), 1.0))[1]

    pairs = measure.in_pairs(contestant("bare"), contestant("blaze"), repeat=2)
    assert turns == ["bare", "blaze"] * 3
    assert pairs.ratio == measure.Spread(2.5, 2.0, 3.0)
    assert pairs.cpu_ratio == measure.Spread(1.0, 1.0, 1.0)
    assert [timed.wall for timed in pairs.bare] == [1.0, 10.0] and len(pairs.spins) == 5


def test_the_work_directory_is_no_part_of_the_repository() -> None:
    assert "/.work/" in (ROOT / "benchmarks" / ".gitignore").read_text(encoding="utf-8").splitlines()
