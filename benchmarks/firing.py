"""Rows about firing ticks: how late, at what cost when nothing is due, and how fast in virtual time.

As a program, ``python -m benchmarks.firing SECONDS JOBS STATE_DIR START`` runs every-second jobs
from the instant START on and prints the ticks that its blocks saw as JSON lines.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, SubmitSequenceData, current
from blaze.testing import VirtualClock

from .bench import ROOT, Bench
from .measure import Spread, require
from .report import Goal, Row
from .submitting import sequences as idle_sequences
from .submitting import submissions

#: The columns of the rows of lateness.
PERCENTILES = ("median", "p99", "longest")

blocks = BlazeBlock()
sequences = BlazeSequence()
#: (job, nominal time, lateness) of each tick that this process ran.
seen: List[Tuple[str, float, float]] = []


@blocks.block()
def note_lateness() -> None:
    """Note when it was called."""
    now = time.time()
    info = current().info
    seen.append((info.job_id or "", info.scheduled_at or 0.0, now - (info.scheduled_at or 0.0)))


@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("note_lateness")], seq_id="tick")
def tick() -> None:
    """One step."""


def late_row(bench: Bench) -> List[Row]:
    """Lateness of 200 jobs each second, beside a bare heap and thread pool."""
    seconds, count = bench.sizes.late_seconds, bench.sizes.late_jobs
    bare = _bare_lateness(count, min(seconds, 10))
    with bench.fresh() as directory:
        start = _next_second()
        cpu = time.process_time()
        _fire(seconds, count, directory / "state", start)
        cpu = time.process_time() - cpu
    _require_once(seen, count, seconds, start)
    late = [lateness * 1e3 for _, _, lateness in seen]
    seen.clear()
    return [
        _late("late-bare", f"the same with a heap and a thread pool, nothing stored, {count} jobs", bare, Goal(), ()),
        _late(
            "late",
            f"{count} jobs every second for {seconds} s, durable: from nominal time to the block's first line",
            late,
            Goal(words="median ≤ 5, p99 ≤ 20"),
            (f"{len(late):,} ticks, 0 missed, 0 twice", f"{cpu / seconds * 100:.1f} % of one processor"),
        ),
    ]


def late_together_row(bench: Bench) -> List[Row]:
    """The same with 8 processes on one state directory."""
    seconds, count, processes = bench.sizes.late_seconds, bench.sizes.late_jobs, bench.sizes.processes
    ticks: List[Tuple[str, float, float]] = []
    with bench.fresh() as directory:
        start = math.ceil(time.time() + 1 + processes / 2)  # all of them have started by then
        arguments = [
            sys.executable,
            "-m",
            "benchmarks.firing",
            str(seconds),
            str(count),
            str(directory / "state"),
            str(start),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        children = [
            subprocess.Popen(arguments, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        shares = []
        for child in children:
            printed, _ = child.communicate(timeout=seconds + 60)
            require(child.returncode == 0, f"a process ended with {child.returncode}")
            share = json.loads(printed)
            shares.append(len(share))
            ticks += [tuple(tick) for tick in share]
    _require_once(ticks, count, seconds, start)
    late = [lateness * 1e3 for _, _, lateness in ticks]
    what = f"{processes} processes on one state directory, {count} jobs every second for {seconds} s, durable"
    shared = f"ticks of each process: {', '.join(map(str, sorted(shares)))}"
    return [_late("late-together", what, late, Goal(), (f"{len(late):,} ticks, 0 missed, 0 twice", shared))]


def _late(key: str, what: str, late: Sequence[float], goal: Goal, notes: Tuple[str, ...]) -> Row:
    ordered = sorted(late)
    median, high, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]
    one = [Spread(value, value, value) for value in (median, high, most)]
    reached = goal.reached(None, one[0], median <= 5.0 and high <= 20.0)
    return Row(key, what, "ms", one[0], one[1], one[2], goal.told("ms"), reached, notes=notes, columns=PERCENTILES)


def _require_once(ticks: Sequence[Tuple[str, float, float]], count: int, seconds: int, start: float) -> None:
    """Every job fired at every second, once."""
    counted = Counter((job, nominal) for job, nominal, _ in ticks)
    expected = {(f"job-{number}", start + second) for number in range(count) for second in range(seconds)}
    twice = sum(1 for number in counted.values() if number > 1)
    missed = len(expected - counted.keys())
    require(not twice and not missed, f"{missed} ticks missed, {twice} twice, of {len(expected)}")
    require(counted.keys() == expected, f"{len(counted.keys() - expected)} ticks that were not due")


def _next_second() -> float:
    return math.ceil(time.time()) + 1


def _fire(seconds: int, count: int, state_dir: Path, start: float) -> None:
    """Run every-second jobs for so many seconds."""
    first = datetime.fromtimestamp(start, timezone.utc)
    last = datetime.fromtimestamp(start + seconds - 1, timezone.utc)
    with Blaze(sequences=sequences, state_dir=state_dir) as scheduler:
        scheduler.submit(
            [
                SubmitSequenceData(
                    "tick", job_id=f"job-{number}", seq_run_interval="* * * * * *", start_date=first, end_date=last
                )
                for number in range(count)
            ]
        )
        time.sleep(max(0.0, start + seconds + 1.0 - time.time()))


def _bare_lateness(count: int, seconds: int) -> List[float]:
    """The lateness, in milliseconds, of a loop that does nothing but hand functions to a pool."""
    start = _next_second()
    heap = [(start, number) for number in range(count)]
    found: List[float] = []

    def block(nominal: float) -> None:
        found.append(time.time() - nominal)

    with ThreadPoolExecutor(4) as pool:
        while heap:
            nominal, number = heap[0]
            time.sleep(max(0.0, nominal - time.time()))
            pool.submit(block, nominal)
            if nominal + 1 < start + seconds:
                heapq.heapreplace(heap, (nominal + 1, number))
            else:
                heapq.heappop(heap)
    require(len(found) == count * seconds, "ticks are missing")
    return [late * 1e3 for late in found]


def idle_row(bench: Bench) -> List[Row]:
    """Processor time of a started scheduler with 1,000 jobs of which none is due."""
    seconds, count = bench.sizes.idle_seconds, bench.sizes.idle_jobs
    with bench.fresh() as directory, Blaze(sequences=idle_sequences, state_dir=directory / "state") as scheduler:
        later = datetime.fromtimestamp(time.time() + 86_400, timezone.utc)
        given = submissions(count)
        for data in given:
            data.start_date = later
        scheduler.submit(given)
        scheduler.run("etl")
        time.sleep(bench.sizes.settle_seconds)  # what follows a run, such as tidying up, is not idleness
        used = time.process_time()
        time.sleep(seconds)
        used = time.process_time() - used
        require(len(scheduler.state.runs()) == 1, "something was due")
    per_minute = used * 60 / seconds
    goal = Goal(value=0.01)
    spread = Spread(per_minute, per_minute, per_minute)
    what = f"processor time of a started scheduler with {count:,} jobs of which none is due, over {seconds} s"
    return [Row("idle", what, "s/minute", None, spread, None, goal.told("s"), goal.reached(None, spread, False))]


def day_row(bench: Bench) -> List[Row]:
    """A virtual day of 10,000 jobs that fire once in it."""
    count = bench.sizes.jobs
    found: Dict[str, Any] = {}
    with bench.fresh() as directory:
        clock = VirtualClock(datetime(2026, 1, 1, tzinfo=timezone.utc))
        with Blaze(sequences=idle_sequences, state_dir=directory / "state", clock=clock) as scheduler:
            scheduler.submit(
                [
                    SubmitSequenceData(
                        "etl", job_id=f"job-{n}", seq_run_interval=f"{n % 60} {n // 60 % 24} * * *", timezone="UTC"
                    )
                    for n in range(count)
                ]
            )
            begin = time.perf_counter()
            clock.advance(hours=24)
            found["seconds"] = time.perf_counter() - begin
            jobs = scheduler.jobs
            require(all(job.last is not None for job in jobs) and len(jobs) == count, "a job has not fired")
    per_tick = found["seconds"] / count * 1e6
    spread = Spread(per_tick, per_tick, per_tick)
    what = f"a virtual day of {count:,} jobs that fire once in it, durable"
    return [Row("day", what, "µs/tick", None, spread, None, "", None, notes=(f"{found['seconds']:.2f} s in all",))]


def main() -> None:
    """Be one of several processes that fire the same jobs."""
    seconds, count, state_dir, start = sys.argv[1:]
    _fire(int(seconds), int(count), Path(state_dir), float(start))
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
