"""One attempt of a step: what the block sees as its context, and how far stopping it has gone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple

from ..ground.clock import as_datetime
from ..ground.context import RunInfo, StepContext, running

if TYPE_CHECKING:
    from ..what.plan import Step
    from .pool import Worker
    from .run import Run

# Phases of an attempt. Every change is made under the run's lock.
#: Runs, and nobody has objected.
LIVE = 0
#: Asked to stop: ``cancelled`` is set, the process killed, the coroutine cancelled.
ASKED = 1
#: An exception was raised into its thread.
CONDEMNED = 2
#: Has an outcome; whatever comes later is discarded.
OVER = 3


class Attempt(StepContext):
    """An attempt that is being made in this process.

    What most attempts never need has its default on the class, so that making one
    costs four assignments. Times are monotonic seconds; 0.0 means not yet.
    """

    _asked: Optional[str] = None
    _progress: Optional[Tuple[float, Optional[float]]] = None
    #: When the step's own timeout strikes.
    limit: Optional[float] = None
    phase = LIVE
    asked_at = 0.0
    #: Whether a row tells already that the step runs.
    row = False
    #: Stops it, where that takes more than an exception in a thread.
    stop: Optional[Callable[[], None]] = None
    #: The thread that runs it, if that may be interrupted.
    worker: Optional[Worker] = None
    #: Where the block was when it was about to be interrupted.
    stack: Optional[str] = None
    #: It does nothing but wait until it is asked to stop: time that is driven may go on.
    hangs = False
    #: The progress that was recorded last.
    shown: Optional[Tuple[float, Optional[float]]] = None

    def __init__(self, run: Run, place: Step, number: int, started: float) -> None:
        self.run = run
        self.place = place
        self.attempt = number
        self.started = started

    @property
    def waits_for_time(self) -> bool:
        """Whether nothing will happen here unless time passes."""
        return self.hangs and self.phase == LIVE

    @property
    def info(self) -> RunInfo:  # type: ignore[override]
        return self.run.info

    @property
    def step(self) -> str:  # type: ignore[override]
        return self.place.name

    @property
    def _on_log(self) -> Any:  # type: ignore[override]
        return self.run.on_log

    @property
    def deadline(self) -> Optional[datetime]:
        limits = [limit for limit in (self.limit, self.run.limit) if limit is not None]
        return as_datetime(self.run.wall(min(limits))) if limits else None

    def __reduce__(self) -> Any:
        deadline = self.deadline
        return StepContext, (self.info, self.step, self.attempt, deadline.timestamp() if deadline else None)


def call(attempt: Attempt, function: Callable[..., Any], arguments: Any) -> Any:
    """Call the block where ``blaze.current()`` finds its attempt; run it in a context of its own."""
    running.set(attempt)
    return function(**arguments)


def outcome_of(future: Any) -> Tuple[Any, Optional[BaseException]]:
    """What a future that is done came to, of asyncio or of an executor: its value, or what was raised.

    A block may raise any object: one that counts as false, or one that can't even be asked for its traceback.
    """
    try:
        error = future.exception()
        return (future.result(), None) if error is None else (None, error)
    except BaseException as raised:
        return None, raised


class Detached:
    """A call that may cross into another process: there the context is a copy without its run."""

    __slots__ = ("context", "function", "arguments", "variables")

    def __init__(self, context: StepContext, function: Callable[..., Any], arguments: Any, variables: Any) -> None:
        self.context = context
        self.function = function
        self.arguments = arguments
        self.variables = variables

    def __call__(self) -> Any:
        if self.variables is None:
            running.set(self.context)
            return self.function(**self.arguments)
        return self.variables.run(call, self.context, self.function, self.arguments)

    def __reduce__(self) -> Any:
        return Detached, (self.context, self.function, self.arguments, None)
