"""The finaliser as a step: behind all others, made when it starts, recorded with the run's end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

from ..what.plan import Arguments, RetryPolicy, Step
from ..what.references import Outputs

if TYPE_CHECKING:
    from .run import Run


_NO_RETRY = RetryPolicy(0, 0.0)


class FinaliserStep(Step):
    """The function under ``@sequences.sequence``, run like a step when all steps have ended."""

    __slots__ = ()

    def __init__(self, run: Run) -> None:
        self.index = run.final
        self.name = "(finaliser)"
        self.function = run.plan.finaliser_call
        self.arguments = _AllOutputs(run)
        self.run_when = "all_done"
        self.retry = _NO_RETRY
        self.timeout = None
        self.kind = run.plan.finaliser_kind
        self.persist = True
        self.quick = False
        self.where = f"seq '{run.plan.seq_id}', finaliser"


class _AllOutputs(Arguments):
    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        super().__init__({}, (), (), frozenset())
        self.run = run

    def bind(self, outputs: Outputs) -> Dict[str, Any]:
        run = self.run
        return {"context": {step.name: outputs[step.index] for step in run.plan.steps if run.has_output(step.index)}}
