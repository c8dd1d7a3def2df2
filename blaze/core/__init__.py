"""The core of Blaze, with the public names of ``blaze``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .blaze import Blaze
from .block import BlazeBlock
from .do.result import RunHandle, RunResult, StepResult
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
from .logger import BlazeLogger
from .seq import BlazeSequence, SeqBlockData, Sequence, SubmitSequenceData

if TYPE_CHECKING:
    from .remember.retention import Retention
    from .state import StateManager
    from .status_report import StatusReport

#: Names that few programs use, and where they are: imported when they are first asked for.
_LATER = {
    "Retention": "blaze.core.remember.retention",
    "StateManager": "blaze.core.state",
    "StatusReport": "blaze.core.status_report",
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

        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
