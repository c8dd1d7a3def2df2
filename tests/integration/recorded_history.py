"""Builds real state files for tests: histories written through the journal and the recorder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from blaze.core.ground.names import new_run_id
from blaze.core.ground.status import BlockStatus, RunStatus
from blaze.core.remember.journal import Journal
from blaze.core.remember.recorder import NewRun, Recorder

#: 1 January 2026, 00:00 UTC: when the histories of the tests begin.
NEW_YEAR = 1_767_225_600.0
#: Each step: name, block, dependencies.
Graph = Sequence[Tuple[str, str, Sequence[str]]]
PIPELINE: Graph = (("fetch", "fetch", ()), ("clean", "tidy", ("fetch",)), ("load", "load", ("clean", "fetch")))


class Written(NamedTuple):
    """A run that was written."""

    key: int
    run_id: str


class History:
    """A state file that is being written; ``state_dir=None``: in memory."""

    def __init__(self, state_dir: Optional[Path]) -> None:
        if state_dir is not None:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state_dir = state_dir
        self.journal = Journal(
            None if state_dir is None else state_dir / "blaze.db", "process" if state_dir else "memory"
        )
        self.recorder = Recorder(self.journal)
        self.at = NEW_YEAR

    def __enter__(self) -> History:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.journal.close()

    def commit(self) -> None:
        """Write what is pending."""
        while self.journal.pending:
            with self.journal.lock:
                self.journal.commit()
        assert not self.journal.refused
        assert self.journal.fault is None

    def run(
        self,
        seq_id: str = "etl",
        status: Optional[RunStatus] = RunStatus.COMPLETED,
        at: Optional[float] = None,
        *,
        graph: Graph = PIPELINE,
        run_id: Optional[str] = None,
        job_id: Optional[str] = None,
        scheduled: Optional[float] = None,
        seconds: float = 2.0,
        reason: Optional[str] = None,
        error: Optional[str] = None,
        output: Any = None,
        parameters: Optional[Dict[str, Any]] = None,
        retry_of: Optional[str] = None,
        deadline: Optional[float] = None,
    ) -> Written:
        """A run that was created at ``at`` (default: a minute after the one before) and ended; None: is open."""
        self.at = self.at + 60.0 if at is None else at
        text = json.dumps({"steps": [[name, block, list(sources)] for name, block, sources in graph]})
        run = NewRun(
            run_id=run_id or new_run_id(),
            seq_id=seq_id,
            graph=text,
            digest=hashlib.sha256(f"{seq_id} {text}".encode()).hexdigest(),
            parameters=None if parameters is None else json.dumps(parameters),
            created_at=self.at,
            deadline=deadline,
            owner="test-000000",
            steps=len(graph),
            job_id=job_id,
            scheduled_at=scheduled,
            retry_of=retry_of,
        )
        written = Written(self.recorder.insert(run), run.run_id)
        if status is RunStatus.RUNNING:
            self.recorder.run_started(written.key, self.at)
        elif status is not None and status is not RunStatus.PENDING:
            self.end(written, status, reason=reason, seconds=seconds, output=output, error=error)
        self.commit()
        return written

    def end(
        self,
        run: Written,
        status: RunStatus = RunStatus.COMPLETED,
        *,
        at: Optional[float] = None,
        seconds: float = 2.0,
        reason: Optional[str] = None,
        output: Any = None,
        error: Optional[str] = None,
    ) -> None:
        """The end of an open run; a tick that was skipped has none of the times of a run."""
        if status is RunStatus.SKIPPED:
            self.recorder.end_by_rule(run.key, status, reason or "overlap", error or "the run before is going on")
        else:
            start = (self.at if at is None else at) + 0.5
            kept = None if output is None else self.recorder.keep(run.run_id, "(finaliser)", output, True)
            self.recorder.run_ended(
                run.key, run.run_id, status, reason, start, start + seconds, seconds, kept, error, None
            )
        self.commit()

    def completed(self, run: Written, index: int, name: str, value: Any = None) -> None:
        """A step that returned ``value``."""
        kept = self.recorder.keep(run.run_id, name, value, True)
        self.recorder.completed(run.key, run.run_id, index, name, 1, self.at, 0.5, kept, False, None)
        self.commit()

    def failed(self, run: Written, index: int, attempts: int = 1, error: str = "ValueError: no rows") -> None:
        """A step whose attempts all failed."""
        for attempt in range(1, attempts + 1):
            self.recorder.attempt(
                run.key, index, attempt, self.at + attempt, 0.25, "timeout", error, "rows=[1, 2]", "Traceback ..."
            )
        self.recorder.step(run.key, index, BlockStatus.FAILED, "timeout", attempts, self.at, 0.25, error)
        self.commit()

    def log(
        self,
        run: Written,
        message: str,
        index: Optional[int] = None,
        level: int = 20,
        at: Optional[float] = None,
        attempt: Optional[int] = 1,
    ) -> None:
        """A line of the run's log."""
        self.recorder.log_line(run.key, index, attempt, self.at if at is None else at, level, "blaze.block", message)
        self.commit()

    def column(self, sql: str, *row: Any) -> List[Any]:
        """The first column of a statement's rows."""
        return [found[0] for found in self.journal.read(sql, row)]
