"""What a user writes down: a step of a sequence, and a submission."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, List, Optional

#: Values of ``SeqBlockData.run_when``.
RUN_WHEN = ("all_success", "all_done", "any_success", "any_failed")


@dataclass
class SeqBlockData:
    """One step of a sequence: a block in its place.

    ``dependencies`` names the steps that have to end first. ``parameters`` are the
    block's keyword arguments; ``"@step"`` in them is that step's output,
    ``"@step.key.0"`` walks into it, ``"@@text"`` is the literal ``"@text"``.
    ``name`` (default: the block's name) is needed when one block is used twice.
    ``run_when`` says how the dependencies must have ended: ``all_success``,
    ``all_done``, ``any_success`` or ``any_failed``. ``retries``, ``retry_delay``
    (seconds) and ``timeout`` (seconds for one attempt) override the block's.

    Checked when the sequence is registered or first used, not here.
    """

    block_name: str
    dependencies: List[str] = field(default_factory=list)
    parameters: Dict[str, Any] = field(default_factory=dict)
    name: Optional[str] = None
    run_when: str = "all_success"
    retries: Optional[int] = None
    retry_delay: Optional[float] = None
    timeout: Optional[float] = None

    @property
    def step_name(self) -> str:
        """The name that references and dependencies use."""
        return self.block_name if self.name is None else self.name


@dataclass
class SubmitSequenceData:
    """A sequence to run once or on a schedule.

    Without ``seq_run_interval`` (cron text) it runs once, at ``start_date`` or now.
    ``parameters`` is ``{step: {parameter: value}}``. ``job_id`` defaults to
    ``seq_id``; submitting a job_id again replaces that job. Naive dates are in the
    job's ``timezone`` (IANA name; default: the machine's). Both dates are inclusive.
    """

    seq_id: str
    parameters: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    seq_run_interval: Optional[str] = None
    start_date: Optional[datetime] = None
    end_date: Optional[datetime] = None
    job_id: Optional[str] = None
    timezone: Optional[str] = None
    catchup: str = "latest"
    overlap: str = "skip"
    priority: int = 0
