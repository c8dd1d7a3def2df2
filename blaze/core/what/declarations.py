"""What a user writes down: a step of a sequence, and a submission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from .naming import quoted

if TYPE_CHECKING:
    from .blocks import Block

#: Of a run: ``{step: {parameter: value}}``.
Parameters = Mapping[str, Mapping[str, Any]]

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


class Definition:
    """A sequence as it was declared, settings checked, wiring not yet. Nobody changes it."""

    def __init__(
        self,
        seq_id: str,
        blocks: Mapping[str, Block],
        steps: Tuple[SeqBlockData, ...],
        finaliser: Callable[..., Any],
        place: str,
        run_timeout: Optional[float] = 3600.0,
        retries: int = 0,
        retry_delay: float = 0.0,
        fail_stop: bool = False,
    ) -> None:
        self.seq_id = seq_id
        self.blocks = blocks
        self.steps = steps
        self.finaliser = finaliser
        #: ``file:line`` of the decorator.
        self.place = place
        #: Seconds; None for no limit.
        self.run_timeout = run_timeout
        self.retries = retries
        #: Seconds.
        self.retry_delay = retry_delay
        self.fail_stop = fail_stop

    @property
    def whereabouts(self) -> str:
        """How messages name the sequence."""
        return f"seq '{self.seq_id}' ({self.place})"

    def where(self, step: object) -> str:
        """How messages name a step."""
        return f"seq '{self.seq_id}', step {quoted(step)} ({self.place})"

    def where_given(self, step: str) -> str:
        """How messages name what a run gives to a step."""
        return f"seq '{self.seq_id}', step '{step}' (parameters of the run)"
