"""A scheduler on virtual time, and what it did: for the tests of jobs and ticks."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timezone

from blaze import Blaze, Retry, SubmitSequenceData, current
from blaze.testing import VirtualClock
from tests.integration.workbench import PATIENCE, Workbench

UTC = timezone.utc
#: When virtual time begins: a Thursday, ten seconds before noon.
BEGIN = datetime(2026, 1, 1, 11, 59, 50, tzinfo=UTC)
#: Real seconds for which a block that waits for the test holds up virtual time.
SHORT = 0.02
#: What hooks are called, by their names.
HOOKS = ("on_run_start", "on_run_end", "on_step_end", "on_retry", "on_skip", "on_late")


def at(text):
    """An instant of 1 January 2026 (UTC) by its time of day, or one with its date."""
    return datetime.fromisoformat(text if "T" in text else f"2026-01-01T{text}").replace(tzinfo=UTC)


def clock_time(moment):
    """The other way round."""
    return None if moment is None else moment.astimezone(UTC).strftime("%H:%M:%S")


def job(seq_id="tick", interval="* * * * *", **settings):
    """A submission, in UTC unless it says otherwise."""
    settings.setdefault("timezone", "UTC")
    return SubmitSequenceData(seq_id, seq_run_interval=interval, **settings)


class Timed:
    """A workbench, a virtual clock, and schedulers of one state; the sequence ``tick`` notes when it is run."""

    def __init__(self, folder, start=BEGIN, patience=PATIENCE):
        self.bench = Workbench()
        self.clock = VirtualClock(start, patience=patience)
        self.folder = folder
        self.schedulers = []
        #: (job or sequence, nominal time) of every run of a noting sequence, in order.
        self.noted = []
        #: (hook, event) in order.
        self.told = []
        self.gate = threading.Event()
        #: Is set when a waiting block has begun.
        self.inside = threading.Event()
        self.noting("tick")

    def noting(self, seq_id, **settings):
        """A sequence of one step that notes its tick."""

        def note():
            info = current().info
            self.noted.append((info.job_id or seq_id, current().scheduled_at))

        return self.sequence(seq_id, note, **settings)

    def waiting(self, seq_id, **settings):
        """The same, which then waits for the test, or until it is cancelled."""

        def note_and_wait():
            self.noted.append((current().info.job_id or seq_id, current().scheduled_at))
            self.inside.set()
            while not self.gate.wait(0.005):
                current().check_cancelled()

        return self.sequence(seq_id, note_and_wait, **settings)

    def lasting(self, seq_id, seconds, **settings):
        """The same, whose run lasts so many virtual seconds, in which it holds no worker: it waits for a retry."""

        def note_and_last():
            if current().attempt == 1:
                self.noted.append((current().info.job_id or seq_id, current().scheduled_at))
                raise Retry(delay=seconds)

        return self.sequence(seq_id, note_and_last, retries=1, **settings)

    def sequence(self, seq_id, function, **settings):
        block = {name: settings.pop(name) for name in ("retries", "retry_delay", "timeout") if name in settings}
        self.bench.step(f"step_of_{seq_id}".replace(".", "_"), function, **block)
        return self.bench.sequence(seq_id=seq_id, finaliser=lambda context=None: None, **settings)

    def scheduler(self, *, sequences=None, hooks=(), **settings):
        """A scheduler on this clock that has not been started; ``hooks`` are those whose events are told."""
        settings.setdefault("durability", "process")
        settings.setdefault("state_dir", self.folder / "state")
        settings.setdefault("max_workers", 2)
        for hook in hooks:
            settings.setdefault(hook, lambda event, hook=hook: self.told.append((hook, event)))
        found = self.bench.sequences if sequences is None else sequences
        scheduler = Blaze(sequences=found, clock=self.clock, **settings)
        self.schedulers.append(scheduler)
        return scheduler

    def start(self, *jobs, **settings):
        """A started one, with jobs."""
        scheduler = self.scheduler(**settings).start()
        if jobs:
            scheduler.submit(list(jobs))
        self.clock.settle()
        return scheduler

    def times(self, name=None):
        """Times of day of the ticks that were run."""
        return [clock_time(moment) for job_id, moment in self.noted if name in (None, job_id)]

    def close(self):
        self.gate.set()
        for scheduler in self.schedulers:
            scheduler.stop(grace=0.0)


def history(scheduler, job_id=None):
    """(status, reason, number, first, last) of the recorded ticks, oldest first."""
    found = []
    for run in reversed(scheduler.state.runs(job_id=job_id, limit=10_000).items):
        last = clock_time(run.scheduled_at)
        first = clock_time(run.missed_from) or last
        found.append((run.status.value, run.reason, run.missed or 1, first, last))
    return found


def sql(scheduler, statement, *values):
    """Change the state behind the scheduler's back, as nobody should."""
    return scheduler._open().journal.transaction(lambda cursor: cursor.execute(statement, values).fetchall())


def open_descriptors():
    """How many files this process has open, or None where that can't be told."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
