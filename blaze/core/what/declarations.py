"""What a user writes down: a step of a sequence, and a submission."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from .naming import quoted

if TYPE_CHECKING:
    from .blocks import Block

#: Of a run: ``{step: {parameter: value}}``.
Parameters = Mapping[str, Mapping[str, Any]]

#: Values of ``SeqBlockData.run_when``.
RUN_WHEN = ("all_success", "all_done", "any_success", "any_failed")


# The defaults of what may be changed: each object gets one of its own.
_NONE: List[str] = []
_NOTHING: Dict[str, Any] = {}


class Declaration:
    """Compared and shown by its fields, as a dataclass is; those are imported only by programs that have some."""

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


class SeqBlockData(Declaration):
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

    def __init__(
        self,
        block_name: str,
        dependencies: List[str] = _NONE,
        parameters: Dict[str, Any] = _NOTHING,
        name: Optional[str] = None,
        run_when: str = "all_success",
        retries: Optional[int] = None,
        retry_delay: Optional[float] = None,
        timeout: Optional[float] = None,
    ) -> None:
        self.block_name = block_name
        self.dependencies = [] if dependencies is _NONE else dependencies
        self.parameters = {} if parameters is _NOTHING else parameters
        self.name = name
        self.run_when = run_when
        self.retries = retries
        self.retry_delay = retry_delay
        self.timeout = timeout

    @property
    def step_name(self) -> str:
        """The name that references and dependencies use."""
        return self.block_name if self.name is None else self.name


class SubmitSequenceData(Declaration):
    """A sequence to run once or on a schedule.

    Without ``seq_run_interval`` (cron text) it runs once, at ``start_date`` or now.
    ``parameters`` is ``{step: {parameter: value}}``. ``job_id`` defaults to
    ``seq_id``; submitting a job_id again replaces that job. Naive dates are in the
    job's ``timezone`` (IANA name; default: the machine's). Both dates are inclusive.
    """

    def __init__(
        self,
        seq_id: str,
        parameters: Dict[str, Dict[str, Any]] = _NOTHING,
        seq_run_interval: Optional[str] = None,
        start_date: Optional[datetime] = None,
        end_date: Optional[datetime] = None,
        job_id: Optional[str] = None,
        timezone: Optional[str] = None,
        catchup: str = "latest",
        overlap: str = "skip",
        priority: int = 0,
    ) -> None:
        self.seq_id = seq_id
        self.parameters = {} if parameters is _NOTHING else parameters
        self.seq_run_interval = seq_run_interval
        self.start_date = start_date
        self.end_date = end_date
        self.job_id = job_id
        self.timezone = timezone
        self.catchup = catchup
        self.overlap = overlap
        self.priority = priority


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
