"""Whether a failed attempt is followed by another, and after how long. No clock, no thread."""

from __future__ import annotations

from typing import Optional

from ..ground.errors import Abort, ReferenceFailed, Retry, ValidationError
from ..what.options import MAX_SECONDS
from ..what.plan import RetryPolicy

#: Errors of the wiring: another attempt would meet them again.
_HOPELESS = (Abort, ReferenceFailed, ValidationError)


def retry_delay(policy: RetryPolicy, attempt: int, error: BaseException, spread: float = 0.0) -> Optional[float]:
    """Seconds until the next attempt, or None if there is none.

    :param attempt: number of the attempt that failed, from 1.
    :param spread: where within its jitter the delay falls, from -1 to 1.
    """
    if attempt > policy.retries or isinstance(error, _HOPELESS):
        return None
    if isinstance(error, Retry):
        if error.delay is not None:
            return min(max(0.0, error.delay), MAX_SECONDS)
    elif not isinstance(error, policy.on):
        return None
    if not policy.delay:
        return 0.0
    try:
        delay = policy.delay * float(policy.backoff) ** (attempt - 1)
    except OverflowError:
        delay = policy.max_delay
    delay = min(delay, policy.max_delay)
    return min(delay * (1.0 + policy.jitter * spread), policy.max_delay)


def draw_spread() -> float:
    """Where within its jitter a delay falls: a number from -1 to 1, by lot."""
    import random  # for jitter only: kept out of the start-up

    return random.uniform(-1.0, 1.0)
