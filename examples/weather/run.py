"""The demo, `make demo`: a run that is killed twice, and what is left to do afterwards.

    python examples/weather/run.py [--state-dir DIR]

1. A child process starts the sequence of `definition.py` and dies by SIGKILL in the middle of a
   block; a second one takes the run over and dies at the worst moment there is: its load has
   committed, and Blaze does not know it yet.
2. This process takes the run over and ends it.
3. The run's tree, beside what an independent witness saw: a file to which every execution of a
   block appends a line before it does anything.
4. The whole sequence once more: the warehouse stays as it is.

The exit status is 1 if anything was not as promised. Nothing here depends on luck: a child kills
itself when a block has come to a given place and the steps before it are recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from definition import aligned, sequences, watchers  # the file beside this one

from blaze import Blaze, BlockStatus, RunResult, StateManager, StepContext

SEQUENCE = "weather_etl"
TABLES = ("days", "months", "extremes", "mix", "quarantine")
#: Seconds after which something must have gone wrong.
PATIENCE = 60.0


class Kill(NamedTuple):
    """Where a child dies: at the start or end of a step, once so many other steps are recorded."""

    step: str
    event: str
    recorded: int
    told: str

    def is_due(self, state: StateManager, run_id: str) -> bool:
        """Whether the others are safe; and the step itself, if it is still at work, is recorded as RUNNING."""
        running = any(step.name == self.step and step.status is BlockStatus.RUNNING for step in state.steps(run_id))
        return recorded(state, run_id) >= self.recorded and (running or self.event == "end")


KILLS = (
    Kill("extremes", "start", 5, "in the middle of 'extremes'"),
    Kill("load", "end", 6, "after 'load' had committed to the warehouse, before Blaze knew"),
)


# ---------------------------------------------------------------------- the witness


class Execution(NamedTuple):
    """A line of the witness."""

    event: str
    run_id: str
    step: str
    attempt: int
    pid: int
    key: str


class Witness:
    """Counts what was really executed, without asking Blaze: one line per start and per end of a block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: str, context: StepContext) -> None:
        line = (event, context.run_id, context.step, context.attempt, os.getpid(), context.idempotency_key)
        # One write of one short line at the end of the file: whole or not at all, and it outlives the process.
        with open(self._path, "ab", buffering=0) as file:
            file.write(("\t".join(map(str, line)) + "\n").encode())

    def executions(self, run_id: str) -> List[Execution]:
        """Every start of a block in a run, in the order in which they happened."""
        lines = (line.split("\t") for line in self._path.read_text(encoding="utf-8").splitlines())
        found = (Execution(event, run, step, int(n), int(pid), key) for event, run, step, n, pid, key in lines)
        return [execution for execution in found if (execution.event, execution.run_id) == ("start", run_id)]


# ---------------------------------------------------------------------- the child that is killed


def run_until_killed(state_dir: Path, kill: Kill) -> None:
    """Start the run, or go on with it, until this very process is killed."""
    scheduler = Blaze(sequences=sequences, state_dir=state_dir)

    def die(event: str, context: StepContext) -> None:
        if (context.step, event) == (kill.step, kill.event):
            while not kill.is_due(scheduler.state, context.run_id):
                time.sleep(0.002)
            os.kill(os.getpid(), signal.SIGKILL)  # no handler, no clean-up, no goodbye

    watchers.extend([Witness(state_dir / "witness.tsv"), die])
    with scheduler:
        handle = scheduler.runs[0] if scheduler.runs else scheduler.trigger(SEQUENCE, parameters(state_dir))
        handle.result(PATIENCE).raise_for_status()
    sys.exit("the child was to be killed, and lived")


def recorded(state: StateManager, run_id: str) -> int:
    """How many steps of a run are safe in the state file."""
    return sum(step.status is BlockStatus.COMPLETED for step in state.steps(run_id))


def parameters(state_dir: Path) -> Dict[str, Dict[str, Path]]:
    """What the run is given; it is stored with it, so that whoever takes it over knows."""
    return {"load": {"warehouse": state_dir / "warehouse.db"}}


# ---------------------------------------------------------------------- the demo


def demo(state_dir: Path) -> List[str]:
    """Run all of it. What was not as promised; nothing, if all is well."""
    witness, warehouse = Witness(state_dir / "witness.tsv"), state_dir / "warehouse.db"

    print("1. Two processes work on the run, one after the other; both are killed on the way (kill -9).")
    for number in range(len(KILLS)):
        faults = see_it_killed(state_dir, number)
        if faults:
            return faults

    watchers.append(witness)
    scheduler = Blaze(sequences=sequences, state_dir=state_dir)
    scheduler.pause()  # else the rest of the run might be over before we have looked for it
    with scheduler:
        (handle,) = scheduler.runs
        scheduler.resume()
        result = handle.result(PATIENCE).raise_for_status()
        print(f"\n2. This process, pid {os.getpid()}, takes run {result.run_id} over and ends it: {result.status}.")

        print("\n3. What Blaze recorded, and how often the witness saw each step start in which process:")
        executions = witness.executions(result.run_id)
        print(indented(tree(result, executions)))
        faults = check_executions(result, executions)
        if not faults:
            twice = " and ".join(f"'{kill.step}'" for kill in KILLS)
            print(f"   No completed step ran again; {twice}, in flight at a kill, did, under the same key.")
        print("\n" + indented(result.output) + "\n")
        print(indented(quarantine(warehouse)))

        print("\n4. The whole sequence once more, into the same warehouse:")
        before = contents(warehouse)
        second = scheduler.run(SEQUENCE, parameters(state_dir), PATIENCE).raise_for_status()
        after = contents(warehouse)
        print(indented(comparison(before, after) + "\n\n" + loads(warehouse)))
        if len(witness.executions(second.run_id)) != len(second.steps):
            faults.append("the second run did not run every step once")
        if before != after or second.outputs["load"].rows_changed:
            faults.append("the second run changed the warehouse")
    return faults


def see_it_killed(state_dir: Path, number: int) -> List[str]:
    """Start a child, and look what is left when it is dead. What was not as promised."""
    command = [sys.executable, __file__, "--state-dir", str(state_dir), "--kill", str(number)]
    with subprocess.Popen(command) as child:
        try:
            status = child.wait(PATIENCE)
        finally:
            child.kill()
    if status != -signal.SIGKILL:
        return [f"the process ended with status {status}, not by SIGKILL"]
    with StateManager(state_dir) as state:
        runs = list(state.runs())
        if len(runs) != 1:
            return [f"there are {len(runs)} runs, not 1"]
        done = recorded(state, runs[0].run_id)
        print(f"   pid {child.pid} died {KILLS[number].told}; {done} of {runs[0].steps} steps are recorded.")
    return []


def check_executions(result: RunResult, executions: Sequence[Execution]) -> List[str]:
    """What is wrong: every step runs once, one that was in flight at a kill once more, always under one key."""
    killed = Counter(kill.step for kill in KILLS)
    times = Counter(execution.step for execution in executions)
    faults = [
        f"'{step}' was executed {times[step]} times, not {1 + killed[step]}"
        for step in result.steps
        if times[step] != 1 + killed[step]
    ]
    if len({(execution.step, execution.key) for execution in executions}) != len(result.steps):
        faults.append("a step was executed under several idempotency keys")
    return faults


# ---------------------------------------------------------------------- drawing


def tree(result: RunResult, executions: Sequence[Execution]) -> str:
    """The run's graph, with figures beside each step. `^` marks one that stands further up already."""
    processes = list(dict.fromkeys(execution.pid for execution in executions))
    times = Counter((execution.step, execution.pid) for execution in executions)
    rows = [["", "status", "attempts", "ms", *(f"pid {pid}" for pid in processes)]]
    for line in sequences[SEQUENCE].graph().splitlines():
        drawn = line.partition("  ←")[0]
        found = re.match(r"\W*(\w+)", drawn)
        if not found or found[1] not in result.steps or drawn.endswith("^"):
            rows.append([drawn] + [""] * (len(rows[0]) - 1))
            continue
        step = result.steps[found[1]]
        duration = "" if step.duration is None else f"{step.duration * 1000:.1f}"
        seen = [str(times[step.name, pid] or "-") for pid in processes]
        rows.append([drawn, str(step.status), str(step.attempts), duration, *seen])
    return aligned(rows)


def quarantine(warehouse: Path) -> str:
    """The rows that validation put aside, by reason."""
    found = query(warehouse, "SELECT COUNT(*), reason FROM quarantine GROUP BY reason ORDER BY 1 DESC, 2")
    text = f"In quarantine: {'; '.join(f'{count} {reason}' for count, reason in found)}."
    return textwrap.fill(text, 100)


def comparison(before: Dict[str, str], after: Dict[str, str]) -> str:
    """Two states of the warehouse, table by table."""
    rows = [["table", "rows and checksum before", "rows and checksum after"]]
    return aligned(rows + [[table, before[table], after[table]] for table in TABLES])


def loads(warehouse: Path) -> str:
    """What each load did, by its idempotency key."""
    found = query(warehouse, "SELECT idempotency_key, executions, rows_changed FROM loads ORDER BY rowid")
    rows = [["idempotency key of the load", "executions", "rows changed"]]
    return aligned(rows + [[str(value) for value in row] for row in found])


def contents(warehouse: Path) -> Dict[str, str]:
    """Number of rows and checksum of each table."""
    found: Dict[str, str] = {}
    for table in TABLES:
        rows = query(warehouse, f"SELECT * FROM {table} ORDER BY 1, 2")
        found[table] = f"{len(rows):5,}  {hashlib.sha256(repr(rows).encode()).hexdigest()[:12]}"
    return found


def query(warehouse: Path, sql: str) -> List[Tuple[object, ...]]:
    """The rows that a query finds in the warehouse."""
    with closing(sqlite3.connect(warehouse)) as connection:
        return connection.execute(sql).fetchall()


def indented(text: str) -> str:
    """Three columns to the right."""
    return textwrap.indent(text, "   ")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(description="Run the weather ETL, kill it twice, and look what is left.")
    parser.add_argument("--state-dir", type=Path, help="keep everything here: a directory without a state in it")
    parser.add_argument("--kill", type=int, help=argparse.SUPPRESS)  # this is a child, and the kill its fate
    given = parser.parse_args(arguments)
    if given.kill is not None:
        run_until_killed(given.state_dir, KILLS[given.kill])
    if given.state_dir is not None:
        given.state_dir.mkdir(parents=True, exist_ok=True)
        if any(given.state_dir.iterdir()):
            parser.error(f"{given.state_dir} is not empty: name a new directory")
        return conclude(demo(given.state_dir.resolve()))
    with tempfile.TemporaryDirectory(prefix="blaze-demo-") as directory:
        return conclude(demo(Path(directory).resolve()))


def conclude(faults: Sequence[str]) -> int:
    """Say how it went; the exit status."""
    for fault in faults:
        print(f"NOT AS PROMISED: {fault}", file=sys.stderr)
    if not faults:
        print("\nEverything was as promised.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack the box characters
    sys.exit(main())
