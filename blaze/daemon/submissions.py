"""Submissions as JSON: what travels to the daemon, and what stands in a job file.

An object has the fields of ``SubmitSequenceData``; dates are ISO 8601 texts, and
parameters have their stored form (``core/what/values.py``). Nothing is unpickled. Whether
a submission makes sense is asked where it is stored.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from ..core.ground.errors import Fault, ValidationError
from ..core.ground.names import did_you_mean
from ..core.seq import BlazeSequence, SubmitSequenceData
from ..core.submitting import faults_of
from ..core.what.checker import shown
from ..core.what.conversion import convert
from ..core.what.naming import quoted
from ..core.what.values import dumps, loads

#: The fields of a submission.
FIELDS = (
    "seq_id", "parameters", "seq_run_interval", "start_date", "end_date", "job_id", "timezone", "catchup", "overlap",
    "priority",
)  # fmt: skip
_DATES = ("start_date", "end_date")

#: The annotations of a sequence's parameters, by (step, parameter); of an unknown one there are none.
Hints = Callable[[Any], Mapping[Tuple[str, str], Any]]


def hints_of(sequences: BlazeSequence) -> Hints:
    """The annotations of the sequences of a registry."""

    def hints(seq_id: Any) -> Mapping[Tuple[str, str], Any]:
        known = sequences.get(seq_id) if isinstance(seq_id, str) else None
        return {} if known is None else known.hints

    return hints


# ---------------------------------------------------------------------- reading


def read_submissions(
    given: List[Any], sequences: BlazeSequence, executors: Iterable[str] = ()
) -> List[SubmitSequenceData]:
    """The submissions of a list of JSON objects. Raises :class:`ValidationError` with the faults of all.

    Faults name an object by its place, ``$[2].start_date``. If some can't be read, what is wrong with the
    others is told as well; if all can, that is left to who stores them.
    """
    faults: List[Fault] = []
    hints = hints_of(sequences)
    found: List[SubmitSequenceData] = []
    for index, item in enumerate(given):
        faults += _unknown_fields(item, f"$[{index}]")  # it can be read all the same
        before = len(faults)
        one = _read(item, f"$[{index}]", hints, faults)
        if len(faults) == before:
            found.append(one)
    if faults:
        faults += faults_of(found, sequences, executors, time.time())
        raise ValidationError(faults, "the submission")
    return found


def _unknown_fields(given: Any, where: str) -> List[Fault]:
    unknown = [name for name in given if name not in FIELDS] if isinstance(given, dict) else []
    return [
        Fault(
            where,
            f"there is no field {quoted(name)}"
            + (did_you_mean(name[:100], FIELDS) or f"; the fields are {', '.join(FIELDS)}"),
        )
        for name in unknown
    ]


def _read(given: Any, where: str, hints: Hints, faults: List[Fault]) -> SubmitSequenceData:
    if not isinstance(given, dict):
        faults.append(Fault(where, f"a submission is an object, got {shown(given)}"))
        return SubmitSequenceData("")
    if "seq_id" not in given:
        faults.append(Fault(where, "seq_id is missing: the sequence that is to run"))
    values: Dict[str, Any] = {name: given[name] for name in FIELDS if given.get(name) is not None}
    values["seq_id"] = given.get("seq_id", "")
    for name in _DATES:
        if name in values:
            values[name] = convert(values[name], datetime, f"{where}.{name}", faults)
    if "parameters" in values:
        values["parameters"] = read_parameters(values["parameters"], values["seq_id"], hints, where, faults)
    return SubmitSequenceData(**values)


def read_parameters(given: Any, seq_id: Any, hints: Hints, where: str, faults: List[Fault]) -> Any:
    """Parameters as they are stored, as what they were."""
    path = f"{where}.parameters" if where else "parameters"
    if not isinstance(given, dict) or not all(isinstance(values, dict) for values in given.values()):
        faults.append(Fault(path, "parameters are {step: {parameter: value}}"))
        return {}
    try:
        return loads(json.dumps(given), hints(seq_id))
    except ValidationError as error:
        faults.extend(Fault(f"{path}.{fault.where}", fault.what) for fault in error.errors)
    except (ValueError, RecursionError) as error:
        faults.append(Fault(path, f"it can't be read: {error}"))
    return {}


# ---------------------------------------------------------------------- writing


def write_submissions(data: Any, hints: Hints) -> List[Dict[str, Any]]:
    """Submissions as JSON objects. Raises :class:`ValidationError` with the faults of all."""
    faults: List[Fault] = []
    found = [_write(item, number, hints, faults) for number, item in enumerate(data, 1)]
    if faults:
        raise ValidationError(faults, "the submission")
    return found


def _write(data: Any, number: int, hints: Hints, faults: List[Fault]) -> Dict[str, Any]:
    if not isinstance(data, SubmitSequenceData):
        faults.append(Fault(f"submission {number}", f"a submission is a SubmitSequenceData, got {shown(data)}"))
        return {}
    found = {name: value for name, value in vars(data).items() if value is not None}
    where = f"job {quoted(data.job_id or data.seq_id)}"
    for name in _DATES:
        if name in found:
            found[name] = _date_text(found[name], f"{where}: {name}", faults)
    try:
        found["parameters"] = write_parameters(data.parameters, hints(data.seq_id)) or {}
    except ValidationError as error:
        faults.extend(Fault(f"{where}: {fault.where}", fault.what) for fault in error.errors)
    return found


def _date_text(value: Any, where: str, faults: List[Fault]) -> Optional[str]:
    if isinstance(value, datetime):
        return value.isoformat()
    faults.append(Fault(where, f"a datetime is needed, got {shown(value)}"))
    return None


def write_parameters(parameters: Any, hints: Mapping[Tuple[str, str], Any]) -> Optional[Dict[str, Any]]:
    """Parameters in their stored form. Raises :class:`ValidationError`."""
    if not parameters:
        return None
    if not isinstance(parameters, Mapping) or not all(isinstance(values, Mapping) for values in parameters.values()):
        raise ValidationError([Fault("parameters", "parameters are {step: {parameter: value}}")])
    found: Dict[str, Any] = json.loads(dumps(parameters, hints))
    return found
