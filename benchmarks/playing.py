"""Rows about the testing kit: pytest's start with its plugin, many short runs, and a year of schedules."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List

from blaze import BlazeBlock, BlazeSequence, SeqBlockData, SubmitSequenceData
from blaze.testing import VirtualScheduler, run_sequence

from .bench import Bench
from .measure import Spread, Timed, require, stopwatch, stopwatch_of_children
from .report import Goal, Row, row_of

blocks, sequences = BlazeBlock(), BlazeSequence()

#: How pytest is started; the plugin of an installed Blaze is left out, so that both start alike.
PYTEST = ["-m", "pytest", "-p", "no:blaze", "-p", "no:cacheprovider", "-q"]
TEST = "def test_nothing():\n    pass\n"

#: Prints the milliseconds that pytest needs to load the plugin when it has loaded its own.
SET_UP = """
import time
from _pytest.config import get_config
config = get_config()
start = time.perf_counter()
config.pluginmanager.import_plugin("pytest_blaze")
print((time.perf_counter() - start) * 1e3)
"""

#: Milliseconds that the plugin may cost.
LEAST = 5.0
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAYS = 365


@blocks.block(retries=2, retry_delay=60)
def fetch() -> List[int]:
    return [1, 2, 3]


@blocks.block
def clean(rows: List[int]) -> List[int]:
    return [row for row in rows if row > 1]


@blocks.block
def load(rows: List[int]) -> int:
    return len(rows)


@sequences.sequence(
    blocks=blocks,
    sequence=[
        SeqBlockData("fetch"),
        SeqBlockData("clean", parameters={"rows": "@fetch"}),
        SeqBlockData("load", parameters={"rows": "@clean"}),
    ],
    seq_id="etl",
)
def etl(context: Dict[str, Any]) -> Any:
    return context["load"]


def start_row(bench: Bench) -> List[Row]:
    """Pytest from start to exit, on one test that uses nothing of the kit."""

    def started(*options: str) -> Timed:
        with bench.fresh() as directory:
            (directory / "test_nothing.py").write_text(TEST, encoding="utf-8")
            stop = stopwatch_of_children()
            printed = bench.python([*PYTEST, *options, "test_nothing.py"], directory)
            timed = stop()
            require("1 passed" in printed, f"pytest printed {printed!r}")
            return timed

    pairs = bench.pairs(started, lambda: started("-p", "pytest_blaze"), bench.sizes.starts)
    more = Spread.of((blaze.cpu - bare.cpu) * 1e3 for bare, blaze in zip(pairs.bare, pairs.blaze))
    note = f"{more.median:+.1f} ms of processor time ({more.low:+.1f} to {more.high:+.1f})"
    what = "pytest on one test, start to exit, with the plugin loaded; bare: without it"
    return [row_of("start", what, pairs, 1e3, "ms/start", Goal(), notes=[note])]


def set_up_row(bench: Bench) -> List[Row]:
    """What loading the plugin takes in a pytest that has loaded its own."""
    found = [float(bench.python(["-c", SET_UP], bench.base)) for _ in range(bench.sizes.warmups + bench.sizes.starts)]
    spread = Spread.of(found[bench.sizes.warmups :])
    goal = Goal(value=LEAST)
    what = "importing and registering the plugin in a new interpreter, pytest being loaded"
    return [Row("set-up", what, "ms", None, spread, None, goal.told("ms"), goal.reached(None, spread, False))]


def run_row(bench: Bench) -> List[Row]:
    """Calls of run_sequence on three steps, one of which is overridden and fails once; bare: sequences.run."""
    count = bench.sizes.runs

    def bare() -> Timed:
        stop = stopwatch()
        outputs = [sequences.run("etl").output for _ in range(count)]
        timed = stop()
        require(outputs == [2] * count, "a run has another output")
        return timed

    def played() -> Timed:
        stop = stopwatch()
        runs = [run_sequence(etl, overrides={"fetch": [5, 6, 0]}) for _ in range(count)]
        timed = stop()
        require(all(run.output == 2 and run.order == ("fetch", "clean", "load") for run in runs), "a run is another")
        return timed

    pairs = bench.pairs(bare, played)
    what = f"{count:,} calls of run_sequence on three steps, one of them overridden; bare: as many of sequences.run"
    return [row_of("run-sequence", what, pairs, 1e6 / count, "µs/call", Goal(value=2000.0))]


def year_row(bench: Bench) -> List[Row]:
    """A virtual year, with its two changes of the clocks, of a daily job; bare: INSERT + COMMIT for each row."""
    days = DAYS if bench.sizes.runs >= 100 else 30

    def bare() -> Timed:
        with bench.fresh() as directory:
            stop = stopwatch()
            _store(directory / "bare.db", days)
            return stop()

    def played() -> Timed:
        with bench.fresh() as directory, VirtualScheduler(sequences, directory / "state", start=BEGIN) as scheduler:
            scheduler.submit(SubmitSequenceData("etl", seq_run_interval="30 2 * * *", timezone="Europe/Berlin"))
            stop = stopwatch()
            scheduler.advance(days=days)
            timed = stop()
            runs = scheduler.state.runs(job_id="etl", status="COMPLETED", limit=1000).items
            require(len(runs) == days, f"{len(runs)} runs in {days} days")
            return timed

    pairs = bench.pairs(bare, played)
    what = f"{days} virtual days of a daily job of three steps, durable; bare: INSERT + COMMIT of its five rows a day"
    return [row_of("year", what, pairs, 1.0, "s", Goal(value=1.0))]


def _store(path: Path, days: int) -> None:
    with closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE found (id INTEGER PRIMARY KEY, name TEXT, at TEXT)")
        for day in range(days):
            at = (BEGIN + timedelta(days=day)).isoformat()
            for name in ("run", "fetch", "clean", "load", "end"):
                connection.execute("INSERT INTO found (name, at) VALUES (?, ?)", (name, at))
        count = connection.execute("SELECT COUNT(*) FROM found").fetchone()[0]
        require(count == 5 * days, f"{count} rows")
