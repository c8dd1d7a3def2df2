"""References: ``"@step.key.0"`` inside parameters, compiled once, followed at each call.

A parameter's value is compiled to a template: a constant, a reference, or a list,
tuple or dict that contains one. Evaluating a template makes fresh containers, so a
block that changes its argument changes nobody else's. Outputs themselves are handed
on as they are and never scanned for references; neither are sets and the keys of dicts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from operator import is_, itemgetter
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, NoReturn, Optional, Set, Tuple

from ..ground.errors import Fault, ReferenceFailed
from .checker import MAX_DEPTH, clipped
from .naming import listed, near_name, quoted
from .refusals import with_article

#: Keys of an output among which a near one is looked up.
MAX_LOOKED_UP = 200


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

    #: None for what may be handed on as it is, and for a whole output.
    template: Optional[Template]
    #: What the template gives, if it refers to nothing.
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
        return Value(_walker(reference, source, parameter), None, None, (source,))
    if not isinstance(value, (list, tuple, dict, *_FLAT)):
        return Value(None, value, None, ())
    containers = _Containers(index, step, where, parameter, faults, share)
    try:
        template = containers.compile(value)
    except _TooDeep:
        faults.append(
            Fault(where, f"parameter {quoted(parameter)} is nested deeper than {MAX_DEPTH} levels, or contains itself")
        )
        return Value(None, None, None, ())
    if template is None:
        return Value(None, value, None, ())
    if not containers.sources:
        return Value(None if share else template, template(Outputs(0)), None, ())
    return Value(template, None, None, tuple(sorted(containers.sources)))


def copied(value: Any) -> Any:
    """The value with its lists, dicts, sets and tuples made anew; what else is in it stays the same object.

    What contains itself or is nested too deep is no parameter, and comes back as it was
    from there on, to be refused by :func:`compile_value`.
    """
    return _copy(value, {}, 0)


def _copy(value: Any, made: Dict[int, Any], depth: int) -> Any:
    """``made`` holds the copies by the original's id: an object that occurs twice does so in the copy."""
    if not isinstance(value, (list, dict, tuple, *_FLAT)) or depth > MAX_DEPTH:
        return value
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, tuple):
        items = [_copy(item, made, depth + 1) for item in value]
        made[id(value)] = value if all(map(is_, items, value)) else _remade(value, items)
        return made[id(value)]
    fresh = made[id(value)] = _shallow(value)
    if not isinstance(value, _FLAT):
        for key, item in _items(value):
            changed = _copy(item, made, depth + 1)
            if changed is not item:
                fresh[key] = changed
    return fresh


def _shallow(value: Any) -> Any:
    # An OrderedDict, a defaultdict and the like know best how they are copied; the plain kinds are quicker so.
    return value.copy() if type(value) in (list, dict, set) else copy.copy(value)


def _items(value: Any) -> Iterable[Tuple[Any, Any]]:
    """Keys or positions of a dict, list or tuple, with what stands there."""
    return value.items() if isinstance(value, dict) else enumerate(value)


def _remade(original: Tuple[Any, ...], items: List[Any]) -> Any:
    """A tuple of other items; of a tuple's subclasses only named tuples are known to be made of their items."""
    if type(original) is tuple:
        return tuple(items)
    make = getattr(original, "_make", None)
    return make(items) if make else original


class _TooDeep(Exception):
    pass


#: Containers of nothing that can be changed.
_FLAT = (set, bytearray)
#: Types of which many may stand in a list; nothing has to be made of them.
_PLAIN = frozenset({int, float, bool, type(None)})


class _Node(NamedTuple):
    """A container that is made anew at each call, and where in it something has to be put."""

    original: Any
    #: Key or position, and what gives the value that stands there.
    templates: List[Tuple[Any, Template]]
    #: Key or position, and the number of the node that stands there.
    nodes: List[Tuple[Any, int]]


class _Containers:
    """Compiles the lists, dicts, tuples and sets of one parameter to nodes, those inside before those around them.

    What stands in several places is one node: it is compiled once, made once at each call,
    and stands in several places of what the call gets.
    """

    def __init__(
        self,
        index: Mapping[str, int],
        step: str,
        where: str,
        parameter: str,
        faults: List[Fault],
        share: bool,
    ) -> None:
        self.sources: Set[int] = set()
        self._share = share
        self._text: Callable[[str], Value] = lambda text: compile_value(
            text, index, step, where, parameter, faults, share=share
        )
        self._nodes: List[_Node] = []
        # By id: the number, the levels that are inside, and the container, kept so that its id stays its own.
        self._known: Dict[int, Tuple[Optional[int], int, Any]] = {}

    def compile(self, value: Any) -> Optional[Template]:
        """A template for a container; None for what may be handed on as it is."""
        number, _ = self._number(value, 0)
        return None if number is None else _filled(self._nodes)

    def _number(self, value: Any, depth: int) -> Tuple[Optional[int], int]:
        """The number of a container's node, None if it needs none, and how many levels it has."""
        flat = isinstance(value, _FLAT)
        if depth >= MAX_DEPTH and not flat:
            raise _TooDeep
        known = self._known.get(id(value))
        if known is not None:
            number, levels, _ = known
            if depth + levels > MAX_DEPTH:
                raise _TooDeep
            return number, levels
        node = _Node(value, [], [])
        levels = 0 if flat else 1
        for key, item in () if flat else _items(value):
            if isinstance(item, str):
                template = self._leaf(item)
                if template is not None:
                    node.templates.append((key, template))
            elif type(item) not in _PLAIN and isinstance(item, (list, tuple, dict, *_FLAT)):
                inner, inside = self._number(item, depth + 1)
                levels = max(levels, inside + 1)
                if inner is not None:
                    node.nodes.append((key, inner))
        as_it_is = not node.templates and not node.nodes and (self._share or isinstance(value, tuple))
        number = None if as_it_is else len(self._nodes)
        if number is not None:
            self._nodes.append(node)
        self._known[id(value)] = (number, levels, value)
        return number, levels

    def _leaf(self, text: str) -> Optional[Template]:
        if not text.startswith("@"):
            return None
        compiled = self._text(text)
        self.sources.update(compiled.sources)
        if compiled.whole is not None:
            return itemgetter(compiled.whole)
        return compiled.template or _constant(compiled.constant)


def _constant(value: Any) -> Template:
    return lambda outputs: value


def _filled(nodes: List[_Node]) -> Template:
    """Makes each node's container, the outermost last."""

    def fill(outputs: Outputs) -> Any:
        made: List[Any] = []
        for original, templates, inner in nodes:
            fresh = list(original) if isinstance(original, tuple) else _shallow(original)
            for key, template in templates:
                fresh[key] = template(outputs)
            for key, number in inner:
                fresh[key] = made[number]
            made.append(_remade(original, fresh) if isinstance(original, tuple) else fresh)
        return made[-1]

    return fill


def _find(
    reference: Reference,
    text: str,
    index: Mapping[str, int],
    step: str,
    where: str,
    parameter: str,
    faults: List[Fault],
) -> Optional[int]:
    shown = clipped(text)[1:-1]
    source = index.get(reference.step)
    if source is None:
        near = near_name(reference.step, index, faults, "@")
        faults.append(
            Fault(
                where,
                f"parameter {quoted(parameter)} refers to '{shown}', which is no step of this sequence{near}; "
                f"for the literal text write '@{shown}'",
            )
        )
        return None
    if reference.step == step:
        faults.append(Fault(where, f"parameter {quoted(parameter)} refers to '{shown}', the step itself"))
        return None
    if not all(reference.path):
        faults.append(Fault(where, f"parameter {quoted(parameter)}: '{shown}' has an empty part between its dots"))
        return None
    return source


def _walker(reference: Reference, source: int, parameter: str) -> Template:
    def walk(outputs: Outputs) -> Any:
        value = outputs[source]
        if value is None and source in outputs.absent:
            return None
        for position, part in enumerate(reference.path):
            try:
                value = _enter(value, part)
            except Exception as error:
                what = str(error) if isinstance(error, _NoEntry) else f"raises {clipped(error)}"
                walked = ".".join((reference.step, *reference.path[:position]))
                raise ReferenceFailed(
                    f"parameter {quoted(parameter)}: '{reference.text}' can't be followed: the output '{walked}' {what}"
                ) from (None if isinstance(error, _NoEntry) else error)
        return value

    return walk


class _NoEntry(Exception):
    """A value has no such part; the text goes on after "the output '...'"."""


def _enter(value: Any, part: str) -> Any:
    """One part of a path: a mapping key, else an index, else an attribute."""
    if isinstance(value, Mapping):
        if part in value:
            return value[part]
        if _is_index(part) and int(part) in value:
            return value[int(part)]
        _no_key(value, part)
    if _is_index(part) and hasattr(type(value), "__getitem__"):
        try:
            return value[int(part)]
        except LookupError:
            length = f"; its length is {len(value)}" if hasattr(value, "__len__") else ""
            raise _NoEntry(f"has no item {part}{length}") from None
    if not part.startswith("__"):
        try:
            return getattr(value, part)
        except AttributeError:
            pass
    if hasattr(type(value), "keys") and hasattr(type(value), "__getitem__"):
        # What dict(value) would take, such as a row of sqlite3.
        try:
            return value[part]
        except LookupError:
            _no_key(list(value.keys()), part)
    kind = "None" if value is None else with_article(type(value).__name__)
    raise _NoEntry(f"is {kind}, which has no '{part}'")


def _no_key(keys: Iterable[Any], part: str) -> NoReturn:
    known = [str(key) for key in keys]
    near = near_name(part, known[:MAX_LOOKED_UP])
    raise _NoEntry(f"has no key '{part}'" + (near or (f"; it has {listed(known)}" if known else "; it is empty")))


def _is_index(part: str) -> bool:
    # Bounded: int() of a very long run of digits is slow, and refused by newer Pythons.
    return len(part) <= 18 and (part.isascii() and (part.isdigit() or (part[0] == "-" and part[1:].isdigit())))
