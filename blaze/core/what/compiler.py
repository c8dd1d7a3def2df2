"""From a definition to a plan: everything is checked here, before anything runs.

All faults are collected and reported in one :class:`ValidationError`; nothing is
fixed up or guessed. The work is linear in the number of steps, edges and parameters,
and nothing recurses over the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Collection, Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple

from ..ground.errors import Fault, ValidationError
from ..ground.names import MAX_STEPS, name_fault
from .annotations import spell
from .blocks import BUILT_IN_EXECUTORS, Block
from .callables import is_generator, signature_of
from .checker import clipped, shown
from .conversion import convert, validate_model
from .declarations import RUN_WHEN, Definition, Parameters, SeqBlockData
from .naming import choices, near_name, quoted
from .options import check_count, check_delay, check_timeout
from .plan import Arguments, Plan, RetryPolicy, Step, find_cycles, takes_context
from .records import at_field
from .references import Template, compile_value

#: Longest cycle that is printed whole.
MAX_CYCLE_SHOWN = 12


def compile_plan(
    definition: Definition,
    parameters: Optional[Parameters] = None,
    executors: Optional[Iterable[str]] = None,
    found: Iterable[Fault] = (),
    *,
    partial: bool = False,
) -> Plan:
    """Check a sequence with the parameters of one run and compile it.

    Raises :class:`ValidationError` with every fault, those included that were ``found``
    elsewhere. ``executors`` are the names of those at hand; None leaves that unchecked. With ``partial``, parameters
    that are given nowhere are no fault yet: they stand in ``Plan.missing``, and
    :func:`rebind_plan` may still bring them.
    """
    faults: List[Fault] = list(found)
    missing: Dict[int, List[Fault]] = {}
    index = _index_steps(definition, faults)
    names = [data.step_name for data in definition.steps]
    blocks = [_find_block(definition, data, faults) for data in definition.steps]
    given = _check_shape(definition, parameters, index, faults)
    known_executors = None if executors is None else frozenset(executors)

    steps: List[Step] = []
    dependencies: List[Tuple[int, ...]] = []
    for position, (data, block) in enumerate(zip(definition.steps, blocks)):
        where = definition.where(data.step_name)
        declared = _declared_dependencies(data, index, where, faults)
        _check_step_settings(data, where, faults)
        if block is None:
            dependencies.append(tuple(declared))
            continue
        _check_executor(block, known_executors, where, faults)
        lacking: List[Fault] = []
        values = given.get(data.step_name, {}) if isinstance(data.step_name, str) else {}
        arguments = _bind(definition, data, block, values, names, index, declared, where, faults, lacking)
        if lacking:
            missing[position] = lacking
        dependencies.append(_with_references(declared, arguments))
        steps.append(_make_step(definition, position, data, block, arguments, where))
    if not definition.steps:
        faults.append(Fault(definition.whereabouts, "the sequence has no steps; give it SeqBlockData('block')"))
    if len(definition.steps) > MAX_STEPS:
        what = f"the sequence has {len(definition.steps)} steps; {MAX_STEPS} are allowed"
        faults.append(Fault(definition.whereabouts, what))
    _check_finaliser(definition, faults)
    _check_cycles(definition, dependencies, faults)
    _raise_if_wrong(definition, faults, {} if partial and not faults else missing)
    return _make_plan(definition, tuple(steps), tuple(dependencies), missing)


def rebind_plan(definition: Definition, base: Plan, parameters: Parameters, without: Collection[str] = ()) -> Plan:
    """``base``, a plan of the same definition without parameters, with those of one run.

    Touches only the steps that get parameters, so that a run of a large sequence
    costs what its own parameters cost. Raises as :func:`compile_plan` does.
    """
    faults: List[Fault] = []
    missing = dict(base.missing)
    given = _check_shape(definition, parameters, base.index, faults)
    steps = list(base.steps)
    names = list(base.index)
    dependencies = list(base.dependencies)
    rewired = False
    for name, values in given.items():
        step = steps[base.index[name]]
        data = definition.steps[step.index]
        declared = _declared_dependencies(data, base.index, step.where, faults)
        lacking: List[Fault] = []
        arguments = _bind(
            definition, data, step.block, values, names, base.index, declared, step.where, faults, lacking
        )
        missing.pop(step.index, None)
        if lacking:
            missing[step.index] = lacking
        sources = _with_references(declared, arguments)
        rewired = rewired or sources != dependencies[step.index]
        dependencies[step.index] = sources
        steps[step.index] = step.with_arguments(arguments)
    if rewired:
        _check_cycles(definition, dependencies, faults)
    _raise_if_wrong(definition, faults, _of_others(missing, base, without))
    return _make_plan(definition, tuple(steps), tuple(dependencies), {})


def require_complete(definition: Definition, plan: Plan, without: Collection[str] = ()) -> Plan:
    """``plan`` itself; raises :class:`ValidationError` if parameters of any step but those are missing from it."""
    _raise_if_wrong(definition, [], _of_others(plan.missing, plan, without))
    return plan


def _of_others(missing: Mapping[int, List[Fault]], plan: Plan, without: Collection[str]) -> Mapping[int, List[Fault]]:
    excused = {plan.index[name] for name in without}
    return {index: faults for index, faults in missing.items() if index not in excused}


def _raise_if_wrong(definition: Definition, faults: List[Fault], missing: Mapping[int, List[Fault]]) -> None:
    found = [*faults, *(fault for position in sorted(missing) for fault in missing[position])]
    if found:
        raise ValidationError(found, f"sequence '{definition.seq_id}'")


def _make_plan(
    definition: Definition,
    steps: Tuple[Step, ...],
    dependencies: Tuple[Tuple[int, ...], ...],
    missing: Mapping[int, List[Fault]],
) -> Plan:
    return Plan(
        definition.seq_id,
        steps,
        dependencies,
        definition.finaliser,
        definition.run_timeout,
        definition.fail_stop,
        missing,
    )


def _make_step(
    definition: Definition, position: int, data: SeqBlockData, block: Block, arguments: Arguments, where: str
) -> Step:
    retry = RetryPolicy(
        _first(data.retries, block.retries, definition.retries),
        _first(data.retry_delay, block.retry_delay, definition.retry_delay),
        block.retry_backoff,
        block.retry_max_delay,
        block.retry_jitter,
        block.retry_on,
    )
    timeout = data.timeout if data.timeout is not None else block.timeout
    return Step(position, data.step_name, block, arguments, data.run_when, retry, timeout, where)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _index_steps(definition: Definition, faults: List[Fault]) -> Dict[str, int]:
    index: Dict[str, int] = {}
    for position, data in enumerate(definition.steps):
        name = data.step_name
        fault = name_fault(name)
        where = f"seq '{definition.seq_id}', step {position + 1} ({definition.place})"
        if fault:
            faults.append(Fault(where, fault))
            if not isinstance(name, str):
                continue
        if name in index:
            faults.append(
                Fault(
                    where,
                    f"{quoted(name)} is step {index[name] + 1} already; a block that is used twice needs "
                    f"SeqBlockData({quoted(data.block_name)}, ..., name={quoted(f'{name}_2')})",
                )
            )
            continue
        index[name] = position
    return index


def _find_block(definition: Definition, data: SeqBlockData, faults: List[Fault]) -> Optional[Block]:
    name = data.block_name
    block = definition.blocks.get(name) if isinstance(name, str) else None
    if block is None:
        known = choices(name, definition.blocks, faults, "registered are")
        known = known if definition.blocks else "; no block is registered yet"
        faults.append(Fault(definition.where(data.step_name), f"there is no block {quoted(name)}{known}"))
    return block


def _check_shape(
    definition: Definition, parameters: Optional[Parameters], index: Mapping[str, int], faults: List[Fault]
) -> Dict[str, Mapping[str, Any]]:
    """The run's parameters by step, those of unknown steps left out and reported."""
    if parameters is None:
        return {}
    where = f"seq '{definition.seq_id}', parameters"
    if not isinstance(parameters, Mapping):
        faults.append(Fault(where, f"expected {{step: {{parameter: value}}}}, got {shown(parameters)}"))
        return {}
    given: Dict[str, Mapping[str, Any]] = {}
    for step, values in parameters.items():
        if not isinstance(step, str) or step not in index:
            known = _step_that_takes(definition, step, faults) or choices(step, index, faults, "the steps are")
            faults.append(Fault(where, f"there is no step {quoted(step)} in this sequence{known}"))
        elif not isinstance(values, Mapping):
            faults.append(Fault(definition.where_given(step), f"expected {{parameter: value}}, got {shown(values)}"))
        else:
            given[step] = values
    return given


def _step_that_takes(definition: Definition, parameter: object, faults: List[Fault]) -> str:
    """Advice for those who give a parameter without its step."""
    if not isinstance(parameter, str) or faults:
        return ""
    for data in definition.steps:
        block = definition.blocks.get(data.block_name) if isinstance(data.block_name, str) else None
        if block is not None and parameter in block.signature.accepted:
            return f"; parameters are given by step: {{{quoted(data.step_name)}: {{'{parameter}': ...}}}}"
    return ""


def _declared_dependencies(
    data: SeqBlockData, index: Mapping[str, int], where: str, faults: List[Fault]
) -> Dict[int, None]:
    """The declared dependencies by index, in order, as the keys of a dict."""
    found: Dict[int, None] = {}
    names = data.dependencies
    if isinstance(names, (str, bytes)) or not isinstance(names, (list, tuple)):
        advice = f"; write [{clipped(names)}]" if isinstance(names, str) else ""
        faults.append(Fault(where, f"dependencies are a list of step names, got {shown(names)}{advice}"))
        return found
    for name in names:
        source = index.get(name) if isinstance(name, str) else None
        if source is None:
            known = choices(name, index, faults, "the steps are")
            faults.append(Fault(where, f"it depends on {quoted(name)}, which is no step of this sequence{known}"))
        elif name == data.step_name:
            faults.append(Fault(where, "it depends on itself"))
        elif source in found:
            faults.append(Fault(where, f"dependency {quoted(name)} is listed twice"))
        else:
            found[source] = None
    return found


def _check_step_settings(data: SeqBlockData, where: str, faults: List[Fault]) -> None:
    if not isinstance(data.run_when, str) or data.run_when not in RUN_WHEN:
        near = near_name(data.run_when, RUN_WHEN)
        faults.append(Fault(where, f"run_when is one of {', '.join(RUN_WHEN)}; got {shown(data.run_when)}{near}"))
    for what in (
        check_count("retries", data.retries, optional=True),
        check_delay("retry_delay", data.retry_delay, optional=True),
        check_timeout("timeout", data.timeout),
    ):
        if what:
            faults.append(Fault(where, what))


def _check_executor(block: Block, executors: Optional[FrozenSet[str]], where: str, faults: List[Fault]) -> None:
    if block.executor in BUILT_IN_EXECUTORS:
        if block.executor == "process" and not _found_by_name(block.function):
            faults.append(
                Fault(
                    where,
                    f"block '{block.name}' ({block.place}) runs in its own process, which must import it by name: "
                    "define it with def at the top level of a module",
                )
            )
    elif executors is not None and block.executor not in executors:
        near = near_name(block.executor, [*BUILT_IN_EXECUTORS, *executors], faults)
        faults.append(
            Fault(
                where,
                f"block '{block.name}' ({block.place}) wants the executor '{block.executor}', which was not given: "
                f"pass executors={{'{block.executor}': ...}}{near}",
            )
        )


def _found_by_name(function: Callable[..., Any]) -> bool:
    qualname = getattr(function, "__qualname__", "<lambda>")
    return "<" not in qualname


def _with_references(declared: Dict[int, None], arguments: Arguments) -> Tuple[int, ...]:
    added = sorted(source for source in arguments.sources if source not in declared)
    return (*declared, *added)


def _bind(
    definition: Definition,
    data: SeqBlockData,
    block: Block,
    given: Mapping[str, Any],
    names: Sequence[str],
    index: Mapping[str, int],
    declared: Dict[int, None],
    where: str,
    faults: List[Fault],
    missing: List[Fault],
) -> Arguments:
    """Where each argument of a step comes from: the run, the definition, or a dependency of its name."""
    where_given = definition.where_given(data.step_name) if given else where
    signature = block.signature
    model = block.data_model
    constants: Dict[str, Any] = {}
    whole: List[Tuple[str, int]] = []
    templates: List[Tuple[str, Template]] = []
    sources: Set[int] = set()
    own = data.parameters
    if not isinstance(own, Mapping):
        faults.append(Fault(where, f"parameters are a dict of keyword arguments, got {shown(own)}"))
        own = {}
    before = len(faults)
    faults += [Fault(where, f"block '{block.name}' ({block.place}) {what}") for what in signature.faults]
    supplied = {**own, **given}
    known: Dict[str, Any] = {}
    for name, value in supplied.items():
        from_run = name in given
        here = where_given if from_run else where
        if not _check_accepted(name, block, here, faults):
            continue
        so_far = len(faults)
        compiled = compile_value(value, index, data.step_name, here, name, faults, share=from_run)
        if len(faults) > so_far:
            continue
        sources.update(compiled.sources)
        if compiled.whole is not None:
            whole.append((name, compiled.whole))
        elif compiled.template is not None and compiled.sources:
            templates.append((name, compiled.template))
        else:
            constant = known[name] = compiled.constant
            hint = signature.hints.get(name, Any) if model is None else Any
            path = f"{here}, parameter {quoted(name)[1:-1]}"
            converted = convert(constant, hint, path, faults)
            if compiled.template is None:
                constants[name] = converted
            elif converted is constant:
                templates.append((name, compiled.template))
            else:
                templates.append((name, _converting(compiled.template, hint, path)))
    for source in (*declared, *sorted(sources - declared.keys())):
        name = names[source]
        if name in signature.accepted and name not in supplied:
            whole.append((name, source))
            sources.add(source)
            supplied[name] = None
    _check_missing(block, supplied, [names[source] for source in declared], where, missing)
    if model is not None:
        where = f"{where_given}, {spell(model)}"
        _check_model(model, known, where, not (sources or missing or len(faults) > before), faults)
    return Arguments(constants, tuple(whole), tuple(templates), frozenset(sources), model, where)


def _converting(template: Template, hint: Any, path: str) -> Template:
    """What a list or dict of the definition is converted to, made anew for each call as the list itself would be."""
    return lambda outputs: convert(template(outputs), hint, path, [])


def _check_model(model: type, known: Mapping[str, Any], path: str, is_all: bool, faults: List[Fault]) -> None:
    """Show a data model what is known before the run. If that ``is_all`` of it, everything that it
    says counts; otherwise only what it says of these fields."""
    wrong: List[Fault] = []
    validate_model(model, known, path, wrong)
    fields = [at_field(path, name) for name in known]
    faults += [fault for fault in wrong if is_all or any(_is_inside(fault.where, field) for field in fields)]


def _is_inside(path: str, field: str) -> bool:
    return path == field or (path.startswith(field) and path[len(field)] in ".[{")


def _check_accepted(name: Any, block: Block, where: str, faults: List[Fault]) -> bool:
    signature = block.signature
    if isinstance(name, str) and (name in signature.accepted or signature.open):
        return True
    known = choices(name, signature.accepted, faults, "it has") or "; it has none"
    lacks = f"block '{block.name}' ({block.place}) has no parameter {quoted(name)}"
    if block.data_model is not None:
        lacks = f"{spell(block.data_model)}, the data_model of block '{block.name}', has no field {quoted(name)}"
    faults.append(Fault(where, lacks + known))
    return False


def _check_missing(
    block: Block, supplied: Mapping[str, Any], dependencies: List[str], where: str, faults: List[Fault]
) -> None:
    for name in block.signature.required:
        if name not in supplied:
            example = f"'@{dependencies[0]}'" if dependencies else "..."
            faults.append(
                Fault(
                    where,
                    f"parameter '{name}' of block '{block.name}' ({block.place}) is given nowhere: add "
                    f"parameters={{'{name}': {example}}} to the step, or give it to the run",
                )
            )


def _check_cycles(definition: Definition, dependencies: List[Tuple[int, ...]], faults: List[Fault]) -> None:
    for cycle in find_cycles(dependencies):
        names = [quoted(definition.steps[position].step_name)[1:-1] for position in cycle]
        if len(names) > MAX_CYCLE_SHOWN:
            left_out = len(names) - MAX_CYCLE_SHOWN
            names = [*names[: MAX_CYCLE_SHOWN - 1], f"({left_out} more)", names[-1]]
        faults.append(Fault(definition.whereabouts, f"the steps wait for each other: {' → '.join(names)}"))


def _check_finaliser(definition: Definition, faults: List[Fault]) -> None:
    finaliser = definition.finaliser
    if is_generator(finaliser):
        what = "the finaliser is a generator function, whose body nobody would run; return a list instead of yielding"
        faults.append(Fault(definition.whereabouts, what))
    elif takes_context(finaliser) is None:
        spelling = f"{getattr(finaliser, '__name__', 'finaliser')}{signature_of(finaliser)}"
        what = f"the finaliser is called with {{step: output}} as its only argument, or with none; {spelling} can't be"
        faults.append(Fault(definition.whereabouts, what))
