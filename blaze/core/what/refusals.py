"""What to say of an object that can't be stored: what it is, and what to give instead."""

from __future__ import annotations

import collections
import collections.abc
import io
import types
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any

from .annotations import is_dataclass_type
from .checker import clipped

#: Types that are stored, though their subclasses are not.
_PLAIN_BASES = (dict, list, tuple, str, int, float, set, frozenset, bytes, datetime, date, time, timedelta)

_SERIES = (collections.deque, range, types.GeneratorType, collections.abc.MappingView)

_GENERAL = (
    "JSON values, datetime, date, time, timedelta, Decimal, UUID, bytes, Path, tuple and set can, and Enum and "
    "dataclass members that the block's annotation names; sequences.run(), which stores nothing, takes any object"
)


def refusal(value: Any) -> str:
    """``"a lambda can't be stored; ..."``, with advice."""
    return f"{_name(value)} can't be stored; {_advice(value)}"


def with_article(name: str) -> str:
    """``"an Options"``, ``"a Color"``."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _name(value: Any) -> str:
    if isinstance(value, types.FunctionType):
        return "a lambda" if value.__name__ == "<lambda>" else f"the function {clipped(value.__name__)}"
    if isinstance(value, (types.BuiltinFunctionType, types.MethodType)):
        return f"the function {clipped(getattr(value, '__qualname__', '?'))}"
    if isinstance(value, type):
        return f"the class {clipped(value.__qualname__)}"
    if isinstance(value, types.ModuleType):
        return f"the module {clipped(value.__name__)}"
    if _is_file(value):
        return "an open file"
    kind = type(value)
    return with_article(kind.__qualname__.rpartition("<locals>.")[2])


def _advice(value: Any) -> str:
    kind = type(value)
    own = kind.__qualname__.rpartition("<locals>.")[2]
    if isinstance(value, Enum) or is_dataclass_type(kind):
        return f"annotate the block's parameter with {own}, and it can"
    if callable(value):
        return "give a name and let the block look it up; sequences.run(), which stores nothing, takes any object"
    if _is_file(value):
        return "give its path"
    if isinstance(value, (bytearray, memoryview)):
        return "give bytes(...)"
    if callable(getattr(kind, "model_dump", None)):
        return "give its .model_dump(), which becomes the model again where the block's annotation names it"
    if kind.__module__.partition(".")[0] == "numpy":
        return "give its .tolist()"
    if callable(getattr(kind, "to_pydatetime", None)):
        return "give its .to_pydatetime()"
    if isinstance(value, _SERIES):
        return "give list(...) of it"
    for base in _PLAIN_BASES:
        if isinstance(value, base):
            return f"it would come back as {with_article(base.__name__)}: make it one"
    return _GENERAL


def _is_file(value: Any) -> bool:
    return isinstance(value, io.IOBase)
