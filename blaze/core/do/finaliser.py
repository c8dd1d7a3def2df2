"""The finaliser as a step: behind all others, made when it starts, recorded with the run's end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, FrozenSet

from ..ground.status import BlockStatus
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
        self.quick = run.plan.finaliser_quick
        self.where = f"seq '{run.plan.seq_id}', finaliser"


class _Incomplete(Dict[str, Any]):
    """The context where outputs of completed steps are lost: who asks for one is told why."""

    def __init__(self, outputs: Dict[str, Any], lost: FrozenSet[str]) -> None:
        super().__init__(outputs)
        self._lost = lost

    def __missing__(self, step: str) -> Any:
        if step not in self._lost:
            raise KeyError(step)
        raise KeyError(
            f"step '{step}' completed, but its output is not at hand: it was not stored before the run was taken up "
            f"again, or keep_outputs=False let it go; use context.get('{step}'), or retry the run from_step='{step}'"
        )

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # returned by the finaliser, it is stored as what it stands for


class _AllOutputs(Arguments):
    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        super().__init__({}, (), (), frozenset())
        self.run = run

    def bind(self, outputs: Outputs) -> Dict[str, Any]:
        run = self.run
        steps = run.plan.steps
        context = {step.name: outputs[step.index] for step in steps if run.has_output(step.index)}
        lost = frozenset(
            step.name
            for step in steps
            if step.name not in context and run.statuses[step.index] is BlockStatus.COMPLETED
        )
        return {"context": _Incomplete(context, lost) if lost else context}
