"""What a scheduler can be asked from other processes: the table of methods, and what each of them does.

Parameters come as JSON and are checked; answers are the ``to_dict()`` of what the
scheduler gives. Nothing here waits for long but the streams, and those look up every
second whether somebody still listens.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from datetime import datetime
from typing import Any, Dict, Iterator, List, Mapping, Optional, Protocol, Tuple

from ..core.blaze import Blaze
from ..core.do.result import RunResult
from ..core.ground.errors import Fault, NotFound, Refused, ValidationError
from ..core.remember.records import RunRecord
from ..core.seq import Sequence
from ..core.status_report import SequenceStatus
from ..core.what.conversion import convert
from ..core.when.schedule import Schedule
from .methods import ANYTHING, LIST, OBJECT, TEXT, WHOLE, Kind, Method, Parameter, or_null
from .protocol import Written, written, written_with
from .submissions import hints_of, read_parameters, read_submissions

#: Ways to stop: running blocks get the grace time; the same, and jobs and history are cleared;
#: the runs at hand are waited for, however long they take.
SOFT, HARD, DRAIN = "soft", "hard", "drain"
#: Seconds between two looks of a stream at the state, and between two signs of life.
LOOK_EVERY, SIGN_EVERY = 0.2, 1.0
#: Steps and attempts that ``show`` tells; the rest is asked for in pages.
SHOWN = 500
#: Most ticks that ``next`` tells.
TICKS = 1000


class Host(Protocol):
    """What serves the scheduler."""

    settings: Optional[Mapping[str, Any]]
    """What it was started with; None for one that a program embeds."""

    @property
    def stopping(self) -> Optional[str]:
        """How it is about to stop; None if it is not."""

    def stop(self, how: str) -> None:
        """Stop soon; returns at once."""

    def reload(self) -> Dict[str, Any]:
        """Load the definition again."""


def _optional(kind: Kind) -> Parameter:
    return Parameter(or_null(kind), required=False)


_STATUSES = Kind(
    "a state or a list of states",
    lambda value: type(value) is str or (type(value) is list and all(type(one) is str for one in value)),
)
_MOMENT = Kind("a date in ISO 8601, or epoch seconds", lambda value: type(value) in (str, int, float))
_LEVEL = Kind("the name or number of a log level", lambda value: type(value) in (str, int))
_PAGE = {"limit": Parameter(WHOLE, required=False), "cursor": _optional(TEXT)}
_LINES = {
    "run": _optional(TEXT),
    "seq_id": _optional(TEXT),
    "step": _optional(TEXT),
    "level": _optional(_LEVEL),
    "since": _optional(_MOMENT),
    "search": _optional(TEXT),
    "cursor": _optional(TEXT),
    "tail": _optional(WHOLE),
}


class Desk:
    """Answers for one scheduler."""

    def __init__(self, scheduler: Blaze, host: Host) -> None:
        self._scheduler = scheduler
        self._host = host
        #: The sequences as they were told last, and their text.
        self._told: Tuple[Tuple[SequenceStatus, ...], Written] = ((), written([]))

    def methods(self) -> Dict[str, Method]:
        """The table."""
        needed = Parameter(TEXT)
        return {
            "ping": Method(self.ping),
            "start": Method(self.start),
            "status": Method(self.status),
            "health": Method(lambda: self._scheduler.health().to_dict()),
            "list": Method(self.list),
            "jobs.list": Method(self.jobs, {"seq_id": _optional(TEXT), "status": _optional(TEXT), **_PAGE}),
            "jobs.submit": Method(self.submit, {"submissions": Parameter(LIST)}),
            "jobs.remove": Method(self.remove, {"job_id": needed}),
            "jobs.clear": Method(lambda: {"removed": self._scheduler.clear_jobs()}),
            "pause": Method(self.pause, {"job_id": _optional(TEXT)}),
            "resume": Method(self.resume, {"job_id": _optional(TEXT)}),
            "trigger": Method(self.trigger, {"seq_id": needed, "parameters": _optional(OBJECT)}),
            "wait": Method(self.wait, {"run": needed}, stream=True),
            "runs": Method(
                self.runs,
                {
                    "seq_id": _optional(TEXT),
                    "status": _optional(_STATUSES),
                    "since": _optional(_MOMENT),
                    "until": _optional(_MOMENT),
                    "job_id": _optional(TEXT),
                    **_PAGE,
                },
            ),
            "show": Method(self.show, {"run": needed, "seq_id": _optional(TEXT)}),
            "cancel": Method(self.cancel, {"run": needed}),
            "retry": Method(self.retry, {"run": needed, "from_step": _optional(ANYTHING)}),
            "logs": Method(self.logs, {**_LINES, "limit": Parameter(WHOLE, required=False)}),
            "logs.follow": Method(self.follow, _LINES, stream=True),
            "next": Method(self.next, {"job_id": needed, "number": Parameter(WHOLE, required=False)}),
            "reload": Method(self._host.reload),
            "stop": Method(self.stop, {"how": Parameter(TEXT, required=False)}),
        }

    # ------------------------------------------------------------------ the scheduler

    def ping(self) -> Dict[str, Any]:
        """Who answers."""
        return {
            "instance": self._scheduler.instance_id,
            "pid": os.getpid(),
            "started": self._scheduler.started,
            "stopping": self._host.stopping,
            "settings": self._host.settings,
        }

    def start(self) -> Dict[str, Any]:
        """Start the scheduler, if it is not started yet."""
        self._refuse_while_stopping("start")
        was = self._scheduler.started
        self._scheduler.start()
        return {**self.ping(), "was_started": was}

    def stop(self, how: str = SOFT) -> Dict[str, Any]:
        """Stop it; the answer is sent before that begins."""
        if how not in (SOFT, HARD, DRAIN):
            raise ValidationError([Fault("how", f"it is '{SOFT}', '{HARD}' or '{DRAIN}', got {how[:40]!r}")])
        told = self.ping()
        self._host.stop(how)
        return told

    def pause(self, job_id: Optional[str] = None) -> Dict[str, Any]:
        """Pause a job, or everything."""
        if job_id is not None:
            return {"job_id": job_id, "changed": self._scheduler.pause_job(job_id)}
        changed = self._scheduler.status().state != "PAUSED"
        self._scheduler.pause()
        return {"changed": changed}

    def resume(self, job_id: Optional[str] = None) -> Dict[str, Any]:
        """Resume a job, or everything."""
        if job_id is not None:
            return {"job_id": job_id, "changed": self._scheduler.resume_job(job_id)}
        changed = self._scheduler.status().state == "PAUSED"
        self._scheduler.resume()
        return {"changed": changed}

    def _refuse_while_stopping(self, what: str) -> None:
        if self._host.stopping is not None:
            raise Refused(f"the daemon is about to stop; {what} again when it has been started anew")

    def status(self) -> Written:
        """What the scheduler does, what its sequences did last, and when they run next."""
        report = self._scheduler.status()
        lines, text = self._told
        if lines is not report.sequences:
            text = written([line.to_dict() for line in report.sequences])
            self._told = (report.sequences, text)
        return written_with(report.head(), "sequences", text)

    # ------------------------------------------------------------------ definitions and jobs

    def list(self) -> List[Dict[str, Any]]:
        """The sequences that are served."""
        return [sequence_data(sequence) for sequence in self._scheduler.sequences.values()]

    def jobs(self, **filters: Any) -> Dict[str, Any]:
        """Jobs, in pages."""
        return self._scheduler.state.jobs(**filters).to_dict()

    def submit(self, submissions: List[Any]) -> List[Dict[str, Any]]:
        """Store all submissions, or none."""
        self._refuse_while_stopping("submit")
        found = read_submissions(submissions, self._scheduler.sequences, self._scheduler.executors)
        return [job.to_dict() for job in self._scheduler.submit(found)]

    def remove(self, job_id: str) -> Dict[str, Any]:
        """Forget a job."""
        self._scheduler.remove_job(job_id)
        return {"job_id": job_id}

    def next(self, job_id: str, number: int = 10) -> Dict[str, Any]:
        """The next ticks of a job."""
        if not 1 <= number <= TICKS:
            raise ValidationError([Fault("number", f"it is a whole number from 1 to {TICKS}, got {number}")])
        job = self._scheduler.state.job(job_id)
        ticks: List[str] = [] if job.next_at is None else [job.next_at.isoformat()]
        if job.next_at is not None and job.interval is not None:
            later = Schedule.parse(job.interval, job.timezone).next(number - 1, after=job.next_at) if number > 1 else []
            ticks += [tick.isoformat() for tick in later if job.end_at is None or tick <= job.end_at]
        return {"job": job.to_dict(), "ticks": ticks}

    # ------------------------------------------------------------------ runs

    def trigger(self, seq_id: str, parameters: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
        """Start a run."""
        self._refuse_while_stopping("trigger")
        faults: List[Fault] = []
        sequences = self._scheduler.sequences
        given = parameters and read_parameters(parameters, seq_id, hints_of(sequences), "", faults)
        if faults and seq_id in sequences:
            raise ValidationError(faults, "the parameters")
        return self._record(self._scheduler.trigger(seq_id, given or None).run_id).to_dict()

    def wait(self, run: str) -> Iterator[Optional[Dict[str, Any]]]:
        """The run's record whenever its state changes; the last one tells how it ended."""
        state = self._scheduler.state
        run_id = state.find_run(run).run_id
        end = self._end_of(run_id)
        told, said_at = None, 0.0
        while True:
            record = state.find_run(run_id)
            if record.status is not told:
                told, said_at = record.status, time.monotonic()
                yield record.to_dict()
                if record.status.ended:
                    return
            elif time.monotonic() - said_at >= SIGN_EVERY:
                said_at = time.monotonic()
                yield None
            if end is None or end.done():  # it is another process's
                time.sleep(LOOK_EVERY)
            else:
                wait_for_futures([end], LOOK_EVERY)

    def _end_of(self, run_id: str) -> Optional[Future[RunResult]]:
        """What tells at once that a run has ended, if it goes on here."""
        try:
            return self._scheduler.handle(run_id).future
        except NotFound:
            return None

    def runs(self, **filters: Any) -> Dict[str, Any]:
        """Runs, newest first, in pages."""
        return self._scheduler.state.runs(**_with_moments(filters)).to_dict()

    def show(self, run: str, seq_id: Optional[str] = None) -> Dict[str, Any]:
        """A run with its steps and failed attempts."""
        state = self._scheduler.state
        record = state.find_run(run, seq_id)
        return {
            "run": record.to_dict(),
            "parameters": state.parameters(record.run_id),
            "steps": state.steps_page(record.run_id, limit=SHOWN).to_dict(),
            "attempts": state.attempts(record.run_id, limit=SHOWN).to_dict(),
            "graph": state.graph(record.run_id).to_dict() if record.steps <= SHOWN else None,
        }

    def cancel(self, run: str) -> Dict[str, Any]:
        """Ask a run to stop."""
        run_id = self._scheduler.state.find_run(run).run_id
        return {"run_id": run_id, "changed": self._scheduler.cancel(run_id)}

    def retry(self, run: str, from_step: Any = None) -> Dict[str, Any]:
        """Run again what a run left undone."""
        self._refuse_while_stopping("retry")
        steps = [from_step] if isinstance(from_step, str) else from_step or []
        if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
            raise ValidationError([Fault("from_step", "it is the name of a step, or a list of names")])
        return self._record(self._scheduler.retry(run, steps).run_id).to_dict()

    def _record(self, run_id: str) -> RunRecord:
        return self._scheduler.state.find_run(run_id)

    # ------------------------------------------------------------------ logs

    def logs(self, run: Optional[str] = None, **filters: Any) -> Dict[str, Any]:
        """Lines, in pages."""
        return self._scheduler.state.logs(run_id=self._run_id(run), **_with_moments(filters)).to_dict()

    def follow(
        self, run: Optional[str] = None, cursor: Optional[str] = None, tail: Optional[int] = None, **filters: Any
    ) -> Iterator[Optional[Dict[str, Any]]]:
        """Pages of lines as they are written; of a run, until it has ended. ``follow`` of a page goes on behind it."""
        state, run_id, filters = self._scheduler.state, self._run_id(run), _with_moments(filters)
        said_at = 0.0
        while True:
            # Asked before the lines: what a run that has ended wrote is all there.
            over = run_id is not None and state.find_run(run_id).status.ended
            first = {"tail": tail} if cursor is None and tail is not None else {"cursor": cursor}
            page = state.logs(run_id=run_id, **first, **filters)
            cursor = page.follow
            if page.items:
                said_at = time.monotonic()
                yield page.to_dict()
            elif time.monotonic() - said_at >= SIGN_EVERY:
                said_at = time.monotonic()
                yield None
            if page.next is None:
                if over:
                    return
                time.sleep(LOOK_EVERY)

    def _run_id(self, run: Optional[str]) -> Optional[str]:
        return None if run is None else self._scheduler.state.find_run(run).run_id


def sequence_data(sequence: Sequence[Any, Any]) -> Dict[str, Any]:
    """A sequence as JSON-able data."""
    definition = sequence.definition
    return {
        "seq_id": sequence.seq_id,
        "description": sequence.description,
        "place": definition.place,
        "steps": [step.step_name for step in definition.steps],
        "seq_run_interval": sequence.seq_run_interval,
        "timezone": sequence.timezone,
        "auto_start": sequence.auto_start,
        "seq_run_timeout": definition.run_timeout,
        "retries": definition.retries,
        "retry_delay": definition.retry_delay,
        "fail_stop": definition.fail_stop,
    }


def _with_moments(filters: Mapping[str, Any]) -> Dict[str, Any]:
    """The same, with dates as what they were."""
    found = dict(filters)
    faults: List[Fault] = []
    for name in ("since", "until"):
        if isinstance(found.get(name), str):
            found[name] = convert(found[name], datetime, name, faults)
    if faults:
        raise ValidationError(faults, "the parameters")
    return found
