"""The plan: a sequence compiled to arrays, shared and never changed by its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple, Type

from ..ground.errors import Fault, ValidationError
from .blocks import Block
from .callables import is_async, parameters_of, takes
from .conversion import validate_model
from .references import Outputs, Template


class RetryPolicy(NamedTuple):
    """When a failed attempt is followed by another."""

    retries: int
    #: Seconds before the first retry.
    delay: float
    #: Each further delay is this many times the one before.
    backoff: float = 1.0
    #: Seconds.
    max_delay: float = 3600.0
    #: Fraction of the delay by which it is spread.
    jitter: float = 0.0
    on: Tuple[Type[BaseException], ...] = (Exception,)


class Arguments:
    """How a step's keyword arguments are made from the outputs so far."""

    __slots__ = ("constants", "whole", "templates", "model", "where", "sources")

    def __init__(
        self,
        constants: Dict[str, Any],
        whole: Tuple[Tuple[str, int], ...],
        templates: Tuple[Tuple[str, Template], ...],
        sources: FrozenSet[int],
        model: Optional[type] = None,
        where: str = "",
    ) -> None:
        self.constants = constants
        self.whole = whole
        self.templates = templates
        #: The steps referred to, by index.
        self.sources = sources
        #: Set when the model has to see values that are known only at run time.
        self.model = model
        self.where = where

    def bind(self, outputs: Outputs) -> Dict[str, Any]:
        """The keyword arguments.

        Raises :class:`ReferenceFailed` for a path that leads nowhere and
        :class:`ValidationError` for values that the block's data model refuses.
        """
        arguments = self.constants.copy()
        for name, source in self.whole:
            arguments[name] = outputs[source]
        if self.templates:
            for name, template in self.templates:
                arguments[name] = template(outputs)
        if self.model is not None:
            faults: List[Fault] = []
            arguments = validate_model(self.model, arguments, self.where, faults)
            if faults:
                raise ValidationError(faults, self.where)
        return arguments


class Step:
    """One step of a plan."""

    __slots__ = (
        "index", "name", "block", "function", "arguments", "run_when", "retry", "timeout", "kind", "persist", "where",
        "quick",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        name: str,
        block: Block,
        arguments: Arguments,
        run_when: str,
        retry: RetryPolicy,
        timeout: Optional[float],
        where: str,
    ) -> None:
        self.index = index
        self.name = name
        self.block = block
        self.function: Callable[..., Any] = block.function
        self.arguments = arguments
        self.run_when = run_when
        self.retry = retry
        self.timeout = timeout
        #: "thread", "async", "process" or the name of an executor.
        self.kind = "async" if block.is_async else block.executor
        self.persist = block.persist_result
        #: Whether its last attempt took next to no time; kept by the engine, shared by all runs.
        self.quick = False
        #: How error messages name the step.
        self.where = where

    def with_arguments(self, arguments: Arguments) -> Step:
        """The same step with other arguments."""
        return Step(self.index, self.name, self.block, arguments, self.run_when, self.retry, self.timeout, self.where)

    def with_function(self, function: Callable[..., Any], kind: str) -> Step:
        """The same step with another function in the place of its block's: ``kind`` is ``"thread"`` or ``"async"``."""
        step = copy(self)
        step.function, step.kind = function, kind
        return step


class Plan:
    """A checked sequence, ready to run: steps by index, and the graph as arrays."""

    def __init__(
        self,
        seq_id: str,
        steps: Tuple[Step, ...],
        dependencies: Tuple[Tuple[int, ...], ...],
        finaliser: Callable[..., Any],
        run_timeout: Optional[float],
        fail_stop: bool,
        missing: Mapping[int, List[Fault]],
    ) -> None:
        self.seq_id = seq_id
        self.steps = steps
        self.dependencies = dependencies
        self.finaliser = finaliser
        self.finaliser_kind = "async" if is_async(finaliser) else "thread"
        self._takes_context = takes_context(finaliser)
        self.run_timeout = run_timeout
        self.fail_stop = fail_stop
        #: Faults of steps whose required parameters are given nowhere yet, by step index.
        self.missing = missing
        self.index: Dict[str, int] = {step.name: step.index for step in steps}
        dependents: List[List[int]] = [[] for _ in steps]
        for target, sources in enumerate(dependencies):
            for source in sources:
                dependents[source].append(target)
        self.dependents: Tuple[Tuple[int, ...], ...] = tuple(map(tuple, dependents))
        #: Number of dependencies of each step.
        self.waiting: List[int] = [len(sources) for sources in dependencies]
        #: Steps without dependencies.
        self.roots: Tuple[int, ...] = tuple(i for i, count in enumerate(self.waiting) if not count)
        #: Whether the finaliser took next to no time when it ran last; kept by the engine.
        self.finaliser_quick = False
        #: Whether every step starts if all its dependencies complete.
        self.starts_on_success = all(step.run_when != "any_failed" for step in steps)
        #: How many steps refer to each step's output.
        consumers = [0] * len(steps)
        for step in steps:
            for source in step.arguments.sources:
                consumers[source] += 1
        self.consumers = consumers
        self._definition: Optional[str] = None
        self._digest: Optional[str] = None
        self._modules: Optional[FrozenSet[str]] = None

    def with_steps(self, steps: Mapping[int, Step], finaliser: Optional[Callable[..., Any]] = None) -> Plan:
        """The same graph with other steps in some places, and perhaps another finaliser."""
        return Plan(
            self.seq_id,
            tuple(steps.get(step.index, step) for step in self.steps),
            self.dependencies,
            finaliser or self.finaliser,
            self.run_timeout,
            self.fail_stop,
            {index: faults for index, faults in self.missing.items() if index not in steps},
        )

    def finaliser_call(self, context: Dict[str, Any]) -> Any:
        """Call the finaliser with ``{step: output}``, or with nothing if it takes no argument."""
        return self.finaliser(context) if self._takes_context else self.finaliser()

    def deadline(self, start: float) -> Optional[float]:
        """When a run that starts at ``start`` has to have ended; None for no limit."""
        return None if self.run_timeout is None else start + self.run_timeout

    def hints(self, parameters: Mapping[str, Any]) -> Dict[Tuple[str, str], Any]:
        """The annotations of the parameters of the steps named, by (step, parameter)."""
        return {
            (name, parameter): hint
            for name in parameters
            for parameter, hint in self.steps[self.index[name]].block.signature.hints.items()
        }

    @property
    def modules(self) -> FrozenSet[str]:
        """Names of the modules in which the blocks are defined."""
        if self._modules is None:
            self._modules = frozenset(getattr(step.function, "__module__", "") or "" for step in self.steps)
        return self._modules

    @property
    def definition(self) -> str:
        """The graph as JSON text, ``{"steps": [[name, block, [dependency, ...]], ...]}``.

        Equal texts mean equal graphs: it is stored once per version of a sequence, and
        a resumed run is held against it.
        """
        if self._definition is None:
            names = [step.name for step in self.steps]
            self._definition = json.dumps(
                {
                    "steps": [
                        [step.name, step.block.name, [names[source] for source in self.dependencies[step.index]]]
                        for step in self.steps
                    ]
                },
                separators=(",", ":"),
            )
        return self._definition

    @property
    def digest(self) -> str:
        """Short name of :attr:`definition` and the sequence's id together."""
        if self._digest is None:
            try:
                # As hashlib has it, without the 4 ms that hashlib takes to load OpenSSL.
                from _blake2 import blake2b
            except ImportError:
                from hashlib import blake2b

            text = f"{self.seq_id}\n{self.definition}"
            self._digest = blake2b(text.encode(), digest_size=16).hexdigest()
        return self._digest

    def descendants(self, names: List[str]) -> FrozenSet[int]:
        """The steps named and all that depend on them, directly or not, by index."""
        found = {self.index[name] for name in names}
        stack = list(found)
        while stack:
            for target in self.dependents[stack.pop()]:
                if target not in found:
                    found.add(target)
                    stack.append(target)
        return frozenset(found)


def takes_context(finaliser: Callable[..., Any]) -> Optional[bool]:
    """Whether a finaliser is called with one argument or with none; None if neither fits its signature."""
    try:
        parameters = parameters_of(finaliser)
    except (TypeError, ValueError):  # a callable without a signature, such as some built-ins
        return True
    return True if takes(parameters, 1) else False if takes(parameters, 0) else None


#: Cycles that are told of one sequence.
MAX_CYCLES = 10


def find_cycles(dependencies: Sequence[Sequence[int]]) -> List[List[int]]:
    """Cycles without a common step, each as ``[a, b, a]`` where b depends on a; empty if the graph has none.

    Kahn's algorithm places what it can. Among the steps that it could not place, each
    has an unplaced dependency, so that walking from dependency to dependency must come
    back to where it has been. That cycle then counts as placed, and Kahn goes on.
    """
    waiting = [len(sources) for sources in dependencies]
    dependents: List[List[int]] = [[] for _ in dependencies]
    for target, sources in enumerate(dependencies):
        for source in sources:
            dependents[source].append(target)
    placed = [False] * len(waiting)
    ready = [i for i, count in enumerate(waiting) if not count]
    cycles: List[List[int]] = []
    first = 0
    while True:
        while ready:
            here = ready.pop()
            placed[here] = True
            for target in dependents[here]:
                waiting[target] -= 1
                if not waiting[target] and not placed[target]:
                    ready.append(target)
        while first < len(placed) and placed[first]:
            first += 1
        if first == len(placed) or len(cycles) == MAX_CYCLES:
            return cycles
        seen: Dict[int, int] = {}
        path: List[int] = []
        here = first
        while here not in seen:
            seen[here] = len(path)
            path.append(here)
            here = next(source for source in dependencies[here] if not placed[source])
        ready = path[seen[here] :]
        for member in ready:
            placed[member] = True
        cycles.append([here, *reversed(ready)])
