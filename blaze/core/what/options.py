"""Checks of the numbers that decorators and submissions take: what is wrong, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, List, Optional, Sequence

from .checker import clipped, shown

#: What the runs of a scheduler survive: kill -9, also a power cut, nothing.
DURABILITIES = ("process", "power", "memory")
#: Longest delay or timeout, in seconds (about 31 years): beyond it lies a unit error.
MAX_SECONDS = 1e9
#: Largest factor from one delay to the next.
MAX_FACTOR = 1e6
#: Largest count, such as the retries of a step.
MAX_COUNT = 1_000_000


def check_count(name: str, value: Any, *, optional: bool = False, least: int = 0) -> Optional[str]:
    """A whole number from ``least``."""
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
        return f"{name} is a whole number from {least} to {MAX_COUNT}, got {shown(value)}"
    return None


def check_delay(name: str, value: Any, *, optional: bool = False) -> Optional[str]:
    """A finite number of seconds from 0."""
    if value is None and optional:
        return None
    if not _is_number(value) or not 0 <= value <= MAX_SECONDS:
        return f"{name} is a number of seconds from 0 to {MAX_SECONDS:.0f}, got {shown(value)}"
    return None


def check_factor(name: str, value: Any) -> Optional[str]:
    """A finite number from 0."""
    if not _is_number(value) or not 0 <= value <= MAX_FACTOR:
        return f"{name} is a factor from 0 to {MAX_FACTOR:.0f}, got {shown(value)}"
    return None


def check_timeout(name: str, value: Any) -> Optional[str]:
    """None (no limit) or a finite number of seconds above 0."""
    if value is None:
        return None
    if not _is_number(value) or not 0 < value <= MAX_SECONDS:
        return f"{name} is a number of seconds above 0 (at most {MAX_SECONDS:.0f}), or None, got {shown(value)}"
    return None


def check_fraction(name: str, value: Any) -> Optional[str]:
    """A number from 0 to 1."""
    if not _is_number(value) or not 0 <= value <= 1:
        return f"{name} is a fraction of the delay from 0 to 1, got {shown(value)}"
    return None


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> Optional[str]:
    """One of a few words."""
    if isinstance(value, str) and value in allowed:
        return None
    return f"{name} is one of {', '.join(allowed)}; got {shown(value)}"


def check_flag(name: str, value: Any) -> Optional[str]:
    """True or False."""
    return None if isinstance(value, bool) else f"{name} is True or False, got {shown(value)}"


def check_timezone(name: str, value: Any) -> Optional[str]:
    """None (the machine's) or the IANA name of a time zone."""
    if value is None:
        return None
    if not isinstance(value, str):
        return check_text(name, value)
    from zoneinfo import ZoneInfo  # only where a zone is named: kept out of the start-up

    try:
        ZoneInfo(value)
    except Exception:  # an unknown name, no name at all, a path out of the zone directory
        return f"{name} is the IANA name of a time zone, such as 'Europe/Berlin', got {shown(value)}"
    return None


def check_text(name: str, value: Any) -> Optional[str]:
    """A str."""
    return None if isinstance(value, str) else f"{name} is a str, got {shown(value)}"


def executor_faults(executors: Any) -> List[str]:
    """What is wrong with ``{name: concurrent.futures executor}``."""
    if executors is None:
        return []
    if not isinstance(executors, Mapping):
        return [f"executors is a dict of concurrent.futures executors, got {shown(executors)}"]
    return [
        f"executors[{clipped(name)}] is a concurrent.futures.Executor, got {shown(executor)}"
        for name, executor in executors.items()
        if not callable(getattr(executor, "submit", None)) or isinstance(executor, type)
    ]


def _is_number(value: Any) -> bool:
    # Finiteness is left to the comparison with the bounds: NaN and the infinities lie in none,
    # and an int too large for a float can be compared, though math.isfinite() fails for it.
    return isinstance(value, (int, float)) and not isinstance(value, bool)
