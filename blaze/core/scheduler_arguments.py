"""What `Blaze` is made with, checked before anything is opened."""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional

from .block import BlazeBlock
from .ground.clock import Clock
from .ground.errors import Fault, ValidationError
from .ground.names import name_fault
from .seq import BlazeSequence
from .what.checker import shown
from .what.options import DURABILITIES, check_choice, check_count, check_delay, check_flag, executor_faults


def check_arguments(
    *, blocks: Any, sequences: Any, logger: Any, max_workers: Any, auto_start: Any, loop_interval: Any, state_dir: Any,
    durability: Any, clock: Any, executors: Any, name: Any, grace: Any, keep_outputs: Any, max_recoveries: Any,
    misfire_grace: Any, retention: Any, hooks: Mapping[str, Any],
) -> None:  # fmt: skip
    """Raise :class:`ValidationError` with everything that is wrong with them."""
    whats = [
        _check_object("blaze_blocks", blocks, BlazeBlock),
        _check_object("sequences", sequences, BlazeSequence),
        check_count("max_workers", max_workers, least=1),
        check_flag("auto_start", auto_start),
        check_delay("loop_interval", loop_interval),
        _check_directory(state_dir),
        check_choice("durability", durability, DURABILITIES),
        _check_object("clock", clock, Clock),
        *executor_faults(executors),
        None if name is None else name_fault(name),
        check_delay("grace", grace),
        check_flag("keep_outputs", keep_outputs),
        check_count("max_recoveries", max_recoveries),
        check_delay("misfire_grace", misfire_grace),
        *(
            f"{hook} is a function of one argument, got {shown(function)}"
            for hook, function in hooks.items()
            if function is not None and not callable(function)
        ),
    ]
    # What these two are is imported by those who make one, and by nobody else.
    if logger is not None:
        from .logger import BlazeLogger

        whats.append(_check_object("logger", logger, BlazeLogger))
    if retention is not None:
        from .remember.retention import Retention

        whats.append(_check_object("retention", retention, Retention))
    faults = [Fault("Blaze()", what) for what in whats if what]
    if faults:
        raise ValidationError(faults, "Blaze()")


def _check_object(name: str, value: Any, kind: type) -> Optional[str]:
    return None if value is None or isinstance(value, kind) else f"{name} is a {kind.__name__}, got {shown(value)}"


def _check_directory(value: Any) -> Optional[str]:
    if not isinstance(value, (str, os.PathLike)):
        return f"state_dir is the path of a directory, got {shown(value)}"
    path = os.fspath(value)
    if not isinstance(path, str) or "\0" in path:
        return f"state_dir is the path of a directory, got {shown(path)}"
    return None if path else "state_dir is empty; for the current directory write '.'"


__all__ = ["check_arguments"]
