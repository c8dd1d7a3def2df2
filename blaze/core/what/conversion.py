"""Does a value fit a type annotation, and what does JSON have to become to fit it.

Strict, except where JSON has no such type: text becomes a datetime, a list a tuple, a
dict a dataclass, where the annotation asks for it; ``"100"`` never becomes 100, and True is
no int. Annotations that say nothing checkable accept everything.

Each annotation is compiled once into a :class:`~blaze.core.what.checker.Checker`. The
kinds of annotation live in the modules ``scalars``, ``choices``, ``containers`` and
``records``; here is what holds them together.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Dict, FrozenSet, List, Mapping, Tuple, get_args, get_origin

from ..ground.errors import Fault
from .annotations import bare, hints_of, is_alias, is_class, is_literal, is_union, spell, unwrapped
from .checker import MAX_DEPTH, Checker, TooDeep, Walk, anything, mismatch, only_instances
from .choices import enum_checker, literal_checker
from .containers import container_checker
from .records import fields_of_model, record_checker, text_of
from .scalars import scalar_checker

__all__ = ["convert", "hints_of", "validate_model"]

#: Annotations whose compiled checks are kept.
MAX_COMPILED = 2048

# By identity, because Union[date, datetime] == Union[datetime, date] though they convert differently,
# and because an annotation need not be hashable. The annotation is kept so that its id stays its own.
_compiled: Dict[int, Tuple[Any, Checker]] = {}


def convert(value: Any, annotation: Any, path: str, faults: List[Fault]) -> Any:
    """Check a value against an annotation and convert it from what JSON could say.

    Arguments:
        value: any object.
        annotation: a resolved annotation, as :func:`hints_of` gives it.
        path: how faults name the value: ``fetch.options``; they go on with ``[2].name`` and ``['key']``.
        faults: every mismatch is appended here.

    Returns the converted value; ``value`` itself, the same object, if nothing had to be
    converted. What is returned with faults is of no use.

    >>> from datetime import date
    >>> faults: List[Fault] = []
    >>> convert(["2024-01-31"], Tuple[date, ...], "load.days", faults)
    (datetime.date(2024, 1, 31),)
    >>> convert([1, "2"], List[int], "load.ids", faults)
    [1, '2']
    >>> str(faults[0])
    "load.ids[1]: expected int, got str '2'"
    """
    try:
        checker = checker_of(annotation)
        walk = Walk()
        if checker.fits(value, walk):
            return value
        return checker.convert(value, path, faults, walk)
    except (TooDeep, RecursionError):
        faults.append(Fault(path, f"it is nested deeper than {MAX_DEPTH} levels, or contains itself"))
        return value


def validate_model(model: type, kwargs: Mapping[str, Any], path: str, faults: List[Fault]) -> Dict[str, Any]:
    """The keyword arguments of a block after its ``data_model`` has seen them.

    ``model`` is a dataclass, whose fields are converted as :func:`convert` does it, or has
    ``model_validate``. Returns ``{field: value}`` for exactly the model's fields; with
    faults, the arguments as they were given.
    """
    given = dict(kwargs)
    before = len(faults)
    instance = convert(given, model, path, faults)
    if len(faults) > before:
        return given
    try:
        return fields_of_model(model, instance)
    except Exception as error:  # a field without a value, a property that fails
        faults.append(Fault(path, f"{spell(model)} can't be read: {type(error).__name__}: {text_of(error)}"))
        return given


def checker_of(annotation: Any) -> Checker:
    """The compiled check of an annotation."""
    entry = _compiled.get(id(annotation))
    if entry is not None:
        return entry[1]
    checker = _compile(annotation)
    if len(_compiled) >= MAX_COMPILED:
        _compiled.clear()
    _compiled[id(annotation)] = (annotation, checker)
    return checker


def _compile(annotation: Any) -> Checker:
    annotation = unwrapped(annotation)
    if is_alias(annotation) or is_alias(get_origin(annotation)):
        return _alias_checker(annotation)
    args = get_args(annotation)
    if is_union(annotation):
        return _union_checker(annotation, [checker_of(arg) for arg in args])
    if is_literal(annotation):
        return literal_checker(annotation, args)
    if annotation is None:
        annotation = type(None)
    origin = get_origin(annotation)
    if is_class(annotation):
        return _class_checker(annotation, annotation, ())
    if is_class(origin):
        return _class_checker(annotation, origin, args)
    return anything(spell(annotation))


def _class_checker(annotation: Any, cls: Any, args: Tuple[Any, ...]) -> Checker:
    if _says_nothing(cls):
        return anything(spell(annotation))
    if cls is type:
        return _type_checker(annotation, args)
    if issubclass(cls, Enum):
        return enum_checker(cls)
    return (
        scalar_checker(cls)
        or record_checker(cls, checker_of)
        or container_checker(annotation, cls, args, checker_of)
        or only_instances(spell(annotation), cls)
    )


def _says_nothing(cls: Any) -> bool:
    if getattr(cls, "_is_protocol", False):
        return not getattr(cls, "_is_runtime_protocol", False)
    # typing's own: Any, which is a class in recent Pythons, and IO, of which no file is an instance.
    if cls is object or cls.__module__ in ("typing", "typing_extensions"):
        return True
    return (cls.__module__, cls.__qualname__) == ("inspect", "_empty")  # copied from a signature


def _type_checker(annotation: Any, args: Tuple[Any, ...]) -> Checker:
    spelling = spell(annotation)
    base = bare(args[0]) if args else Any
    any_class = not is_class(base) or _says_nothing(base)

    def fits(value: Any, walk: Walk) -> bool:
        if not isinstance(value, type):
            return False
        try:
            return any_class or issubclass(value, base)
        except RecursionError:
            raise
        except Exception:  # a metaclass's own __subclasscheck__
            return True

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if not fits(value, walk):
            faults.append(mismatch(path, spelling, value))
        return value

    return Checker(spelling, (), fits, convert)


def _alias_checker(alias: Any) -> Checker:
    """The check of a ``type X = ...``, which may name itself: compiled when first used."""

    def target() -> Checker:
        return checker_of(bare(alias))

    return Checker(
        spell(alias),
        (),
        lambda value, walk: target().fits(value, walk),
        lambda value, path, faults, walk: target().convert(value, path, faults, walk),
        flat=False,
    )


def _union_checker(annotation: Any, members: List[Checker]) -> Checker:
    """The first member that needs no conversion; else the first into which the value converts."""
    spelling = spell(annotation)
    exact: FrozenSet[type] = frozenset().union(*(member.exact for member in members))

    def fits(value: Any, walk: Walk) -> bool:
        for member in members:  # noqa: SIM110 - a generator would be one more frame for each level
            if member.fits(value, walk):
                return True
        return False

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if fits(value, walk):
            return value
        inside: List[List[Fault]] = []
        for member in members:
            wrong: List[Fault] = []
            converted = member.convert(value, path, wrong, walk)
            if not wrong:
                return converted
            if all(fault.where != path for fault in wrong):
                inside.append(wrong)
        # One member took the value's form and objects to something in it: that is what was meant.
        if len(inside) == 1:
            faults.extend(inside[0])
        else:
            faults.append(mismatch(path, spelling, value))
        return value

    return Checker(spelling, exact, fits, convert, flat=all(member.flat for member in members))
