"""Functions that stand in for blocks: constants and functions of a test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, Callable, Dict, Iterable, List

from blaze.core.ground.errors import Fault, ValidationError
from blaze.core.ground.names import did_you_mean
from blaze.core.what.callables import is_async
from blaze.core.what.declarations import Definition
from blaze.core.what.plan import Arguments, Plan, Step
from blaze.core.what.references import Outputs


def steps_of(plan: Plan, name: str) -> List[Step]:
    """The step of this name, else the steps of the block of this name."""
    if name in plan.index:
        return [plan.steps[plan.index[name]]]
    return [step for step in plan.steps if step.block.name == name]


def step_names(definition: Definition, names: Iterable[str], where: str) -> Dict[str, str]:
    """The steps that names of steps or blocks stand for, each with the name that stood for it.

    Raises :class:`ValidationError` with every name that stands for none.
    """
    steps = {step.step_name: step.block_name for step in definition.steps}
    found: Dict[str, str] = {}
    faults: List[Fault] = []
    for name in names:
        meant = [name] if name in steps else [step for step, block in steps.items() if block == name]
        found.update((step, name) for step in meant if step not in found or step == name)
        if not meant:
            near = did_you_mean(str(name), {*steps, *steps.values()})
            faults.append(Fault(where, f"'{definition.seq_id}' has no step and no block {name!r}{near}"))
    if faults:
        raise ValidationError(faults)
    return found


def substitute(plan: Plan, doubles: Mapping[str, Any]) -> Plan:
    """The plan with the steps named doing something else."""
    steps = (plan.steps[plan.index[name]] for name in doubles)
    return plan.with_steps({step.index: double_of(step, doubles[step.name]) for step in steps})


def double_of(step: Step, given: Any) -> Step:
    """The step with a function, or an output that is none, in the place of its block."""
    own = step.arguments
    if callable(given):
        double = step.with_function(_lenient(given), "async" if is_async(given) else "thread")
        if own.model is not None:
            double.arguments = _Unchecked(own.constants, own.whole, own.templates, own.sources, own.model, own.where)
        return double

    @functools.wraps(step.function)
    def constant(**arguments: Any) -> Any:
        return given

    double = step.with_function(constant, "thread")
    # Without the block's data model: what it demands may be given nowhere.
    double.arguments = Arguments(own.constants, own.whole, own.templates, own.sources)
    return double


class _Unchecked(Arguments):
    """As the block's data model makes them, or as they are where it refuses them: the block is not called."""

    __slots__ = ()

    def bind(self, outputs: Outputs) -> Dict[str, Any]:
        """The keyword arguments; what the block demands may be missing."""
        try:
            return super().bind(outputs)
        except ValidationError:
            return Arguments(self.constants, self.whole, self.templates, self.sources).bind(outputs)


def _lenient(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called with those of the step's arguments that it takes: a double rarely needs all of them."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return function
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return function
    names = frozenset(parameters)

    @functools.wraps(function)
    def double(**arguments: Any) -> Any:
        return function(**{name: value for name, value in arguments.items() if name in names})

    return double


__all__ = ["double_of", "step_names", "steps_of", "substitute"]
