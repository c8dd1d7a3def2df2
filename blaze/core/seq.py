"""`BlazeSequence`: the registry in which blocks are wired into sequences, and `Sequence`, one of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import copy
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Collection,
    Dict,
    FrozenSet,
    Generic,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
    TypeVar,
)

from .block import BlazeBlock
from .ground.errors import Fault, NotFound, ValidationError
from .ground.names import name_fault, place_of_caller
from .what.blocks import first_line, is_same_function
from .what.checker import clipped, shown
from .what.declarations import Definition, SeqBlockData, SubmitSequenceData
from .what.naming import choices, quoted
from .what.options import (
    check_count,
    check_delay,
    check_flag,
    check_text,
    check_timeout,
    check_timezone,
    executor_faults,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .do.result import RunResult
    from .what.declarations import Parameters
    from .what.plan import Plan

if sys.version_info >= (3, 10):
    from typing import ParamSpec
else:
    from typing_extensions import ParamSpec

__all__ = ["BlazeSequence", "SeqBlockData", "Sequence", "SubmitSequenceData"]

P = ParamSpec("P")
R = TypeVar("R")

#: Workers of ``run()`` without a scheduler.
DEFAULT_WORKERS = 8


class Sequence(Generic[P, R]):
    """A registered sequence: callable like the function it decorates, and ready to run."""

    def __init__(
        self,
        definition: Definition,
        blocks: BlazeBlock,
        function: Callable[P, R],
        description: str,
        seq_run_interval: Optional[str],
        timezone: Optional[str],
        auto_start: bool,
    ) -> None:
        self.definition = definition
        self.description = description
        #: Cron text of the schedule it is given by ``auto_start``, or None.
        self.seq_run_interval = seq_run_interval
        #: IANA name of the schedule's time zone; None: the machine's.
        self.timezone = timezone
        #: Whether a scheduler submits it when it starts.
        self.auto_start = auto_start
        self._blocks = blocks
        self._function = function
        self._base: Optional[Tuple[int, Optional[FrozenSet[str]], Plan]] = None
        self.__name__ = getattr(function, "__name__", definition.seq_id)
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)
        self.__module__ = getattr(function, "__module__", __name__)
        self.__doc__ = getattr(function, "__doc__", None)
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the decorated function itself."""
        return self._function(*args, **kwargs)

    @property
    def seq_id(self) -> str:
        """Id of the sequence."""
        return self.definition.seq_id

    @property
    def hints(self) -> Dict[Tuple[str, str], Any]:
        """The annotations of the blocks' parameters, by (step, parameter); what is stored is read back by them."""
        blocks = self._blocks
        return {
            (step.step_name, name): hint
            for step in self.definition.steps
            if step.block_name in blocks
            for name, hint in blocks[step.block_name].signature.hints.items()
        }

    @property
    def version(self) -> int:
        """Changes when a block is registered: a plan that was made before may be outdated."""
        return self._blocks.version

    def plan(
        self,
        parameters: Optional[Parameters] = None,
        executors: Optional[Iterable[str]] = None,
        without: Collection[str] = (),
    ) -> Plan:
        """The checked sequence with the parameters of one run.

        ``executors`` are the names of those that the run will have; None leaves that
        unchecked. ``without`` names steps whose block will not be called, and so needs no
        parameters. Raises :class:`ValidationError` with every fault.
        """
        names = None if executors is None else frozenset(executors)
        nothing = parameters is None or (isinstance(parameters, Mapping) and not parameters)
        try:
            base = self._base_plan(names)
        except ValidationError:
            if nothing:
                raise
            # Once more with the parameters: they may replace what is wrong, and their
            # own faults are told in the same breath.
            from .what.compiler import compile_plan

            return compile_plan(self.definition, parameters, names, self._schedule_faults())
        if nothing and not base.missing:
            return base
        from .what.compiler import rebind_plan, require_complete

        if parameters is None or nothing:
            return require_complete(self.definition, base, without)
        return rebind_plan(self.definition, base, parameters, without)

    def _base_plan(self, executors: Optional[FrozenSet[str]]) -> Plan:
        known = self._base
        version = self._blocks.version
        if known is not None and known[0] == version and known[1] == executors:
            return known[2]
        # With what it needs, the compiler is a third of the import of Blaze: not before something is checked.
        from .what.compiler import compile_plan

        plan = compile_plan(self.definition, None, executors, self._schedule_faults(), partial=True)
        self._base = (version, executors, plan)
        return plan

    def _schedule_faults(self) -> List[Fault]:
        if self.seq_run_interval is None:
            return []
        from .when.schedule import Schedule

        try:
            Schedule.parse(self.seq_run_interval, self.timezone)
        except ValidationError as error:
            return [Fault(f"{self.definition.whereabouts}: {where}", what) for where, what in error.errors]
        return []

    def validate(self, parameters: Optional[Parameters] = None) -> None:
        """Check everything that ``run(parameters)`` checks, and run nothing.

        Raises :class:`ValidationError`, whose ``errors`` lists every fault as (where, what).
        """
        self.plan(parameters)

    def run(
        self,
        parameters: Optional[Parameters] = None,
        *,
        max_workers: int = DEFAULT_WORKERS,
        executors: Optional[Mapping[str, Executor]] = None,
    ) -> RunResult:
        """Run here and now, in memory: no scheduler, nothing on disk. Waits for the end.

        :param parameters: ``{step: {parameter: value}}``; any objects, handed on as they are.
        :param max_workers: steps at a time.
        :param executors: ``concurrent.futures`` executors for blocks that name one.

        A failed run is a result like any other; see ``RunResult.raise_for_status``.
        Raises :class:`ValidationError` before anything runs.
        """
        whats = [
            check_count("max_workers", max_workers, least=1),
            *executor_faults(executors),
        ]
        faults = [Fault(f"{self.seq_id}.run()", what) for what in whats if what]
        if faults:
            raise ValidationError(faults)
        from .do.inprocess import run_in_memory

        given = dict(executors or {})
        return run_in_memory(self.plan(parameters, given), max_workers, given)

    def graph(self, format: str = "text") -> str:
        """The steps and their dependencies as ``"text"``, ``"mermaid"`` or ``"dot"``."""
        from .what.drawing import draw

        return draw(self._base_plan(None), format)

    def __repr__(self) -> str:
        return f"<Sequence {self.seq_id!r} of {len(self.definition.steps)} steps>"


class BlazeSequence(Mapping[str, "Sequence[Any, Any]"]):
    """A registry of sequences, by id.

    ::

        sequences = BlazeSequence()

        @sequences.sequence(
            blocks=blocks,
            sequence=[
                SeqBlockData("fetch"),
                SeqBlockData("clean", dependencies=["fetch"], parameters={"rows": "@fetch"}),
            ],
            seq_id="etl", retries=3, retry_delay=30,
        )
        def etl(context=None):
            return context or {}

    The decorated function is the *finaliser*: when every step has completed it is
    called with ``{step: output}``, and what it returns is the run's output.
    """

    def __init__(self) -> None:
        self._sequences: Dict[str, Sequence[Any, Any]] = {}

    def sequence(
        self,
        blocks: BlazeBlock,
        sequence: Iterable[SeqBlockData],
        seq_id: Optional[str] = None,
        description: str = "",
        seq_run_interval: Optional[str] = None,
        timezone: Optional[str] = None,
        seq_run_timeout: Optional[float] = 3600,
        retries: int = 0,
        retry_delay: float = 0,
        auto_start: bool = False,
        fail_stop: bool = False,
    ) -> Callable[[Callable[P, R]], Sequence[P, R]]:
        """Register a sequence of blocks; the decorated function is its finaliser.

        :param blocks: the registry that the steps' blocks are (or will be) in.
        :param sequence: the steps; their order means nothing, their dependencies do.
        :param seq_id: default: the function's name.
        :param description: default: the first line of the docstring.
        :param seq_run_interval: cron text, for ``auto_start``.
        :param timezone: IANA name for the cron text; default: the machine's.
        :param seq_run_timeout: seconds from the start of a run to its deadline, queueing,
            retries and delays included; None for no limit.
        :param retries: further attempts of a failed step, unless the step or block says.
        :param retry_delay: seconds between two attempts, unless the step or block says.
        :param auto_start: submit it when a scheduler starts.
        :param fail_stop: at the first final failure start nothing further.

        Raises :class:`ValidationError` for arguments that can never be right. How the
        steps are wired is checked at first use, since blocks may be registered later.
        """
        place = place_of_caller(1)

        def decorate(function: Callable[P, R]) -> Sequence[P, R]:
            own_id = seq_id if seq_id is not None else getattr(function, "__name__", None)
            where = f"seq {quoted(own_id)} ({place})"
            steps, faults = _read_steps(sequence, where)
            nameless = "the function's own name is none that a sequence can have; give one with seq_id=..."
            fault = name_fault(own_id, dotted=True)
            whats = [
                nameless if fault and seq_id is None else fault,
                check_text("description", description),
                check_timeout("seq_run_timeout", seq_run_timeout),
                check_count("retries", retries),
                check_delay("retry_delay", retry_delay),
                check_flag("auto_start", auto_start),
                check_flag("fail_stop", fail_stop),
                None if seq_run_interval is None else check_text("seq_run_interval", seq_run_interval),
                check_timezone("timezone", timezone),
                None if isinstance(blocks, BlazeBlock) else f"blocks is a BlazeBlock, got {shown(blocks)}",
                None if callable(function) else f"a finaliser is a function, got {shown(function)}",
            ]
            known = self._sequences.get(own_id) if isinstance(own_id, str) else None
            if known is not None and not is_same_function(
                function, place, known.definition.finaliser, known.definition.place
            ):
                whats.append(f"the id is taken by the sequence at {known.definition.place}; choose another seq_id")
            faults = [Fault(where, what) for what in whats if what] + faults
            if faults or own_id is None:
                raise ValidationError(faults, f"sequence {quoted(own_id)}")
            definition = Definition(
                own_id, blocks, steps, function, place, seq_run_timeout, retries, retry_delay, fail_stop
            )
            text = description or first_line(function)
            made = Sequence(definition, blocks, function, text, seq_run_interval, timezone, auto_start)
            self._sequences[own_id] = made
            return made

        return decorate

    def become(self, others: Mapping[str, Sequence[Any, Any]]) -> None:
        """Hold these sequences, by their ids, and nothing else."""
        self._sequences = dict(others)

    def include(self, sequence: Sequence[Any, Any]) -> None:
        """Register a sequence of another registry. Raises :class:`ValidationError` if its id is another one's."""
        known = self._sequences.setdefault(sequence.seq_id, sequence)
        if known is not sequence:
            where = f"seq {quoted(sequence.seq_id)} ({sequence.definition.place})"
            taken = f"the id is taken by the sequence at {known.definition.place}; choose another seq_id"
            raise ValidationError([Fault(where, taken)], where)

    def run(
        self,
        seq_id: str,
        parameters: Optional[Parameters] = None,
        *,
        max_workers: int = DEFAULT_WORKERS,
        executors: Optional[Mapping[str, Executor]] = None,
    ) -> RunResult:
        """Run a sequence here and now; see :meth:`Sequence.run`. Raises :class:`NotFound` for an unknown id."""
        return self[seq_id].run(parameters, max_workers=max_workers, executors=executors)

    def __getitem__(self, seq_id: str) -> Sequence[Any, Any]:
        found = self._sequences.get(seq_id) if isinstance(seq_id, str) else None
        if found is None:
            known = choices(seq_id, self._sequences, (), "the sequences are") or "; no sequence is registered"
            raise NotFound(f"there is no sequence {quoted(seq_id)}{known}")
        return found

    def __contains__(self, seq_id: object) -> bool:
        return isinstance(seq_id, str) and seq_id in self._sequences

    def get(self, seq_id: str, default: Any = None) -> Any:
        """The sequence of this id, or ``default``."""
        return self._sequences.get(seq_id, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __repr__(self) -> str:
        return f"<BlazeSequence of {len(self)} sequences>"


def _read_steps(given: Any, where: str) -> Tuple[Tuple[SeqBlockData, ...], List[Fault]]:
    """The steps, copied: what the caller does with its lists and dicts later changes no sequence."""
    if isinstance(given, (str, bytes, Mapping, SeqBlockData)) or not isinstance(given, Iterable):
        return (), [Fault(where, f"sequence is a list of SeqBlockData, got {shown(given)}")]
    from .what.references import copied

    steps: List[SeqBlockData] = []
    faults: List[Fault] = []
    for number, step in enumerate(given, 1):
        if isinstance(step, SeqBlockData):
            mine = copy(step)
            mine.dependencies, mine.parameters = copied(step.dependencies), copied(step.parameters)
            steps.append(mine)
        else:
            name = getattr(step, "__name__", step)
            advice = f"; write SeqBlockData({clipped(name)})" if isinstance(name, str) else ""
            faults.append(Fault(where, f"step {number} is a SeqBlockData, got {shown(step)}{advice}"))
    return tuple(steps), faults
