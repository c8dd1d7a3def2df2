"""Measures the engine against bare loops: ``make bench``, or ``python -m benchmarks.engine``.

Bare loop and Blaze take turns in one process; the figures are medians with their
least and greatest value, the ratio is made within each pair. Every repetition is
checked: status, outputs, rows in the database.
"""

from __future__ import annotations

import sys
from typing import Mapping, Optional, Sequence

from . import growth, leak, passing, startup, steps
from .program import Work, run_program

WORK: Mapping[str, Work] = {
    "chain": Work(steps.chain_row),
    "chain-power": Work(steps.chain_power_row),
    "fan": Work(steps.fan_row),
    "chain-memory": Work(steps.chain_memory_rows),
    "fan-memory": Work(steps.fan_memory_rows),
    "runs": Work(steps.runs_rows),
    "dag": Work(steps.dag_row),
    "import": Work(startup.import_row),
    "hello": Work(startup.hello_row),
    "leak": Work(leak.durable_rows, long=True),
    "leak-memory": Work(leak.memory_rows, long=True),
    "growth-chain": Work(growth.chain_rows),
    "growth-fan": Work(growth.fan_rows),
    "passing": Work(passing.kept_row),
    "passing-unkept": Work(passing.unkept_row),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the program; its exit status."""
    return run_program("engine", __doc__, WORK, arguments)


if __name__ == "__main__":
    sys.exit(main())
