"""``blazed run``: a sequence in this process, without a daemon, recorded in the state directory."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Sequence

from ..core.ground.errors import RunSuspended
from ..core.ground.status import BlockStatus
from .commands import Arguments, Commands
from .console import Console
from .definitions import Named, add_definition_flag, find_sequence
from .exits import DONE, FAILED, INTERRUPTED, UsageError
from .moments import duration
from .numbers import workers
from .parameters import Parameters, add_parameter_flags, parameters_of
from .state import left_runs, state_dir_of
from .text import clipped, counted, indented, visible

if TYPE_CHECKING:
    from ..core.do.result import RunHandle, RunResult

#: Seconds between two looks at what runs; a look at a run of very many steps takes at most this part of the time.
LOOK, SHARE = 0.2, 0.05
#: Steps that are told as the slowest.
SLOWEST = 5
WORKERS = 8


def register(commands: Commands) -> None:
    """Add ``run``."""
    parser = commands.add(
        "run",
        run_sequence,
        "run a sequence in this process, without a daemon",
        example="blazed run etl_pipeline -p fetch_data.limit=10\nblazed run definition.py:etl_pipeline --from clean",
        description="Ctrl-C lets running steps end; twice stops at once. Either way the run is left as it is: what\n"
        "is told then (run --run), and the next 'blazed start', go on with it.",
    )
    parser.add_argument("sequence", metavar="[DEFINITION:]SEQ")
    add_definition_flag(parser)
    add_parameter_flags(parser)
    parser.add_argument(
        "--from",
        dest="from_step",
        action="append",
        metavar="STEP",
        help="run again from this step on, with what an earlier run completed before it; may be given again",
    )
    parser.add_argument(
        "--run",
        dest="of_run",
        metavar="RUN",
        help="the run to go on from (with --from: the last of the sequence), or with, if it was stopped",
    )
    parser.add_argument("--workers", type=workers, default=WORKERS, metavar="N", help="steps at a time (default: 8)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, show the steps, and run nothing")


def run_sequence(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    again = args.of_run is not None or bool(args.from_step)
    if again and (args.param or args.param_file):
        raise UsageError("a run that goes on from another has that one's parameters: leave out -p", "blazed run --help")
    parameters = parameters_of(args.param, args.param_file)
    named = find_sequence(args.sequence, args, console)
    named.sequence.validate(parameters or None) if not again else named.sequence.graph()
    if args.dry_run:
        _show_plan(named, parameters, console)
        return DONE
    from ..core.ground.capture import let_info_through

    let_info_through()
    return _Run(args, console, named, parameters).perform(again)


def _show_plan(named: Named, parameters: Parameters, console: Console) -> None:
    plan = named.sequence.plan(parameters or None)
    if not console.json:
        console.drawing(named.sequence.graph())
        console.print(f"{counted(len(plan.steps), 'step')}, all valid; nothing was run")
        return
    steps = [
        {
            "name": step.name,
            "block": step.block.name,
            "dependencies": [plan.steps[source].name for source in plan.dependencies[step.index]],
            "run_when": step.run_when,
        }
        for step in plan.steps
    ]
    console.document({"seq_id": plan.seq_id, "valid": True, "parameters": parameters, "steps": steps})


class _Run:
    """One run of the command."""

    def __init__(self, args: Arguments, console: Console, named: Named, parameters: Parameters) -> None:
        from ..core.blaze import Blaze
        from .progress import progress_of

        self.args = args
        self.console = console
        self.named = named
        self.parameters = parameters
        self.progress = progress_of(console, len(named.sequence.definition.steps))
        self.handle: Optional[RunHandle] = None
        self.scheduler = Blaze(
            named.definition.blocks,
            named.definition.sequences,
            state_dir=state_dir_of(args).path,
            max_workers=args.workers,
            name="run",
            on_step_end=self.progress.note,
            on_retry=self.progress.note,
        )

    def perform(self, again: bool) -> int:
        """Run it, and tell how it ended; the exit status."""
        try:
            with _stopped_softly_by_sigterm(), self.progress.showing():
                handle = self._begin(again)
                self._watch(handle)
        except KeyboardInterrupt:
            try:
                return self._interrupted()
            except KeyboardInterrupt:
                self._end_at_once()
        finally:
            self._stop()
        self.progress.tell_news()
        return self._tell(handle.result())

    def _begin(self, again: bool) -> RunHandle:
        scheduler, seq_id = self.scheduler, self.named.sequence.seq_id
        if scheduler.state.is_paused():
            self.console.warn("everything is paused, and no step starts until 'blazed resume'")
        if not again:
            self._tell_left()
            self.handle = scheduler.trigger(seq_id, self.parameters or None)
            return self.handle
        original = scheduler.state.find_run("last" if self.args.of_run is None else self.args.of_run, seq_id)
        before = [] if original.status.ended else scheduler.state.steps(original.run_id)
        self.handle = scheduler.retry(original.run_id, self.args.from_step)
        # What ended before this process began; what ends from now on is heard of.
        done = [step.name for step in before if step.status.ended]
        reused = [step.name for step in scheduler.state.steps(self.handle.run_id) if step.reason == "reused"]
        self.progress.done = len({*done, *reused})
        return self.handle

    def _tell_left(self) -> None:
        """An earlier run that was stopped and is not done is not forgotten, and not begun anew by mistake."""
        for run in left_runs(state_dir_of(self.args), self.scheduler.state, self.named.sequence.seq_id)[:1]:
            command = go_on_command(run.run_id, self.args)
            self.console.note(f"run {run.run_id} was left undone and this is another one; to go on with it: {command}")

    def _watch(self, handle: RunHandle) -> None:
        state, pause = self.scheduler.state, LOOK
        while True:
            try:
                handle.result(pause)
                return
            except RunSuspended:
                raise
            except TimeoutError:
                began = time.monotonic()
                self.progress.look(state.steps(handle.run_id))
                pause = max(LOOK, (time.monotonic() - began) / SHARE)

    def _stop(self) -> None:
        try:
            self.scheduler.stop()
        except KeyboardInterrupt:
            self._end_at_once()

    def _interrupted(self) -> int:
        self.console.note("stopping: running steps have 10 s to end; Ctrl-C again stops at once")
        self._stop()
        self.progress.tell_news()
        if self.handle is not None:
            with contextlib.suppress(RunSuspended, TimeoutError):
                return self._tell(self.handle.result(0))
        self._tell_not_done()
        return INTERRUPTED

    def _end_at_once(self) -> NoReturn:
        """What is recorded is safe whenever the process ends; whoever takes the run up goes on from there."""
        self._tell_not_done()
        sys.stdout.flush()
        os._exit(INTERRUPTED)

    def _tell_not_done(self) -> None:
        """What becomes of the run now."""
        run_id = None if self.handle is None else self.handle.run_id
        command = None if run_id is None else go_on_command(run_id, self.args)
        if self.console.json:
            self.console.document({"run_id": run_id, "status": "INTERRUPTED", "resume": command})
        if run_id is None:
            self.console.note("nothing was started")
            return
        from ..daemon.owner import owner_of

        owner = owner_of(state_dir_of(self.args).path)
        if owner is None:
            who = "the next 'blazed start' goes on with it, too"
        else:
            who = f"unless {owner}, which serves this state, has gone on with it by then"
        self.console.note(f"run {run_id} is not done; to go on with it: {command}\n({who})")

    # ------------------------------------------------------------------ how it ended

    def _tell(self, result: RunResult) -> int:
        found = summary_of(result)
        command = None if result.ok else resume_command(result, self.args)
        if self.console.json:
            self.console.document({**result.to_dict(), "counts": found.counts, "resume": command})
        else:
            _show_result(result, found, self.console)
            if command is not None:
                self.console.print("", f"To go on with what was done: {command}")
        return DONE if result.ok else FAILED


class Summary(NamedTuple):
    """How the steps of a run ended."""

    #: Number of steps by state.
    counts: Dict[str, int]
    #: (name, seconds, attempts), the slowest first.
    slowest: List[Any]


def summary_of(result: RunResult) -> Summary:
    """The summary of a run that has ended."""
    steps = list(result.steps.values())
    counts: Dict[str, int] = {}
    for step in steps:
        counts[step.status.value] = counts.get(step.status.value, 0) + 1
    took = [(step.name, step.duration, step.attempts) for step in steps if step.duration is not None and step.attempts]
    return Summary(counts, sorted(took, key=lambda one: -one[1])[:SLOWEST])


def _show_result(result: RunResult, found: Summary, console: Console) -> None:
    reason = f" ({visible(result.reason)})" if result.reason else ""
    counts = ", ".join(f"{number:,} {status.lower()}" for status, number in found.counts.items())
    console.print(
        f"Run {result.run_id} of {visible(result.seq_id)}: {console.status(result.status)}{reason} "
        f"in {duration(result.duration)}",
        f"{counted(sum(found.counts.values()), 'step')}: {counts}",
    )
    if len(found.slowest) > 1:
        console.heading("Slowest steps")
        console.table(
            ("Step", "Took", "Attempts"), [(name, duration(took), tries) for name, took, tries in found.slowest]
        )
    if result.failures:
        console.heading("Failures")
        for failure in result.failures:
            console.print(*indented(str(failure), ""))
    elif result.ok and result.output is not None:
        from ..core.remember.codec import preview

        console.print("", f"Output: {clipped(visible(preview(result.output)), 400)}")


def resume_command(result: RunResult, args: Arguments) -> str:
    """The command line that goes on with what a run completed."""
    failed = [step.name for step in result.steps.values() if step.status is BlockStatus.FAILED]
    return go_on_command(result.run_id, args, failed[:SLOWEST])


def go_on_command(run_id: str, args: Arguments, from_steps: Sequence[str] = ()) -> str:
    """The command line that goes on with a run, or from it, in another process of this program."""
    words = ["blazed", "run", args.sequence, "--run", run_id]
    for name in from_steps:
        words += ["--from", name]
    for flag, value in (("--definition", args.definition), ("--state-dir", args.state_dir)):
        if value is not None:
            words += [flag, value]
    import shlex

    return shlex.join(words)


@contextlib.contextmanager
def _stopped_softly_by_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
