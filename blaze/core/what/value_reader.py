"""Reading stored values: from parsed JSON back to what was written. See ``values``."""

from __future__ import annotations

import math
from enum import Enum, Flag
from typing import Any, Callable, Dict, List, Mapping

from ..ground.errors import Fault, ValidationError
from . import tagged
from .annotations import alternatives, hints_of_class, is_dataclass_type
from .checker import MAX_DEPTH, at_key
from .inside import Hints, classes_in, hints_in_dict, hints_in_list
from .records import arguments_of, at_field, text_of
from .tagged import TAG
from .value_writer import TOO_DEEP, class_name

_MISSING = object()


class ValueReader:
    """Reads one parameter. The first thing that is wrong ends it with a :class:`ValidationError`."""

    def parameter(self, jsonable: Any, path: str, hints: Hints) -> Any:
        """The value that was written, of a parameter with these hints."""
        try:
            return self._read(jsonable, path, hints, 0)
        except RecursionError:
            raise _damaged(path, TOO_DEEP) from None

    def _read(self, jsonable: Any, path: str, hints: Hints, depth: int) -> Any:
        kind = type(jsonable)
        if kind is list:
            return self._list(jsonable, path, hints, depth)
        if kind is dict:
            read = self._object if TAG in jsonable else self._dict
            return read(jsonable, path, hints, depth)
        if kind is float and not math.isfinite(jsonable):
            raise _damaged(path, f"{jsonable} is no JSON number")
        return jsonable

    def _list(self, jsonable: Any, path: str, hints: Hints, depth: int) -> List[Any]:
        depth = _descend(jsonable, list, path, depth)
        inside = hints_in_list(hints)
        return [self._read(item, f"{path}[{index}]", inside(index), depth) for index, item in enumerate(jsonable)]

    def _dict(self, jsonable: Any, path: str, hints: Hints, depth: int) -> Dict[str, Any]:
        depth = _descend(jsonable, dict, path, depth)
        inside = hints_in_dict(hints)
        return {key: self._read(item, at_key(path, key), inside(key), depth) for key, item in jsonable.items()}

    def _object(self, entry: Mapping[str, Any], path: str, hints: Hints, depth: int) -> Any:
        name = entry[TAG]
        value = entry.get("value")
        try:
            if name == "dict":
                return self._dict(value, path, hints, depth)
            if name in _MADE_FROM_LIST:
                return _MADE_FROM_LIST[name](self._list(value, path, hints, depth))
            if name == "enum":
                return _class_of(entry, hints, Enum).__members__[value]
            if name == "flag":
                return _class_of(entry, hints, Flag)(value)
            if name == "dataclass":
                return self._record(_class_of(entry, hints, None), value, path, depth)
            return tagged.read(dict(entry))
        except ValidationError:
            raise
        except KeyError:
            raise _damaged(path, f"{entry.get('class')} has no member {value!r} any more") from None
        except (ValueError, TypeError) as error:
            raise _damaged(path, text_of(error)) from error

    def _record(self, cls: Any, stored: Any, path: str, depth: int) -> Any:
        depth = _descend(stored, dict, path, depth)
        known = hints_of_class(cls)
        fields = {
            name: self._read(item, at_field(path, name), alternatives(known.get(name, Any)), depth)
            for name, item in stored.items()
        }
        gone = [name for name in fields if name not in cls.__dataclass_fields__]
        if gone:
            raise _damaged(at_field(path, gone[0]), f"{cls.__qualname__} has no such field any more")
        arguments = arguments_of(cls)
        try:
            instance = cls(**{name: value for name, value in fields.items() if name in arguments})
        except Exception as error:  # raised by the class's own checks
            raise _damaged(path, f"{cls.__qualname__} refuses it: {type(error).__name__}: {text_of(error)}") from error
        # What __post_init__ makes of a field need not be what the field held when it was written.
        for name, value in fields.items():
            if getattr(instance, name, _MISSING) is not value:
                object.__setattr__(instance, name, value)
        return instance


_MADE_FROM_LIST: Dict[str, Callable[[List[Any]], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def _descend(jsonable: Any, kind: type, path: str, depth: int) -> int:
    if not isinstance(jsonable, kind):
        raise _damaged(path, f"expected a JSON {'list' if kind is list else 'object'}, got {type(jsonable).__name__}")
    if depth >= MAX_DEPTH:
        raise _damaged(path, TOO_DEEP)
    return depth + 1


def _class_of(entry: Mapping[str, Any], hints: Hints, base: Any) -> Any:
    """The class, among those that the annotation names, that an entry was written for.

    A class that was moved or renamed is found if the annotation leaves no choice.
    """
    named = str(entry.get("class"))
    fitting = [cls for cls in classes_in(hints) if (issubclass(cls, base) if base else is_dataclass_type(cls))]
    fitting = list(dict.fromkeys(fitting))
    for wanted in (
        [cls for cls in fitting if class_name(cls) == named],
        [cls for cls in fitting if cls.__qualname__ == named.partition(":")[2]],
        fitting,
    ):
        if len(wanted) == 1:
            return wanted[0]
    raise ValueError(f"it is of the class {named}, which the annotation does not name any more")


def _damaged(path: str, what: str) -> ValidationError:
    return ValidationError([Fault(path, f"the stored value can't be read back: {what}")])
