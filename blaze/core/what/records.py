"""Checks of classes with named fields: dataclasses, ``TypedDict``, ``NamedTuple`` and classes with ``model_validate``.

A JSON object becomes an instance where the annotation names such a class. An instance
that is there already is accepted as it stands.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from ..ground.errors import Fault
from ..ground.names import did_you_mean
from .annotations import (
    hints_of_class,
    is_dataclass_type,
    is_named_tuple,
    is_typed_dict,
    qualifier,
    spell,
)
from .callables import KEYWORD_ONLY, POSITIONAL_OR_KEYWORD, parameters_of
from .checker import Checker, Convert, Walk, at_key, clipped, instance_of, mismatch, shown_at
from .containers import CompileAnnotation, convert_each


class _Field(NamedTuple):
    checker: Checker
    required: bool


class _Fields:
    """The fields of a class, read when they are first needed: a class may contain itself."""

    def __init__(self, cls: Any, of: CompileAnnotation, read: Callable[[Any], Dict[str, bool]]) -> None:
        self._cls = cls
        self._of = of
        self._read = read
        self._known: Optional[Dict[str, _Field]] = None

    def all(self) -> Dict[str, _Field]:
        if self._known is None:
            hints = hints_of_class(self._cls)
            required = self._read(self._cls)
            self._known = {name: _Field(self._of(hints.get(name, Any)), must) for name, must in required.items()}
        return self._known


def record_checker(cls: Any, of: CompileAnnotation) -> Optional[Checker]:
    """The check of a class with named fields; None if it has none. ``of`` compiles the fields' annotations."""
    if is_typed_dict(cls):
        return _typed_dict_checker(cls, of)
    if is_named_tuple(cls):
        return _named_tuple_checker(cls, of)
    if callable(getattr(cls, "model_validate", None)):
        return _model_checker(cls)
    if is_dataclass_type(cls):
        return _dataclass_checker(cls, of)
    return None


def _dataclass_checker(cls: Any, of: CompileAnnotation) -> Checker:
    fields = _Fields(cls, of, arguments_of)

    def build(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        return _build(cls, fields.all(), value, path, faults, walk)

    return _built_from_dicts(cls, build)


def _model_checker(cls: Any) -> Checker:
    def build(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        try:
            return cls.model_validate(value)
        except Exception as error:
            faults.extend(_faults_of_error(error, path, spell(cls)))
            return value

    return _built_from_dicts(cls, build)


def _built_from_dicts(cls: Any, build: Convert) -> Checker:
    """The check of a class of which ``build`` makes an instance from a dict."""
    spelling = spell(cls)
    is_instance = instance_of(cls)

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if is_instance(value, walk):
            return value
        if not isinstance(value, dict):
            faults.append(mismatch(path, f"{spelling} or a dict of its fields", value))
            return value
        return walk.convert(build, value, path, faults)

    return Checker(spelling, (cls,), is_instance, convert)


def arguments_of(cls: Any) -> Dict[str, bool]:
    """The named arguments of a class's constructor, and whether each has to be given.

    From the signature, because ``dataclasses.fields()`` leaves out InitVars and does not know of an own ``__init__``.
    """
    return {
        parameter.name: parameter.required
        for parameter in parameters_of(cls)
        if parameter.kind in (POSITIONAL_OR_KEYWORD, KEYWORD_ONLY)
    }


def _named_tuple_checker(cls: Any, of: CompileAnnotation) -> Checker:
    spelling = spell(cls)
    is_instance = instance_of(cls)
    fields = _Fields(cls, of, lambda cls: {name: name not in cls._field_defaults for name in cls._fields})

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if is_instance(value, walk):
            return value
        if not isinstance(value, (dict, list)):
            faults.append(mismatch(path, f"{spelling} or a dict of its fields", value))
            return value
        return walk.convert(build, value, path, faults)

    def build(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if isinstance(value, dict):
            return _build(cls, fields.all(), value, path, faults, walk)
        known = fields.all()
        least = sum(field.required for field in known.values())
        if not least <= len(value) <= len(known):
            wanted = f"{least}" if least == len(known) else f"{least} to {len(known)}"
            faults.append(mismatch(path, f"{spelling}, {wanted} fields", value, f", {len(value)} long"))
            return value
        before = len(faults)
        elements, _ = convert_each(value, [field.checker for field in known.values()], path, faults, walk)
        return value if len(faults) > before else _make(cls, elements, {}, value, path, faults)

    return Checker(spelling, (cls,), is_instance, convert)


def _typed_dict_checker(cls: Any, of: CompileAnnotation) -> Checker:
    spelling = spell(cls)
    fields = _Fields(cls, of, _typed_dict_fields)

    def fits(value: Any, walk: Walk) -> bool:
        if not isinstance(value, dict):
            return False
        return walk.fits(fits_inside, value)

    def fits_inside(value: Any, walk: Walk) -> bool:
        known = fields.all()
        if not known.keys() >= value.keys():
            return False
        return all(
            field.checker.fits(value[name], walk) if name in value else not field.required
            for name, field in known.items()
        )

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if not isinstance(value, dict):
            faults.append(mismatch(path, f"{spelling}, a dict", value))
            return value
        return walk.convert(convert_inside, value, path, faults)

    def convert_inside(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        before = len(faults)
        converted = _convert_fields(spelling, fields.all(), value, path, faults, walk, at_key)
        if len(faults) > before or all(converted[name] is value[name] for name in value):
            return value
        return {name: converted[name] for name in value}

    return Checker(spelling, (), fits, convert, flat=False)


def _typed_dict_fields(cls: Any) -> Dict[str, bool]:
    required = {}
    for name, hint in hints_of_class(cls).items():
        # __required_keys__ is wrong where NotRequired[...] stood in text when the class was made.
        said = qualifier(hint)
        required[name] = said != "NotRequired" and (said == "Required" or name in cls.__required_keys__)
    for name in cls.__required_keys__ | cls.__optional_keys__:
        required.setdefault(name, name in cls.__required_keys__)
    return required


def _build(
    cls: Any, fields: Mapping[str, _Field], value: Mapping[Any, Any], path: str, faults: List[Fault], walk: Walk
) -> Any:
    """An instance of a dataclass or NamedTuple, or ``value`` itself and faults."""
    before = len(faults)
    converted = _convert_fields(spell(cls), fields, value, path, faults, walk, at_field)
    return value if len(faults) > before else _make(cls, (), converted, value, path, faults)


def at_field(path: str, name: Any) -> str:
    """The path of an object's field: ``fetch.options.limit``."""
    return f"{path}.{name}" if isinstance(name, str) and name.isidentifier() else at_key(path, name)


def _convert_fields(
    spelling: str,
    fields: Mapping[str, _Field],
    value: Mapping[Any, Any],
    path: str,
    faults: List[Fault],
    walk: Walk,
    at: Callable[[str, Any], str],
) -> Dict[str, Any]:
    converted: Dict[str, Any] = {}
    for name, item in value.items():
        field = fields.get(name)
        if field is None:
            near = did_you_mean(str(name), [known for known in fields if known not in value])
            known = "" if near else f"; it has {', '.join(fields) if fields else 'none'}"
            faults.append(Fault(at(path, name), f"{spelling} has no field {clipped(name)}{near}{known}"))
        else:
            converted[name] = field.checker.convert(item, at(path, name), faults, walk)
    for name, field in fields.items():
        if field.required and name not in value:
            faults.append(Fault(at(path, name), f"is missing; {spelling} needs it ({field.checker.spelling})"))
    return converted


def _make(
    cls: Any, positional: Iterable[Any], named: Mapping[str, Any], value: Any, path: str, faults: List[Fault]
) -> Any:
    try:
        return cls(*positional, **named)
    except Exception as error:  # raised by the class's own checks
        faults.extend(_faults_of_error(error, path, spell(cls)))
        return value


def _faults_of_error(error: Exception, path: str, spelling: str) -> List[Fault]:
    """What a class's own validation says; one fault a place if it has ``.errors()``, as pydantic's has."""
    faults: List[Fault] = []
    try:
        for entry in error.errors():  # type: ignore[attr-defined]
            where = path
            for part in entry.get("loc", ()):
                where = f"{where}[{part}]" if isinstance(part, int) else at_field(where, part)
            got = (
                ""
                if entry.get("type") == "missing" or "input" not in entry
                else f", got {shown_at(where, entry['input'])}"
            )
            faults.append(Fault(where, f"{entry['msg']}{got}"))
    except Exception:  # no .errors(), or in another form
        faults = []
    return faults or [Fault(path, f"{spelling} refuses it: {type(error).__name__}: {text_of(error)}")]


def text_of(error: Exception) -> str:
    """The message of any exception, even of one that fails to tell it."""
    try:
        return str(error)[:500]
    except Exception:
        return "(no text)"


def fields_of_model(model: Any, instance: Any) -> Dict[str, Any]:
    """``{field: value}`` of an instance of a dataclass or of a class with ``model_validate``."""
    return {name: getattr(instance, name) for name in _field_names(model, instance)}


def _field_names(model: Any, instance: Any) -> Tuple[str, ...]:
    if is_dataclass_type(model):
        from dataclasses import fields

        return tuple(field.name for field in fields(model))
    known = getattr(model, "model_fields", None)
    if isinstance(known, Mapping):
        return tuple(known)
    return tuple(name for name in vars(instance) if not name.startswith("_"))
