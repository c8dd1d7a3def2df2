"""The examples, run as a user runs them, and every figure of the weather report worked out again from the file."""

from __future__ import annotations

import csv
import math
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import pytest

from blaze import Abort, BlockStatus, RunStatus, StateManager
from examples import definition as maths
from examples.weather import definition as weather

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEMO = EXAMPLES / "weather" / "run.py"
STEPS = (
    "extract",
    "extract_broken",
    "validate",
    "monthly_climate",
    "extremes",
    "weather_mix",
    "load",
    "report",
    "notify",
)
#: The steps that the demo's two kills hit.
IN_FLIGHT = {"extremes", "load"}


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    # The checkout that is tested, whether or not it is installed; and no terminal's encoding.
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=60)


# ---------------------------------------------------------------------- the weather, worked out without Blaze


def observations() -> List[Dict[str, str]]:
    with open(EXAMPLES / "data" / "seattle-weather.csv", newline="") as file:
        return list(csv.DictReader(file))


def tenths(text: str) -> int:
    """The file has one decimal: in whole tenths, sums are exact and their order means nothing."""
    return round(float(text) * 10)


def longest_spell(dry: bool) -> Tuple[int, date, date]:
    """Length, first and last day of the longest spell, counted by walking through the calendar."""
    rain = {row["date"]: tenths(row["precipitation"]) for row in observations()}
    best, day, length = (0, date.min, date.min), date(2012, 1, 1), 0
    while day <= date(2015, 12, 31):
        length = length + 1 if (rain[day.strftime("%Y/%m/%d")] == 0) == dry else 0
        if length > best[0]:
            best = (length, day - timedelta(days=length - 1), day)
        day += timedelta(days=1)
    return best


def season(text: str) -> str:
    return {"12": "winter", "01": "winter", "02": "winter", "03": "spring", "04": "spring", "05": "spring",
            "06": "summer", "07": "summer", "08": "summer"}.get(text[5:7], "autumn")  # fmt: skip


# ---------------------------------------------------------------------- the demo


class Demo(NamedTuple):
    state_dir: Path
    process: subprocess.CompletedProcess[str]

    @property
    def output(self) -> str:
        return self.process.stdout

    def query(self, sql: str) -> List[Tuple[Any, ...]]:
        with closing(sqlite3.connect(self.state_dir / "warehouse.db")) as connection:
            return connection.execute(sql).fetchall()

    def witnessed(self, event: str = "start") -> Dict[str, List[Tuple[str, str, str]]]:
        """``{run_id: [(step, pid, idempotency key)]}`` in the order of the executions."""
        found: Dict[str, List[Tuple[str, str, str]]] = defaultdict(list)
        for line in (self.state_dir / "witness.tsv").read_text().splitlines():
            what, run_id, step, _attempt, pid, key = line.split("\t")
            if what == event:
                found[run_id].append((step, pid, key))
        return found

    def table(self, head: str) -> Dict[str, List[str]]:
        """``{first cell: other cells}`` of the table in the output whose first line begins with ``head``."""
        (text,) = re.findall(rf"^ *{re.escape(head)} .*?(?=\n\s*\n)", self.output, re.MULTILINE | re.DOTALL)
        rows = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
        return {first: rest for first, *rest in rows}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    state_dir = tmp_path_factory.mktemp("demo") / "state"
    return Demo(state_dir, run(DEMO, "--state-dir", state_dir, cwd=state_dir.parent))


def test_the_demo_succeeds_in_a_page_and_a_bit(demo: Demo) -> None:
    assert (demo.process.returncode, demo.process.stderr) == (0, "")
    assert demo.output.endswith("Everything was as promised.\n")
    assert len(demo.output.splitlines()) <= 70
    assert max(map(len, demo.output.splitlines())) <= 110


def test_no_step_of_the_killed_run_ran_twice_but_those_in_flight(demo: Demo) -> None:
    killed_run, second_run = demo.witnessed().values()
    assert Counter(step for step, _, _ in killed_run) == {step: 1 + (step in IN_FLIGHT) for step in STEPS}
    assert Counter(step for step, _, _ in second_run) == dict.fromkeys(STEPS, 1)


def test_three_processes_shared_the_killed_run_each_going_on_where_the_last_one_died(demo: Demo) -> None:
    steps_of: Dict[str, List[str]] = defaultdict(list)
    for step, pid, _ in next(iter(demo.witnessed().values())):
        steps_of[pid].append(step)
    first, second, third = steps_of.values()
    assert set(first) == {"extract", "extract_broken", "validate", "monthly_climate", "extremes", "weather_mix"}
    assert second == ["extremes", "load"]
    assert third == ["load", "report", "notify"]


def test_a_step_that_ran_again_had_the_same_idempotency_key(demo: Demo) -> None:
    for run_id, executions in demo.witnessed().items():
        assert {(step, key) for step, _, key in executions} == {(step, f"{run_id}:{step}") for step in STEPS}


def test_the_state_tells_of_two_completed_runs_of_which_one_was_taken_over_twice(demo: Demo) -> None:
    with StateManager(demo.state_dir) as state:
        second, killed = state.runs()
        assert (killed.status, killed.recoveries) == (RunStatus.COMPLETED, 2)
        assert (second.status, second.recoveries) == (RunStatus.COMPLETED, 0)
        assert all(step.status is BlockStatus.COMPLETED for step in state.steps(killed.run_id))
        assert list(demo.witnessed()) == [killed.run_id, second.run_id]


def test_the_load_that_was_killed_after_its_commit_changed_nothing_when_it_ran_again(demo: Demo) -> None:
    killed, second = demo.witnessed()
    changed = sum(demo.query(f"SELECT COUNT(*) FROM {table}")[0][0] for table in
                  ("days", "months", "extremes", "mix", "quarantine"))  # fmt: skip
    assert demo.query("SELECT * FROM loads ORDER BY rowid") == [
        (f"{killed}:load", 2, changed),
        (f"{second}:load", 1, 0),
    ]
    table = re.findall(r"^ +(\w+) +(\S+  [0-9a-f]{12}) +(\S+  [0-9a-f]{12})$", demo.output, re.MULTILINE)
    assert [name for name, _, _ in table] == ["days", "months", "extremes", "mix", "quarantine"]
    assert all(before == after for _, before, after in table)


def test_the_warehouse_has_every_day_as_it_stands_in_the_file(demo: Demo) -> None:
    expected = [
        (row["date"].replace("/", "-"), *(float(row[name]) for name in weather.COLUMNS[1:5]), row["weather"])
        for row in observations()
    ]
    assert len(expected) == 1461
    assert demo.query("SELECT * FROM days ORDER BY date") == expected
    assert "2012-01-01 to 2015-12-31: 1,461 days; 12 rows are in quarantine" in demo.output


def test_the_months_are_the_sums_and_means_of_their_days(demo: Demo) -> None:
    days: Dict[str, List[Dict[str, str]]] = defaultdict(list)
    for row in observations():
        days[row["date"][:7].replace("/", "-")].append(row)
    found = demo.query("SELECT * FROM months ORDER BY month")
    assert [month for month, *_ in found] == sorted(days) and len(found) == 48
    for month, number, wet, precipitation, mean_max, mean_min in found:
        its = days[month]
        assert (number, wet) == (len(its), sum(tenths(day["precipitation"]) > 0 for day in its))
        for value, column, divisor in (
            (precipitation, "precipitation", 1),
            (mean_max, "temp_max", number),
            (mean_min, "temp_min", number),
        ):
            assert value == pytest.approx(sum(tenths(day[column]) for day in its) / 10 / divisor, abs=1e-9)


def climate(rows: List[Dict[str, str]], per: int) -> List[str]:
    """The four figures of the report on these days; sums are divided by ``per``."""
    rain = [tenths(row["precipitation"]) for row in rows]
    means = [sum(tenths(row[column]) for row in rows) / 10 / len(rows) for column in ("temp_max", "temp_min")]
    return [f"{value:.1f}" for value in (sum(rain) / 10 / per, sum(drops > 0 for drops in rain) / per, *means)]


def test_the_report_has_the_climate_of_each_year(demo: Demo) -> None:
    table = demo.table("per year")
    years = ["2012", "2013", "2014", "2015"]
    expected = [climate([row for row in observations() if row["date"].startswith(year)], 1) for year in years]
    assert table.pop("per year") == years
    assert [list(column) for column in zip(*table.values())] == expected
    assert table["precipitation mm"] == ["1226.0", "828.0", "1232.8", "1139.2"]


def test_the_report_has_the_climate_of_each_month_in_an_average_year(demo: Demo) -> None:
    table = demo.table("per month")
    expected = [climate([row for row in observations() if int(row["date"][5:7]) == month], 4) for month in range(1, 13)]
    assert table.pop("per month") == "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    assert [list(column) for column in zip(*table.values())] == expected


def test_the_report_has_the_records_and_of_equal_days_the_first(demo: Demo) -> None:
    def first(column: str, unit: str, sign: int) -> List[str]:
        row = sorted(observations(), key=lambda row: (-sign * tenths(row[column]), row["date"]))[0]
        return [f"{row[column]} {unit}", row["date"].replace("/", "-")]

    expected = {
        "hottest day": first("temp_max", "°C", +1),
        "coldest day": first("temp_min", "°C", -1),
        "wettest day": first("precipitation", "mm", +1),
        "windiest day": first("wind", "m/s", +1),
    }
    for name, dry in (("longest dry spell", True), ("longest wet spell", False)):
        days, begin, end = longest_spell(dry)
        expected[name] = [f"{days} days", f"{begin}", f"to {end}"]
    assert demo.table("coldest day") == expected
    assert expected["hottest day"] == ["35.6 °C", "2014-08-11"]
    assert expected["longest dry spell"] == ["48 days", "2012-07-23", "to 2012-09-08"]


def test_the_report_has_the_days_and_the_wind_of_each_kind_of_weather_and_season(demo: Demo) -> None:
    winds: Dict[Tuple[str, str], List[int]] = defaultdict(list)
    for row in observations():
        winds[row["weather"], season(row["date"])].append(tenths(row["wind"]))
    seasons = ["winter", "spring", "summer", "autumn"]
    expected = {
        kind: [
            f"{len(found)} at {sum(found) / 10 / len(found):.1f}" if found else "-"
            for found in (winds.get((kind, name), []) for name in seasons)
        ]
        for kind in ("drizzle", "fog", "rain", "snow", "sun")
    }
    table = demo.table("days at m/s of wind")
    assert table.pop("days at m/s of wind") == seasons
    assert table == expected
    assert sum(map(len, winds.values())) == 1461


def test_every_broken_row_is_in_quarantine_with_its_reason_and_its_text(demo: Demo) -> None:
    reasons = [
        "missing date", "no such date", "impossible temperature", "impossible temperature", "temp_min above temp_max",
        "negative amount", "unknown weather", "wind is no number", "precipitation is no number",
        "wrong number of columns", "duplicate date", "duplicate date",
    ]  # fmt: skip
    lines = (EXAMPLES / "data" / "seattle-weather-bad-rows.csv").read_text().splitlines()
    expected = [
        ("seattle-weather-bad-rows.csv", number, reason, text)
        for number, (reason, text) in enumerate(zip(reasons, lines[1:]), 2)
    ]
    assert len(lines) == 1 + len(reasons)
    assert demo.query("SELECT * FROM quarantine ORDER BY line") == expected
    told = re.search(r"In quarantine: (.*?)\.\n", demo.output, re.DOTALL)
    assert told is not None
    counts = dict(reversed(entry.split(" ", 1)) for entry in " ".join(told[1].split()).split("; "))
    assert counts == {reason: str(number) for reason, number in Counter(reasons).items()}


def test_the_notice_beside_the_data_tells_what_is_wrong_with_each_broken_row() -> None:
    notice = (EXAMPLES / "data" / "README.md").read_text(encoding="utf-8")
    lines = (EXAMPLES / "data" / "seattle-weather-bad-rows.csv").read_text().splitlines()
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", notice, re.MULTILINE)] == list(
        range(2, len(lines) + 1)
    )


def test_the_demo_wants_a_directory_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    refused = run(DEMO, "--state-dir", tmp_path, cwd=tmp_path)
    assert refused.returncode == 2
    assert "is not empty" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_demo_fails_if_its_witness_saw_a_completed_step_twice(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(DEMO.parent)!r})
import run
seen = run.Witness.executions
twice = lambda found: found + [execution for execution in found if execution.step == "validate"]
run.Witness.executions = lambda self, run_id: twice(seen(self, run_id))
sys.exit(run.main(["--state-dir", {str(tmp_path / "state")!r}]))
"""
    process = run("-c", code, cwd=tmp_path)
    assert process.returncode == 1
    assert "NOT AS PROMISED: 'validate' was executed 2 times, not 1" in process.stderr
    assert "Everything was as promised" not in process.stdout


# ---------------------------------------------------------------------- the weather's blocks, called as functions


def a_day(text: str = "2012-01-01", rain: float = 0.0, kind: str = "sun") -> weather.Day:
    return weather.Day(date.fromisoformat(text), rain, 10.0, 5.0, 2.0, kind)


def a_load(warehouse: Path, days: List[weather.Day], key: Optional[str] = "a key") -> weather.Loaded:
    return weather.load(
        days, [], weather.monthly_climate(days), weather.extremes(days), weather.weather_mix(days), warehouse, key
    )


def rows_of(warehouse: Path, table: str) -> List[Tuple[Any, ...]]:
    with closing(sqlite3.connect(warehouse)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def test_reading_keeps_the_place_of_each_row(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("date,precipitation,temp_max,temp_min,wind,weather\n\n2012/01/01,0.0\n")
    assert weather.read_csv(path) == [weather.RawRow("some.csv", 3, ["2012/01/01", "0.0"])]


def test_a_file_of_something_else_is_refused_without_another_attempt(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("name,price\n")
    with pytest.raises(Abort, match=r"some\.csv doesn't begin with date,precipitation"):
        weather.read_csv(path)


def test_of_two_rows_for_one_day_the_first_counts_and_the_days_are_in_order() -> None:
    def row(line: int, day: str, rain: str) -> weather.RawRow:
        return weather.RawRow("f", line, [day, rain, "10", "5", "2", "sun"])

    found = weather.validate([[row(2, "2012/01/02", "1"), row(3, "2012/01/01", "2")], [row(2, "2012/01/02", "3")]])
    assert [(day.date.day, day.precipitation) for day in found.good] == [(1, 2.0), (2, 1.0)]
    assert found.bad == [weather.BadRow("f", 2, "duplicate date", "2012/01/02,3,10,5,2,sun")]


def test_what_is_an_impossible_temperature_can_be_said() -> None:
    rows = [[weather.RawRow("f", 2, ["2012/01/01", "0", "10", "5", "2", "sun"])] * 1]
    assert len(weather.validate(rows, coldest=5, hottest=10).good) == 1
    with pytest.raises(Abort, match="no row is good"):
        weather.validate(rows, coldest=6)


def test_a_missing_day_ends_a_spell() -> None:
    days = [date(2012, 1, 1), date(2012, 1, 2), date(2012, 1, 4), date(2012, 1, 5), date(2012, 1, 6)]
    (spell,) = weather.longest_spells("dry", days)
    assert (spell.value, spell.first_day, spell.last_day) == (3, date(2012, 1, 4), date(2012, 1, 6))
    assert weather.longest_spells("dry", []) == []


def test_december_belongs_to_winter() -> None:
    days = [a_day("2012-02-29"), a_day("2012-03-01"), a_day("2012-11-30"), a_day("2012-12-01")]
    assert [(mix.season, mix.days) for mix in weather.weather_mix(days)] == [
        ("autumn", 1),
        ("spring", 1),
        ("winter", 2),
    ]


def test_a_second_load_writes_what_changed_and_nothing_else(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.db"
    days = [a_day("2012-01-01"), a_day("2012-01-02"), a_day("2012-01-03")]
    first = a_load(warehouse, days)
    assert a_load(warehouse, days) == weather.Loaded(warehouse, 0)
    assert rows_of(warehouse, "loads") == [("a key", 2, first.rows_changed)]
    # A day has come, one was corrected, one is gone: what is left is what was loaded last.
    days = [a_day("2012-01-01"), a_day("2012-01-02", rain=1.5), a_day("2012-01-04")]
    with closing(sqlite3.connect(warehouse)) as connection, connection:
        assert weather.replace_rows(connection, "days", days) == 1 + 2 + 1
    assert [row[:2] for row in rows_of(warehouse, "days")] == [(str(day.date), day.precipitation) for day in days]


def test_a_load_that_fails_leaves_the_warehouse_as_it_was(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.db"
    a_load(warehouse, [a_day()])
    before = list(rows_of(warehouse, "days"))
    with pytest.raises(sqlite3.Error):
        weather.load([a_day("2013-01-01")], [], [], [], [("too", "short")], warehouse, "k")  # type: ignore[list-item]
    assert rows_of(warehouse, "days") == before
    assert len(rows_of(warehouse, "loads")) == 1


def test_the_sequence_runs_in_this_process_too(tmp_path: Path) -> None:
    result = weather.sequences.run("weather_etl", {"load": {"warehouse": tmp_path / "w.db"}}).raise_for_status()
    assert result.output == result.outputs["report"]
    assert result.outputs["notify"] == result.output.splitlines()[0]
    assert len(rows_of(tmp_path / "w.db", "days")) == len(result.outputs["validate"].good) == 1461


def test_the_notifier_runs_after_a_failure_and_nothing_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("name,price\n")
    parameters = {"extract": {"path": tmp_path / "some.csv"}, "load": {"warehouse": tmp_path / "w.db"}}
    result = weather.sequences.run("weather_etl", parameters)
    assert result.status is RunStatus.FAILED
    assert [step.name for step in result.steps.values() if step.status is BlockStatus.COMPLETED] == [
        "extract_broken",
        "notify",
    ]
    assert result.outputs["notify"] == "There is no report on the weather today: the run failed."
    assert not (tmp_path / "w.db").exists()


# ---------------------------------------------------------------------- the mathematical pipeline


def test_the_mathematical_pipeline_runs_as_a_script(tmp_path: Path) -> None:
    process = run(EXAMPLES / "definition.py", cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    steps = [line.split(":")[0].strip() for line in process.stdout.splitlines()]
    assert steps == ["generate_numbers", "calculate_statistics", "find_primes", "normalise", "summarise"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(5))
def test_the_steps_of_the_mathematical_pipeline_agree_with_each_other(seed: int) -> None:
    result = maths.sequences.run("math_pipeline", {"generate_numbers": {"count": 50, "seed": seed}})
    found = result.raise_for_status().output
    numbers, figures, scores = found["generate_numbers"], found["calculate_statistics"], found["normalise"]
    assert len(numbers) == 50 and all(1 <= number <= 100 for number in numbers)
    assert numbers == maths.generate_numbers(50, seed)
    assert figures["sum"] == sum(numbers)
    assert figures["mean"] == pytest.approx(sum(numbers) / 50)
    assert sum(number < figures["median"] for number in numbers) <= 25
    assert sum(number > figures["median"] for number in numbers) <= 25
    assert math.fsum(scores) == pytest.approx(0, abs=1e-9)
    assert math.fsum(score * score for score in scores) == pytest.approx(50)
    assert set(found["find_primes"]) <= set(numbers)
    assert f"50 numbers with mean {figures['mean']:.2f}" in found["summarise"]


def test_the_primes_are_the_primes() -> None:
    assert maths.find_primes([*range(-3, 31), 7, 91, 97]) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 97]


def test_numbers_that_are_all_the_same_stand_nowhere_from_their_mean() -> None:
    assert maths.normalise([4, 4], mean=4.0, deviation=0.0) == [0.0, 0.0]


def test_no_numbers_at_all_is_a_failure_that_is_not_tried_again() -> None:
    result = maths.sequences.run("math_pipeline", {"generate_numbers": {"count": 0}})
    assert result.status is RunStatus.FAILED
    assert result.steps["generate_numbers"].attempts == 1
    assert "count is at least 1, got 0" in (result.error or "")
