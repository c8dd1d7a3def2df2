"""The core of Blaze, with the public names of ``blaze``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from .blaze import Blaze
    from .block import BlazeBlock
    from .do.events import RunEvent, SkipEvent, StepEvent
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
    from .remember.records import JobRecord
    from .remember.retention import Retention
    from .seq import BlazeSequence, SeqBlockData, Sequence, SubmitSequenceData
    from .state import StateManager
    from .status_report import Health, StatusReport
    from .when.schedule import Schedule

#: Where the names are. Each is imported when it is first used: a program pays for what it uses, and the command line,
#: which declares nothing, for none of it.
_PLACES = {
    "Abort": "blaze.core.ground.errors",
    "AmbiguousName": "blaze.core.ground.errors",
    "Blaze": "blaze.core.blaze",
    "BlazeBlock": "blaze.core.block",
    "BlazeError": "blaze.core.ground.errors",
    "BlazeLogger": "blaze.core.logger",
    "BlazeSequence": "blaze.core.seq",
    "BlockCrashed": "blaze.core.ground.errors",
    "BlockStatus": "blaze.core.ground.status",
    "Clock": "blaze.core.ground.clock",
    "Health": "blaze.core.status_report",
    "JobRecord": "blaze.core.remember.records",
    "JobStatus": "blaze.core.ground.status",
    "NotFound": "blaze.core.ground.errors",
    "ReferenceFailed": "blaze.core.ground.errors",
    "Retention": "blaze.core.remember.retention",
    "Retry": "blaze.core.ground.errors",
    "RunEvent": "blaze.core.do.events",
    "RunFailed": "blaze.core.ground.errors",
    "RunHandle": "blaze.core.do.result",
    "RunResult": "blaze.core.do.result",
    "RunStatus": "blaze.core.ground.status",
    "RunSuspended": "blaze.core.ground.errors",
    "Schedule": "blaze.core.when.schedule",
    "SeqBlockData": "blaze.core.seq",
    "Sequence": "blaze.core.seq",
    "SkipEvent": "blaze.core.do.events",
    "StateError": "blaze.core.ground.errors",
    "StateManager": "blaze.core.state",
    "StatusReport": "blaze.core.status_report",
    "StepCancelled": "blaze.core.ground.errors",
    "StepContext": "blaze.core.ground.context",
    "StepEvent": "blaze.core.do.events",
    "StepResult": "blaze.core.do.result",
    "StepTimeout": "blaze.core.ground.errors",
    "SubmitSequenceData": "blaze.core.seq",
    "ValidationError": "blaze.core.ground.errors",
    "current": "blaze.core.ground.context",
}
#: Modules of the original layout, which are there without being imported by name, too.
_MODULES = ("blaze", "block", "logger", "seq", "state")

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
    import importlib

    if name in _PLACES:
        found = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
        return found
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return [*globals(), *__all__]
