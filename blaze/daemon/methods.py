"""What can be asked of a server: a table of names, functions and the parameters they take.

A request names an entry of the table or is refused; no attribute is ever looked up by
a name that came in (RELIABILITY R49). Every value is held against its kind before the
function sees it, and all faults are reported together.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, List, Mapping, NamedTuple, Optional

from ..core.ground.errors import Fault
from ..core.ground.names import did_you_mean


class Kind(NamedTuple):
    """What values a parameter takes."""

    #: In words: "a text".
    told: str
    fits: Callable[[Any], bool]


# type() and not isinstance(): in JSON, true is no number.
TEXT = Kind("a text", lambda value: type(value) is str)
FLAG = Kind("true or false", lambda value: type(value) is bool)
WHOLE = Kind("a whole number", lambda value: type(value) is int)
NUMBER = Kind("a number", lambda value: type(value) in (int, float))
OBJECT = Kind("an object", lambda value: type(value) is dict)
LIST = Kind("a list", lambda value: type(value) is list)
TEXTS = Kind("a list of texts", lambda value: type(value) is list and all(type(one) is str for one in value))
ANYTHING = Kind("any value", lambda value: True)


def or_null(kind: Kind) -> Kind:
    """The same, or null."""
    return Kind(f"{kind.told} or null", lambda value: value is None or kind.fits(value))


class Parameter(NamedTuple):
    """One parameter of a method. Where it may be left out, the function has a default."""

    kind: Kind
    required: bool = True


class Method(NamedTuple):
    """One entry of the table.

    ``function`` is called in a thread of the connection, with the parameters by their
    names, and returns a JSON value. With ``stream``, it returns a generator: each item
    is sent at once, None is not sent. A generator that has nothing to say yields None
    every second or so: only then is seen that the client has left or the server closes.
    It is closed in either case.
    """

    function: Callable[..., Any]
    parameters: Mapping[str, Parameter] = {}
    stream: bool = False

    def faults(self, params: Mapping[str, Any]) -> List[Fault]:
        """Everything that is wrong with the parameters of a request."""
        return list(self._faults(params))

    def _faults(self, params: Mapping[str, Any]) -> Iterator[Fault]:
        known = self.parameters
        for name, value in params.items():
            parameter = known.get(name)
            if parameter is None:
                yield Fault(_clipped(name), f"there is no such parameter{near(name, known)}")
            elif not parameter.kind.fits(value):
                yield Fault(name, f"{parameter.kind.told}, not {_told(value)}")
        for name, parameter in known.items():
            if parameter.required and name not in params:
                yield Fault(name, f"{parameter.kind.told} is needed")


def near(name: str, known: Mapping[str, Any]) -> str:
    """``"; did you mean 'x'?"``, or what there is, or nothing."""
    # The comparison takes time that grows with the length, and long names come from nobody who mistyped.
    found = did_you_mean(name, known) if len(name) <= 100 else ""
    return found or (f"; there are {', '.join(sorted(known))}" if known else "")


def not_found(name: str, methods: Mapping[str, Method]) -> str:
    """The refusal of a method that does not exist."""
    return f"there is no method {_clipped(name)!r}{near(name, methods)}"


def _clipped(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."


def _told(value: Optional[object]) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
