"""Checks of the numbers that decorators and submissions take: what is wrong, or None."""

from __future__ import annotations

import math
from typing import Any, Optional

#: Longest delay or timeout, in seconds (about 31 years): beyond it lies a unit error.
MAX_SECONDS = 1e9
#: Most retries of a step.
MAX_RETRIES = 1_000_000


def check_count(name: str, value: Any, *, optional: bool = False) -> Optional[str]:
    """A whole number from 0."""
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{name} is a whole number from 0, got {_shown(value)}"
    if not 0 <= value <= MAX_RETRIES:
        return f"{name} is a whole number from 0 to {MAX_RETRIES}, got {_shown(value)}"
    return None


def check_delay(name: str, value: Any, *, optional: bool = False) -> Optional[str]:
    """A finite number of at least 0."""
    if value is None and optional:
        return None
    if not _is_number(value) or not 0 <= value <= MAX_SECONDS:
        return f"{name} is a number from 0 to {MAX_SECONDS:.0e}, got {_shown(value)}"
    return None


def check_timeout(name: str, value: Any) -> Optional[str]:
    """None (no limit) or a finite number of seconds above 0."""
    if value is None:
        return None
    if not _is_number(value) or not 0 < value <= MAX_SECONDS:
        return f"{name} is a number of seconds above 0, or None for no limit, got {_shown(value)}"
    return None


def check_fraction(name: str, value: Any) -> Optional[str]:
    """A number from 0 to 1."""
    if not _is_number(value) or not 0 <= value <= 1:
        return f"{name} is a fraction of the delay from 0 to 1, got {_shown(value)}"
    return None


def check_flag(name: str, value: Any) -> Optional[str]:
    """True or False."""
    return None if isinstance(value, bool) else f"{name} is True or False, got {_shown(value)}"


def check_text(name: str, value: Any) -> Optional[str]:
    """A str."""
    return None if isinstance(value, str) else f"{name} is a str, got {type(value).__name__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
