"""The core of Blaze, with the public names of ``blaze``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .blaze import Blaze
from .block import BlazeBlock
from .ground.clock import Clock
from .ground.context import StepContext, current
from .ground.errors import (
    Abort,
    AmbiguousName,
    BlazeError,
    BlockCrashed,
    NotFound,
    ReferenceFailed,
    Retry,
    RunFailed,
    RunSuspended,
    StateError,
    StepCancelled,
    StepTimeout,
    ValidationError,
)
from .ground.status import BlockStatus, JobStatus, RunStatus
from .seq import BlazeSequence, SeqBlockData, Sequence, SubmitSequenceData

if TYPE_CHECKING:
    from .do.result import RunHandle, RunResult, StepResult
    from .logger import BlazeLogger
    from .remember.retention import Retention
    from .state import StateManager
    from .status_report import StatusReport
    from .when.schedule import Schedule

#: Names that a program which only declares blocks and sequences does not need, and where they are.
_LATER = {
    "BlazeLogger": "blaze.core.logger",
    "Retention": "blaze.core.remember.retention",
    "RunHandle": "blaze.core.do.result",
    "RunResult": "blaze.core.do.result",
    "Schedule": "blaze.core.when.schedule",
    "StateManager": "blaze.core.state",
    "StatusReport": "blaze.core.status_report",
    "StepResult": "blaze.core.do.result",
}

__all__ = [
    "Abort",
    "AmbiguousName",
    "Blaze",
    "BlazeBlock",
    "BlazeError",
    "BlazeLogger",
    "BlazeSequence",
    "BlockCrashed",
    "BlockStatus",
    "Clock",
    "JobStatus",
    "NotFound",
    "ReferenceFailed",
    "Retention",
    "Retry",
    "RunFailed",
    "RunHandle",
    "RunResult",
    "RunStatus",
    "RunSuspended",
    "Schedule",
    "SeqBlockData",
    "Sequence",
    "StateError",
    "StateManager",
    "StatusReport",
    "StepCancelled",
    "StepContext",
    "StepResult",
    "StepTimeout",
    "SubmitSequenceData",
    "ValidationError",
    "current",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        import importlib

        found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
