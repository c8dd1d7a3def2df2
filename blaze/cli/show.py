"""``blazed show RUN``: everything that is recorded of one run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Dict, List, Optional

from ..core.ground.status import BlockStatus, RunStatus
from .commands import Arguments, Commands
from .console import Console, state_cell
from .moments import beside, duration, local
from .state import is_left, reading, state_dir_of
from .text import clipped, counted, indented, visible

if TYPE_CHECKING:
    from ..core.remember.records import AttemptRecord, RunRecord, StepRecord

#: Columns of a preview and of an error in a table.
PREVIEW = 60
#: Failed attempts that are told in full.
ATTEMPTS = 20


def register(commands: Commands) -> None:
    """Add ``show``."""
    parser = commands.add(
        "show",
        show_run,
        "show a run: its steps, when they ran, and what failed",
        example="blazed show last-failed\nblazed show 3f2a --json",
    )
    parser.add_argument("run_name", metavar="RUN", help="its id, a unique prefix of it, 'last' or 'last-failed'")
    parser.add_argument("--sequence", metavar="ID", help="look within this sequence")


def show_run(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with reading(args) as state:
        run = state.find_run(args.run_name, args.sequence)
        steps = state.steps(run.run_id)
        attempts = state.attempts(run.run_id, limit=10_000).items
        parameters = state.parameters(run.run_id)
    left = is_left(state_dir_of(args), run)
    resume = run_command(run) if left else resume_command(run)
    if console.json:
        console.document(
            {
                **run.to_dict(),
                "parameters": parameters,
                "step_records": [step.to_dict() for step in steps],
                "attempts": [attempt.to_dict() for attempt in attempts],
                "resume": resume,
            }
        )
        return None
    now = time.time()
    _show_run(run, parameters, now, console)
    _show_steps(steps, console)
    from .gantt import draw

    lines = draw(run, steps, attempts, now, console)
    if lines:
        console.heading("Timeline")
        console.print(*lines)
    _show_failures(run, steps, attempts, console)
    if left:
        console.print("", f"Nobody is at work on it. To go on with it: {resume}")
        console.print("(or 'blazed start': it goes on with whatever was left)")
    return None


def resume_command(run: RunRecord) -> Optional[str]:
    """The command that goes on with a run that ended before all was done; None for any other."""
    unfinished = run.status in (RunStatus.FAILED, RunStatus.CANCELLED)
    return f"blazed retry {run.run_id}" if unfinished else None


def run_command(run: RunRecord) -> str:
    """The command that goes on with a run, or from it, without a daemon."""
    return f"blazed run {visible(run.seq_id)} --run {run.run_id}"


def _show_run(run: RunRecord, parameters: object, now: float, console: Console) -> None:
    import json

    late = run.lateness
    console.fields(
        {
            "Run": run.run_id,
            "Sequence": run.seq_id,
            "Job": run.job_id,
            "Status": state_cell(run.status)._replace(text=f"{run.status}{f' ({run.reason})' if run.reason else ''}"),
            "Scheduled": None if run.scheduled is None else beside(run.scheduled, now),
            "Created": beside(run.created, now),
            "Started": beside(run.started, now, "not started"),
            "Ended": None if run.ended is None else beside(run.ended, now),
            "Took": duration(run.seconds),
            "Late by": None if late is None else duration(max(late, 0.0)),
            "Deadline": None if run.deadline is None or run.ended is not None else beside(run.deadline, now),
            "Ticks": None if run.missed is None else f"{run.missed:,}, the first at {local(run.missed_since or 0.0)}",
            "Retry of": run.retry_of,
            "Taken over": counted(run.recoveries, "time") if run.recoveries else None,
            "Asked to stop": run.cancel if run.ended is None else None,
            "Parameters": None if parameters is None else clipped(json.dumps(parameters), 200),
            "Output": None if run.preview is None else clipped(run.preview, 200),
        }
    )


def _show_steps(steps: List[StepRecord], console: Console) -> None:
    if not steps:
        return
    console.heading("Steps")
    rows = [
        (
            step.name,
            state_cell(step.status),
            step.attempts,
            "-" if step.started is None else local(step.started),
            duration(step.seconds),
            _story(step),
        )
        for step in steps
    ]
    console.table(("Step", "Status", "Attempts", "Started", "Took", "Output"), rows)


def _story(step: StepRecord) -> str:
    progress = step.progress
    done = "" if progress is None else f"{progress.done:g}" + ("" if progress.total is None else f"/{progress.total:g}")
    at_work = done if step.status in (BlockStatus.RUNNING, BlockStatus.RETRYING) else ""
    retry = f"next attempt {local(step.retry)}" if step.status is BlockStatus.RETRYING and step.retry else ""
    parts = [step.reason or "", at_work, retry, step.error or step.preview or ""]
    return clipped(", ".join(part for part in parts if part).split("\n", 1)[0], PREVIEW)


def _show_failures(run: RunRecord, steps: List[StepRecord], attempts: List[AttemptRecord], console: Console) -> None:
    told = attempts[-ATTEMPTS:]
    made = {step.name: step.attempts for step in steps}
    if told or run.error:
        console.heading("Failures")
    if len(attempts) > len(told):
        console.print(f"(the last {len(told)} of {len(attempts):,} failed attempts)")
    last = {attempt.step: attempt.attempt for attempt in told}
    for attempt in told:
        _show_attempt(attempt, made, attempt.attempt == last[attempt.step], console)
    if run.error and not told:
        console.print(*indented(run.error, ""))
    command = resume_command(run)
    if command is not None:
        console.print("", f"To go on with what was done: {command}")
        console.print(f"(without a daemon: {run_command(run)})")


def _show_attempt(attempt: AttemptRecord, made: Dict[str, int], in_full: bool, console: Console) -> None:
    number = f"attempt {attempt.attempt} of {max(made.get(attempt.step, 0), attempt.attempt)}"
    console.print(console.paint(f"step '{visible(attempt.step)}', {number}: {visible(attempt.error)}", "bad"))
    if not in_full:
        return
    if attempt.arguments:
        console.print(f"    arguments: {visible(attempt.arguments)}")
    if attempt.traceback:
        console.print(*indented(attempt.traceback))
