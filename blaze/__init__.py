"""Blaze: functions become blocks, blocks become sequences, sequences run now or on a schedule, and survive.

Importing it has no side effects: no thread, no file, no logging is set up before
something is started or run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from . import core as _core

if TYPE_CHECKING:
    from .core import (
        Abort,
        AmbiguousName,
        Blaze,
        BlazeBlock,
        BlazeError,
        BlazeLogger,
        BlazeSequence,
        BlockCrashed,
        BlockStatus,
        Clock,
        Health,
        JobRecord,
        JobStatus,
        NotFound,
        ReferenceFailed,
        Retention,
        Retry,
        RunEvent,
        RunFailed,
        RunHandle,
        RunResult,
        RunStatus,
        RunSuspended,
        Schedule,
        SeqBlockData,
        Sequence,
        SkipEvent,
        StateError,
        StateManager,
        StatusReport,
        StepCancelled,
        StepContext,
        StepEvent,
        StepResult,
        StepTimeout,
        SubmitSequenceData,
        ValidationError,
        current,
    )

__version__ = "0.1.0"

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
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_core, name)
    return found


def __dir__() -> List[str]:
    return [*globals(), *__all__]
