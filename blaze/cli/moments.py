"""Instants and durations as people read them: local time in ISO order, and how far away it is."""

from __future__ import annotations

import math
import time
from datetime import datetime, timezone
from typing import Optional

from ..core.ground.errors import Fault, ValidationError

#: Seconds of a unit, largest first.
UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "m"), (1.0, "s"))


def local(epoch: float) -> str:
    """``2026-01-15 14:30:00``, in the machine's time zone."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
    except (OverflowError, ValueError, OSError):
        return "beyond the calendar"


def iso(epoch: Optional[float]) -> Optional[str]:
    """UTC, ISO 8601, as it stands in JSON."""
    if epoch is None:
        return None
    try:
        return datetime.fromtimestamp(epoch, timezone.utc).isoformat()
    except (OverflowError, ValueError, OSError):
        return None


def ago(seconds: float) -> str:
    """``3m ago``; of what lies ahead, how long it is until then: ``<15m``."""
    if seconds < 0:
        return until(-seconds)
    for size, unit in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit} ago"
    return "now"


def until(seconds: float) -> str:
    """``<15m``: less than so long, in one unit."""
    for size, unit in UNITS[:-1]:
        if seconds > size:
            return f"<{math.ceil(seconds / size)}{unit}"
    return f"<{max(0, math.ceil(seconds))}s"


def beside(epoch: Optional[float], now: float, never: str = "-") -> str:
    """Local time with the relative time beside it."""
    return never if epoch is None else f"{local(epoch)} {ago(now - epoch)}"


def duration(seconds: Optional[float]) -> str:
    """``45.23s``, ``3m 05s``, ``2h 10m``; short ones in milliseconds."""
    if seconds is None:
        return "-"
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 59.995:
        return f"{seconds:.2f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 48 * 60:
        return f"{minutes // 60}h {minutes % 60:02d}m"
    return f"{minutes // 1440}d {minutes % 1440 // 60}h"


def since(text: str, now: Optional[float] = None) -> float:
    """Epoch seconds of a point in the past: ``90s``, ``15m``, ``2h``, ``7d`` ago, or a date in ISO order.

    Raises :class:`ValidationError`.
    """
    amount, unit = text[:-1], text[-1:].lower()
    sizes = {name: size for size, name in UNITS}
    try:
        if unit in sizes:
            number = float(amount)
            if 0 <= number < math.inf:
                return (time.time() if now is None else now) - number * sizes[unit]
        elif text:
            found = datetime.fromisoformat(text[:-1] + "+00:00" if unit == "z" else text)
            return found.timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    raise ValidationError([Fault("", f"{text!r:.60} is no time: write 90s, 15m, 2h, 7d (ago), or 2026-01-31T14:30")])
