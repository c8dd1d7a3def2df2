"""What ``status()`` tells, as data; ``str()`` of it is the table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Dict, List, Optional

from .remember.records import SequenceSummary

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

    @classmethod
    def of(cls, seq_id: str, summary: Optional[SequenceSummary]) -> SequenceStatus:
        """The line of a sequence, from what is recorded of it (None: never run)."""
        last = summary.last_run if summary is not None else None
        if last is None:
            return cls(seq_id, None, None, "PENDING", 0.0)
        return cls(seq_id, last.created, None, str(last.status), last.seconds or 0.0, last.run_id)


@dataclass(frozen=True)
class StatusReport:
    """A scheduler at one instant."""

    instance: str
    pid: int
    #: RUNNING, PAUSED or STOPPED.
    state: str
    state_dir: Optional[str]
    runs_active: int
    workers: int
    busy_workers: int
    #: Threads of blocks that did not stop when told to.
    leaked_threads: int
    #: Why nothing can be written at present, or None.
    write_fault: Optional[str]
    sequences: List[SequenceStatus] = field(default_factory=list)

    def to_dict(self) -> Dict[str, Any]:
        """The same as JSON-able data."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"Blaze {self.instance} - PID {self.pid} - {self.state}",
            f"{self.runs_active} runs are going on, {self.busy_workers} of {self.workers} workers are busy",
        ]
        if self.leaked_threads:
            lines.append(f"{self.leaked_threads} threads did not stop when told to")
        if self.write_fault:
            lines.append(f"the state can't be written at present: {self.write_fault}")
        rows = [
            (
                line.seq_id,
                "Never run" if line.last_run is None else _local(line.last_run),
                "-" if line.next_run is None else _local(line.next_run),
                line.status,
                f"{line.last_seconds:.2f}s",
            )
            for line in self.sequences
        ]
        widths = [max(len(row[i]) for row in [_COLUMNS, *rows]) for i in range(len(_COLUMNS))]
        for row in [_COLUMNS, *rows]:
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        return "\n".join(lines)


def _local(epoch: float) -> str:
    return datetime.fromtimestamp(epoch).strftime("%Y-%m-%d %H:%M:%S")
