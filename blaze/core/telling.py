"""Putting together what ``status()`` and ``health()`` tell of a session."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib import metadata
from typing import Dict, List, NamedTuple, Optional, Tuple

from .ground.errors import StateError
from .ground.status import JobStatus
from .remember.records import Overview
from .seq import BlazeSequence
from .session import Session
from .status_report import Health, SequenceStatus, StatusReport, lines_of, summary_of

#: Latest runs whose lateness is told.
LATELY = 1000


class Lines(NamedTuple):
    """The lines of a report, for as long as nothing changes of what they were made of."""

    overview: Overview
    seq_ids: Tuple[str, ...]
    lines: Tuple[SequenceStatus, ...]
    next_tick: Optional[float]


def _lines(session: Session, sequences: BlazeSequence) -> Lines:
    try:
        overview = session.state.overview()
    except StateError:  # the file is gone: what is left to tell is told
        overview = Overview({}, {}, {})
    seq_ids, before = tuple(sequences), session.lines
    if before is not None and before.overview is overview and before.seq_ids == seq_ids:
        return before
    lines = tuple(lines_of(overview, seq_ids))
    next_tick = min((line.next_run for line in lines if line.next_run is not None), default=None)
    session.lines = Lines(overview, seq_ids, lines, next_tick)
    return session.lines


def report(session: Session, sequences: BlazeSequence, started: bool) -> StatusReport:
    """What a scheduler does, what its sequences did last, and when they run next."""
    engine, told = session.engine, _lines(session, sequences)
    fault = session.journal.fault
    return StatusReport(
        instance=session.instance_id,
        pid=os.getpid(),
        state=_life_of(session, started),
        state_dir=None if session.state_dir is None else str(session.state_dir),
        runs_active=len(engine.runs),
        workers=engine.pool.size,
        busy_workers=len(engine.pool.busy()),
        leaked_threads=len(engine.pool.leaked),
        write_fault=fault.message if fault else engine.write_fault,
        at=session.clock.time(),
        jobs={status.value: number for status, number in told.overview.jobs.items()},
        next_tick=told.next_tick,
        sequences=told.lines,
    )


def _life_of(session: Session, started: bool) -> str:
    if not started:
        return "STARTING" if session.starting else "STOPPED"
    return "PAUSED" if session.engine.pool.held else "RUNNING"


def examine(session: Session) -> Health:
    """What is wrong with a scheduler."""
    engine, ticker = session.engine, session.ticker
    problems: List[str] = []
    fault = session.journal.fault
    if fault is not None or engine.write_fault:
        problems.append(f"the state can't be written: {fault.message if fault else engine.write_fault}")
    loops = {**engine.timekeeper.loops(), **({} if ticker is None else {"ticker": (ticker.deaths, ticker.last_death)})}
    problems += [
        f"the {name} died {number} times, the last time of {last}" for name, (number, last) in loops.items() if number
    ]
    if ticker is not None and not ticker.alive:
        problems.append("the ticker does not run")
    if ticker is not None and ticker.fault is not None:
        problems.append(f"ticks can't be fired: {ticker.fault}")
    leaked = len(engine.pool.leaked)
    if leaked:
        problems.append(f"{leaked} threads of blocks did not stop when told to")
    broken, wal, lateness, missed, last_error = 0, 0, None, 0, None
    try:
        broken = session.state.job_counts()[JobStatus.BROKEN]
        wal = session.state.size().wal
        lateness = summary_of(session.state.lateness(LATELY))
        missed = session.state.missed(LATELY)
        for run in session.state.runs(status="FAILED", limit=1).items:
            last_error = {"run_id": run.run_id, "seq_id": run.seq_id, "error": run.error}
    except StateError as error:
        problems.append(str(error))
    if broken:
        problems.append(f"{broken} jobs are BROKEN")
    herald = engine.herald
    failures = 0 if herald is None else herald.failures
    if failures:
        problems.append(f"hooks failed {failures} times")
    return Health(
        ok=not problems,
        problems=problems,
        restarts={name: number for name, (number, _) in loops.items()},
        leaked_threads=leaked,
        wal_bytes=wal,
        broken_jobs=broken,
        hook_failures=failures,
        lateness=lateness,
        versions=_versions(),
        missed=missed,
        last_error=last_error,
    )


def _versions() -> Dict[str, str]:
    return {
        "blaze": _version_of("blaze-etl"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "croniter": _version_of("croniter"),
    }


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


__all__ = ["examine", "report"]
