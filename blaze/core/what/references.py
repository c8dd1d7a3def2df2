"""References: ``"@step.key.0"`` inside parameters, compiled once, followed at each call.

A parameter's value is compiled to a template: a constant, a reference, or a list,
tuple or dict that contains one. Evaluating a template makes fresh containers, so a
block that changes its argument changes nobody else's. Outputs themselves are handed
on as they are and never scanned for references.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..ground.errors import Fault, ReferenceFailed
from ..ground.names import did_you_mean

#: Deepest nesting of lists and dicts in a parameter.
MAX_DEPTH = 100


class Outputs(List[Any]):
    """The outputs of a run by step index; None where there is none (yet).

    ``absent`` holds the steps that ended without an output, so that a path into a
    skipped step gives None while a path into a real ``None`` is an error.
    """

    __slots__ = ("absent",)

    def __init__(self, size: int) -> None:
        super().__init__([None] * size)
        self.absent: Set[int] = set()


#: Evaluates to the argument's value, given the outputs of the run.
Template = Callable[[Outputs], Any]


class Reference(NamedTuple):
    """A parsed reference: the step it names and the path into its output."""

    step: str
    path: Tuple[str, ...]

    @property
    def text(self) -> str:
        """As the user wrote it."""
        return "@" + ".".join((self.step, *self.path))


def parse_reference(text: str) -> Optional[Reference]:
    """The reference that a string is, or None for plain text and ``@@`` literals."""
    if not text.startswith("@") or text.startswith("@@"):
        return None
    step, *path = text[1:].split(".")
    return Reference(step, tuple(path))


class Value(NamedTuple):
    """A compiled parameter value."""

    #: None for a constant and for a whole output.
    template: Optional[Template]
    constant: Any
    #: Index of the step whose whole output this is, for the fast path; else None.
    whole: Optional[int]
    #: Indexes of the steps that the value refers to.
    sources: Tuple[int, ...]


def compile_value(
    value: Any, index: Mapping[str, int], step: str, where: str, parameter: str, faults: List[Fault], *, share: bool
) -> Value:
    """Compile one parameter. Unknown steps and bad forms go to ``faults``.

    ``share`` keeps a container without references as it is (a run's own parameters);
    otherwise what surrounds a reference is copied for each call (a definition's
    parameters, which many runs share).
    """
    if isinstance(value, str):
        if not value.startswith("@"):
            return Value(None, value, None, ())
        reference = parse_reference(value)
        if reference is None:
            return Value(None, value[1:], None, ())
        source = _find(reference, value, index, step, where, parameter, faults)
        if source is None:
            return Value(None, None, None, ())
        if not reference.path:
            return Value(None, None, source, (source,))
        return Value(_walker(reference, source), None, None, (source,))
    if not isinstance(value, (list, tuple, dict)):
        return Value(None, value, None, ())
    sources: Set[int] = set()
    try:
        template = _compile_container(value, index, step, where, parameter, faults, sources, share, 0)
    except _TooDeep:
        faults.append(
            Fault(where, f"parameter '{parameter}' is nested deeper than {MAX_DEPTH} levels, or contains itself")
        )
        return Value(None, None, None, ())
    if template is None:
        return Value(None, value, None, ())
    if not sources:
        return Value(None, template(Outputs(0)), None, ())
    return Value(template, None, None, tuple(sorted(sources)))


def copier(value: Any) -> Template:
    """A template for a constant that every call gets a copy of, down to its leaves."""
    return lambda outputs: _copy(value)


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return [_copy(item) for item in value]
    if kind is dict:
        return {key: _copy(item) for key, item in value.items()}
    if kind is set:
        return set(value)
    return value


class _TooDeep(Exception):
    pass


def _compile_container(
    value: Any,
    index: Mapping[str, int],
    step: str,
    where: str,
    parameter: str,
    faults: List[Fault],
    sources: Set[int],
    share: bool,
    depth: int,
) -> Optional[Template]:
    """A template for a list, tuple, dict or string; None for what may be handed on as it is."""
    if isinstance(value, str):
        compiled = compile_value(value, index, step, where, parameter, faults, share=share)
        sources.update(compiled.sources)
        if compiled.whole is not None:
            whole = compiled.whole
            return lambda outputs: outputs[whole]
        if compiled.template is not None:
            return compiled.template
        return None if compiled.constant is value else _constant(compiled.constant)
    kind = type(value)
    # Subclasses (named tuples, ordered dicts) may not rebuild from their items: left as they are.
    if kind not in (list, tuple, dict):
        return None
    if depth >= MAX_DEPTH:
        raise _TooDeep
    items = list(value.values()) if kind is dict else list(value)
    templates = [
        _compile_container(item, index, step, where, parameter, faults, sources, share, depth + 1) for item in items
    ]
    dynamic = [(position, template) for position, template in enumerate(templates) if template is not None]
    if not dynamic:
        return None if share or kind is tuple else copier(value)
    if kind is dict:
        keys = list(value)
        keyed = [(keys[position], template) for position, template in dynamic]
        return lambda outputs: _fill_dict(value, keyed, outputs)
    if kind is tuple:
        return lambda outputs: tuple(_fill_list(value, dynamic, outputs))
    return lambda outputs: _fill_list(value, dynamic, outputs)


def _constant(value: Any) -> Template:
    return lambda outputs: value


def _fill_dict(value: Dict[Any, Any], keyed: List[Tuple[Any, Template]], outputs: Outputs) -> Dict[Any, Any]:
    filled = dict(value)
    for key, template in keyed:
        filled[key] = template(outputs)
    return filled


def _fill_list(value: Sequence[Any], dynamic: List[Tuple[int, Template]], outputs: Outputs) -> List[Any]:
    filled = list(value)
    for position, template in dynamic:
        filled[position] = template(outputs)
    return filled


def _find(
    reference: Reference,
    text: str,
    index: Mapping[str, int],
    step: str,
    where: str,
    parameter: str,
    faults: List[Fault],
) -> Optional[int]:
    shown = text if len(text) <= 80 else text[:77] + "..."
    source = index.get(reference.step)
    if source is None:
        near = did_you_mean(reference.step, index, "@")
        faults.append(
            Fault(
                where,
                f"parameter '{parameter}' refers to '{shown}', which is no step of this sequence{near}; "
                f"for the literal text write '@{shown}'",
            )
        )
        return None
    if reference.step == step:
        faults.append(Fault(where, f"parameter '{parameter}' refers to '{shown}', the step itself"))
        return None
    if not all(reference.path):
        faults.append(Fault(where, f"parameter '{parameter}': '{shown}' has an empty part between its dots"))
        return None
    return source


def _walker(reference: Reference, source: int) -> Template:
    def walk(outputs: Outputs) -> Any:
        value = outputs[source]
        if value is None and source in outputs.absent:
            return None
        for position, part in enumerate(reference.path):
            value = _enter(value, part, reference, position)
        return value

    return walk


def _enter(value: Any, part: str, reference: Reference, position: int) -> Any:
    """One part of a path: a mapping key, else an index, else an attribute."""
    if isinstance(value, Mapping):
        if part in value:
            return value[part]
        if _is_index(part) and int(part) in value:
            return value[int(part)]
        known = [str(key) for key in list(value)[:20]]
        raise _failed(reference, position, f"has no key '{part}'{did_you_mean(part, known)}; it has {known}")
    if _is_index(part) and hasattr(type(value), "__getitem__"):
        try:
            return value[int(part)]
        except (IndexError, KeyError):
            size = len(value) if hasattr(value, "__len__") else "unknown"
            raise _failed(reference, position, f"has no item {part}; its length is {size}") from None
    if not part.startswith("__"):
        try:
            return getattr(value, part)
        except AttributeError:
            pass
    kind = "None" if value is None else f"a {type(value).__name__}"
    raise _failed(reference, position, f"is {kind}, which has no '{part}'")


def _is_index(part: str) -> bool:
    # Bounded: int() of a very long run of digits is slow, and refused by newer Pythons.
    return len(part) <= 18 and (part.isascii() and (part.isdigit() or (part[0] == "-" and part[1:].isdigit())))


def _failed(reference: Reference, position: int, what: str) -> ReferenceFailed:
    walked = ".".join((reference.step, *reference.path[:position]))
    return ReferenceFailed(f"'{reference.text}' can't be followed: the output '{walked}' {what}")
