"""How the parameters of a stored submission are written as JSON text, and come back as what they were.

JSON values stand as themselves, so that a stored submission can be read and written by
hand. What JSON has no type for is an object with the key ``"$blaze"``:
``{"$blaze": "date", "value": "2024-01-31"}``. A dict that has this key itself is escaped.

Whatever would not come back equal and of the same type is refused, with its path and
advice. Reading makes instances of the types named in ``tagged``, and of the Enum
classes and dataclasses that the annotation names; it imports nothing, whatever the text says.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NoReturn, Tuple

from ..ground.errors import Fault, ValidationError
from .annotations import alternatives
from .checker import clipped
from .value_reader import ValueReader
from .value_writer import MAX_BYTES, MAX_DIGITS, TOO_LONG, ValueWriter, json_text

__all__ = ["MAX_BYTES", "MAX_DIGITS", "decode", "dumps", "encode", "loads"]


def encode(value: Any, path: str, faults: List[Fault], annotation: Any = Any) -> Any:
    """``value`` as an object that :func:`json.dumps` can write.

    Arguments:
        value: any object; it is not changed.
        path: how faults name it: ``fetch.options``; they go on with ``[2]``, ``['key']`` and ``.field``.
        faults: everything in it that can't be stored is appended here; what is returned is then of no use.
        annotation: the parameter's annotation. Enum and dataclass members are stored if it names their class.

    The same value gives the same text, whatever the hash seed.

    >>> from datetime import date
    >>> faults: List[Fault] = []
    >>> encode({"since": date(2024, 1, 31)}, "fetch.options", faults)
    {'since': {'$blaze': 'date', 'value': '2024-01-31'}}
    >>> _ = encode([1, float("nan")], "fetch.options", faults)
    >>> str(faults[0])
    "fetch.options[1]: nan can't be stored; numbers must be finite"
    """
    encoder = ValueWriter(faults)
    before = len(faults)
    encoded = encoder.parameter(value, path, alternatives(annotation))
    if len(faults) == before and len(json_text(encoded).encode()) > MAX_BYTES:
        faults.append(Fault(path, TOO_LONG))
    return encoded


def decode(jsonable: Any, annotation: Any = Any) -> Any:
    """The value that :func:`encode` wrote, of the same annotation.

    Raises :class:`ValidationError` if it is damaged, or if the class that it was of has changed too much.
    """
    return ValueReader().parameter(jsonable, "", alternatives(annotation))


def dumps(parameters: Mapping[str, Mapping[str, Any]], hints: Mapping[Tuple[str, str], Any]) -> str:
    """The parameters of a submission, ``{step: {parameter: value}}``, as one line of JSON text.

    ``hints`` maps ``(step, parameter)`` to the annotation, where there is one. Raises
    :class:`ValidationError` with every fault; the faults' paths begin with ``step.parameter``.
    """
    faults: List[Fault] = []
    encoder = ValueWriter(faults)
    encoded: Dict[str, Dict[str, Any]] = {}
    for step, values in parameters.items():
        _check_name(step, "parameters", faults)
        encoded[step] = {}
        for name, value in values.items():
            _check_name(name, f"parameters of {step}", faults)
            hint = alternatives(hints.get((step, name), Any))
            encoded[step][name] = encoder.parameter(value, f"{step}.{name}", hint)
            if encoder.room < 0:
                raise ValidationError(faults, "parameters")
    text = "" if faults else json_text(encoded)
    if not faults and len(text.encode()) > MAX_BYTES:
        sizes = {
            f"{step}.{name}": len(json_text(item).encode()) for step in encoded for name, item in encoded[step].items()
        }
        faults.append(Fault(max(sizes, key=sizes.__getitem__, default="parameters"), TOO_LONG))
    if faults:
        raise ValidationError(faults, "parameters")
    return text


def loads(text: str, hints: Mapping[Tuple[str, str], Any]) -> Dict[str, Dict[str, Any]]:
    """The parameters that :func:`dumps` wrote. Raises :class:`ValidationError` with every fault."""
    try:
        parameters = _parse(text)
    except (ValueError, RecursionError) as error:
        raise ValidationError([Fault("parameters", f"the stored text can't be read: {error}")]) from error
    if not isinstance(parameters, dict) or not all(isinstance(values, dict) for values in parameters.values()):
        raise ValidationError([Fault("parameters", "the stored text is not {step: {parameter: value}}")])
    faults: List[Fault] = []
    decoded: Dict[str, Dict[str, Any]] = {}
    for step, values in parameters.items():
        decoded[step] = {}
        for name, value in values.items():
            hint = alternatives(hints.get((step, name), Any))
            try:
                decoded[step][name] = ValueReader().parameter(value, f"{step}.{name}", hint)
            except ValidationError as error:
                faults.extend(error.errors)
    if faults:
        raise ValidationError(faults, "stored parameters")
    return decoded


def _check_name(name: object, where: str, faults: List[Fault]) -> None:
    if type(name) is not str or not name.isprintable():  # surrogates are not printable
        faults.append(Fault(where, f"{clipped(name)} is no name"))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_parse = json.JSONDecoder(parse_constant=_no_constant).decode
