"""What a run is at an instant: the arrays of its steps, and everything that is told from them.

Nothing here changes a state; the transitions are in ``consequences`` and ``run``.
"""

from __future__ import annotations

import threading
from contextvars import Context
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, Optional

from ..ground.context import RunInfo
from ..ground.errors import BlazeError, StepCancelled, StepTimeout
from ..ground.status import BlockStatus, RunStatus
from ..what.plan import Plan, Step
from ..what.references import Outputs
from .attempt import Attempt
from .ending import Ending
from .result import StepResult
from .run_log import RunLog

if TYPE_CHECKING:
    from ..remember.recorder import Kept
    from .engine import Engine
    from .failure import Failure

#: Token of the run's end in the journal, and the index under which a worker is given it to write.
END = -1

#: Why an attempt was asked to stop, where that is not the user's wish.
TIMEOUT = "timeout"
STOPPING = "stopping"
BROKEN = "internal_error"


class RunState:
    """The state of one execution. ``lock`` protects the arrays."""

    __slots__ = (
        "engine", "plan", "info", "key", "lock", "context", "final", "statuses", "reasons", "attempts",
        "waiting", "outputs", "consumers", "started", "seconds_of", "open", "clean", "halted", "failures", "began",
        "zero", "limit", "created_at", "ended_at", "seconds", "status", "reason", "output", "ending", "on_log",
        "log", "row", "rows", "kept", "ends", "retrying", "tells_steps",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        info: RunInfo,
        context: Context,
        created_at: float,
        limit: Optional[float],
        key: int = 0,
    ) -> None:
        size = len(plan.steps)
        self.engine = engine
        self.plan = plan
        self.info = info
        #: Row of the run in the database.
        self.key = key
        self.lock = threading.Lock()
        self.context = context
        #: Index of the finaliser, which runs as a step behind all others but is none.
        self.final = size
        self.statuses: List[BlockStatus] = [BlockStatus.PENDING] * (size + 1)
        self.reasons: Dict[int, str] = {}
        self.attempts: List[int] = [0] * (size + 1)
        self.waiting = plan.waiting.copy()
        self.outputs = Outputs(size + 1)
        #: Steps that still have to read each output; None where all outputs are kept.
        self.consumers: Optional[List[int]] = None if engine.keep_outputs else plan.consumers.copy()
        # Start of the last attempt and its length, in monotonic seconds.
        self.started: List[float] = [0.0] * (size + 1)
        self.seconds_of: List[float] = [0.0] * (size + 1)
        #: Steps that have not ended, or whose end is not committed.
        self.open = size
        #: Every step starts whose dependencies have ended: none ended but COMPLETED, which
        #: satisfies each rule that this plan uses, and nothing was halted.
        self.clean = plan.starts_on_success
        #: Why nothing further starts.
        self.halted: Optional[str] = None
        self.failures: Dict[int, Failure] = {}
        #: Monotonic time of the first attempt; 0.0 before.
        self.began = 0.0
        #: What to add to a monotonic time of this run to get the wall clock's.
        self.zero = engine.clock.time() - engine.monotonic()
        #: Monotonic deadline.
        self.limit = limit
        #: Epoch seconds.
        self.created_at = created_at
        self.ended_at: Optional[float] = None
        self.seconds = 0.0
        self.status = RunStatus.PENDING
        self.reason: Optional[str] = None
        self.output: Any = None
        #: What the state is to keep of it, until it does.
        self.kept: Optional[Kept] = None
        self.ending = Ending(self.lock)
        self.log = RunLog(recorded=engine.recorder is not None)
        #: What a running step hands its log records to.
        self.on_log = self.log.keep if engine.keeps_logs else None
        #: Whether the database has been told that the run runs.
        self.row = False
        self.ends: List[int] = []
        #: Steps of a restored run that have a row already.
        self.rows: FrozenSet[int] = frozenset()
        #: Steps that wait for their next attempt.
        self.retrying = 0
        #: Whether somebody wants to know of each step that ends.
        self.tells_steps = engine.herald is not None and engine.herald.tells_steps

    # ------------------------------------------------------------------ being asked

    def wall(self, moment: float) -> float:
        """Epoch seconds of a monotonic time."""
        return moment + self.zero

    @property
    def state(self) -> RunStatus:
        """State at this instant: RUNNING from the first attempt on, whether or not that is written down yet."""
        return RunStatus.RUNNING if self.began and not self.status.ended else self.status

    def status_of(self, index: int) -> BlockStatus:
        """State of a step."""
        return self.statuses[index]

    def step_result(self, index: int) -> StepResult:
        """How a step ended."""
        attempts = self.attempts[index]
        started = self.started[index]
        return StepResult(
            self.plan.steps[index].name,
            self.statuses[index],
            self.reasons.get(index),
            attempts,
            started + self.zero if started else None,
            self.seconds_of[index] if started else None,
            self.outputs[index] if self.has_output(index) else None,
            self.failures.get(index),
        )

    def ended_order(self) -> List[int]:
        """Indexes of the steps that were attempted, in the order of their ends."""
        return [index for index in self.ends if index != self.final]

    def final_failures(self) -> List[Failure]:
        """The failures, in the order of the sequence."""
        return [self.failures[index] for index in sorted(self.failures)]

    def error_text(self) -> Optional[str]:
        """What went wrong."""
        return self._error_text(self.status)

    def _error_text(self, status: RunStatus) -> Optional[str]:
        if status is RunStatus.COMPLETED or not status.ended:
            return None
        told = [str(failure) for failure in self.final_failures()]
        if self.halted == TIMEOUT and not told:
            told.append(f"the run went past its limit of {self.plan.run_timeout} s (seq_run_timeout)")
        if self.engine.recorder is not None and self.engine.recorder.results is not None and told:
            told.append(f"resume with: blazed retry {self.info.run_id}")
        return "\n".join(told) or None

    def has_output(self, index: int) -> bool:
        """Whether a step has an output that is still at hand."""
        return self.statuses[index] is BlockStatus.COMPLETED and index not in self.outputs.absent

    # ------------------------------------------------------------------ the story of failed attempts

    def _record_attempt(self, attempt: Attempt, failure: Failure, seconds: float) -> None:
        recorder = self.engine.recorder
        if recorder is not None and attempt.place.index != self.final:
            recorder.attempt(
                self.key,
                attempt.place.index,
                attempt.attempt,
                attempt.started + self.zero,
                seconds,
                failure.reason,
                failure.message,
                failure.arguments or None,
                failure.traceback or None,
            )

    def _record_retry(self, attempt: Attempt, failure: Failure, delay: float) -> None:
        recorder = self.engine.recorder
        if recorder is not None:
            started = attempt.started + self.zero
            recorder.step(
                self.key,
                attempt.place.index,
                BlockStatus.RETRYING,
                failure.reason,
                attempt.attempt,
                started,
                self.seconds_of[attempt.place.index],
                failure.message,
                self.engine.clock.time() + delay,
            )

    def _timeout_of(self, attempt: Attempt, cause: Optional[BaseException]) -> StepTimeout:
        if self.halted == TIMEOUT:
            text = f"the run went past its limit of {self.plan.run_timeout} s (seq_run_timeout)"
        else:
            text = f"the attempt ran past its limit of {attempt.place.timeout} s"
        error = StepTimeout(text)
        if cause is not None:
            # The frames tell where the block was when it was stopped.
            error.__traceback__ = cause.__traceback__
            if not isinstance(cause, (StepCancelled, BlazeError)):
                error.__cause__ = cause
        return error

    def _told(self, step: Step) -> Optional[Dict[str, Any]]:
        """The arguments of a step, for its failure's story."""
        try:
            return None if step.index == self.final else step.arguments.bind(self.outputs)
        except Exception:
            return dict(step.arguments.constants)
