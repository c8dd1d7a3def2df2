"""Measures the testing kit: ``make bench-kit``, or ``python -m benchmarks.testing_kit``.

What pytest's start costs with the plugin, and how long the tests of a pipeline take. Every figure
is checked: tests that passed, runs that ended well, ticks that were run.
"""

from __future__ import annotations

import sys
from typing import Mapping, Optional, Sequence

from . import playing
from .program import Work, run_program

WORK: Mapping[str, Work] = {
    "start": Work(playing.start_row),
    "set-up": Work(playing.set_up_row),
    "run-sequence": Work(playing.run_row),
    "year": Work(playing.year_row),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the program; its exit status."""
    return run_program("testing_kit", __doc__, WORK, arguments)


if __name__ == "__main__":
    sys.exit(main())
