"""`Faults`: what is to go wrong, on purpose, in a run, a scheduler or a process.

They reach an engine through its probe (``blaze.core.do.probe``): functions of steps are
replaced before a run begins, named points are told as they are passed, and every write
asks first. Nothing of Blaze is patched.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Type, Union

from blaze.core.do.probe import Point
from blaze.core.ground.errors import BlazeError, Fault, ValidationError
from blaze.core.what.plan import Plan, Step

from .doubles import double_of, steps_of
from .locking import DatabaseLock
from .wrapping import goes_on, nothing, wrapped

_INSIDE_STEPS = (Point.CALLED, Point.RETURNED, Point.WRITTEN)


class FailedOnPurpose(Exception):
    """What a block raises that is told to fail without saying how."""


class _Strike:
    """A fault of one block: how often it strikes yet (None: always), and what it does."""

    def __init__(self, block: str, times: Optional[int], error: Optional[BaseException]) -> None:
        self.block = block
        self.left = times
        #: What is raised; None: it hangs.
        self.error = error
        self._lock = threading.Lock()

    def strike(self) -> bool:
        """Raise, or tell that the call is to hang; nothing, if it has struck often enough."""
        with self._lock:
            if self.left == 0:
                return False
            if self.left is not None:
                self.left -= 1
        if self.error is not None:
            raise self.error.with_traceback(None)
        return True


class Crash:
    """A process is to die at this point; ``steps`` are those it concerns, None: every step."""

    def __init__(self, point: Point, block: Optional[str]) -> None:
        self.point = point
        self.block = block
        self.steps: Set[str] = set()

    def concerns(self, step: Optional[str]) -> bool:
        return self.block is None or step in self.steps

    def __str__(self) -> str:
        return f"the crash {self.point.value!r}" + (f" of '{self.block}'" if self.block else "")


class Faults:
    """What is to go wrong. The fixture ``blaze_faults`` is one; elsewhere: ``Blaze(probe=Faults())``.

    :param state_dir: where :meth:`lock_db` finds the state file.

    ``block`` is the name of a step or of a block.
    """

    def __init__(self, state_dir: Union[str, os.PathLike[str], None] = None) -> None:
        self._state_dir = None if state_dir is None else Path(os.fspath(state_dir))
        self._strikes: List[_Strike] = []
        self._doubles: Dict[str, Any] = {}
        self._met: Set[str] = set()
        #: The crashes that are still to come, one process each.
        self.crashes: List[Crash] = []
        #: Is told the name of each step whose function is called.
        self.when_called: Optional[Callable[[str], None]] = None
        self._locks: List[DatabaseLock] = []
        self._disk_is_full = False
        self._doomed: Optional[Crash] = None
        self._returned = False

    # ------------------------------------------------------------------ what is to go wrong

    def fail(
        self, block: str, times: Optional[int] = 1, exc: Union[BaseException, Type[BaseException], None] = None
    ) -> None:
        """Let the next ``times`` attempts of a block raise ``exc`` (default: :class:`FailedOnPurpose`).

        The block itself is not called then. ``times=None``: every attempt.
        """
        self._strikes.append(_Strike(block, _checked(times), _error(block, exc)))

    def hang(self, block: str, times: Optional[int] = 1) -> None:
        """Let the next ``times`` attempts of a block hang until they are stopped: by a timeout, or by cancelling.

        On a virtual clock no real time passes until then.
        """
        self._strikes.append(_Strike(block, _checked(times), None))

    def crash_after(self, block: str) -> None:
        """Let the process die when the block has returned, before that is committed; see :meth:`crash_at`."""
        self.crash_at(Point.RETURNED, block)

    def crash_at(self, point: Union[Point, str], block: Optional[str] = None) -> None:
        """Let the process be killed at a named point, of one block or (None) of whichever comes first.

        ``"recorded"``, ``"called"``, ``"returned"``, ``"written"``, ``"committed"``, ``"finalised"`` or
        ``"ended"``, which :class:`blaze.testing.CrashPoint` explains. Several crashes strike one after the
        other. They need a process of their own: see :func:`blaze.testing.run_through_crashes`.
        """
        try:
            known = Point(point)
        except ValueError:
            names = ", ".join(repr(one.value) for one in Point)
            raise ValidationError([Fault("crash_at()", f"point is one of {names}; got {point!r}")]) from None
        self.crashes.append(Crash(known, block))

    def override(self, block: str, given: Any) -> None:
        """Let a function, or an output that is no function, stand in for a block from now on."""
        self._doubles[block] = given

    def lock_db(self, seconds: float) -> DatabaseLock:
        """Hold the write lock of the state file, as another program may, for so many real seconds.

        It is held when this returns; ``with`` lets it go earlier.
        """
        if self._state_dir is None:
            raise BlazeError("these faults know no state directory; write Faults(state_dir)")
        lock = DatabaseLock(self._state_dir, seconds)
        self._locks.append(lock)
        return lock

    def fill_disk(self) -> FullDisk:
        """Let every write to the state fail as on a full disk, until :meth:`free_disk` or the end of a ``with``."""
        self._disk_is_full = True
        return FullDisk(self)

    def free_disk(self) -> None:
        """There is room again."""
        self._disk_is_full = False

    def meet(self, names: Iterable[str]) -> None:
        """Steps and blocks of a run that may be played in other processes, of which nothing is heard here."""
        self._met.update(names)

    def unmet(self) -> List[str]:
        """Blocks that were to go wrong and are in no sequence that was run."""
        told = [*self._doubles, *(strike.block for strike in self._strikes)]
        return [block for block in told if block not in self._met]

    def close(self) -> None:
        """Let go of locks, and make room on the disk."""
        for lock in self._locks:
            lock.release()
        self.free_disk()

    # ------------------------------------------------------------------ what the engine asks (a Probe)

    def adapt(self, plan: Plan) -> Plan:
        """The plan with the faults built into its functions."""
        if self.crashes and self._doomed is None:
            raise BlazeError(f"{self.crashes[0]} would kill this very process; play it with run_through_crashes()")
        changed: Dict[int, Step] = {}
        for block, given in self._doubles.items():
            for step in self._steps_of(plan, block):
                changed[step.index] = double_of(step, given)
        for strike in self._strikes:
            for step in self._steps_of(plan, strike.block):
                changed[step.index] = _replaced(changed.get(step.index, step), strike.strike)
        self._watch(plan, changed)
        finaliser = None
        if self._doomed is not None and self._doomed.point is Point.FINALISED:
            finaliser = wrapped(plan.finaliser_call, plan.finaliser_kind == "async", after=_die)
        return plan.with_steps(changed, finaliser) if changed or finaliser else plan

    def _steps_of(self, plan: Plan, block: str) -> List[Step]:
        found = steps_of(plan, block)
        if found:
            self._met.add(block)
        return found

    def _watch(self, plan: Plan, changed: Dict[int, Step]) -> None:
        """See each call of a step, where somebody counts them or the process is to die of one."""
        crash = self._doomed
        if crash is not None and crash.block is not None:
            crash.steps |= {step.name for step in self._steps_of(plan, crash.block)}
        if crash is None and self.when_called is None:
            return
        for step in plan.steps:
            deadly = crash is not None and crash.point in _INSIDE_STEPS and crash.concerns(step.name)
            if deadly or step.kind in ("thread", "async"):
                changed[step.index] = self._watched(changed.get(step.index, step), deadly)

    def _watched(self, step: Step, deadly: bool) -> Step:
        def called() -> bool:
            if self.when_called is not None:
                self.when_called(step.name)
            if deadly and self._doomed is not None and self._doomed.point is Point.CALLED:
                _die()
            return False

        def returned() -> None:
            if deadly and self._doomed is not None:
                if self._doomed.point is Point.RETURNED:
                    _die()
                self._returned = self._doomed.point is Point.WRITTEN

        return _replaced(step, called, returned)

    def passes(self, point: Point, run_id: str, step: Optional[str]) -> None:
        """A run passes a named point."""
        crash = self._doomed
        if crash is not None and crash.point is point and (step is None or crash.concerns(step)):
            _die()

    def writes(self) -> None:
        """Something is about to be written."""
        if self._returned:
            _die()
        if self._disk_is_full:
            raise sqlite3.OperationalError("database or disk is full")

    def doom(self, crash: Optional[Crash]) -> None:
        """From now on this process dies at that point. Called in a child, which is made for it; None: it lives."""
        self.crashes = []
        self._doomed = crash


class FullDisk:
    """``with blaze_faults.fill_disk():`` makes room again at the end."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._faults.free_disk()


def _replaced(step: Step, before: Callable[[], bool] = goes_on, after: Callable[[], None] = nothing) -> Step:
    """The step with its function wrapped, which a thread calls: a process of its own would import the bare one."""
    is_async = step.kind == "async"
    return step.with_function(wrapped(step.function, is_async, before, after), "async" if is_async else "thread")


def _die() -> None:
    """kill -9 to this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def _error(block: str, exc: Any) -> BaseException:
    error = FailedOnPurpose(f"'{block}' failed on purpose") if exc is None else exc() if callable(exc) else exc
    if not isinstance(error, BaseException):
        raise ValidationError([Fault("exc", f"an exception or a class of exceptions, got {exc!r}")])
    return error


def _checked(times: Optional[int]) -> Optional[int]:
    if times is None or (isinstance(times, int) and times > 0):
        return times
    raise ValidationError([Fault("times", f"a number of attempts from 1, or None for every one; got {times!r}")])


__all__ = ["Crash", "FailedOnPurpose", "Faults"]
