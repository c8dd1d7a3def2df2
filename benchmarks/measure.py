"""Timing on a noisy machine: repetitions in pairs, medians with their spread, and a loop that tells the noise.

The machine's speed changes from second to second (neighbours on the same core, other
jobs). So the bare loop and Blaze take turns, the ratio is made within each pair, and a
fixed loop, the *spin*, brackets every repetition.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import Callable, Iterable, List, NamedTuple, Tuple

#: Spin, in milliseconds per million rounds, of the machine on which the goals were set, when it was quiet.
REFERENCE_SPIN = 25.0
#: Rounds of one spin; about 5 ms.
SPIN_ROUNDS = 200_000

#: Sets up, times and verifies one repetition; the seconds of the timed part.
Repetition = Callable[[], float]


class WrongResult(Exception):
    """What was measured did not do its work; the figure would be worth nothing."""


def require(true: bool, what: str) -> None:
    """Raise :class:`WrongResult` unless ``true``."""
    if not true:
        raise WrongResult(what)


class Spin(NamedTuple):
    """How fast this thread was just now, in milliseconds per million rounds of an empty loop."""

    #: Of processor time: grows when a neighbour shares the core.
    cpu: float
    #: Of the wall clock: grows also when other processes take the processor.
    wall: float


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of some values, at least one."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    def times(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Pairs:
    """Repetitions of two contestants that took turns. Times in seconds, one of each per pair."""

    bare: Tuple[float, ...]
    blaze: Tuple[float, ...]
    spins: Tuple[Spin, ...]

    @property
    def ratio(self) -> Spread:
        """Blaze's time over the bare one, made within each pair."""
        return Spread.of(blaze / bare for bare, blaze in zip(self.bare, self.blaze))

    @property
    def normal(self) -> float:
        """Factor that makes these times those of a quiet reference machine, as far as the spin can tell."""
        return REFERENCE_SPIN / statistics.median(spin.cpu for spin in self.spins)


def spin() -> Spin:
    """Run the loop."""
    wall, cpu = time.perf_counter(), time.thread_time()
    total = 0
    for _ in range(SPIN_ROUNDS):
        total += 1
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    per_million_ms = 1e3 * 1e6 / total
    return Spin(cpu * per_million_ms, wall * per_million_ms)


def in_pairs(bare: Repetition, blaze: Repetition, repeat: int, warmups: int = 1) -> Pairs:
    """Let two contestants take turns: bare, Blaze, bare, Blaze, ... after ``warmups`` unmeasured turns."""
    for _ in range(warmups):
        bare()
        blaze()
    times: Tuple[List[float], List[float]] = ([], [])
    spins = [spin()]
    for _ in range(repeat):
        for contestant, found in zip((bare, blaze), times):
            gc.collect()  # what the other one left is not for this one to clean up
            found.append(contestant())
            spins.append(spin())
    return Pairs(tuple(times[0]), tuple(times[1]), tuple(spins))
