"""What the compiled checks of every kind of annotation share: their form, their limits, their error texts."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Tuple

from ..ground.errors import Fault
from ..ground.masking import is_secret, mask_urls
from ..ground.picture import Picture

#: Deepest nesting of lists, dicts and records in a parameter, in levels.
MAX_DEPTH = 100
#: Faults told of one list or dict; the rest of it is not looked at.
MAX_FAULTS = 100
#: Longest picture of a value in an error text, in characters.
MAX_SHOWN = 80

Fits = Callable[[Any, "Walk"], bool]
Convert = Callable[[Any, str, List[Fault], "Walk"], Any]


class TooDeep(Exception):
    """A value is nested deeper than :data:`MAX_DEPTH`. An exception, so that a value that contains
    itself twice is given up at the first descent and not after 2**100."""


class Walk:
    """One pass over one value: how deep it is inside, and what it found in the containers it has left.

    A container that stands in many places is looked at once: ``x = [x, x]``, said forty
    times, is forty lists but 2**40 paths. What it becomes stands in all of its places, too.
    """

    __slots__ = ("_depth", "_deepest", "_fitted", "_converted")

    def __init__(self) -> None:
        self._depth = 0
        #: The greatest depth in what is being looked at.
        self._deepest = 0
        # By the check and the id of the value, which is kept so that its id stays its own; with the levels inside.
        self._fitted: Dict[Tuple[Fits, int], Tuple[int, bool, Any]] = {}
        self._converted: Dict[Tuple[Convert, int], Tuple[int, Any, str, List[Fault], Any]] = {}

    def fits(self, inside: Fits, value: Any) -> bool:
        """``inside(value, self)``, one level deeper."""
        key = (inside, id(value))
        known = self._fitted.get(key)
        if known is not None:
            self.require(known[0])
            return known[1]
        around = self._enter()
        found = inside(value, self)
        self._fitted[key] = (self._leave(around), found, value)
        return found

    def convert(self, inside: Convert, value: Any, path: str, faults: List[Fault]) -> Any:
        """``inside(value, path, faults, self)``, one level deeper."""
        key = (inside, id(value))
        known = self._converted.get(key)
        if known is not None:
            levels, converted, elsewhere, found, _ = known
            self.require(levels)
            faults.extend(Fault(path + fault.where[len(elsewhere) :], fault.what) for fault in found)
            return converted
        before = len(faults)
        around = self._enter()
        converted = inside(value, path, faults, self)
        found = faults[before : before + MAX_FAULTS]
        self._converted[key] = (self._leave(around), converted, path, found, value)
        return converted

    def require(self, levels: int) -> None:
        """Raise :class:`TooDeep` if what stands here may not have so many levels."""
        deepest = self._depth + levels
        if deepest > MAX_DEPTH:
            raise TooDeep
        if deepest > self._deepest:
            self._deepest = deepest

    # An exception ends the whole walk: what it leaves behind need not be right.

    def _enter(self) -> int:
        """One level deeper; the greatest depth in what is around."""
        around = self._deepest
        self._deepest = 0
        self.require(1)
        self._depth += 1
        return around

    def _leave(self, around: int) -> int:
        """Back again; how many levels were inside."""
        self._depth -= 1
        levels = self._deepest - self._depth
        self._deepest = max(around, self._deepest)
        return levels


class Checker:
    """The check of one annotation, compiled.

    ``fits(value, walk)``: whether the value is right as it stands; ``convert(value, path,
    faults, walk)``: the value made right, or faults. ``exact``: types all instances of which
    fit, which lets a list of a million ints be checked at C speed. ``flat``: ``fits`` looks
    at no other value than the given one. ``spelling``: the annotation.
    """

    __slots__ = ("spelling", "exact", "fits", "convert", "flat")

    def __init__(
        self, spelling: str, exact: Iterable[type], fits: Fits, convert: Convert, *, flat: bool = True
    ) -> None:
        self.spelling = spelling
        self.exact: FrozenSet[type] = frozenset(exact)
        self.fits = fits
        self.convert = convert
        self.flat = flat


def anything(spelling: str = "Any") -> Checker:
    """The check that accepts everything."""
    return Checker(spelling, (), lambda value, walk: True, lambda value, path, faults, walk: value)


def all_fit(checker: Checker, values: Iterable[Any], walk: Walk) -> bool:
    """Whether each of the values (a container that can be gone through again) fits."""
    if checker.exact and checker.exact.issuperset(set(map(type, values))):
        return True
    fits = checker.fits
    for value in values:  # noqa: SIM110 - a generator would be one more frame for each level
        if not fits(value, walk):
            return False
    return True


def instance_of(cls: type) -> Fits:
    """``isinstance``; True where a class does not allow the question."""

    def fits(value: Any, walk: Walk) -> bool:
        try:
            return isinstance(value, cls)
        except RecursionError:  # the stack is full: that says nothing about the value
            raise
        except Exception:  # a metaclass's own __instancecheck__, a protocol's property
            return True

    return fits


def only_instances(spelling: str, cls: type, advice: str = "") -> Checker:
    """The check of a class into which nothing is converted; ``advice`` is told to those who give text."""
    fits = instance_of(cls)

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if not fits(value, walk):
            faults.append(mismatch(path, spelling, value, advice if isinstance(value, str) else ""))
        return value

    return Checker(spelling, (cls,), fits, convert)


def mismatch(path: str, expected: str, value: Any, advice: str = "") -> Fault:
    """The fault of a value that does not fit: ``expected int, got str '100'``."""
    return Fault(path, f"expected {expected}, got {shown_at(path, value)}{advice}")


def shown_at(path: str, value: Any) -> str:
    """As :func:`shown`, but only the type of what a path like ``fetch.password`` names."""
    if any(map(is_secret, _NAME.findall(path.partition(".")[2]))):
        return type(value).__qualname__.rpartition("<locals>.")[2]
    return shown(value)


_NAME = re.compile(r"\w+")


def shown(value: Any) -> str:
    """The type and a clipped picture of a value: ``str '100'``."""
    if value is None:
        return "None"
    kind = type(value).__qualname__.rpartition("<locals>.")[2]
    picture = clipped(value)
    return picture if picture.startswith(kind) else f"{kind} {picture}"


def clipped(value: Any) -> str:
    """``repr`` on one line, of at most :data:`MAX_SHOWN` characters, of any object: never raises, never takes long."""
    try:
        text = _clipper.repr(value)
    except Exception:  # an int beyond Python's digit limit, a __repr__ that fails
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split("\n"))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


_clipper = Picture(levels=3, shown=6, long=60, longest_int=60)


def at_key(path: str, key: Any) -> str:
    """The path of a dict's item: ``fetch.options['key']``."""
    short = type(key) is str and len(key) < _clipper.maxstring
    return f"{path}[{mask_urls(repr(key))}]" if short else f"{path}[{clipped(key)}]"


def at_index(path: str, index: int) -> str:
    """The path of a list's element: ``fetch.options[2]``."""
    return f"{path}[{index}]"


def at_element(path: str, element: Any) -> str:
    """The path of a set's element, which has no number: ``fetch.tags{'x'}``."""
    return f"{path}{{{clipped(element)}}}"
