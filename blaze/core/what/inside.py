"""What an annotation says about the elements, items and fields inside a value.

A union leaves several annotations to choose from, so what is handed down is always a
tuple of alternatives. Annotations that say nothing about the inside are left out.
"""

from __future__ import annotations

import collections.abc
from typing import Any, Callable, List, Sequence, Tuple, get_args, get_origin

from .annotations import (
    alternatives,
    hints_of_class,
    is_class,
    is_dataclass_type,
    is_named_tuple,
    is_typed_dict,
)

#: The annotations that a value may be meant for.
Hints = Tuple[Any, ...]


def hints_in_list(hints: Hints) -> Callable[[int], Hints]:
    """For values with numbered or unnumbered elements: from an element's index to its hints."""
    common: Hints = ()
    fixed: List[Sequence[Hints]] = []
    for hint in hints:
        origin, args = get_origin(hint), get_args(hint)
        if is_named_tuple(hint):
            known = hints_of_class(hint)
            fixed.append([alternatives(known.get(name, Any)) for name in hint._fields])
        elif origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
            fixed.append([alternatives(arg) for arg in args])
        elif is_class(origin) and args and _has_elements(origin):
            common += alternatives(args[0])
    if not fixed:
        return lambda index: common
    return lambda index: common + tuple(hint for row in fixed if index < len(row) for hint in row[index])


def hints_in_dict(hints: Hints) -> Callable[[str], Hints]:
    """For dicts: from a key to its value's hints. A dict may stand for a record that it will become."""
    common: Hints = ()
    records = []
    for hint in hints:
        origin, args = get_origin(hint), get_args(hint)
        if is_class(origin) and len(args) == 2 and issubclass(origin, collections.abc.Mapping):
            common += alternatives(args[1])
        cls = origin or hint
        if is_dataclass_type(cls) or is_typed_dict(cls) or is_named_tuple(cls):
            records.append(hints_of_class(cls))
    if not records:
        return lambda key: common
    return lambda key: common + tuple(hint for known in records if key in known for hint in alternatives(known[key]))


def classes_in(hints: Hints) -> List[type]:
    """The classes that the hints name."""
    return [cls for cls in (get_origin(hint) or hint for hint in hints) if is_class(cls)]


def _has_elements(cls: type) -> bool:
    return issubclass(cls, collections.abc.Iterable) and not issubclass(cls, collections.abc.Mapping)
