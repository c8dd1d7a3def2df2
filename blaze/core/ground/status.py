"""The states of runs, steps and jobs, and the only table that says which may follow which."""

from __future__ import annotations

from enum import Enum
from typing import Any, Dict, FrozenSet, TypeVar


class _Status(str, Enum):
    def __str__(self) -> str:
        return str(self.value)

    @property
    def ended(self) -> bool:
        """Whether this state is final: nothing ever follows it."""
        return not _FOLLOWERS[type(self)][self]


class RunStatus(_Status):
    """State of a run."""

    #: Recorded; no step has been running for long enough to be written down yet.
    PENDING = "PENDING"
    #: At least one step has started.
    RUNNING = "RUNNING"
    #: Every step ended, none failed, the finaliser returned.
    COMPLETED = "COMPLETED"
    #: A step or the finaliser failed, or the run went past its deadline.
    FAILED = "FAILED"
    #: Stopped on request, before any step had failed.
    CANCELLED = "CANCELLED"
    #: A tick that was not run; the reason says why.
    SKIPPED = "SKIPPED"


class BlockStatus(_Status):
    """State of a step (a block in its place in a sequence)."""

    #: Waits for its dependencies or for a worker.
    PENDING = "PENDING"
    #: An attempt is being made.
    RUNNING = "RUNNING"
    #: An attempt failed; the next one is due later.
    RETRYING = "RETRYING"
    #: Returned; the output is recorded.
    COMPLETED = "COMPLETED"
    #: The last attempt failed.
    FAILED = "FAILED"
    #: Not run, because of how its dependencies ended.
    SKIPPED = "SKIPPED"
    #: Not run or stopped, because the run was halted.
    CANCELLED = "CANCELLED"


class JobStatus(_Status):
    """State of a job (a sequence with a schedule)."""

    #: Its ticks fire.
    ACTIVE = "ACTIVE"
    #: Its ticks are held back until ``resume_job``.
    PAUSED = "PAUSED"
    #: No tick is left.
    ENDED = "ENDED"
    #: Parked with an error: its sequence is gone or its row unreadable.
    BROKEN = "BROKEN"


_R, _B, _J = RunStatus, BlockStatus, JobStatus

# One table a class: members of different classes with the same value are equal, and would be one key.
_FOLLOWERS: Dict[type, Dict[Any, FrozenSet[Any]]] = {
    _R: {
        _R.PENDING: frozenset({_R.RUNNING, _R.COMPLETED, _R.FAILED, _R.CANCELLED, _R.SKIPPED}),
        _R.RUNNING: frozenset({_R.COMPLETED, _R.FAILED, _R.CANCELLED}),
        _R.COMPLETED: frozenset(),
        _R.FAILED: frozenset(),
        _R.CANCELLED: frozenset(),
        _R.SKIPPED: frozenset(),
    },
    _B: {
        _B.PENDING: frozenset({_B.RUNNING, _B.SKIPPED, _B.CANCELLED}),
        _B.RUNNING: frozenset({_B.RETRYING, _B.COMPLETED, _B.FAILED, _B.CANCELLED}),
        _B.RETRYING: frozenset({_B.RUNNING, _B.CANCELLED}),
        _B.COMPLETED: frozenset(),
        _B.FAILED: frozenset(),
        _B.SKIPPED: frozenset(),
        _B.CANCELLED: frozenset(),
    },
    _J: {
        _J.ACTIVE: frozenset({_J.PAUSED, _J.ENDED, _J.BROKEN}),
        _J.PAUSED: frozenset({_J.ACTIVE, _J.ENDED, _J.BROKEN}),
        # A submission under the same job_id starts a job anew.
        _J.ENDED: frozenset({_J.ACTIVE, _J.PAUSED}),
        _J.BROKEN: frozenset({_J.ACTIVE, _J.PAUSED, _J.ENDED}),
    },
}

S = TypeVar("S", bound=_Status)


def may_follow(old: S, new: S) -> bool:
    """Whether a thing in state ``old`` may move to state ``new``."""
    return new in _FOLLOWERS[type(old)][old]


def predecessors(new: S) -> FrozenSet[S]:
    """The states from which ``new`` may be reached; the database's guards are built from this."""
    return frozenset(old for old, followers in _FOLLOWERS[type(new)].items() if new in followers)
