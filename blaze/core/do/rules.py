"""When a step starts, given how its dependencies ended: the whole truth table, as data."""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterable, Optional

from ..ground.status import BlockStatus

#: The kinds of end that were seen among the dependencies of a step: any mixture of
#: C(ompleted), F(ailed) and S(kipped or cancelled).
MIXTURES = ("C", "F", "S", "CF", "CS", "FS", "CFS")

#: ``run_when`` -> the mixtures with which the step starts. With any other it is SKIPPED.
#: A step without dependencies always starts.
STARTS_WITH: Dict[str, FrozenSet[str]] = {
    "all_success": frozenset({"C"}),
    "all_done": frozenset(MIXTURES),
    "any_success": frozenset({"C", "CF", "CS", "CFS"}),
    "any_failed": frozenset({"F", "CF", "FS", "CFS"}),
}

#: Why a step is skipped below a failed one, however far.
UPSTREAM_FAILED = "upstream_failed"

_COMPLETED, _FAILED, _OTHER = 1, 2, 4
_BIT = {
    BlockStatus.COMPLETED: _COMPLETED,
    BlockStatus.FAILED: _FAILED,
    BlockStatus.SKIPPED: _OTHER,
    BlockStatus.CANCELLED: _OTHER,
}
_MIXTURE_OF_BITS = {
    sum(bit for letter, bit in zip("CFS", (_COMPLETED, _FAILED, _OTHER)) if letter in mixture): mixture
    for mixture in MIXTURES
}


def mixture_of(ends: object) -> str:
    """The mixture of an iterable of end states."""
    bits = 0
    for end in ends:  # type: ignore[attr-defined]
        bits |= _BIT[end]
    return _MIXTURE_OF_BITS[bits] if bits else ""


def starts(run_when: str, mixture: str) -> bool:
    """Whether a step starts whose dependencies have all ended."""
    return not mixture or mixture in STARTS_WITH[run_when]


def skip_reason(mixture: str, reasons: Iterable[Optional[str]]) -> str:
    """Why a step is skipped, given also the reasons of its dependencies: a failure is told to all that miss it."""
    if "F" in mixture or UPSTREAM_FAILED in reasons:
        return UPSTREAM_FAILED
    return "upstream_skipped" if "S" in mixture else "nothing_failed"
