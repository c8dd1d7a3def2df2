"""Rows that show whether memory grows with the number of runs, each measured in a process of its own.

As a program, ``python -m benchmarks.leak --runs N --seconds S --durability LEVEL DIRECTORY``
makes the runs and prints what it found as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import List

from blaze import Blaze

from .bench import Bench
from .measure import Spread, require
from .report import Goal, Row
from .resident import resident_bytes
from .steps import WORKERS, pipeline, require_pipeline

#: Bytes a run that count as flat: 3 MiB over 100,000 runs, which is less than the allocator's own movements.
FLAT = 32.0
#: How often resident memory is looked at, after the warm-up and over the rest.
SAMPLES = 10


def memory_rows(bench: Bench) -> List[Row]:
    """Resident memory over 100,000 runs, with the state in memory."""
    return [_row(bench, "leak-memory", "memory")]


def durable_rows(bench: Bench) -> List[Row]:
    """Resident memory over 100,000 runs, with the state on disk."""
    return [_row(bench, "leak", "process")]


def _row(bench: Bench, key: str, durability: str) -> Row:
    sizes = bench.sizes
    with bench.fresh() as directory:
        found = json.loads(
            bench.python(
                ["-m", "benchmarks.leak", f"--runs={sizes.leak_runs}", f"--seconds={sizes.leak_seconds}",
                 f"--durability={durability}", str(directory)],
                directory,
            )
        )  # fmt: skip
    resident: List[int] = found["resident"]
    every = found["every"]
    require(len(resident) == SAMPLES + 1, f"{len(resident)} samples of resident memory, not {SAMPLES + 1}")
    steps = [(after - before) / every for before, after in zip(resident, resident[1:])]
    slope = Spread(_slope(resident) / every, min(steps), max(steps))
    goal = Goal(value=FLAT)
    what = f'resident memory over {SAMPLES * every:,} runs of a 3-step pipeline, Blaze(durability="{durability}"), '
    what += f"after {every:,} to warm up; the slope, and the least and greatest change between two of {SAMPLES} looks"
    notes = (
        f"{resident[0] / 2**20:.1f} MiB → {resident[-1] / 2**20:.1f} MiB",
        f"{found['seconds'] / (SAMPLES * every) * 1e6:,.0f} µs a run",
        f"{found['kept']:,} runs in the history at the end, {found['size'] / 2**20:.1f} MiB",
    )
    reached = goal.reached(None, slope, False)
    return Row(key, what, "bytes/run", None, slope, None, goal.told("bytes/run"), reached, notes=notes)


def _slope(values: List[int]) -> float:
    """Of the line with the least squares, per step between two values."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    over = sum((number - middle) * (value - mean) for number, value in enumerate(values))
    return over / sum((number - middle) ** 2 for number in range(len(values)))


def main() -> None:
    """Make the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--durability", required=True)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    with Blaze(
        sequences=pipeline(), max_workers=WORKERS, state_dir=options.directory, durability=options.durability
    ) as scheduler:

        def make(runs: int) -> float:
            start = time.perf_counter()
            for _ in range(runs):
                require_pipeline(scheduler.run("pipeline"))
            return time.perf_counter() - start

        # How many fit into the time, measured on the first hundredth.
        probe = max(10, options.runs // 100)
        fit = int(options.seconds / (make(probe) / probe))
        every = max(1, min(options.runs, fit) // SAMPLES)
        make(every)
        resident, seconds = [_look()], 0.0
        for _ in range(SAMPLES):
            seconds += make(every)
            resident.append(_look())
        kept, size = _history(scheduler), scheduler.state.size().db
    print(json.dumps({"resident": resident, "every": every, "seconds": seconds, "kept": kept, "size": size}))


def _history(scheduler: Blaze) -> int:
    """Number of runs that are recorded."""
    page = scheduler.state.runs(limit=10_000)
    runs = len(page.items)
    while page.next is not None:
        page = scheduler.state.runs(limit=10_000, cursor=page.next)
        runs += len(page.items)
    return runs


def _look() -> int:
    gc.collect()
    return resident_bytes()


if __name__ == "__main__":
    main()
