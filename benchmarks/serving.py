"""Rows about a whole daemon: status and submissions over its socket, and the memory that it takes.

The daemon is a process of its own on a fresh state directory, durable, as ``blazed start`` runs it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from blaze.core.ground.errors import NoDaemon
from blaze.daemon.client import Client

from .bench import ROOT, Bench
from .calling import GOAL, Caller, anew, at_once, bare_kept, paired, served
from .daemon_definition import SEQUENCES
from .measure import Spread, require
from .report import Goal, Row, row_of
from .resident import resident_bytes_of
from .submitting import MIB, cron_texts

DEFINITION = Path(__file__).resolve().parent / "daemon_definition.py"
#: Jobs with which a status is compared with that of one job.
MANY_JOBS = (100, 10_000)
#: Resident memory of an interpreter that has imported some modules and waits.
IDLE = """
import importlib, sys
for name in sys.argv[1].split(","):
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # made by another module, under a name of its own
from benchmarks.resident import resident_bytes
print(resident_bytes())
"""
BARE = "bare: a JSON echo of the same document on socketserver.ThreadingUnixStreamServer"


@contextmanager
def daemon(bench: Bench) -> Iterator[Tuple[Path, int]]:
    """A daemon that has run each of its sequences once; its state directory and its process id."""
    with bench.fresh() as directory:
        state_dir = directory / ".blaze"
        program = [sys.executable, "-m", "blaze.daemon", "--definition", str(DEFINITION), "--state-dir", str(state_dir)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(program, cwd=directory, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                with Client(state_dir) as client:
                    _until_it_serves(client, process)
                    for number in range(SEQUENCES):
                        run(client, f"sequence-{number}")
                yield state_dir, process.pid
            finally:
                process.terminate()


def _until_it_serves(client: Client, process: subprocess.Popen[bytes]) -> None:
    while True:
        require(process.poll() is None, "the daemon has ended")
        try:
            client.call("ping")
            return
        except NoDaemon:
            time.sleep(0.01)


def run(client: Client, seq_id: str, parameters: Optional[Dict[str, Any]] = None) -> None:
    """Run a sequence to its end."""
    run_id = client.call("trigger", seq_id=seq_id, parameters=parameters)["run_id"]
    *_, last = client.stream("wait", run=run_id)
    require(last["status"] == "COMPLETED", f"{seq_id} is {last['status']}")


def submit(client: Client, count: int) -> None:
    """Store that many jobs of daily and weekly times, shared out over the sequences."""
    jobs = [
        {"seq_id": f"sequence-{number % SEQUENCES}", "job_id": f"job-{number}", "seq_run_interval": text}
        for number, text in enumerate(cron_texts(count))
    ]
    for start in range(0, count, 1_000):
        client.request("jobs.submit", {"submissions": jobs[start : start + 1_000]}, None)


# ---------------------------------------------------------------------- status


def status_rows(bench: Bench) -> List[Row]:
    """The status of five sequences that have run and have a job each."""
    kept = partial(_called, "status", dict, _require_status)
    with daemon(bench) as (state_dir, _), Client(state_dir) as client:
        submit(client, SEQUENCES)
        what = f"the status of {SEQUENCES} sequences"
        return _three_ways(bench, "status", what, state_dir, kept, client.call("status"), GOAL)


def _three_ways(
    bench: Bench, key: str, what: str, state_dir: Path, kept: Caller, document: Any, goal: Goal
) -> List[Row]:
    """On one connection, on one for each call, and by many clients at once; against an echo of ``document``."""
    calls, clients = bench.sizes.calls if goal is GOAL else bench.sizes.calls // 5, bench.sizes.clients
    calls = max(calls, clients)
    echo = partial(bare_kept, document)
    rows: List[Row] = []
    with served(bench, "bare") as echoing:
        for kind, how, number, bare, blaze in (
            ("", "on one connection", calls, echo, kept),
            ("-anew", "each on a connection of its own", max(1, calls // 5), partial(anew, echo), partial(anew, kept)),
            ("-many", f"of {clients} clients", calls, partial(at_once, clients, echo), partial(at_once, clients, kept)),
        ):
            pairs = bench.pairs(paired(bare, echoing, number), paired(blaze, state_dir, number))
            told = f"{number} calls {how}, {what}; {BARE}"
            rows.append(row_of(f"{key}{kind}", told, pairs, 1e6 / number, "µs/call", goal))
    return rows


def status_of_many_rows(bench: Bench) -> List[Row]:
    """The status with many jobs, against that with one: unchanged, and when something has changed before each."""
    calls = max(10, bench.sizes.calls // 50)
    rows: List[Row] = []
    kept = partial(_called, "status", dict, _require_status)
    for number in sorted({min(number, bench.sizes.jobs) for number in MANY_JOBS}):
        with daemon(bench) as (few, _), daemon(bench) as (many, _):
            for state_dir, count in ((few, 1), (many, number)):
                with Client(state_dir) as client:
                    submit(client, count)
            for key, what, caller in (
                (f"status-of-{number}", "unchanged", kept),
                (f"status-after-{number}", "a job is paused or resumed before each", _changing),
            ):
                pairs = bench.pairs(paired(caller, few, calls), paired(caller, many, calls))
                row = row_of(key, f"{calls} statuses, {what}", pairs, 1e6 / calls, "µs/call", Goal())
                rows.append(replace(row, columns=("1 job", f"{number:,} jobs", "ratio")))
    return rows


def _require_status(answer: Any) -> None:
    require(answer["state"] == "RUNNING" and len(answer["sequences"]) == SEQUENCES + 1, "it is no status")


def _called(
    method: str, params: Callable[[], Dict[str, Any]], check: Callable[[Any], None], state_dir: Path, calls: int
) -> None:
    with Client(state_dir) as client:
        for _ in range(calls):
            check(client.call(method, **params()))


def _changing(state_dir: Path, calls: int) -> None:
    with Client(state_dir) as client:
        for number in range(calls):
            client.call("resume" if number % 2 else "pause", job_id="job-0")
            paused = client.call("status")["jobs"]["PAUSED"]
            require(paused == 1 - number % 2, "the status is not that of the state")
        client.call("resume", job_id="job-0")


# ---------------------------------------------------------------------- submissions


def submit_rows(bench: Bench) -> List[Row]:
    """Submissions of one job each, checked and committed before they are answered."""
    numbers = itertools.count()

    def params() -> Dict[str, Any]:
        number = next(numbers) % 1000  # submitting a job again replaces it
        job = {"seq_id": f"sequence-{number % SEQUENCES}", "job_id": f"new-{number}", "seq_run_interval": "0 3 * * *"}
        return {"submissions": [job]}

    def check(answer: Any) -> None:
        require(answer[0]["status"] == "ACTIVE", "the job is not stored")

    with daemon(bench) as (state_dir, _), Client(state_dir) as client:
        kept = partial(_called, "jobs.submit", params, check)
        document = client.call("jobs.submit", **params())
        what = "a cron job is submitted, committed before the answer"
        return _three_ways(bench, "submit", what, state_dir, kept, document, Goal())


# ---------------------------------------------------------------------- memory


def memory_row(bench: Bench) -> List[Row]:
    """Resident memory of a daemon with 10,000 jobs that has run and been asked, against an idle Python."""
    count = bench.sizes.jobs
    sizes: Tuple[List[float], List[float]] = ([], [])
    for _ in range(min(bench.repeat, 3)):
        with daemon(bench) as (state_dir, pid), Client(state_dir) as client:
            submit(client, count)
            for _ in range(100):
                _require_status(client.call("status"))
            names = _modules_of(client, state_dir)
            sizes[1].append(resident_bytes_of(pid) / MIB)
            require(sum(client.call("status")["jobs"].values()) == count, "jobs are missing")
        sizes[0].append(int(bench.python(["-c", IDLE, ",".join(names)], bench.base)) / MIB)
    bare, blaze = Spread.of(sizes[0]), Spread.of(sizes[1])
    more = blaze.median - bare.median
    goal = Goal(words="≤ 30 MiB more")
    what = f"resident memory of a daemon with {count:,} jobs; bare: an idle Python with the same {len(names)} modules"
    reached = goal.reached(None, blaze, more <= 30.0)
    notes = (f"{more:.1f} MiB more",)
    return [Row("memory", what, "MiB", bare, blaze, None, goal.told("MiB"), reached, notes=notes)]


def _modules_of(client: Client, state_dir: Path) -> List[str]:
    """What the daemon has imported, as a run of its own writes it down."""
    path = state_dir.with_name("modules")
    run(client, "imported", {"modules": {"path": str(path)}})
    return path.read_text().splitlines()
