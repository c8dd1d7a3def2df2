"""What `Blaze` is made with, checked before anything is opened."""

from __future__ import annotations

from typing import Any, Mapping

from .block import BlazeBlock
from .ground.errors import Fault, ValidationError
from .ground.names import name_fault
from .seq import BlazeSequence
from .what.checker import shown
from .what.options import DURABILITIES, check_choice, check_count, check_delay, executor_faults


def check_arguments(
    blocks: Any, sequences: Any, max_workers: Any, loop_interval: Any, grace: Any, max_recoveries: Any,
    misfire_grace: Any, executors: Any, name: Any, durability: Any, hooks: Mapping[str, Any],
) -> None:  # fmt: skip
    """Raise :class:`ValidationError` with everything that is wrong with them."""
    whats = [
        None
        if blocks is None or isinstance(blocks, BlazeBlock)
        else f"blaze_blocks is a BlazeBlock, got {shown(blocks)}",
        None
        if sequences is None or isinstance(sequences, BlazeSequence)
        else f"sequences is a BlazeSequence, got {shown(sequences)}",
        check_count("max_workers", max_workers) or (None if max_workers else "max_workers is at least 1, got 0"),
        check_delay("loop_interval", loop_interval),
        check_delay("grace", grace),
        check_count("max_recoveries", max_recoveries),
        None if name is None else name_fault(name),
        check_delay("misfire_grace", misfire_grace),
        check_choice("durability", durability, DURABILITIES),
        *executor_faults(executors),
        *(
            f"{hook} is a function of one argument, got {shown(function)}"
            for hook, function in hooks.items()
            if function is not None and not callable(function)
        ),
    ]
    faults = [Fault("Blaze()", what) for what in whats if what]
    if faults:
        raise ValidationError(faults, "Blaze()")


__all__ = ["check_arguments"]
