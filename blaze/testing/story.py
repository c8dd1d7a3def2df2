"""The story of a run as text: its tree, what failed with which arguments, and what it logged.

It is the same story for a run in memory and for one that a scheduler recorded, and it is
what the messages of the kit's assertions and the sections of a failed test's report show.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

from blaze.core.ground.status import BlockStatus, RunStatus

if TYPE_CHECKING:
    from blaze.core.do.result import LogLine, RunResult
    from blaze.core.state import StateManager

#: Lines of a step's log, and steps of a tree, that a story shows; the rest is a number.
LINES_SHOWN, STEPS_SHOWN = 50, 200

_MARKS = {
    BlockStatus.COMPLETED: "+",
    BlockStatus.FAILED: "x",
    BlockStatus.SKIPPED: "-",
    BlockStatus.CANCELLED: "-",
}


class StepStory(NamedTuple):
    """What became of one step."""

    name: str
    dependencies: Tuple[str, ...]
    status: BlockStatus
    reason: Optional[str]
    attempts: int
    #: Seconds of the run's clock that the last attempt took.
    seconds: Optional[float]
    #: The last failure, with the step's arguments and its traceback; None if there is none.
    failure: Optional[str]


class Line(NamedTuple):
    """One line that a step logged."""

    level: int
    logger: str
    message: str
    step: Optional[str]
    attempt: Optional[int]


class RunStory(NamedTuple):
    """What became of one run."""

    run_id: str
    seq_id: str
    status: RunStatus
    reason: Optional[str]
    #: In the order of the sequence.
    steps: Tuple[StepStory, ...]
    #: The steps that were attempted, in the order in which they ended.
    order: Tuple[str, ...]
    logs: Tuple[Line, ...]
    #: What failed besides the steps: the finaliser, or Blaze itself.
    failure: Optional[str] = None

    def tree(self) -> str:
        """One line for the run and one for each step."""
        head = f"{self.seq_id}: {self.status.value}{_reason(self.reason)}  (run {self.run_id})"
        width = max((len(step.name) for step in self.steps), default=0)
        lines = [_step_line(step, width) for step in self.steps[:STEPS_SHOWN]]
        if len(self.steps) > STEPS_SHOWN:
            lines.append(f"  ... and {len(self.steps) - STEPS_SHOWN} more steps")
        return "\n".join([head, *lines])

    def failures(self) -> List[str]:
        """The story of each failed step: the failure with its arguments, then the log."""
        told = [
            "\n".join([step.failure, *self._log_of(step.name)])
            for step in self.steps
            if step.status is BlockStatus.FAILED and step.failure is not None
        ]
        return told if self.failure is None else [*told, self.failure]

    def _log_of(self, name: str) -> List[str]:
        lines = [line for line in self.logs if line.step == name]
        if not lines:
            return [f"  step '{name}' logged nothing"]
        left_out = len(lines) - LINES_SHOWN
        first = [f"  ... {left_out} lines before"] if left_out > 0 else []
        return [f"  log of step '{name}':", *first, *(f"    {_log_line(line)}" for line in lines[-LINES_SHOWN:])]

    def __str__(self) -> str:
        return "\n\n".join([self.tree(), *self.failures()])


def story_of_result(result: RunResult) -> RunStory:
    """The story of a run in memory."""
    failures = {failure.step: str(failure) for failure in result.failures}
    steps = tuple(
        StepStory(
            step.name,
            dependencies,
            step.status,
            step.reason,
            step.attempts,
            step.duration,
            failures.pop(step.name, None),
        )
        for step, dependencies in zip(result.steps.values(), result.dependencies.values())
    )
    logs = tuple(map(_line_of, result.logs))
    rest = "\n".join(failures.values()) or None
    return RunStory(result.run_id, result.seq_id, result.status, result.reason, steps, result.order, logs, rest)


def story_of_record(state: StateManager, run_id: str) -> RunStory:
    """The story of a recorded run; ``run_id`` may be a prefix, ``"last"`` or ``"last-failed"``."""
    run = state.find_run(run_id)
    attempts = state.attempts(run.run_id)
    failures = {
        one.step: f"step '{one.step}', attempt {one.attempt}: {one.error}"
        + (f"\n  arguments: {one.arguments}" if one.arguments else "")
        + ("".join(f"\n  {line}" for line in (one.traceback or "").splitlines()))
        for one in attempts
    }
    records = state.steps(run.run_id)
    steps = tuple(
        StepStory(
            step.name, step.dependencies, step.status, step.reason, step.attempts, step.seconds, failures.get(step.name)
        )
        for step in records
    )
    ended = [step for step in records if step.attempts and step.started is not None]
    ended.sort(key=lambda step: (step.started or 0.0) + (step.seconds or 0.0))
    logs = tuple(
        Line(line.level, line.logger, line.message, line.step, line.attempt)
        for line in state.logs(run.run_id, limit=1000).items
    )
    order = tuple(step.name for step in ended)
    own = None if any(step.status is BlockStatus.FAILED for step in steps) else run.error
    return RunStory(run.run_id, run.seq_id, run.status, run.reason, steps, order, logs, own)


def _line_of(line: LogLine) -> Line:
    return Line(line.level, line.logger, line.message, line.step, line.attempt)


def _step_line(step: StepStory, width: int) -> str:
    mark = _MARKS.get(step.status, "?")
    text = f"  {mark} {step.name:<{width}}  {step.status.value}{_reason(step.reason)}"
    if step.attempts > 1:
        text += f", {step.attempts} attempts"
    if step.dependencies:
        text += f"  <- {', '.join(step.dependencies)}"
    return text


def _reason(reason: Optional[str]) -> str:
    return f" ({reason})" if reason else ""


def _log_line(line: Line) -> str:
    attempt = f" (attempt {line.attempt})" if line.attempt and line.attempt > 1 else ""
    return f"{logging.getLevelName(line.level)} {line.logger}: {line.message}{attempt}"


__all__ = ["Line", "RunStory", "StepStory", "story_of_record", "story_of_result"]
