"""Rows about many stored jobs: submitting them, starting with them, and the memory that they take."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, List

from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, SubmitSequenceData

from .bench import Bench
from .crontexts import cron_texts
from .measure import Spread, Timed, require, stopwatch
from .report import Goal, Row, row_of
from .resident import resident_bytes

MIB = 2.0**20
#: What a bare scheduler would store of a job.
TABLE = "CREATE TABLE jobs (job TEXT PRIMARY KEY, sequence TEXT, interval TEXT, next_at REAL) WITHOUT ROWID"

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block()
def nothing() -> None:
    """The least that a block can do."""


@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("nothing")], seq_id="etl")
def etl() -> None:
    """One step."""


def submissions(count: int) -> List[SubmitSequenceData]:
    """That many jobs."""
    return [
        SubmitSequenceData("etl", job_id=f"job-{number}", seq_run_interval=text, timezone="Europe/Berlin")
        for number, text in enumerate(cron_texts(count))
    ]


def submit_row(bench: Bench) -> List[Row]:
    """10,000 cron jobs in one call, against as many INSERTs and croniter's next."""
    count = bench.sizes.jobs

    def bare() -> Timed:
        from zoneinfo import ZoneInfo

        from croniter import croniter

        zone = ZoneInfo("Europe/Berlin")
        texts = list(cron_texts(count))
        with bench.fresh() as directory, closing(sqlite3.connect(directory / "bare.db", isolation_level=None)) as file:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = NORMAL")
            file.execute(TABLE)
            stop = stopwatch()
            now = datetime.now(zone)
            rows = [
                (f"job-{number}", "etl", text, croniter(text, now).get_next(float)) for number, text in enumerate(texts)
            ]
            file.execute("BEGIN")
            file.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?)", rows)
            file.execute("COMMIT")
            timed = stop()
            require(file.execute("SELECT COUNT(*) FROM jobs").fetchone()[0] == count, "jobs are missing")
        return timed

    def blaze() -> Timed:
        from blaze.core.when import schedule

        given = submissions(count)
        with bench.fresh() as directory:
            scheduler = Blaze(sequences=sequences, state_dir=directory / "state")
            scheduler.run("etl")
            schedule._parsed.cache_clear()  # every expression is new to both
            stop = stopwatch()
            scheduler.submit(given)
            timed = stop()
            require(sum(scheduler.status().jobs.values()) == count, "jobs are missing")
            scheduler.stop()
        return timed

    pairs = bench.pairs(bare, blaze)
    what = f"{count:,} cron jobs of different times submitted in one call, durable; bare: croniter's next of each, "
    return [row_of("submit", what + "and an INSERT in one transaction", pairs, 1e6 / count, "µs/job", Goal(ratio=1.5))]


def start_row(bench: Bench) -> List[Row]:
    """Starting with 100,000 stored jobs, against starting with none."""
    count = bench.sizes.stored_jobs
    with bench.fresh() as directory:
        empty, full = directory / "empty", directory / "full"
        for state_dir, number in ((empty, 1), (full, count)):
            scheduler = Blaze(sequences=sequences, state_dir=state_dir)
            given = submissions(number)
            for start in range(0, number, 10_000):
                scheduler.submit(given[start : start + 10_000])
            scheduler.stop()

        def started(state_dir: Path) -> Timed:
            stop = stopwatch()
            scheduler = Blaze(sequences=sequences, state_dir=state_dir).start()
            scheduler.submit(SubmitSequenceData("etl", job_id="once"))
            while scheduler.state.job("once").last is None:
                time.sleep(0.0002)
            timed = stop()
            scheduler.stop()
            return timed

        pairs = bench.pairs(lambda: started(empty), lambda: started(full))
    what = f"start with {count:,} stored jobs, until a job that is submitted then has fired; bare: with one"
    return [row_of("start", what, pairs, 1e3, "ms", Goal())]


def resident_row(bench: Bench) -> List[Row]:
    """Memory of a started scheduler with 10,000 jobs, against the same with none."""
    count = bench.sizes.jobs
    found: Dict[int, List[float]] = {0: [], count: []}
    for _ in range(bench.repeat):
        for number, sizes in found.items():
            with bench.fresh() as directory:
                printed = bench.python(
                    ["-m", "benchmarks.submitting", str(number), str(directory / "state")], directory
                )
                sizes.append(json.loads(printed)["resident"] / MIB)
    bare, blaze = Spread.of(found[0]), Spread.of(found[count])
    more = blaze.median - bare.median
    goal = Goal(words="≤ 30 MiB more")
    what = f"resident memory of a started scheduler with {count:,} jobs, some of which have fired; bare: with none"
    return [
        Row(
            "resident", what, "MiB", bare, blaze, None, goal.told("MiB"), goal.reached(None, blaze, more <= 30.0),
            notes=(f"{more:.1f} MiB more",),
        )
    ]  # fmt: skip


def main() -> None:
    """Start a scheduler with jobs and print the memory that it takes."""
    count, state_dir = int(sys.argv[1]), Path(sys.argv[2])
    with Blaze(sequences=sequences, state_dir=state_dir) as scheduler:
        if count:
            scheduler.submit(submissions(count))
        scheduler.submit([SubmitSequenceData("etl", job_id=f"now-{number}") for number in range(100)])
        scheduler.run("etl")
        while scheduler.state.job("now-99").last is None:
            time.sleep(0.001)
        print(json.dumps({"resident": resident_bytes(), "at": datetime.now(timezone.utc).isoformat()}))


if __name__ == "__main__":
    main()
