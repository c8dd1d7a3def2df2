"""What Python knows of a callable: its parameters, and what calling it gives.

Plain functions, as most blocks are, are read directly, since importing ``inspect`` takes
as long as importing all of Blaze that declares blocks; for anything else it is asked.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Sequence

if TYPE_CHECKING:
    import inspect

#: Kinds of parameters, numbered as ``inspect`` has them.
POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = range(5)
#: Instead of a default or an annotation where there is none.
NOTHING: Any = object()

# Flags of code objects (``inspect.CO_VARARGS`` and so on).
_VARARGS, _VARKEYWORDS, _GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x4, 0x8, 0x20, 0x80, 0x200


class Parameter:
    """One parameter of a callable."""

    __slots__ = ("name", "kind", "default", "annotation")

    def __init__(self, name: str, kind: int, default: Any = NOTHING, annotation: Any = NOTHING) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        #: As it is written: not resolved.
        self.annotation = annotation

    @property
    def required(self) -> bool:
        """Whether a call without it fails."""
        return self.default is NOTHING and self.kind not in (VAR_POSITIONAL, VAR_KEYWORD)


def parameters_of(function: Callable[..., Any]) -> List[Parameter]:
    """The parameters, in order. Raises TypeError or ValueError if they are unknown, as those of some built-ins are."""
    if _is_plain(function):
        return list(_read(function))
    return [
        Parameter(
            found.name,
            int(found.kind),
            NOTHING if found.default is found.empty else found.default,
            NOTHING if found.annotation is found.empty else found.annotation,
        )
        for found in signature_of(function).parameters.values()
    ]


def takes(parameters: Sequence[Parameter], count: int) -> bool:
    """Whether a call with so many arguments by position, and none by name, fits."""
    by_position = [one for one in parameters if one.kind in (POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD)]
    if any(one.required and one.kind == KEYWORD_ONLY for one in parameters):
        return False
    if count > len(by_position) and all(one.kind != VAR_POSITIONAL for one in parameters):
        return False
    return not any(one.required for one in by_position[count:])


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine: an ``async def`` function, or an object whose ``__call__`` is one."""
    if _is_plain(function):
        return bool(function.__code__.co_flags & _COROUTINE)
    import inspect

    return _has_code(inspect.iscoroutinefunction, function)


def is_generator(function: Any) -> bool:
    """Whether calling it gives a generator, async or not."""
    if _is_plain(function):
        return bool(function.__code__.co_flags & (_GENERATOR | _ASYNC_GENERATOR))
    import inspect

    return _has_code(inspect.isgeneratorfunction, function) or _has_code(inspect.isasyncgenfunction, function)


def _has_code(kind: Callable[[Any], bool], function: Any) -> bool:
    if isinstance(function, staticmethod):
        function = function.__func__
    return kind(function) or (not isinstance(function, type) and kind(getattr(type(function), "__call__", None)))  # noqa: B004


def _is_plain(function: Any) -> bool:
    """Whether it is what ``def`` made. An attribute may say that it stands for another, as ``__wrapped__`` does."""
    # In Python 3.14 reading annotations may fail, and inspect knows the way around.
    return type(function) is FunctionType and not function.__dict__ and sys.version_info < (3, 14)


def _read(function: Any) -> Iterator[Parameter]:
    code, annotations = function.__code__, function.__annotations__
    names = code.co_varnames
    positional, named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    defaults = (NOTHING,) * (positional - len(function.__defaults__ or ())) + (function.__defaults__ or ())
    extra = iter(names[named:])

    def parameter(name: str, kind: int, default: Any = NOTHING) -> Parameter:
        return Parameter(name, kind, default, annotations.get(name, NOTHING))

    for place, (name, default) in enumerate(zip(names, defaults)):
        yield parameter(name, POSITIONAL_ONLY if place < code.co_posonlyargcount else POSITIONAL_OR_KEYWORD, default)
    if code.co_flags & _VARARGS:
        yield parameter(next(extra), VAR_POSITIONAL)
    for name in names[positional:named]:
        yield parameter(name, KEYWORD_ONLY, (function.__kwdefaults__ or {}).get(name, NOTHING))
    if code.co_flags & _VARKEYWORDS:
        yield parameter(next(extra), VAR_KEYWORD)


if sys.version_info >= (3, 14):  # annotations are computed when asked for; as VALUE, one unknown name fails them all

    def signature_of(function: Any) -> inspect.Signature:
        """``inspect.signature``, annotations unresolved."""
        import inspect

        import annotationlib

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)

else:

    def signature_of(function: Any) -> inspect.Signature:
        """``inspect.signature``, annotations unresolved."""
        import inspect

        return inspect.signature(function)
