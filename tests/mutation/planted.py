"""Bugs that were thought up, each with the tests of the normal suite that have to notice it.

A campaign of random mutations (``campaign``) finds holes that nobody thought of. These are the ones
that somebody did: each breaks a promise of the manual in the way in which it is most easily broken.
``tests/unit/test_planted_bugs.py`` holds them against the code, so that none goes stale.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple


class Bug(NamedTuple):
    """A change of one file, and where it has to be noticed."""

    name: str
    #: Below ``blaze/``.
    file: str
    #: Occurs once in the file.
    before: str
    after: str
    #: Files below ``tests/``.
    tests: Tuple[str, ...]
    #: Other places of the file, each with what it becomes.
    more: Tuple[Tuple[str, str], ...] = ()

    @property
    def changes(self) -> Tuple[Tuple[str, str], ...]:
        """Every place with what it becomes."""
        return ((self.before, self.after), *self.more)


RECOVERY = ("integration/test_recovery.py",)
JOURNAL = ("integration/test_journal.py",)
JOBS = ("integration/test_jobs.py", "integration/test_scheduler.py")
SCHEDULE = ("unit/test_schedule.py",)

BUGS = (
    # ------------------------------------------------------------------ what is committed, and when
    Bug(
        "dependants start before the commit",
        "core/do/engine.py",
        """\
                try:
                    tokens = journal.commit()
                finally:
                    lock.release()
""",
        """\
                try:
                    early = [entry[2] for entry in list(pending) if entry[2] is not None and entry[2][1] != END]
                    ready = []
                    place = 0
                    while place < len(early):
                        place = early[place][0].committed(early, place, ready)
                    self.pool.extend(ready)
                    tokens = [token for token in journal.commit() if token[1] == END]
                finally:
                    lock.release()
""",
        (*RECOVERY, "integration/test_state_faults.py", "integration/test_engine.py"),
    ),
    Bug(
        "nobody waits for a commit",
        "core/do/engine.py",
        "self.awaits_commits = journal is not None and journal.path is not None",
        "self.awaits_commits = False",
        RECOVERY,
    ),
    Bug(
        "what could not be written counts as committed",
        "core/remember/journal.py",
        """\
            self._note_fault(error)
            return []
""",
        """\
            self._note_fault(error)
            return [entry[2] for entry in batch if entry[2] is not None]
""",
        ("integration/test_state_faults.py",),
    ),
    Bug(
        "what could not be written is dropped",
        "core/remember/journal.py",
        """\
            self.pending.extendleft(reversed(batch))
            self._note_fault(error)
            return []
""",
        """\
            self._note_fault(error)
            return []
""",
        ("integration/test_state_faults.py",),
    ),
    Bug(
        "a group of rows is no transaction",
        "core/remember/journal.py",
        """\
        cursor.execute("BEGIN IMMEDIATE")
        start, end = 0, len(batch)
""",
        """\
        start, end = 0, len(batch)
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("COMMIT")
        cursor.execute("BEGIN IMMEDIATE") if end > 10**9 else None
""",
        ("integration/test_engine.py",),
    ),
    Bug(
        "who has held the journal leaves behind what came in meanwhile",
        "core/remember/journal.py",
        """\
        if self.pending:
            self.when_pending()

    def transaction""",
        """\
        if False:
            self.when_pending()

    def transaction""",
        RECOVERY,
    ),
    Bug(
        "the end of a run is told before it is committed",
        "core/do/run.py",
        """\
        self.reason = reason
        if engine.awaits_commits:
            return None""",
        """\
        self.reason = reason
        if engine.awaits_commits:
            self._conclude()
            return None""",
        (*RECOVERY, "integration/test_state_faults.py"),
    ),
    Bug(
        "an end state is written over",
        "core/remember/recorder.py",
        """\
error = excluded.error, retry_at = excluded.retry_at
WHERE {_is_one_of(state for state in BlockStatus if not state.ended)}""",
        """\
error = excluded.error, retry_at = excluded.retry_at
WHERE {_is_one_of(state for state in BlockStatus)}""",
        JOURNAL,
    ),
    Bug(
        "the end of a run is written over",
        "core/remember/recorder.py",
        """\
                preview = ?, error = ?
WHERE id = ? AND {_is_one_of(predecessors(RunStatus.COMPLETED))}""",
        """\
                preview = ?, error = ?
WHERE id = ?""",
        JOURNAL,
    ),
    Bug(
        "what by rule has ended ends again",
        "core/remember/recorder.py",
        "ended_at = COALESCE(?, CAST(strftime('%s', 'now') AS REAL))\n"
        "WHERE id = ? AND {_is_one_of(predecessors(RunStatus.COMPLETED))}",
        "ended_at = COALESCE(?, CAST(strftime('%s', 'now') AS REAL))\nWHERE id = ?",
        JOURNAL,
    ),
    Bug(
        "a file has its name before it is whole",
        "core/remember/codec.py",
        'aside = folder / f".{name}.{os.getpid()}.part"',
        "aside = target",
        JOURNAL,
    ),
    Bug(
        "a file is not synced before the commit that names it",
        "core/remember/codec.py",
        """\
            if self._sync:
                os.fsync(descriptor)
""",
        "",
        JOURNAL,
    ),
    Bug(
        "the name of a file is not synced before the commit that names it",
        "core/remember/codec.py",
        """\
        os.replace(aside, target)
        self._sync_names(folder)
""",
        """\
        os.replace(aside, target)
""",
        JOURNAL,
    ),
    Bug(
        "checkpoints meet",
        "core/remember/journal.py",
        """\
        if descriptor is None:
            return False
        try:
            if truncate:""",
        """\
        if descriptor is None:
            descriptor = os.open(os.devnull, os.O_RDONLY)
        try:
            if truncate:""",
        JOURNAL,
    ),
    # ------------------------------------------------------------------ ticks
    Bug(
        "a tick is claimed without a transaction",
        "core/firing.py",
        "self._session.journal.transaction(lambda cursor: self._decide(cursor, batch, tick))",
        "self._session.journal.look(lambda cursor: self._decide(cursor, batch, tick))",
        ("integration/test_shared_state.py",),
    ),
    Bug(
        "what is due is read before the transaction",
        "core/firing.py",
        """\
            self._session.journal.transaction(lambda cursor: self._decide(cursor, batch, tick))
""",
        """\
            journal, seen = self._session.journal, max(self._session.clock.time(), tick)
            found = ticks.due_until(journal, seen, BATCH, self.claims)
            class Seen:
                def __getattr__(self, name):
                    return (lambda *rest: found) if name == "due_jobs" else getattr(ticks, name)
            space = dict(type(self)._decide.__globals__, ticks=Seen())
            decide_on = type(lambda: 0)(type(self)._decide.__code__, space)
            journal.transaction(lambda cursor: decide_on(self, cursor, batch, tick))
""",
        JOURNAL,
    ),
    Bug(
        "what is due is decided before the write lock is had",
        "core/remember/journal.py",
        'self._cursor.execute("BEGIN IMMEDIATE")\n                return',
        'self._cursor.execute("BEGIN")\n                return',
        ("integration/test_shared_state.py", "integration/test_many_processes.py"),
    ),
    Bug(
        "a tick may have two runs",
        "core/remember/schema.py",
        "CREATE UNIQUE INDEX runs_of_tick ON runs (job_id, scheduled_at) WHERE job_id IS NOT NULL;",
        "CREATE UNIQUE INDEX runs_of_tick ON runs (job_id, scheduled_at, id) WHERE job_id IS NOT NULL;",
        ("integration/test_jobs.py",),
    ),
    Bug(
        "a queued run is taken by everybody",
        "core/remember/ticks.py",
        'SET owner = ?, reason = NULL, deadline = ? WHERE id = ? AND owner IS NULL "\n'
        '                f"AND reason = ? AND {IS_OPEN}",\n'
        "                (owner, deadline(seq_id), key, QUEUED),",
        'SET owner = ?, reason = NULL, deadline = ? WHERE id = ?",\n                (owner, deadline(seq_id), key),',
        JOURNAL,
    ),
    Bug(
        "a time that occurs twice fires twice",
        "core/when/schedule.py",
        "if -CORRECTION < shift < 0:",
        "if False:",
        SCHEDULE,
    ),
    Bug(
        "a time that fell into a gap never fires",
        "core/when/schedule.py",
        "return self._fixed and 0 < offset - before < CORRECTION and",
        "return False and",
        SCHEDULE,
    ),
    Bug(
        "several times of one gap fire several times",
        "core/when/schedule.py",
        "found += self._clock.next(start + offset) != start + offset",
        "found += 1",
        SCHEDULE,
    ),
    Bug(
        "an interval that is no fixed time is made up for after a gap",
        "core/when/schedule.py",
        "return self._fixed and 0 < offset - before < CORRECTION and",
        "return 0 < offset - before < CORRECTION and",
        SCHEDULE,
    ),
    Bug(
        "catching up has no bound",
        "core/when/decisions.py",
        "if due.number > MAX_CATCHUP:",
        "if False:",
        ("unit/test_decisions.py",),
    ),
    Bug(
        "a queue has no bound",
        "core/when/decisions.py",
        "elif timing.overlap == QUEUE and queued < MAX_CATCHUP:",
        "elif timing.overlap == QUEUE:",
        ("unit/test_decisions.py",),
    ),
    Bug(
        "a pause of everything is not recorded",
        "core/remember/jobs.py",
        "\"INSERT OR IGNORE INTO settings (name, value) VALUES ('paused', ?)\", (repr(now),)",
        '"SELECT 1 WHERE ? IS NULL", (repr(now),)',
        ("integration/test_jobs.py",),
    ),
    Bug(
        "a submission ends a pause",
        "core/remember/jobs.py",
        """\
    if is_paused:
        row = (*row[:-2], JobStatus.PAUSED.value, row[-1])
""",
        "",
        ("integration/test_jobs.py",),
    ),
    Bug(
        "what passed in a pause is caught up",
        "core/remember/jobs.py",
        "next_at = job.next_at if found is None else found.following",
        "next_at = job.next_at",
        ("integration/test_jobs.py",),
    ),
    # ------------------------------------------------------------------ attempts
    Bug(
        "a retry holds a worker",
        "core/do/run.py",
        "engine.timekeeper.call_at(engine.monotonic() + delay, (self, index))",
        "__import__('time').sleep(delay); engine.pool.push((self, index))",
        ("integration/test_engine.py",),
    ),
    Bug(
        "what an attempt returns that was given up is accepted",
        "core/do/run.py",
        """\
        if attempt._asked == TIMEOUT:
            return self.failed(attempt, self._timeout_of(attempt, None))
""",
        "",
        ("integration/test_timeouts.py",),
        (("if attempt.phase > ASKED or (self.halted is not None", "if (self.halted is not None"),),
    ),
    Bug(
        "each attempt has an idempotency key of its own",
        "core/ground/context.py",
        'return f"{self.info.run_id}:{self.step}"',
        'return f"{self.info.run_id}:{self.step}:{self.attempt}"',
        ("integration/test_engine.py", *RECOVERY),
    ),
    Bug(
        "fail_stop discards what running steps return",
        "core/do/run.py",
        "if self.halted != STOPPING and self.statuses[attempt.place.index] is RUNNING:",
        "if self.halted not in (STOPPING, 'fail_stop') and self.statuses[attempt.place.index] is RUNNING:",
        ("integration/test_engine.py", "acceptance/test_branches_and_retries.py"),
    ),
    Bug(
        "fail_stop ends the run before the running steps have ended",
        "core/do/run.py",
        """\
                self._release(index, ready)
                place += 1""",
        """\
                self._release(index, ready)
                if self.halted == "fail_stop" and self.open:
                    self.open = 0
                    self._all_ended(ready)
                place += 1""",
        ("integration/test_virtual_scheduler.py",),
    ),
    Bug(
        "fail_stop is forgotten",
        "core/do/run.py",
        "if self.plan.fail_stop and self.halted is None and index != self.final:",
        "if False:",
        ("acceptance/test_branches_and_retries.py",),
    ),
    # ------------------------------------------------------------------ after a crash
    Bug(
        "the runs of the living are taken over, too",
        "core/remember/recovery.py",
        "AND r.owner IS ? AND NOT {_QUEUED} ORDER BY r.id",
        "AND (TRUE OR r.owner IS ?) AND NOT {_QUEUED} ORDER BY r.id",
        RECOVERY,
    ),
    Bug(
        "everybody counts as dead",
        "core/remember/instances.py",
        """\
        if descriptor is not None:
            yield DeadInstance(path.name[: -len(_SUFFIX)], descriptor, path)""",
        """\
        if descriptor is None and f".{os.getpid()}" not in path.name:
            descriptor = os.open(os.devnull, os.O_RDONLY)
        if descriptor is not None:
            yield DeadInstance(path.name[: -len(_SUFFIX)], descriptor, path)""",
        RECOVERY,
    ),
    Bug(
        "a run may kill its process for ever",
        "core/remember/recovery.py",
        "if dead is not None and run.recoveries >= max_recoveries:",
        "if False:",
        RECOVERY,
    ),
    Bug(
        "a restart begins the time of a run anew",
        "core/do/resuming.py",
        "run = engine.make_run(plan, info, stored.created_at, stored.deadline, stored.key)",
        "run = engine.make_run(plan, info, stored.created_at, plan.deadline(engine.clock.time()), stored.key)",
        RECOVERY,
    ),
    Bug(
        "a restart grants all attempts anew",
        "core/do/resuming.py",
        "    run.attempts[index] = step.attempts\n    if step.started_at is not None:",
        "    run.attempts[index] = 0\n    if step.started_at is not None:",
        RECOVERY,
    ),
    Bug(
        "a restart makes what waits for a retry at once",
        "core/do/resuming.py",
        "if step.status is RETRYING and (step.retry_at is None or step.retry_at <= engine.clock.time()):",
        "if step.status is RETRYING:",
        RECOVERY,
    ),
    Bug(
        "a completed step runs again after a crash",
        "core/do/resuming.py",
        "needed & ended - again if known[index].status is COMPLETED and not known[index].stored",
        "needed & ended - again if known[index].status is COMPLETED",
        RECOVERY,
    ),
    Bug(
        "a changed sequence goes on regardless",
        "core/do/resuming.py",
        "    if found:\n        raise CannotResume(",
        "    if False:\n        raise CannotResume(",
        RECOVERY,
    ),
    # ------------------------------------------------------------------ history
    Bug(
        "runs that have not ended are pruned",
        "core/remember/retention.py",
        """\
        if not status.ended:
            return False
        failed =""",
        """\
        failed =""",
        ("integration/test_retention.py",),
    ),
    Bug(
        "a run that is being retried is pruned",
        "core/remember/retention.py",
        "if one.key not in kept_keys and one.run_id not in kept_ids]",
        "if one.key not in kept_keys]",
        ("integration/test_retention.py",),
    ),
)

__all__ = ["BUGS", "Bug"]
