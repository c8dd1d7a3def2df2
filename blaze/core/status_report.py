"""What ``status()`` and ``health()`` tell, as data; ``str()`` of it is for people."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .ground.clock import as_datetime
from .remember.records import Overview

_COLUMNS = ("Seq ID", "Last Run", "Next Run", "Status", "Total Execution Time")


@dataclass(frozen=True)
class SequenceStatus:
    """One sequence's line."""

    seq_id: str
    #: Epoch seconds.
    last_run: Optional[float]
    next_run: Optional[float]
    status: str
    #: Seconds of its last run.
    last_seconds: float
    last_run_id: Optional[str] = None
    #: Number of its jobs.
    jobs: int = 0

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data; times are UTC, ISO 8601."""
        return {**vars(self), "last_run": _iso(self.last_run), "next_run": _iso(self.next_run)}


def lines_of(overview: Overview, sequences: Iterable[str] = ()) -> List[SequenceStatus]:
    """A line for every sequence that has runs or jobs, and for ``sequences``; by name."""
    lines = []
    for seq_id in sorted({*sequences, *overview.last_runs, *overview.jobs_of}):
        number, next_run = overview.jobs_of.get(seq_id, (0, None))
        last = overview.last_runs.get(seq_id)
        if last is None:
            lines.append(SequenceStatus(seq_id, None, next_run, "PENDING", 0.0, None, number))
        else:
            told = (last.created, next_run, last.status.value, last.seconds or 0.0, last.run_id)
            lines.append(SequenceStatus(seq_id, *told, number))
    return lines


@dataclass(frozen=True)
class StatusReport:
    """A scheduler at one instant. Times are epoch seconds."""

    instance: str
    pid: int
    #: STARTING, RUNNING, PAUSED or STOPPED.
    state: str
    state_dir: Optional[str]
    runs_active: int
    workers: int
    busy_workers: int
    #: Threads of blocks that did not stop when told to.
    leaked_threads: int
    #: Why nothing can be written at present, or None.
    write_fault: Optional[str]
    #: When this was asked.
    at: float = 0.0
    #: Jobs by state.
    jobs: Dict[str, int] = field(default_factory=dict)
    #: The next tick of all jobs.
    next_tick: Optional[float] = None
    sequences: Tuple[SequenceStatus, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        """The same as JSON-able data; times are UTC, ISO 8601."""
        return {**self.head(), "sequences": [line.to_dict() for line in self.sequences]}

    def head(self) -> Dict[str, Any]:
        """The same without the sequences."""
        # Not asdict(), which copies every value deeply and takes longer than asking the state.
        told = {**vars(self), "at": _iso(self.at), "next_tick": _iso(self.next_tick), "jobs": dict(self.jobs)}
        del told["sequences"]
        return told

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> StatusReport:
        """The report that :meth:`to_dict` told of."""
        lines = tuple(
            SequenceStatus(**{**line, "last_run": _epoch(line["last_run"]), "next_run": _epoch(line["next_run"])})
            for line in told["sequences"]
        )
        times = {"at": _epoch(told["at"]) or 0.0, "next_tick": _epoch(told["next_tick"])}
        return cls(**{**told, **times, "sequences": lines})

    def __str__(self) -> str:
        number = sum(self.jobs.values())
        lines = [
            f"Blaze {self.instance} - PID {self.pid} - {self.state}",
            f"There {'is 1 job' if number == 1 else f'are {number} jobs'} in the state{self._not_active()}",
            f"The next tick is {self._moment(self.next_tick) if self.next_tick is not None else 'not to be seen'}",
            f"{self.runs_active} {'run is' if self.runs_active == 1 else 'runs are'} going on, "
            f"{self.busy_workers} of {self.workers} workers are busy",
        ]
        if self.leaked_threads:
            lines.append(f"{self.leaked_threads} threads did not stop when told to")
        if self.write_fault:
            lines.append(f"the state can't be written at present: {self.write_fault}")
        rows = [
            (
                line.seq_id,
                "Never run" if line.last_run is None else _local(line.last_run),
                "-" if line.next_run is None else self._moment(line.next_run),
                line.status,
                f"{line.last_seconds:.2f}s",
            )
            for line in self.sequences
        ]
        return "\n".join([*lines, "", *_table([_COLUMNS, *rows])])

    def _not_active(self) -> str:
        told = [f"{number} {state}" for state, number in self.jobs.items() if number and state != "ACTIVE"]
        return f" ({', '.join(told)})" if told else ""

    def _moment(self, epoch: float) -> str:
        return f"{_local(epoch)} {time_to_go(epoch - self.at)}"


@dataclass(frozen=True)
class Health:
    """Whether a scheduler does what it should, and what is wrong if not."""

    #: Nothing is wrong.
    ok: bool
    #: What is wrong, a line each.
    problems: List[str]
    #: How often a loop died and was restarted, by its name.
    restarts: Dict[str, int]
    leaked_threads: int
    #: Bytes of the write-ahead log.
    wal_bytes: int
    #: Jobs that are BROKEN.
    broken_jobs: int
    #: Hooks that failed.
    hook_failures: int
    #: Seconds from the nominal time of the latest ticks to their start: median, 99th percentile, longest.
    lateness: Optional[Tuple[float, float, float]]
    #: Of Blaze, Python, SQLite and croniter.
    versions: Dict[str, str]
    #: Among the latest runs: ticks that passed while nothing ran, and were not caught up with.
    missed: int = 0
    #: ``run_id``, ``seq_id`` and ``error`` of the newest run that FAILED.
    last_error: Optional[Dict[str, Optional[str]]] = None

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Health:
        """The same again."""
        lateness = told["lateness"]
        return cls(**{**told, "lateness": None if lateness is None else tuple(lateness)})


def summary_of(values: Sequence[float]) -> Optional[Tuple[float, float, float]]:
    """Median, 99th percentile and greatest; None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    last = len(ordered) - 1
    return ordered[last // 2], ordered[math.ceil(last * 0.99)], ordered[last]


def time_to_go(seconds: float) -> str:
    """How long it is until then, in one unit: ``<15m``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds > size:
            return f"<{math.ceil(seconds / size)}{unit}"
    return f"<{max(0, math.ceil(seconds))}s"


def _table(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _local(epoch: float) -> str:
    return datetime.fromtimestamp(epoch).strftime("%Y-%m-%d %H:%M:%S")


def _iso(epoch: Optional[float]) -> Optional[str]:
    moment = as_datetime(epoch)
    return None if moment is None else moment.isoformat()


def _epoch(text: Optional[str]) -> Optional[float]:
    return None if text is None else datetime.fromisoformat(text).timestamp()
