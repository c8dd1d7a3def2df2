"""`run_sequence`: a sequence played in memory, at once and in a known order, on a clock that waits for nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional, Tuple
from typing import Sequence as Order

from blaze.core.do.engine import Engine
from blaze.core.do.result import RunResult
from blaze.core.do.run import Run
from blaze.core.ground.context import RunInfo
from blaze.core.ground.errors import BlazeError, Fault, ValidationError
from blaze.core.ground.names import new_run_id
from blaze.core.seq import Sequence
from blaze.core.what.plan import Plan

from .clock import VirtualClock
from .doubles import step_names, substitute
from .outcome import SequenceRun
from .turns import Choose, EveryOrder, Turns, drawn, first_come, preferred

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from blaze.core.what.declarations import Parameters

    from .faults import Faults

#: Real seconds that a block may take before time goes on without it.
PATIENCE = 30.0
#: Why a step was not run that the test left out.
LEFT_OUT = "left_out_by_test"


def run_sequence(
    seq: Sequence[Any, Any],
    parameters: Optional[Parameters] = None,
    overrides: Optional[Mapping[str, Any]] = None,
    skip: Collection[str] = (),
    raise_on_fail: bool = True,
    seed: Optional[int] = None,
    order: Optional[Order[str]] = None,
    *,
    faults: Optional[Faults] = None,
    executors: Optional[Mapping[str, Executor]] = None,
    clock: Optional[VirtualClock] = None,
    patience: float = PATIENCE,
) -> SequenceRun:
    """Run a sequence here and now, in memory, with real retries and timeouts and no real waiting.

    :param seq: what ``@sequences.sequence`` returned.
    :param parameters: ``{step: {parameter: value}}``.
    :param overrides: ``{step or block: output}`` or ``{step or block: function}``. A function is
        called with those of the step's arguments that it takes. What the overridden
        steps need as parameters may be missing.
    :param skip: steps that are SKIPPED; what depends on them follows its ``run_when``.
    :param raise_on_fail: raise :class:`RunFailed` unless the run is COMPLETED.
    :param seed: draws the order in which ready steps are taken; default: as they became ready.
    :param order: names of steps; of those that are ready, the one that comes first in it is taken.
    :param faults: what is to go wrong.
    :param executors: ``concurrent.futures`` executors for blocks that name one.
    :param clock: virtual time; default: a new one.
    :param patience: real seconds that a block may take before time goes on without it.

    Steps are made one at a time, so that the order is the same whenever the arguments are.
    Raises :class:`ValidationError` for what is wrong before anything runs.
    """
    run = _play(
        _prepared(seq, parameters, overrides or {}, skip, executors),
        _chooser(seed, order),
        faults,
        executors,
        clock or VirtualClock(patience=patience),
    )
    played = SequenceRun.of(run)
    if raise_on_fail:
        run.raise_for_status()
    return played


def run_every_order(
    seq: Sequence[Any, Any],
    parameters: Optional[Parameters] = None,
    overrides: Optional[Mapping[str, Any]] = None,
    skip: Collection[str] = (),
    raise_on_fail: bool = True,
    *,
    faults: Optional[Callable[[], Faults]] = None,
    limit: int = 1000,
) -> Iterator[SequenceRun]:
    """Run a sequence once for every order in which its steps can start, one run after the other.

    The arguments are those of :func:`run_sequence`, but for

    :param faults: a function that makes what is to go wrong, anew for each run.
    :param limit: orders after which :class:`BlazeError` is raised; n steps that wait for nothing have n! of them.
    """
    prepared = _prepared(seq, parameters, overrides or {}, skip, None)
    for number, choose in enumerate(EveryOrder().rounds(), 1):
        if number > limit:
            raise BlazeError(f"'{seq.seq_id}' can run in more than {limit} orders; give a higher limit=, or a seed")
        run = _play(prepared, choose, None if faults is None else faults(), None, VirtualClock(patience=PATIENCE))
        played = SequenceRun.of(run)
        if raise_on_fail:
            run.raise_for_status()
        yield played


def drive(clock: VirtualClock, is_over: Callable[[], bool], what: str) -> None:
    """Let time pass until something is over."""
    while True:
        clock.settle()
        if is_over():
            return
        try:
            clock.to_next_tick()
        except BlazeError as error:
            if is_over():
                return
            raise BlazeError(f"{what} would never end: {error}") from error


def _prepared(
    seq: Sequence[Any, Any],
    parameters: Optional[Parameters],
    overrides: Mapping[str, Any],
    skip: Collection[str],
    executors: Optional[Mapping[str, Executor]],
) -> Tuple[Plan, List[int]]:
    """The plan to run, and the steps that are left out."""
    if not isinstance(seq, Sequence):
        raise ValidationError(
            [Fault("run_sequence()", f"give what @sequences.sequence returned, got {type(seq).__name__}")]
        )
    if isinstance(skip, str):
        raise ValidationError([Fault("skip", f"a list of steps, got {skip!r}; write [{skip!r}]")])
    left_out = step_names(seq.definition, skip, "skip")
    replaced = step_names(seq.definition, overrides, "overrides")
    plan = seq.plan(parameters, executors, without={*left_out, *replaced})
    doubles = {step: overrides[name] for step, name in replaced.items()}
    return substitute(plan, doubles), [plan.index[name] for name in left_out]


def _chooser(seed: Optional[int], order: Optional[Order[str]]) -> Choose:
    if order is not None:
        return preferred(order)
    return first_come if seed is None else drawn(seed)


def _play(
    prepared: Tuple[Plan, List[int]],
    choose: Choose,
    faults: Optional[Faults],
    executors: Optional[Mapping[str, Executor]],
    clock: VirtualClock,
) -> RunResult:
    plan, left_out = prepared
    engine = Engine(1, clock=clock, executors=executors, probe=faults, ready=Turns(choose))
    clock.attach(engine)
    try:
        now = clock.time()
        run = engine.make_run(plan, RunInfo(new_run_id(), plan.seq_id), now, plan.deadline(now))
        if left_out:
            run.leave_out(frozenset(left_out), LEFT_OUT)
        engine.begin(run)
        _finish(clock, run)
        return run.wait(None)
    finally:
        clock.detach(engine)
        engine.close()


def _finish(clock: VirtualClock, run: Run) -> None:
    try:
        drive(clock, lambda: run.ending.over, f"a run of '{run.info.seq_id}'")
    except BlazeError:
        run.cancel("never_ends")
        raise


__all__ = ["drive", "run_every_order", "run_sequence"]
