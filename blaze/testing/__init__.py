"""What makes pipelines testable: time that is driven by hand, runs without waiting, and faults on purpose.

The fixtures of the pytest plugin (``pytest_blaze``) are made of these; they work without it too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from .clock import VirtualClock

if TYPE_CHECKING:
    from blaze.core.do.probe import Point as CrashPoint

    from .crashing import run_through_crashes
    from .faults import FailedOnPurpose, Faults
    from .outcome import SequenceRun
    from .playing import run_every_order, run_sequence
    from .scheduler import VirtualScheduler

__all__ = [
    "CrashPoint",
    "FailedOnPurpose",
    "Faults",
    "SequenceRun",
    "VirtualClock",
    "VirtualScheduler",
    "run_every_order",
    "run_sequence",
    "run_through_crashes",
]

#: Where the other names live; loaded when first asked for, since a clock needs none of them.
_HOMES = {
    "FailedOnPurpose": "blaze.testing.faults",
    "Faults": "blaze.testing.faults",
    "SequenceRun": "blaze.testing.outcome",
    "VirtualScheduler": "blaze.testing.scheduler",
    "run_every_order": "blaze.testing.playing",
    "run_sequence": "blaze.testing.playing",
    "run_through_crashes": "blaze.testing.crashing",
}


def __getattr__(name: str) -> Any:
    if name == "CrashPoint":
        from blaze.core.do.probe import Point

        return Point
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return [*globals(), *__all__]
