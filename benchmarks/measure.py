"""Timing on a noisy machine: repetitions in pairs, medians with their spread, and a loop that tells the noise.

The machine's speed changes from second to second (neighbours on the same core, other
jobs). So the bare loop and Blaze take turns, the ratio is made within each pair, and a
fixed loop, the *spin*, brackets every repetition.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from dataclasses import dataclass
from typing import Callable, Iterable, List, NamedTuple, Sequence, Tuple

#: Spin, in milliseconds per million rounds, of the machine on which the goals were set, when it was quiet.
REFERENCE_SPIN = 25.0
#: Rounds of one spin; about 5 ms.
SPIN_ROUNDS = 200_000


class Timed(NamedTuple):
    """What the timed part of one repetition took, in seconds."""

    wall: float
    #: Processor time of all threads, which other processes disturb less than the wall clock.
    cpu: float


#: Sets up, times and verifies one repetition.
Repetition = Callable[[], Timed]


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
    """Repetitions of two contestants that took turns, one of each per pair."""

    bare: Tuple[Timed, ...]
    blaze: Tuple[Timed, ...]
    spins: Tuple[Spin, ...]

    @property
    def ratio(self) -> Spread:
        """Blaze's time over the bare one, made within each pair."""
        return Spread.of(blaze.wall / bare.wall for bare, blaze in zip(self.bare, self.blaze))

    @property
    def cpu_ratio(self) -> Spread:
        """The same of processor time."""
        return Spread.of(blaze.cpu / max(bare.cpu, 1e-9) for bare, blaze in zip(self.bare, self.blaze))

    @property
    def spin(self) -> Spin:
        """The medians of the spins around them."""
        return median_spin(self.spins)


def stopwatch() -> Callable[[], Timed]:
    """Start to time what this process does; call what it returns when that is done."""
    wall, cpu = time.perf_counter(), time.process_time()

    def stop() -> Timed:
        return Timed(time.perf_counter() - wall, time.process_time() - cpu)

    return stop


def stopwatch_of_children() -> Callable[[], Timed]:
    """The same for what child processes do until they have ended and were waited for."""
    wall, cpu = time.perf_counter(), _children_cpu()

    def stop() -> Timed:
        return Timed(time.perf_counter() - wall, _children_cpu() - cpu)

    return stop


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def spin() -> Spin:
    """Run the loop."""
    wall, cpu = time.perf_counter(), time.thread_time()
    total = 0
    for _ in range(SPIN_ROUNDS):
        total += 1
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    per_million_ms = 1e3 * 1e6 / total
    return Spin(cpu * per_million_ms, wall * per_million_ms)


def median_spin(spins: Sequence[Spin]) -> Spin:
    """The median of each of the two times."""
    return Spin(statistics.median(spin.cpu for spin in spins), statistics.median(spin.wall for spin in spins))


def in_pairs(bare: Repetition, blaze: Repetition, repeat: int, warmups: int = 1) -> Pairs:
    """Let two contestants take turns: bare, Blaze, bare, Blaze, ... after ``warmups`` unmeasured turns."""
    for _ in range(warmups):
        bare()
        blaze()
    times: Tuple[List[Timed], List[Timed]] = ([], [])
    spins = [spin()]
    for _ in range(repeat):
        for contestant, found in zip((bare, blaze), times):
            gc.collect()  # what the other one left is not for this one to clean up
            found.append(contestant())
            spins.append(spin())
    return Pairs(tuple(times[0]), tuple(times[1]), tuple(spins))
