"""A daemon's scheduler as an object of this process, with the methods of ``Blaze``.

What changes something goes to the daemon; what only looks reads the state file, and works on
while the daemon is restarted. Outputs stay in the daemon: here is their preview.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Dict, Generator, Iterable, List, Optional, Sequence, Union, overload

from ..core.ground.errors import NoDaemon, RunFailed, RunSuspended
from ..core.ground.status import RunStatus
from ..core.remember.records import JobRecord, RunRecord, StepRecord
from ..core.seq import BlazeSequence, SubmitSequenceData
from ..core.state import StateManager
from ..core.status_report import Health, StatusReport
from ..core.what.declarations import Parameters
from .client import Client
from .owner import owner_of
from .service import HARD, SOFT
from .submissions import hints_of, write_parameters, write_submissions

#: Seconds between two looks whether a run has ended: at first, and at most.
FIRST_LOOK, LONGEST_LOOK = 0.01, 0.25
#: Seconds between two looks whether anybody goes on with it.
LOOK_FOR_OWNER = 2.0
#: Seconds that a daemon gets to stop and give its lock back, beyond what running blocks get.
STOPPING = 60.0


class RemoteResult:
    """A run that has ended elsewhere, as it is recorded."""

    def __init__(self, record: RunRecord, steps: Sequence[StepRecord]) -> None:
        #: Everything that is recorded of it.
        self.record = record
        #: How each step ended, by name.
        self.steps: Dict[str, StepRecord] = {step.name: step for step in steps}

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.record.run_id

    @property
    def seq_id(self) -> str:
        """Id of the sequence."""
        return self.record.seq_id

    @property
    def status(self) -> RunStatus:
        """COMPLETED, FAILED or CANCELLED."""
        return self.record.status

    @property
    def reason(self) -> Optional[str]:
        """``timeout``, ``cancelled_by_user``, ... or None."""
        return self.record.reason

    @property
    def ok(self) -> bool:
        """Whether the run is COMPLETED."""
        return self.record.status is RunStatus.COMPLETED

    @property
    def error(self) -> Optional[str]:
        """What went wrong, as text for people."""
        return self.record.error

    @property
    def preview(self) -> Optional[str]:
        """The output as text, clipped; the output itself is the daemon's."""
        return self.record.preview

    @property
    def duration(self) -> Optional[float]:
        """Seconds from start to end."""
        return self.record.seconds

    def raise_for_status(self) -> RemoteResult:
        """This result; raises :class:`RunFailed` unless COMPLETED."""
        if self.ok:
            return self
        reason = f" ({self.reason})" if self.reason else ""
        error = f"\n{self.error}" if self.error else ""
        raise RunFailed(f"run {self.run_id} of '{self.seq_id}' is {self.status}{reason}{error}")

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data."""
        return {**self.record.to_dict(), "steps": [step.to_dict() for step in self.steps.values()]}

    def __repr__(self) -> str:
        return f"<RemoteResult {self.run_id} of {self.seq_id!r}: {self.status}>"


class RemoteRun:
    """A run that goes on in the daemon: wait for it, ask it, cancel it, or ``await`` it."""

    def __init__(self, run_id: str, seq_id: str, scheduler: RemoteScheduler) -> None:
        self.run_id = run_id
        self.seq_id = seq_id
        self._scheduler = scheduler

    @property
    def status(self) -> RunStatus:
        """State of the run at this instant."""
        return self._scheduler.state.find_run(self.run_id).status

    def done(self) -> bool:
        """Whether the run has ended."""
        return self.status.ended

    def result(self, timeout: Optional[float] = None) -> RemoteResult:
        """Wait for the end; at most ``timeout`` seconds, then :class:`TimeoutError`.

        A daemon that is restarted meanwhile goes on with the run, and this goes on waiting.
        Raises :class:`RunSuspended` if there is none any more.
        """
        state = self._scheduler.state
        end = None if timeout is None else time.monotonic() + timeout
        pause, seen_at = FIRST_LOOK, time.monotonic()
        while True:
            record = state.find_run(self.run_id)
            if record.status.ended:
                return RemoteResult(record, state.steps(self.run_id))
            now = time.monotonic()
            if end is not None and now >= end:
                raise TimeoutError(f"run {self.run_id} of '{self.seq_id}' is still {record.status} after {timeout:g} s")
            if now - seen_at >= LOOK_FOR_OWNER:
                if owner_of(self._scheduler.state_dir) is not None:
                    seen_at = now
                elif now - seen_at >= 2 * LOOK_FOR_OWNER:
                    raise RunSuspended(f"no daemon goes on with run {self.run_id}; the next start resumes it")
            time.sleep(pause if end is None else min(pause, max(0.0, end - now)))
            pause = min(2 * pause, LONGEST_LOOK)

    def cancel(self) -> bool:
        """Ask the run to stop; whether it was still going."""
        return self._scheduler.cancel(self.run_id)

    def __await__(self) -> Generator[Any, None, RemoteResult]:
        return asyncio.get_running_loop().run_in_executor(None, self.result).__await__()

    def __repr__(self) -> str:
        return f"<RemoteRun {self.run_id} of {self.seq_id!r}>"


class RemoteScheduler:
    """The scheduler of the daemon that serves a state directory.

    :param sequences: what this process knows of the sequences; with them, members of the enums
        and dataclasses of their blocks' annotations can be sent as parameters.

    Every method raises :class:`NoDaemon` if there is none any more, and what the scheduler itself raises.
    """

    def __init__(self, state_dir: Path, sequences: Optional[BlazeSequence] = None) -> None:
        self.state_dir = state_dir
        #: Queries over runs, steps, attempts and logs.
        self.state = StateManager(state_dir)
        self.client = Client(state_dir)
        self._hints = hints_of(BlazeSequence() if sequences is None else sequences)

    @property
    def instance_id(self) -> Optional[str]:
        """The scheduler's readable, unique name."""
        found: Optional[str] = self.client.call("ping")["instance"]
        return found

    @property
    def started(self) -> bool:
        """Whether it has been started and not stopped."""
        return bool(self.client.call("ping")["started"])

    def start(self) -> RemoteScheduler:
        """Start it, if the program that serves it has not."""
        self.client.request("start", {}, None)
        return self

    def stop(self, shutdown: bool = False) -> None:
        """Stop it, and with it the daemon; returns when that has ended. ``shutdown`` clears jobs and history."""
        pid = self.client.call("stop", how=HARD if shutdown else SOFT)["pid"]
        end = time.monotonic() + STOPPING
        while True:
            owner = owner_of(self.state_dir)
            if owner is None or owner.pid != pid:
                return
            if time.monotonic() >= end:
                raise TimeoutError(f"{owner} has not stopped after {STOPPING:g} s")
            time.sleep(FIRST_LOOK)

    def pause(self) -> None:
        """Start no further tick and no further step until :meth:`resume`."""
        self.client.call("pause")

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.client.call("resume")

    @overload
    def submit(self, data: SubmitSequenceData) -> JobRecord: ...

    @overload
    def submit(self, data: Iterable[SubmitSequenceData]) -> List[JobRecord]: ...

    def submit(self, data: Union[SubmitSequenceData, Iterable[SubmitSequenceData]]) -> Any:
        """Store a job, or several of which all or none are stored."""
        one = isinstance(data, SubmitSequenceData)
        given = write_submissions([data] if one else data, self._hints)
        stored = self.client.request("jobs.submit", {"submissions": given}, None)
        records = self.state.jobs_by_id([job["job_id"] for job in stored])
        return records[0] if one else records

    def pause_job(self, job_id: str) -> bool:
        """Hold a job's ticks back; whether they were not."""
        return bool(self.client.call("pause", job_id=job_id)["changed"])

    def resume_job(self, job_id: str) -> bool:
        """Let a paused job fire again; whether it was paused."""
        return bool(self.client.call("resume", job_id=job_id)["changed"])

    def remove_job(self, job_id: str) -> None:
        """Forget a job. Its history stays."""
        self.client.call("jobs.remove", job_id=job_id)

    def clear_jobs(self) -> int:
        """Forget all jobs; how many there were."""
        return int(self.client.call("jobs.clear")["removed"])

    @property
    def jobs(self) -> List[JobRecord]:
        """All jobs, by id; ``state.jobs(...)`` gives them in pages, and some of them."""
        from ..core.jobs import all_jobs

        return all_jobs(self.state)

    def trigger(self, seq_id: str, parameters: Optional[Parameters] = None) -> RemoteRun:
        """Start a run; it is recorded when this returns."""
        return self.trigger_stored(seq_id, write_parameters(parameters, self._hints(seq_id)))

    def trigger_stored(self, seq_id: str, parameters: Optional[Dict[str, Any]]) -> RemoteRun:
        """The same with parameters in their stored form, as they stand in a file."""
        return self._run(self.client.call("trigger", seq_id=seq_id, parameters=parameters))

    def run(
        self, seq_id: str, parameters: Optional[Parameters] = None, timeout: Optional[float] = None
    ) -> RemoteResult:
        """Start a run and wait for its end."""
        return self.trigger(seq_id, parameters).result(timeout)

    def retry(self, run_id: str, from_step: Union[str, Sequence[str], None] = None) -> RemoteRun:
        """Run again what a run left undone, as a new run."""
        steps = from_step if from_step is None or isinstance(from_step, str) else list(from_step)
        return self._run(self.client.call("retry", run=run_id, from_step=steps))

    def cancel(self, run_id: str) -> bool:
        """Stop a run; whether it was still going."""
        return bool(self.client.call("cancel", run=run_id)["changed"])

    def status(self) -> StatusReport:
        """What the scheduler does, what its sequences did last, and when they run next."""
        return StatusReport.from_dict(self.client.call("status"))

    def health(self) -> Health:
        """Whether all is well there."""
        return Health.from_dict(self.client.call("health"))

    def close(self) -> None:
        """Close connection and file; the daemon goes on."""
        self.client.close()
        self.state.close()

    def __enter__(self) -> RemoteScheduler:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _run(self, told: Dict[str, Any]) -> RemoteRun:
        return RemoteRun(told["run_id"], told["seq_id"], self)

    def __repr__(self) -> str:
        return f"<RemoteScheduler of {self.state_dir}>"


def connect(state_dir: Path, sequences: Optional[BlazeSequence] = None, patience: float = 10.0) -> RemoteScheduler:
    """The scheduler of whoever serves a state directory; one that is just starting is waited for.

    Raises :class:`NoDaemon`.
    """
    remote = RemoteScheduler(state_dir, sequences)
    end = time.monotonic() + patience
    while True:
        try:
            remote.client.call("ping")
            return remote
        except NoDaemon:
            if time.monotonic() >= end or owner_of(state_dir) is None:
                remote.close()
                raise
            time.sleep(FIRST_LOOK)
