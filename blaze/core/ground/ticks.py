"""Ticks as plain data: what the decisions about them and the tables of jobs both speak of."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple


class Passed(NamedTuple):
    """The ticks of a job from its next one up to an instant, in epoch seconds."""

    number: int
    first: float
    last: float
    #: The one after them; None: there is none.
    following: Optional[float] = None


#: Stretches of ticks that are recorded already, as first and last, in order; only a clock that was set back
#: lets them come again.
Recorded = Sequence[Tuple[float, float]]
