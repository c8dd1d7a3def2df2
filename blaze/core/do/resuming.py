"""Going on with a recorded run: after a crash, after a stop, or as a new run by ``retry``.

What is recorded as COMPLETED stands; everything else follows from it again. Nothing
here starts a block: it makes runs that the engine can begin.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set

from ..ground.context import RunInfo
from ..ground.errors import BlazeError, StateError
from ..ground.status import BlockStatus
from ..remember.recovery import StoredRun, StoredStep, load_output, rewire
from ..what.plan import Plan
from .engine import Engine
from .failure import Failure
from .run import Run
from .run_state import TIMEOUT

COMPLETED, PENDING, RETRYING = BlockStatus.COMPLETED, BlockStatus.PENDING, BlockStatus.RETRYING


class CannotResume(BlazeError):
    """The sequence changed in a way that the run can't be carried on with; the message says how."""


def changes(stored: StoredRun, steps: Mapping[int, StoredStep], plan: Plan) -> List[str]:
    """What keeps a run from going on with today's definition: completed steps that are gone or wired otherwise."""
    found: List[str] = []
    if stored.graph == plan.definition:
        return found
    for index, (name, block, dependencies) in enumerate(stored.wiring()):
        step = steps.get(index)
        if step is None or step.status is not COMPLETED:
            continue
        now = plan.index.get(name)
        if now is None:
            found.append(f"its completed step '{name}' is no step any more")
            continue
        sources = {plan.steps[source].name for source in plan.dependencies[now]}
        if sources != set(dependencies):
            found.append(f"its completed step '{name}' depended on {sorted(dependencies)} and now on {sorted(sources)}")
        elif plan.steps[now].block.name != block:
            found.append(f"its completed step '{name}' was block '{block}' and now is '{plan.steps[now].block.name}'")
    return found


def by_new_index(stored: StoredRun, steps: Mapping[int, StoredStep], plan: Plan) -> Dict[int, StoredStep]:
    """The recorded steps that still exist, by their index in today's plan."""
    if stored.graph == plan.definition:
        return dict(steps)
    names = [name for name, _, _ in stored.wiring()]
    return {plan.index[names[index]]: step for index, step in steps.items() if names[index] in plan.index}


def restore(engine: Engine, plan: Plan, stored: StoredRun, steps: Mapping[int, StoredStep]) -> Run:
    """The run as it stood at its last commit. Raises :class:`CannotResume`."""
    found = changes(stored, steps, plan)
    if found:
        raise CannotResume(f"the sequence changed since the run started: {'; '.join(found)}")
    info = RunInfo(stored.run_id, stored.seq_id, stored.scheduled_at, stored.job_id)
    run = engine.make_run(plan, info, stored.created_at, stored.deadline, stored.key)
    known = by_new_index(stored, steps, plan)
    if engine.journal is not None and stored.graph != plan.definition:
        rewire(engine.journal, stored, plan.definition, plan.digest, list(plan.index))
        known = {index: step._replace(place=index) for index, step in known.items()}
    again = _made_again(plan, known)
    for index, step in known.items():
        if index not in again:
            _restore_step(engine, run, index, step)
    _load_outputs(engine, run, {index: step for index, step in known.items() if index not in again})
    run.waiting = [sum(1 for source in sources if not run.statuses[source].ended) for sources in plan.dependencies]
    run.open = sum(1 for status in run.statuses[: run.final] if not status.ended)
    run.rows = frozenset(known)
    run.row = stored.status == "RUNNING"
    if stored.started_at is not None:
        run.began = stored.started_at - run.zero
    # At the very end, since what is due may be started at once.
    for index, step in known.items():
        if run.statuses[index] is RETRYING and step.retry_at is not None:
            engine.timekeeper.call_at(step.retry_at - run.zero, (run, index))
    return run


def _restore_step(engine: Engine, run: Run, index: int, step: StoredStep) -> None:
    run.attempts[index] = step.attempts
    if step.started_at is not None:
        run.started[index] = step.started_at - run.zero
        run.seconds_of[index] = step.seconds or 0.0
    if step.status is BlockStatus.RUNNING:
        # It was in flight: the same attempt is made again, under the same idempotency key.
        run.attempts[index] = max(0, step.attempts - 1)
        return
    if step.status is RETRYING and (step.retry_at is None or step.retry_at <= engine.clock.time()):
        return  # its time has come: it is started like a step that was never tried, under its next number
    run.statuses[index] = step.status
    if step.reason:
        run.reasons[index] = step.reason
    if step.status is RETRYING:
        run.retrying += 1
    elif step.status.ended:
        if step.attempts:
            run.ends.append(index)
        if step.status is not COMPLETED:
            run.clean = False
            run.outputs.absent.add(index)
        if step.status is BlockStatus.FAILED:
            error = BlazeError(step.error or "failed before the restart")
            name, retries = run.plan.steps[index].name, run.plan.steps[index].retry.retries
            run.failures[index] = Failure(name, step.attempts, retries + 1, error, str(error), "", "", step.reason)


def _load_outputs(engine: Engine, run: Run, known: Mapping[int, StoredStep]) -> None:
    recorder, journal = engine.recorder, engine.journal
    if recorder is None or journal is None:
        return
    needed = _needed_by_open_steps(run.plan, {index for index, step in known.items() if step.status.ended})
    own_index = {index: step.place for index, step in known.items()}
    for index, step in known.items():
        if step.status is not COMPLETED:
            continue
        if step.stored and (index in needed or engine.keep_outputs):
            try:
                run.outputs[index] = load_output(journal, recorder.results, run.key, own_index[index])
            except StateError as error:
                raise CannotResume(f"the output of step '{run.plan.steps[index].name}': {error}") from error
        else:
            run.outputs.absent.add(index)
    if run.consumers is not None:
        for index, step in known.items():
            if step.status.ended:
                for source in run.plan.steps[index].arguments.sources:
                    run.consumers[source] -= 1


def _needed_by_open_steps(plan: Plan, ended: Set[int]) -> Set[int]:
    """The steps whose outputs are read by steps that have not ended."""
    needed: Set[int] = set()
    for step in plan.steps:
        if step.index not in ended:
            needed |= step.arguments.sources
    return needed


def _made_again(plan: Plan, known: Mapping[int, StoredStep]) -> Set[int]:
    """Completed steps without a stored output that an open step still has to read: they are run again.

    A step that is run again may itself need the output of another such step.
    """
    ended = {index for index, step in known.items() if step.status.ended}
    again: Set[int] = set()
    while True:
        needed = _needed_by_open_steps(plan, ended - again)
        more = {
            index for index in needed & ended - again if known[index].status is COMPLETED and not known[index].stored
        }
        if not more:
            return again
        again |= more


def reusable(
    plan: Plan, stored: StoredRun, steps: Mapping[int, StoredStep], from_steps: Sequence[str]
) -> Dict[int, int]:
    """Which completed steps a retry takes over: ``{index in the old run: index in the new}``.

    Run again are the steps that did not complete, those named and what is not stored
    but needed, and everything that depends on one of them.
    """
    old_wiring = stored.wiring()
    known = by_new_index(stored, steps, plan)
    kept: Dict[int, int] = {}
    for index, step in known.items():
        if step.status is not COMPLETED:
            continue
        _, block, dependencies = old_wiring[step.place]
        now = {plan.steps[source].name for source in plan.dependencies[index]}
        if now == set(dependencies) and plan.steps[index].block.name == block:
            kept[index] = step.place
    rerun = [step.name for step in plan.steps if step.index not in kept] + list(from_steps)
    dropped = plan.descendants(rerun)
    while True:
        needed = _needed_by_open_steps(plan, set(kept) - dropped)
        more = [plan.steps[i].name for i in needed if i in kept and i not in dropped and not known[i].stored]
        if not more:
            return {old: index for index, old in kept.items() if index not in dropped}
        dropped = dropped | plan.descendants(more)


def apply_halt(run: Run, stored: StoredRun) -> Optional[str]:
    """Why a restored run is not to go on: it was halted before the crash, or a failure stops it."""
    if stored.cancel:
        return stored.cancel
    if run.limit is not None and run.engine.monotonic() >= run.limit:
        return TIMEOUT
    failed = any(status is BlockStatus.FAILED for status in run.statuses[: run.final])
    return "fail_stop" if failed and run.plan.fail_stop else None
