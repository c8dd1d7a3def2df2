"""The plan: a sequence compiled to arrays, shared and never changed by its runs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Tuple, Type

from ..ground.errors import Fault, ValidationError
from .blocks import Block
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
        #: How error messages name the step.
        self.where = where

    def with_arguments(self, arguments: Arguments) -> Step:
        """The same step with other arguments."""
        return Step(
            self.index, self.name, self.block, arguments, self.run_when, self.retry, self.timeout, self.where
        )


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
        self.finaliser_kind = "async" if inspect.iscoroutinefunction(finaliser) else "thread"
        self._takes_context = _takes_an_argument(finaliser)
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
        #: How many steps refer to each step's output.
        consumers = [0] * len(steps)
        for step in steps:
            for source in step.arguments.sources:
                consumers[source] += 1
        self.consumers = consumers
        self._definition: Optional[str] = None
        self._digest: Optional[str] = None
        self._modules: Optional[FrozenSet[str]] = None

    def finaliser_call(self, context: Dict[str, Any]) -> Any:
        """Call the finaliser with ``{step: output}``, or with nothing if it takes no argument."""
        return self.finaliser(context) if self._takes_context else self.finaliser()

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
            import hashlib  # for recorded runs only: kept out of the start-up

            text = f"{self.seq_id}\n{self.definition}"
            self._digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
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


def _takes_an_argument(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature, such as some built-ins
        return True
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(parameter.kind in (*by_position, inspect.Parameter.VAR_POSITIONAL) for parameter in parameters)


def find_cycle(dependencies: Tuple[Tuple[int, ...], ...]) -> Optional[List[int]]:
    """One cycle, as ``[a, b, a]`` where b depends on a; None if there is none.

    Kahn's algorithm first; then, among the steps it could not place, each of which
    has an unplaced dependency, walking from dependency to dependency must come back
    to where it has been.
    """
    waiting = [len(sources) for sources in dependencies]
    dependents: List[List[int]] = [[] for _ in dependencies]
    for target, sources in enumerate(dependencies):
        for source in sources:
            dependents[source].append(target)
    ready = [i for i, count in enumerate(waiting) if not count]
    placed = 0
    while ready:
        placed += 1
        for target in dependents[ready.pop()]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if placed == len(dependencies):
        return None
    seen: Dict[int, int] = {}
    path: List[int] = []
    here = next(i for i, count in enumerate(waiting) if count)
    while here not in seen:
        seen[here] = len(path)
        path.append(here)
        here = next(source for source in dependencies[here] if waiting[source])
    cycle = path[seen[here] :]
    cycle.append(here)
    cycle.reverse()
    return cycle
