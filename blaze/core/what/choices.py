"""Checks of annotations that list their values: ``Enum`` classes and ``Literal``."""

from __future__ import annotations

from enum import Enum
from typing import Any, List, Tuple, Type

from ..ground.errors import Fault
from ..ground.names import did_you_mean
from .annotations import spell
from .checker import Checker, Walk, clipped, mismatch

#: Choices listed in an error text.
_MAX_LISTED = 10

_NO_MEMBER = object()


def enum_checker(cls: Type[Enum]) -> Checker:
    """A member; or its value, of the very same type; or its name."""
    spelling = spell(cls)

    def fits(value: Any, walk: Walk) -> bool:
        return isinstance(value, cls)

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if isinstance(value, cls):
            return value
        member = find_member(cls, value)
        if member is not _NO_MEMBER:
            return member
        choices = [member.value for member in cls]
        near = ""
        if isinstance(value, str):
            near = did_you_mean(value, [text for text in (*choices, *cls.__members__) if isinstance(text, str)])
        faults.append(mismatch(path, f"{spelling} ({_listed(choices)})", value, near))
        return value

    return Checker(spelling, (cls,), fits, convert)


def literal_checker(annotation: Any, values: Tuple[Any, ...]) -> Checker:
    """One of the values, of the very same type: ``Literal[1]`` is not True. An Enum member also by value or name."""
    spelling = spell(annotation)
    members = [value for value in values if isinstance(value, Enum)]

    def fits(value: Any, walk: Walk) -> bool:
        return any(_same(value, choice) for choice in values)

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if fits(value, walk):
            return value
        for member in members:
            if find_member(type(member), value) is member:
                return member
        near = did_you_mean(value, [text for text in values if isinstance(text, str)]) if isinstance(value, str) else ""
        faults.append(mismatch(path, spelling, value, near))
        return value

    return Checker(spelling, (), fits, convert)


def find_member(cls: Type[Enum], value: Any) -> Any:
    """The member of this value or, failing that, this name; ``_NO_MEMBER`` if there is none."""
    for member in cls:
        if _same(value, member.value):
            return member
    if isinstance(value, str) and value in cls.__members__:
        return cls.__members__[value]
    try:
        # For combined flags and for what the class itself understands (_missing_).
        member = cls(value)
        equal = bool(member.value == value)
    except Exception:
        return _NO_MEMBER
    # An equal value of another type: Enum looks values up as a dict does, where True is 1.
    if equal and not _same(value, member.value):
        return _NO_MEMBER
    return member


def _same(value: Any, choice: Any) -> bool:
    if type(value) is not type(choice) and not (type(value) is int and type(choice) is float):
        return False
    try:
        return value is choice or bool(value == choice)
    except Exception:  # the == of the user's own types
        return False


def _listed(choices: List[Any]) -> str:
    shown = ", ".join(map(clipped, choices[:_MAX_LISTED]))
    return shown + (f" and {len(choices) - _MAX_LISTED} more" if len(choices) > _MAX_LISTED else "")
