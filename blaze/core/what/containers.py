"""Checks of lists, tuples, sets, dicts and the abstract collections.

A JSON list becomes a tuple, set, frozenset or deque where the annotation asks for one. A
container that is right already is handed on itself, never a copy of it; one that has to
change is rebuilt, and the given one stays as it was. Iterators are never consumed.
"""

from __future__ import annotations

import collections
import collections.abc
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from ..ground.errors import Fault
from .annotations import is_empty_tuple, spell
from .checker import (
    MAX_FAULTS,
    Checker,
    Walk,
    all_fit,
    anything,
    at_element,
    at_key,
    instance_of,
    mismatch,
)

CompileAnnotation = Callable[[Any], Checker]
FromList = Callable[[List[Any]], Any]

#: What makes the collection out of a JSON list; None where the list itself will do.
_FROM_LIST: Dict[type, Optional[FromList]] = {
    list: None,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    collections.abc.Sequence: None,
    collections.abc.MutableSequence: None,
    collections.abc.Collection: None,
    collections.abc.Iterable: None,
    collections.abc.Reversible: None,
}

#: What can be gone through again and again; the elements of anything else are not looked at.
_WALKABLE = (list, tuple, set, frozenset, collections.deque, dict, str, bytes, bytearray, range)

#: What can be built anew from changed elements.
_REBUILT = (list, tuple, set, frozenset, collections.deque)


def container_checker(annotation: Any, cls: type, args: Tuple[Any, ...], of: CompileAnnotation) -> Optional[Checker]:
    """The check of a generic or bare collection class; None if it is none. ``of`` compiles the inner annotations."""
    if cls is tuple:
        return _tuple_checker(annotation, args, of)
    if cls in _FROM_LIST:
        return _collection_checker(spell(annotation), cls, of(args[0]) if args else None, _FROM_LIST[cls])
    if issubclass(cls, collections.Counter):
        return _mapping_checker(spell(annotation), cls, of(args[0] if args else Any), of(int))
    if cls in _MAPPINGS:
        key, value = args if len(args) == 2 else (Any, Any)
        return _mapping_checker(spell(annotation), cls, of(key), of(value))
    return None


_MAPPINGS = (
    dict,
    collections.OrderedDict,
    collections.defaultdict,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
)


def convert_each(
    values: Iterable[Any], checkers: Iterable[Checker], path: str, faults: List[Fault], walk: Walk
) -> Tuple[List[Any], bool]:
    """The elements converted, and whether any of them changed. Stops after :data:`MAX_FAULTS` faults."""
    converted: List[Any] = []
    changed = False
    before = len(faults)
    numbered = not isinstance(values, (set, frozenset))
    for index, (value, checker) in enumerate(zip(values, checkers)):
        where = f"{path}[{index}]" if numbered else at_element(path, value)
        result = checker.convert(value, where, faults, walk)
        changed = changed or result is not value
        converted.append(result)
        if len(faults) - before >= MAX_FAULTS:
            faults.append(Fault(path, f"too many faults; what follows element {index} was not looked at"))
            break
    if not numbered:  # the order of a set changes with the hash seed, the report must not
        faults[before:] = sorted(faults[before:])
    return converted, changed


def _collection_checker(spelling: str, cls: type, element: Optional[Checker], from_list: Optional[FromList]) -> Checker:
    is_instance = instance_of(cls)
    unchecked = element is None
    inner = element or anything()

    def fits(value: Any, walk: Walk) -> bool:
        if not is_instance(value, walk):
            return False
        if unchecked or not isinstance(value, _WALKABLE):
            return True
        if not inner.flat:
            return walk.fits(fits_inside, value)
        walk.require(1)
        return all_fit(inner, value, walk)

    def fits_inside(value: Any, walk: Walk) -> bool:
        return all_fit(inner, value, walk)

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        right = is_instance(value, walk)
        if not right and not (from_list and isinstance(value, list)):
            faults.append(mismatch(path, spelling, value))
            return value
        if right and not isinstance(value, _REBUILT):
            if not fits(value, walk):
                faults.append(mismatch(path, spelling, value))
            return value
        return walk.convert(convert_inside, value, path, faults)

    def convert_inside(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        right = is_instance(value, walk)
        before = len(faults)
        elements, changed = convert_each(value, _repeat(inner), path, faults, walk)
        if len(faults) > before or (right and not changed):
            return value
        return _rebuild(elements, value, None if right else from_list, path, spelling, faults)

    exact = (cls,) if unchecked else ()
    return Checker(spelling, exact, fits, convert, flat=unchecked)


def _repeat(checker: Checker) -> Iterable[Checker]:
    while True:
        yield checker


def _rebuild(
    elements: List[Any], value: Any, make: Optional[FromList], path: str, spelling: str, faults: List[Fault]
) -> Any:
    """``elements`` as a collection: made by ``make``, else of the kind that ``value`` is."""
    try:
        if make is not None:
            return make(elements)
        if isinstance(value, collections.deque):
            return collections.deque(elements, value.maxlen)
        return next(kind for kind in _REBUILT if isinstance(value, kind))(elements)
    except TypeError as error:  # an unhashable element
        faults.append(mismatch(path, spelling, value, f": {error}"))
        return value


def _tuple_checker(annotation: Any, args: Tuple[Any, ...], of: CompileAnnotation) -> Checker:
    spelling = spell(annotation)
    if is_empty_tuple(annotation):
        args = ()
    elif not args:
        return _collection_checker(spelling, tuple, None, tuple)
    elif len(args) == 2 and args[1] is Ellipsis:
        return _collection_checker(spelling, tuple, of(args[0]), tuple)
    elif any("Unpack" in str(arg) or str(arg).startswith("*") for arg in args):
        return _collection_checker(spelling, tuple, None, tuple)
    checkers = [of(arg) for arg in args]

    def fits(value: Any, walk: Walk) -> bool:
        if not isinstance(value, tuple) or len(value) != len(checkers):
            return False
        return walk.fits(fits_inside, value)

    def fits_inside(value: Any, walk: Walk) -> bool:
        return all(checker.fits(element, walk) for checker, element in zip(checkers, value))

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if not isinstance(value, (tuple, list)):
            faults.append(mismatch(path, spelling, value))
            return value
        if len(value) != len(checkers):
            faults.append(mismatch(path, f"{spelling}, {len(checkers)} long", value, f", {len(value)} long"))
            return value
        return walk.convert(convert_inside, value, path, faults)

    def convert_inside(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        elements, changed = convert_each(value, checkers, path, faults, walk)
        return value if isinstance(value, tuple) and not changed else tuple(elements)

    return Checker(spelling, (), fits, convert, flat=False)


def _mapping_checker(spelling: str, cls: type, key: Checker, value: Checker) -> Checker:
    is_instance = instance_of(cls)

    def fits(mapping: Any, walk: Walk) -> bool:
        if not is_instance(mapping, walk):
            return False
        if not isinstance(mapping, dict):
            return True
        if not (key.flat and value.flat):
            return walk.fits(fits_inside, mapping)
        walk.require(1)
        return fits_inside(mapping, walk)

    def fits_inside(mapping: Any, walk: Walk) -> bool:
        return all_fit(key, mapping, walk) and all_fit(value, mapping.values(), walk)

    def convert(mapping: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        ordered = cls is collections.OrderedDict and type(mapping) is dict
        if not is_instance(mapping, walk) and not ordered:
            faults.append(mismatch(path, spelling, mapping))
            return mapping
        return walk.convert(convert_inside, mapping, path, faults) if isinstance(mapping, dict) else mapping

    def convert_inside(mapping: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        ordered = cls is collections.OrderedDict and type(mapping) is dict
        before = len(faults)
        converted, changed = _convert_items(mapping, key, value, path, faults, walk)
        if len(faults) > before or not (changed or ordered):
            return mapping
        if ordered:
            return collections.OrderedDict(converted)
        if type(mapping) is dict:
            return converted
        copy = mapping.copy()  # keeps what a subclass has besides its items, such as a default factory
        copy.clear()
        copy.update(converted)
        return copy

    return Checker(spelling, (), fits, convert, flat=False)


def _convert_items(
    mapping: Dict[Any, Any], key: Checker, value: Checker, path: str, faults: List[Fault], walk: Walk
) -> Tuple[Dict[Any, Any], bool]:
    converted: Dict[Any, Any] = {}
    changed = False
    enough = len(faults) + MAX_FAULTS
    for name, item in mapping.items():
        new_name = name
        where = at_key(path, name)
        if not key.fits(name, walk):
            wrong: List[Fault] = []
            new_name = key.convert(name, where, wrong, walk)
            faults.extend(Fault(fault.where, f"the key: {fault.what}") for fault in wrong)
        new_item = value.convert(item, where, faults, walk)
        changed = changed or new_name is not name or new_item is not item
        try:
            twice = new_name is not name and new_name in converted
            converted[new_name] = new_item
        except TypeError as error:
            faults.append(Fault(where, f"the key: {error}"))
            continue
        if twice:
            faults.append(Fault(where, "another key of the same dict means the same"))
        if len(faults) >= enough:
            faults.append(Fault(path, f"too many faults; what follows {at_key('', name)} was not looked at"))
            break
    return converted, changed
