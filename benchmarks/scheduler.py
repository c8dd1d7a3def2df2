"""Measures the scheduler: ``make bench-scheduler``, or ``python -m benchmarks.scheduler``.

Jobs are stored durably, and every figure is checked: jobs in the file, ticks fired, none
missed and none twice. Lateness is taken inside the block, against the tick's nominal time.
"""

from __future__ import annotations

import sys
from typing import Mapping, Optional, Sequence

from . import firing, submitting
from .program import Work, run_program

WORK: Mapping[str, Work] = {
    "submit": Work(submitting.submit_row),
    "start": Work(submitting.start_row),
    "resident": Work(submitting.resident_row),
    "late": Work(firing.late_row),
    "late-together": Work(firing.late_together_row),
    "idle": Work(firing.idle_row),
    "day": Work(firing.day_row),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the program; its exit status."""
    return run_program("scheduler", __doc__, WORK, arguments)


if __name__ == "__main__":
    sys.exit(main())
