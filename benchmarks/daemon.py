"""Measures the daemon's socket: ``make bench-daemon``, or ``python -m benchmarks.daemon``.

Both servers are processes of their own and serve the same answer, a status of five sequences.
"""

from __future__ import annotations

import sys
from typing import Mapping, Optional, Sequence

from . import beginning, calling, serving
from .program import Work, run_program

WORK: Mapping[str, Work] = {
    "socket": Work(calling.kept_row),
    "socket-anew": Work(calling.anew_row),
    "socket-many": Work(calling.many_row),
    "status": Work(serving.status_rows),
    "status-of": Work(serving.status_of_many_rows),
    "submit": Work(serving.submit_rows),
    "memory": Work(serving.memory_row),
    "detach": Work(beginning.detach_row),
    "help": Work(beginning.help_row),
    "status-json": Work(beginning.status_json_row),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the program; its exit status."""
    return run_program("daemon", __doc__, WORK, arguments)


if __name__ == "__main__":
    sys.exit(main())
