"""What a question may ask for: limits, states, times, levels and cursors, checked before the file is touched.

Each function gives the value in the form that the queries take. What is wrong with it is
appended to ``faults``, so that all faults of a question are told at once.
"""

from __future__ import annotations

import logging
import math
import re
from datetime import datetime
from typing import Any, Collection, Iterable, List, Optional, Tuple, Union

from ..ground.errors import Fault, ValidationError
from ..ground.names import did_you_mean, name_fault
from ..ground.picture import Picture, encodable
from ..ground.status import JobStatus, RunStatus

#: Most records in one page.
MAX_LIMIT = 10_000
#: Longest text to search for, in characters.
MAX_SEARCH = 1000
#: The levels that may be named, lowest first.
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

Statuses = Union[str, RunStatus, Iterable[Union[str, RunStatus]]]
#: An aware datetime, a naive one in local time, or epoch seconds.
Moment = Union[datetime, float]


def refuse(faults: List[Fault]) -> None:
    """Raise :class:`ValidationError` if there are faults."""
    if faults:
        raise ValidationError(faults, "the question")


def check_name(where: str, name: Optional[str], faults: List[Fault]) -> None:
    """A seq_id or job_id."""
    fault = None if name is None else name_fault(name, dotted=True)
    if fault is not None:
        faults.append(Fault(where, fault))


def limit_of(where: str, limit: object, faults: List[Fault], least: int = 1) -> int:
    """A number of records."""
    if isinstance(limit, int) and not isinstance(limit, bool) and least <= limit <= MAX_LIMIT:
        return limit
    faults.append(Fault(where, f"a whole number from {least} to {MAX_LIMIT:,}; got {_clipped(limit)}"))
    return least


def statuses_of(status: Optional[Statuses], faults: List[Fault]) -> Collection[RunStatus]:
    """States of runs; none for all of them."""
    if status is None:
        return ()
    wanted: List[Any] = list(status) if isinstance(status, Iterable) and not isinstance(status, str) else [status]
    found: List[RunStatus] = []
    known = [state.value for state in RunStatus]
    for item in wanted:
        name = item.upper() if isinstance(item, str) else ""
        if name in known:
            found.append(RunStatus(name))
        else:
            near = did_you_mean(name[:40], known)
            faults.append(Fault("status", f"{_clipped(item)} is no state of a run ({', '.join(known)}){near}"))
    if not wanted:
        faults.append(Fault("status", "no state is asked for; leave it out for all of them"))
    return found


def job_status_of(status: Union[str, JobStatus, None], faults: List[Fault]) -> Optional[str]:
    """A state of jobs."""
    if status is None:
        return None
    known = [state.value for state in JobStatus]
    name = status.upper() if isinstance(status, str) else ""
    if name in known:
        return name
    near = did_you_mean(name[:40], known)
    faults.append(Fault("status", f"{_clipped(status)} is no state of a job ({', '.join(known)}){near}"))
    return None


def epoch_of(where: str, moment: Optional[Moment], faults: List[Fault]) -> Optional[float]:
    """An instant as epoch seconds."""
    if moment is None:
        return None
    try:
        if isinstance(moment, datetime):
            return moment.timestamp()
        if isinstance(moment, (int, float)) and not isinstance(moment, bool) and math.isfinite(moment):
            return float(moment)
    except (OverflowError, ValueError, OSError):
        pass  # beyond what the platform's clock can tell
    faults.append(Fault(where, f"a datetime, or seconds since 1970; got {_clipped(moment)}"))
    return None


def level_of(level: Union[str, int, None], faults: List[Fault]) -> Optional[int]:
    """A level of ``logging`` as a number."""
    if level is None:
        return None
    number: Any = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 31:
        return number
    near = did_you_mean(level[:40].upper(), LEVELS) if isinstance(level, str) else ""
    faults.append(Fault("level", f"{_clipped(level)} is no level ({', '.join(LEVELS)}, or a number){near}"))
    return None


def search_of(text: Optional[str], faults: List[Fault]) -> Optional[str]:
    """A text to search for; None if it is in every message."""
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        faults.append(Fault("search", f"a text; got {_clipped(text)}"))
        return None
    if len(text) > MAX_SEARCH:
        faults.append(Fault("search", f"at most {MAX_SEARCH:,} characters; got {len(text):,}"))
        return None
    return encodable(text)  # as the recorder writes messages


def keys_of(kind: str, cursor: Optional[str], number: int, faults: List[Fault]) -> Optional[Tuple[int, ...]]:
    """The keys in a cursor, ``kind-key-...``."""
    if cursor is None:
        return None
    # 18 digits fit into SQLite's integers.
    found = re.fullmatch(kind + "-([0-9]{1,18})" * number, cursor) if isinstance(cursor, str) else None
    if found is None:
        faults.append(Fault("cursor", f"take it from the page before; {_clipped(cursor)} is none of this question's"))
        return None
    return tuple(int(digits) for digits in found.groups())


def key_of(kind: str, cursor: Optional[str], faults: List[Fault]) -> Optional[int]:
    """The key in a cursor that has one."""
    found = keys_of(kind, cursor, 1, faults)
    return None if found is None else found[0]


def text_of_cursor(kind: str, cursor: Optional[str], faults: List[Fault]) -> Optional[str]:
    """The name in a cursor, ``kind-name``."""
    if cursor is None:
        return None
    name = cursor[len(kind) + 1 :] if isinstance(cursor, str) and cursor.startswith(f"{kind}-") else None
    if name_fault(name, dotted=True) is not None:
        faults.append(Fault("cursor", f"take it from the page before; {_clipped(cursor)} is none of this question's"))
        return None
    return name


def shown(name: object) -> str:
    """A name, as a message about it may show it: one short line without control characters."""
    return repr(name if len(name) <= 40 else name[:37] + "...") if isinstance(name, str) else _clipped(name)


_picture = Picture(levels=2, shown=6, long=60, longest_int=60)


def _clipped(value: object) -> str:
    text = _picture.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
