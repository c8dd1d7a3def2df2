"""The core of Blaze, with the public names of ``blaze``."""

from __future__ import annotations

from .blaze import Blaze
from .block import BlazeBlock
from .do.result import RunHandle, RunResult, StepResult
from .ground.clock import Clock
from .ground.context import StepContext, current
from .ground.errors import (
    Abort,
    BlazeError,
    BlockCrashed,
    NotFound,
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
from .remember.retention import Retention
from .seq import BlazeSequence, SeqBlockData, Sequence, SubmitSequenceData
from .state import StateManager

__all__ = [
    "Abort",
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
    "StepCancelled",
    "StepContext",
    "StepResult",
    "StepTimeout",
    "SubmitSequenceData",
    "ValidationError",
    "current",
]
