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
    from .do.events import RunEvent, SkipEvent, StepEvent
    from .do.result import RunHandle, RunResult, StepResult
    from .logger import BlazeLogger
    from .remember.records import JobRecord
    from .remember.retention import Retention
    from .state import StateManager
    from .status_report import Health, StatusReport
    from .when.schedule import Schedule

#: Names that a program which only declares blocks and sequences does not need, and where they are.
_LATER = {
    "BlazeLogger": "blaze.core.logger",
    "Health": "blaze.core.status_report",
    "JobRecord": "blaze.core.remember.records",
    "Retention": "blaze.core.remember.retention",
    "RunEvent": "blaze.core.do.events",
    "RunHandle": "blaze.core.do.result",
    "RunResult": "blaze.core.do.result",
    "Schedule": "blaze.core.when.schedule",
    "SkipEvent": "blaze.core.do.events",
    "StateManager": "blaze.core.state",
    "StatusReport": "blaze.core.status_report",
    "StepEvent": "blaze.core.do.events",
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
    "Health",
    "JobRecord",
    "JobStatus",
    "NotFound",
    "ReferenceFailed",
    "Retention",
    "Retry",
    "RunEvent",
    "RunFailed",
    "RunHandle",
    "RunResult",
    "RunStatus",
    "RunSuspended",
    "Schedule",
    "SeqBlockData",
    "Sequence",
    "SkipEvent",
    "StateError",
    "StateManager",
    "StatusReport",
    "StepCancelled",
    "StepContext",
    "StepEvent",
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
