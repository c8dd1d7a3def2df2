"""Taking over recorded runs: at a start, what dead schedulers and clean stops left; on demand, a retry."""

from __future__ import annotations

from typing import Deque, List, Optional, Set, Tuple

from .do.end_by_rule import EndByRule
from .do.result import RunHandle
from .do.resuming import CannotResume, apply_halt, restore, reusable
from .ground.context import RunInfo
from .ground.errors import BlazeError, NotFound, Refused, StateError, ValidationError
from .ground.names import did_you_mean, new_run_id
from .ground.status import RunStatus
from .remember.ends import EndedRun
from .remember.instances import dead_instances, has_file, mark_dead
from .remember.recorder import NewRun
from .remember.recovery import StoredRun, adopt, insert_retry, load_output, load_run, load_steps, owners
from .seq import BlazeSequence
from .session import Session
from .what.plan import Plan
from .what.values import loads


def recover(session: Session, sequences: BlazeSequence, max_recoveries: int, resumed: List[RunHandle]) -> None:
    """At a start: take over the open runs whose owner is dead or has left them, as far as their sequences are known.

    Those that go on are appended to ``resumed``. If it fails half-way, another call goes on where it stopped.
    """
    session.starting = True
    try:
        _resume_adopted(session, sequences, resumed)
        take_over_the_dead(session, sequences, max_recoveries, resumed)
        take_released(session, sequences, max_recoveries, resumed)
    finally:
        session.starting = False


def take_released(session: Session, sequences: BlazeSequence, max_recoveries: int, resumed: List[RunHandle]) -> None:
    """Go on with the open runs that a clean stop left."""
    known, now = frozenset(sequences), session.clock.time()
    session.adopted += adopt(session.journal, session.instance_id, None, known, max_recoveries, now)[0]
    _resume_adopted(session, sequences, resumed)


def take_over_the_dead(
    session: Session, sequences: BlazeSequence, max_recoveries: int, resumed: List[RunHandle]
) -> None:
    """Go on with the open runs of schedulers that died."""
    known = frozenset(sequences)
    for dead in dead_instances(session.instances):
        try:
            now = session.clock.time()
            adopted, failed, left = adopt(
                session.journal, session.instance_id, dead.instance_id, known, max_recoveries, now
            )
            session.adopted += adopted
            if not left:
                dead.bury()
        finally:
            dead.close()
        session.tell_ended(failed)
        for ended in failed:
            session.logger.error("run %s is FAILED: %s", ended.info.run_id, ended.error)
        _resume_adopted(session, sequences, resumed)


def find_orphans(session: Session, suspects: Set[str]) -> Set[str]:
    """The owners of open runs that have no lock file, which somebody has removed; or the file is a copy.

    Who was among the ``suspects`` of the last time is dead: a living one has made its file again by now.
    """
    found = {owner for owner in owners(session.journal) if not has_file(session.instances, owner)}
    for owner in found & suspects:
        mark_dead(session.instances, owner)
    return found


def resume_own(session: Session, sequences: BlazeSequence, run_ids: Deque[str]) -> None:
    """Go on with recorded runs that are this scheduler's already; if it fails, another call goes on."""
    while run_ids:
        session.adopted.append(load_run(session.journal, run_ids[0]))
        run_ids.popleft()
    _resume_adopted(session, sequences, [])


def _resume_adopted(session: Session, sequences: BlazeSequence, resumed: List[RunHandle]) -> None:
    """Go on with the runs that were adopted; those that can't be resumed are FAILED."""
    while session.adopted:
        handle = _resume(session, sequences, session.adopted[0])
        session.adopted.popleft()
        if handle is not None:
            resumed.append(handle)


def _resume(session: Session, sequences: BlazeSequence, stored: StoredRun) -> Optional[RunHandle]:
    try:
        return _go_on(session, sequences, stored)
    except (CannotResume, ValidationError) as error:
        session.logger.error("run %s of '%s' can't be resumed: %s", stored.run_id, stored.seq_id, error)
        return None


def _go_on(session: Session, sequences: BlazeSequence, stored: StoredRun) -> RunHandle:
    """Go on with a run that is ours; what can't be resumed is FAILED, and raises why."""
    try:
        plan = plan_of(session, sequences, stored.seq_id, stored.parameters)
        run = restore(session.engine, plan, stored, load_steps(session.journal, stored.key))
    except (CannotResume, ValidationError) as error:
        info = RunInfo(stored.run_id, stored.seq_id, stored.scheduled_at, stored.job_id)
        now = session.clock.time()
        EndByRule(session.engine, info, RunStatus.FAILED, "definition_changed", str(error), now).record(stored.key)
        raise
    session.logger.info(
        "resuming run %s of '%s': %d of %d steps are done",
        stored.run_id,
        stored.seq_id,
        run.final - run.open,
        run.final,
    )
    return session.begin(run, apply_halt(run, stored))


def retry(
    session: Session, sequences: BlazeSequence, run_id: str, from_steps: List[str], max_recoveries: int
) -> RunHandle:
    """A new run that takes over what an ended one completed, or the rest of one that was left; see ``Blaze.retry``."""
    original = load_run(session.journal, run_id)
    if original.seq_id not in sequences:
        raise NotFound(f"run {run_id} is of sequence '{original.seq_id}', which this process does not have")
    if not RunStatus(original.status).ended:
        if from_steps:
            raise Refused(
                f"run {run_id} has not ended, and goes on where it is: leave the step out, or cancel the run first"
            )
        return _take_up(session, sequences, original, max_recoveries)
    plan = plan_of(session, sequences, original.seq_id, original.parameters)
    for step in from_steps:
        if step not in plan.index:
            raise NotFound(f"there is no step {step!r:.140} in '{original.seq_id}'{did_you_mean(step, plan.index)}")
    steps = load_steps(session.journal, original.key)
    reused = reusable(plan, original, steps, from_steps)
    for place, index in reused.items():
        if steps[place].stored:
            # Before anything is recorded: with an output that can't be read back there is nothing to go on with.
            try:
                load_output(session.journal, session.recorder.results, original.key, place)
            except BlazeError as error:
                name = plan.steps[index].name
                raise StateError(f"step '{name}': {error}; run it again with from_step='{name}'") from error
    now = session.clock.time()
    new = NewRun(
        new_run_id(),
        original.seq_id,
        plan.definition,
        plan.digest,
        original.parameters,
        now,
        plan.deadline(now),
        session.instance_id,
        len(plan.steps),
        scheduled_at=original.scheduled_at,
        retry_of=original.run_id,
    )
    key = insert_retry(session.journal, session.recorder.results, new, original, reused)
    stored = load_run(session.journal, new.run_id)
    return session.begin(restore(session.engine, plan, stored, load_steps(session.journal, key)))


def _take_up(session: Session, sequences: BlazeSequence, left: StoredRun, max_recoveries: int) -> RunHandle:
    """Go on with one run that a stop or a crash has left. Raises :class:`Refused` if nobody has left it."""
    adopted, failed = _adopt_one(session, left, max_recoveries)
    session.tell_ended(failed)
    if failed:
        raise Refused(f"run {left.run_id} is FAILED: its process died more than {max_recoveries} times; retry it anew")
    if not adopted:
        now = load_run(session.journal, left.run_id)
        who = "waits for its turn" if now.owner is None else f"is in the hands of {now.owner}"
        raise Refused(
            f"run {left.run_id} is {now.status} and {who}; only one that has ended or was left can be retried"
        )
    try:
        return _go_on(session, sequences, adopted[0])
    except (CannotResume, ValidationError) as error:
        raise Refused(f"run {left.run_id} can't be gone on with, and is FAILED: {error}") from error


def _adopt_one(session: Session, left: StoredRun, max_recoveries: int) -> Tuple[List[StoredRun], List[EndedRun]]:
    """As :func:`adopt`, of one run; nothing, if it is in the hands of a scheduler that lives."""

    def adopt_from(dead: Optional[str]) -> Tuple[List[StoredRun], List[EndedRun]]:
        known, now = frozenset([left.seq_id]), session.clock.time()
        return adopt(session.journal, session.instance_id, dead, known, max_recoveries, now, left.run_id)[:2]

    if left.owner is None:
        return adopt_from(None)
    for dead in dead_instances(session.instances):
        try:
            if dead.instance_id == left.owner:
                return adopt_from(dead.instance_id)
        finally:
            dead.close()
    return [], []


def plan_of(session: Session, sequences: BlazeSequence, seq_id: str, parameters: Optional[str]) -> Plan:
    """Today's plan of a sequence, with parameters as they are stored. Raises :class:`ValidationError`."""
    sequence = sequences[seq_id]
    executors = session.engine.executors
    if parameters is None:
        return sequence.plan(None, executors)
    return sequence.plan(loads(parameters, sequence.hints), executors)
