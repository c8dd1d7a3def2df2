"""What a scheduler does with jobs on request: store them, resume them, schedule what starts by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, FrozenSet, Iterable, List, Tuple, Union

from .firing import PassedUntil, timing_of
from .ground.errors import BlazeError, Fault, ValidationError
from .ground.status import JobStatus
from .recovering import plan_of
from .remember import jobs
from .remember.jobs import NewJob, StoredJob
from .remember.records import JobRecord
from .remember.ticks import SkippedTicks
from .seq import BlazeSequence, Sequence, SubmitSequenceData
from .session import Session
from .submitting import auto_start_job, new_jobs
from .when.decisions import first_tick
from .when.schedule import Schedule

if TYPE_CHECKING:
    from .state import StateManager

#: Seconds for which a due tick of a job that is submitted again unchanged may still be fired.
PATIENCE = 5.0


def submit(
    session: Session, sequences: BlazeSequence, data: Union[SubmitSequenceData, Iterable[SubmitSequenceData]]
) -> Tuple[List[JobRecord], List[SkippedTicks]]:
    """Check and store submissions, all or none; the jobs, and the ticks that will not be fired any more."""
    now = session.clock.time()
    found = new_jobs(data, sequences, session.engine.executors, now)
    skipped = _store(session, found)
    return session.state.jobs_by_id([job.job_id for job in found]), skipped


def _store(session: Session, found: List[NewJob]) -> List[SkippedTicks]:
    return jobs.submit(session.journal, found, session.clock.time, _in_the_future, PassedUntil, PATIENCE)


def _in_the_future(job: NewJob, now: float) -> NewJob:
    """A submission whose first tick may have passed while it was checked, and waited for the write lock."""
    if job.interval is None or job.next_at is None or job.next_at > now:
        return job
    schedule = Schedule.parse(job.interval, job.timezone)
    return job._replace(next_at=first_tick(schedule, now, job.start_at, job.end_at))


def resume(session: Session, sequences: BlazeSequence, job_id: str) -> Tuple[bool, List[SkippedTicks]]:
    """Let a job that is PAUSED, or BROKEN and can be mended, fire again."""
    now = session.clock.time()
    job = session.journal.transaction(lambda cursor: jobs.job_by_id(cursor, job_id))
    if job.status == JobStatus.BROKEN.value:
        check(session, sequences, job)
        jobs.mend_job(session.journal, job.key)
        return True, []
    return jobs.resume_job(session.journal, job_id, now, PassedUntil(now))


def check(session: Session, sequences: BlazeSequence, job: StoredJob) -> None:
    """Whether a stored job could be fired. Raises :class:`ValidationError`."""
    if job.seq_id not in sequences:
        raise ValidationError([Fault(f"job '{job.job_id}'", f"there is no sequence '{job.seq_id}' here")])
    plan_of(session, sequences, job.seq_id, job.parameters)
    timing_of(job)


def start_automatically(session: Session, sequences: BlazeSequence, automatic: List[Sequence[Any, Any]]) -> None:
    """Schedule the sequences that start by themselves, and run those once that have no interval.

    One that can't be is told in the log, and keeps none of the others from starting.
    """
    now = session.clock.time()
    for sequence in automatic:
        try:
            if sequence.seq_run_interval is None:
                session.trigger(sequence.plan(None, session.engine.executors), None)
            else:
                _store(session, [auto_start_job(sequence, sequences, session.engine.executors, now)])
        except BlazeError as error:
            session.logger.error(
                "'%s' is not started automatically: %s; submit it with what it needs", sequence.seq_id, error
            )


def start_anew(session: Session, sequences: BlazeSequence, known: FrozenSet[str]) -> None:
    """The sequences are others than those ``known`` before: schedule what starts by itself, mend what can be mended."""
    automatic = [one for one in sequences.values() if one.auto_start]
    again = [one for one in automatic if one.seq_run_interval is not None or one.seq_id not in known]
    start_automatically(session, sequences, again)
    if session.ticker is not None:
        session.ticker.reconsider()


def all_jobs(state: StateManager) -> List[JobRecord]:
    """Every job, by id."""
    page = state.jobs(limit=1000)
    found = list(page.items)
    while page.next is not None:
        page = state.jobs(limit=1000, cursor=page.next)
        found += page.items
    return found


__all__ = ["all_jobs", "check", "resume", "start_automatically", "submit"]
