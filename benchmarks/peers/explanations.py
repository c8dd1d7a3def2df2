"""Why a peer is faster where it is, found by profiling both; the figures beside are measured anew each time."""

from __future__ import annotations

from typing import Mapping, Tuple

#: (workload, contestant or entry) → the reason.
REASONS: Mapping[Tuple[str, str], str] = {}


def why(workload: str, entry: str) -> str:
    """The reason, as far as it is known."""
    return (
        REASONS.get((workload, entry))
        or REASONS.get((workload, entry.partition(":")[0]))
        or "Not explained yet: profile both."
    )
