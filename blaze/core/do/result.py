"""What a run gives back: :class:`RunResult` when it has ended, :class:`RunHandle` before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Generator, Iterator, List, NamedTuple, Optional, Tuple

from ..ground.clock import as_datetime
from ..ground.errors import NotFound, RunFailed, RunSuspended
from ..ground.names import did_you_mean
from ..ground.status import BlockStatus, RunStatus

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .failure import Failure
    from .run import Run


class LogLine(NamedTuple):
    """One line of a run's log."""

    #: Epoch seconds.
    at: float
    level: int
    logger: str
    message: str
    step: Optional[str]
    attempt: Optional[int]


class StepResult(NamedTuple):
    """How one step ended."""

    name: str
    status: BlockStatus
    #: ``timeout``, ``upstream_failed``, ``fail_stop``, ... or None.
    reason: Optional[str]
    #: Attempts that were started.
    attempts: int
    #: Epoch seconds, None if it never started.
    started: Optional[float]
    #: Seconds of the last attempt.
    duration: Optional[float]
    output: Any
    failure: Optional[Failure]

    @property
    def started_at(self) -> Optional[datetime]:
        """When the last attempt started (aware, UTC)."""
        return as_datetime(self.started)

    @property
    def ended_at(self) -> Optional[datetime]:
        """When it ended (aware, UTC)."""
        return None if self.started is None else as_datetime(self.started + (self.duration or 0.0))

    @property
    def error(self) -> Optional[BaseException]:
        """The exception of the last attempt, if it failed."""
        return self.failure.error if self.failure else None

    @property
    def traceback(self) -> Optional[str]:
        """The traceback of the last attempt as text, if it failed."""
        return self.failure.traceback if self.failure else None


class _Steps(Mapping[str, Any]):
    """Steps by name, made when they are looked at; an unknown name says which there are."""

    def __init__(self, result: RunResult, only_outputs: bool) -> None:
        self._result = result
        self._only_outputs = only_outputs

    def __getitem__(self, name: str) -> Any:
        run = self._result._run
        index = run.plan.index.get(name)
        if index is None:
            raise NotFound(f"there is no step {name!r} in '{run.plan.seq_id}'{did_you_mean(name, run.plan.index)}")
        if not self._only_outputs:
            return run.step_result(index)
        if run.has_output(index):
            return run.outputs[index]
        raise NotFound(f"step '{name}' has no output: it is {run.status_of(index)}")

    def get(self, name: str, default: Any = None) -> Any:
        """The entry of this name, or ``default``."""
        return self[name] if name in self else default  # noqa: SIM401 -- this is get()

    def __iter__(self) -> Iterator[str]:
        run = self._result._run
        return (step.name for step in run.plan.steps if not self._only_outputs or run.has_output(step.index))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        run = self._result._run
        index = run.plan.index.get(name) if isinstance(name, str) else None
        return index is not None and (not self._only_outputs or run.has_output(index))

    def __repr__(self) -> str:
        return repr(dict(self))


class RunResult:
    """A run that has ended."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._run.info.run_id

    @property
    def seq_id(self) -> str:
        """Id of the sequence."""
        return self._run.info.seq_id

    @property
    def status(self) -> RunStatus:
        """COMPLETED, FAILED or CANCELLED."""
        return self._run.status

    @property
    def reason(self) -> Optional[str]:
        """``timeout``, ``cancelled_by_user``, ... or None."""
        return self._run.reason

    @property
    def ok(self) -> bool:
        """Whether the run is COMPLETED."""
        return self._run.status is RunStatus.COMPLETED

    @property
    def output(self) -> Any:
        """What the finaliser returned; None if the run is not COMPLETED."""
        return self._run.output

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The outputs of the completed steps, by name."""
        return _Steps(self, only_outputs=True)

    @property
    def steps(self) -> Mapping[str, StepResult]:
        """How each step ended, by name."""
        return _Steps(self, only_outputs=False)

    @property
    def dependencies(self) -> Dict[str, Tuple[str, ...]]:
        """What each step of the sequence waited for, in the order of the sequence."""
        plan = self._run.plan
        names = [step.name for step in plan.steps]
        return {name: tuple(names[source] for source in plan.dependencies[i]) for i, name in enumerate(names)}

    @property
    def failures(self) -> List[Failure]:
        """The last failure of each failed step, and of the finaliser, in the order of the sequence."""
        return self._run.final_failures()

    @property
    def error(self) -> Optional[str]:
        """What went wrong, as text for people; None if nothing did."""
        return self._run.error_text()

    @property
    def order(self) -> Tuple[str, ...]:
        """The steps in the order in which they ended (those that were run)."""
        run = self._run
        return tuple(run.plan.steps[index].name for index in run.ended_order())

    @property
    def logs(self) -> List[LogLine]:
        """Lines that the blocks logged; of a recorded run, ask ``StateManager.logs`` instead."""
        return list(self._run.log.lines or ())

    @property
    def started_at(self) -> Optional[datetime]:
        """When the run was started (aware, UTC)."""
        return as_datetime(self._run.created_at)

    @property
    def ended_at(self) -> Optional[datetime]:
        """When the run ended (aware, UTC)."""
        return as_datetime(self._run.ended_at)

    @property
    def duration(self) -> float:
        """Seconds from start to end."""
        return self._run.seconds

    def raise_for_status(self) -> RunResult:
        """This result; raises :class:`RunFailed`, chained to the block's own exception, unless COMPLETED."""
        if self.ok:
            return self
        failures = self.failures
        raise RunFailed(
            f"run {self.run_id} of '{self.seq_id}' is {self.status}"
            + (f" ({self.reason})" if self.reason else "")
            + (f"\n{self.error}" if self.error else ""),
            self,
        ) from (failures[0].error if failures else None)

    def to_dict(self) -> Dict[str, Any]:
        """Everything that can be written as JSON: outputs are left out."""
        return {
            "run_id": self.run_id,
            "seq_id": self.seq_id,
            "status": self.status.value,
            "reason": self.reason,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "duration": self.duration,
            "error": self.error,
            "steps": [
                {
                    "name": step.name,
                    "status": step.status.value,
                    "reason": step.reason,
                    "attempts": step.attempts,
                    "started_at": step.started_at.isoformat() if step.started_at else None,
                    "duration": step.duration,
                    "error": step.failure.message if step.failure else None,
                }
                for step in self.steps.values()
            ],
        }

    def __repr__(self) -> str:
        return (
            f"<RunResult {self.run_id} of {self.seq_id!r}: {self.status}{f' ({self.reason})' if self.reason else ''}>"
        )


class RunHandle:
    """A run on its way: wait for it, ask it, cancel it, or ``await`` it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._run.info.run_id

    @property
    def seq_id(self) -> str:
        """Id of the sequence."""
        return self._run.info.seq_id

    @property
    def status(self) -> RunStatus:
        """State of the run at this instant."""
        return self._run.state

    @property
    def future(self) -> Future[RunResult]:
        """A ``concurrent.futures.Future`` of the result. Cancelling it does not cancel the run."""
        return self._run.ending.future(self._run)

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._run.ending.over

    def result(self, timeout: Optional[float] = None) -> RunResult:
        """Wait for the end; at most ``timeout`` seconds, then :class:`TimeoutError`.

        A failed run is a result like any other: see ``RunResult.raise_for_status``.
        Raises :class:`RunSuspended` if the scheduler stops before the run has ended.
        """
        return self._run.wait(timeout)

    def cancel(self) -> bool:
        """Ask the run to stop: nothing further starts, running blocks are told. Whether it was still going."""
        return self._run.cancel("cancelled_by_user")

    def __await__(self) -> Generator[Any, None, RunResult]:
        import asyncio

        # Shielded: a caller who stops waiting has not cancelled the run.
        return asyncio.shield(asyncio.wrap_future(self.future)).__await__()

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} of {self.seq_id!r}: {self.status}>"


__all__ = ["LogLine", "RunHandle", "RunResult", "RunSuspended", "StepResult"]
