"""Reading type annotations: which ones a callable or class has, what is inside them, how to write them down.

Nothing here raises for an annotation it does not understand: what can't be resolved
is left out, and what can't be read counts as "accepts everything".
"""

from __future__ import annotations

import functools
import sys
import types
import typing
from enum import Enum
from typing import (
    Annotated,
    Any,
    Callable,
    Dict,
    ForwardRef,
    Literal,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from .callables import NOTHING, VAR_KEYWORD, VAR_POSITIONAL, parameters_of
from .checker import clipped

#: Longest chain of wrappers (``Annotated``, ``NewType``, aliases) that is followed; ``type A = A`` would never end.
_LONGEST_CHAIN = 100

#: Values of a ``Literal`` that are written down.
_MAX_LISTED = 10

_UNIONS = (Union, getattr(types, "UnionType", Union))

# By name, because typing_extensions has its own objects for those that typing lacks.
_QUALIFIERS = frozenset({"Final", "ClassVar", "Required", "NotRequired", "ReadOnly"})


def is_union(annotation: Any) -> bool:
    """Whether it is ``Union[...]``, ``Optional[...]`` or ``X | Y``."""
    return get_origin(annotation) in _UNIONS


def is_literal(annotation: Any) -> bool:
    """Whether it is ``Literal[...]``, of typing or of typing_extensions."""
    origin = get_origin(annotation)
    return origin is Literal or special_name(origin) == "Literal"


def is_class(annotation: Any) -> bool:
    """Whether it is a class as such; ``list[int]`` is not, though ``isinstance(list[int], type)`` on Python 3.10."""
    return isinstance(annotation, type) and get_origin(annotation) is None


def is_alias(annotation: Any) -> bool:
    """Whether it is the name that ``type X = ...`` (or ``TypeAliasType``) made."""
    return type(annotation).__name__ == "TypeAliasType"


def is_typed_dict(cls: Any) -> bool:
    """Whether it is a class made by ``TypedDict``."""
    return is_class(cls) and dict in cls.__mro__ and hasattr(cls, "__total__") and hasattr(cls, "__required_keys__")


def is_named_tuple(cls: Any) -> bool:
    """Whether it is a class made by ``NamedTuple`` or ``namedtuple``."""
    return is_class(cls) and issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def is_dataclass_type(cls: Any) -> bool:
    """Whether it is a dataclass (the class, not an instance)."""
    return is_class(cls) and hasattr(cls, "__dataclass_fields__")


def special_name(form: Any) -> Optional[str]:
    """``"Required"`` for ``typing.Required`` and for that of typing_extensions; None for anything but such forms."""
    if form is None or isinstance(form, type):
        return None
    name = getattr(form, "_name", None)
    return name if isinstance(name, str) else None


def qualifier(annotation: Any) -> Optional[str]:
    """``"NotRequired"`` of ``NotRequired[int]``, and so on; None if it begins with no qualifier."""
    name = special_name(get_origin(annotation))
    return name if name in _QUALIFIERS else None


def unwrapped(annotation: Any) -> Any:
    """The annotation without ``Annotated``, ``Final``, ``Required``, ``InitVar`` ... and ``NewType`` around it."""
    for _ in range(_LONGEST_CHAIN):
        if get_origin(annotation) is Annotated or qualifier(annotation):
            annotation = get_args(annotation)[0]
        elif _is_init_var(annotation):
            annotation = annotation.type
        elif not isinstance(annotation, type) and hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        else:
            return annotation
    return Any


def _is_init_var(annotation: Any) -> bool:
    dataclasses = sys.modules.get("dataclasses")  # not imported, there is none
    return dataclasses is not None and isinstance(annotation, dataclasses.InitVar)


def bare(annotation: Any) -> Any:
    """As :func:`unwrapped`, and a type alias is replaced by what it stands for."""
    for _ in range(_LONGEST_CHAIN):
        annotation = unwrapped(annotation)
        alias = annotation if is_alias(annotation) else get_origin(annotation)
        if not is_alias(alias):
            return annotation
        try:
            annotation = alias.__value__
        except Exception:  # computed lazily, by the user's own code
            return Any
    return Any


def alternatives(annotation: Any) -> Tuple[Any, ...]:
    """The members of a union, its inner unions included; a tuple of one for anything else.

    The classes of the Enum members that a ``Literal`` lists count as its members.
    """
    if type(annotation) is type or annotation is Any:
        return (annotation,)
    annotation = bare(annotation)
    if is_union(annotation):
        return tuple(member for part in get_args(annotation) for member in alternatives(part))
    if is_literal(annotation):
        return tuple(dict.fromkeys(type(value) for value in get_args(annotation)))
    return (annotation,)


def spell(annotation: Any) -> str:
    """The annotation as it would be written in a recent Python: ``list[int] | None``."""
    annotation = unwrapped(annotation)
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, (list, tuple)):
        return f"[{', '.join(map(spell, annotation))}]"
    args = get_args(annotation)
    if is_union(annotation):
        return " | ".join(dict.fromkeys(map(spell, args)))
    if is_literal(annotation):
        more = ", ..." if len(args) > _MAX_LISTED else ""
        return f"Literal[{', '.join(map(_spell_literal, args[:_MAX_LISTED]))}{more}]"
    origin = get_origin(annotation)
    if origin is tuple and is_empty_tuple(annotation):
        return "tuple[()]"
    if origin is not None and args:
        return f"{spell(origin)}[{', '.join(map(spell, args))}]"
    if origin is not None:
        return spell(origin)
    if isinstance(annotation, type):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    if isinstance(annotation, TypeVar) or is_alias(annotation):
        return str(annotation.__name__)
    return clipped(annotation).replace("typing_extensions.", "").replace("typing.", "")


def _spell_literal(value: Any) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else clipped(value)


def is_empty_tuple(annotation: Any) -> bool:
    """Whether it is ``tuple[()]``, which Python 3.9 to 3.11 tell apart from ``tuple`` in different ways."""
    if get_origin(annotation) is not tuple or annotation is typing.Tuple:
        return False
    return get_args(annotation) in ((), ((),))


def hints_of(fn: Callable[..., Any]) -> Dict[str, Any]:
    """The resolved annotations of a callable's named parameters. Never raises.

    A hint that can't be resolved (a name imported under ``TYPE_CHECKING``, ``"int | None"``
    on Python 3.9) is left out; the others stay. A parameter whose default is None
    accepts None, whatever its annotation says. ``*args`` and ``**kwargs`` are left out.
    """
    try:
        parameters = [
            parameter
            for parameter in parameters_of(fn)
            if parameter.annotation is not NOTHING and parameter.kind not in (VAR_POSITIONAL, VAR_KEYWORD)
        ]
        function = _function_behind(fn)
        names = _names_in_closure(function)
        space = getattr(function, "__globals__", {})
        hints = _resolve({parameter.name: parameter.annotation for parameter in parameters}, space, names)
    except Exception:  # a builtin without signature, a broken __signature__: nothing to check against
        return {}
    for parameter in parameters:
        if parameter.default is None and parameter.name in hints:
            hints[parameter.name] = _or_none(hints[parameter.name])
    return hints


@functools.lru_cache(maxsize=512)
def hints_of_class(cls: type) -> Mapping[str, Any]:
    """The resolved annotations of a class's attributes, inherited ones too, as :func:`hints_of` does it."""
    hints: Dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        space = getattr(sys.modules.get(base.__module__), "__dict__", {})
        own = _own_annotations(base)
        hints = {name: hint for name, hint in hints.items() if name not in own}
        # The module's names first, as in typing: in a class with "date: Optional[date] = None", its own date is None.
        hints.update(_resolve(own, {**vars(base), base.__name__: base}, space))
    return types.MappingProxyType(hints)


def _resolve(annotations: Mapping[str, Any], space: Dict[str, Any], names: Dict[str, Any]) -> Dict[str, Any]:
    """The annotations with every string in them replaced by what it names, without those where that fails.

    Names are looked up in ``names``, then in ``space``.
    """
    if all(type(annotation) is type for annotation in annotations.values()):
        return dict(annotations)
    # A class, because in a function's annotations "ClassVar[int]" and "Final" are errors.
    probe = type("probe", (), {"__annotations__": dict(annotations)})
    try:
        return typing.get_type_hints(probe, space, names, include_extras=True)
    except RecursionError:  # the stack is full: not to be remembered as if it were the hints' fault
        raise
    except Exception:  # evaluates the user's text: any error at all may come out
        if len(annotations) == 1:
            return {}
        alone = (_resolve({name: annotation}, space, names) for name, annotation in annotations.items())
        return {name: hint for found in alone for name, hint in found.items()}


def _or_none(hint: Any) -> Any:
    try:
        return Optional[hint]
    except TypeError:  # an annotation that is no type accepts everything as it is
        return hint


def _function_behind(fn: Any) -> Any:
    """The function whose signature ``inspect.signature(fn)`` shows: through partials, wrappers, methods, classes."""
    for _ in range(_LONGEST_CHAIN):
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        elif isinstance(fn, types.MethodType):
            fn = fn.__func__
        elif isinstance(fn, type):
            fn = fn.__new__ if isinstance(fn.__new__, types.FunctionType) else fn.__init__  # type: ignore[misc]
        elif isinstance(fn, types.FunctionType) or not isinstance(_call_of(fn), types.FunctionType):
            break
        else:
            fn = _call_of(fn)
    return fn


def _call_of(instance: Any) -> Any:
    return getattr(type(instance), "__call__", None)  # noqa: B004


def _names_in_closure(function: Any) -> Dict[str, Any]:
    names: Dict[str, Any] = {}
    code = getattr(function, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or ()):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # assigned later, or never
            continue
    return names


if sys.version_info >= (3, 14):  # annotations are computed when asked for; as VALUE, one unknown name fails them all
    import annotationlib

    def _own_annotations(cls: type) -> Mapping[str, Any]:
        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)

else:

    def _own_annotations(cls: type) -> Mapping[str, Any]:
        found = cls.__dict__.get("__annotations__", {})
        return found if isinstance(found, dict) else {}
