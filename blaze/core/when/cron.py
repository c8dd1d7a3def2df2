"""Reads cron text. The one module that knows croniter, which expands what was checked here.

Checked here, because what croniter makes of some texts changed between its versions, or
is not what their author meant: ``5-5`` as the whole field, ranges that run backwards,
``10/5``. What is handed on means the same to all versions that Blaze allows.
"""

from __future__ import annotations

import functools
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from ..ground.errors import Fault, ValidationError

#: Longest text, in characters.
MAX_TEXT = 256

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SUNDAY_TOO = 7
#: In a set of days: the last one of the month.
LAST = "l"


class _Kind(NamedTuple):
    name: str
    low: int
    high: int
    names: Dict[str, int]


_FIELDS = (
    _Kind("minute", 0, 59, {}),
    _Kind("hour", 0, 23, {}),
    _Kind("day of month", 1, 31, {}),
    _Kind("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Kind("day of week", 0, 6, {name: number for number, name in enumerate(_WEEKDAYS)}),
    _Kind("second", 0, 59, {}),
)
_DAY, _WEEKDAY = 2, 4


class Fields(NamedTuple):
    """What a cron text asks for: numbers in order. Weekdays count from Sunday, 0."""

    seconds: Tuple[int, ...]
    minutes: Tuple[int, ...]
    hours: Tuple[int, ...]
    days: FrozenSet[int]
    #: Also the last day of the month.
    last_day: bool
    months: Tuple[int, ...]
    #: Any day of these.
    weekdays: FrozenSet[int]
    #: (weekday, its number in the month; 0: the last).
    nth_weekdays: FrozenSet[Tuple[int, int]]
    #: A day has to fit both day fields, since one begins with ``*``; else either.
    both_days: bool
    #: Neither the minute nor the hour begins with ``*``: what daylight saving skips is made up for.
    fixed_time: bool


def read(text: object) -> Fields:
    """The fields of a cron text: five, or six with the seconds last, or an alias such as ``@daily``.

    Raises :class:`ValidationError`, which names the field and what is wrong with it.
    """
    if not isinstance(text, str):
        what = f"cron text is a str such as '*/15 * * * *', got {type(text).__name__}"
        raise ValidationError([Fault(f"schedule {text!r:.80}", what)])
    return _read(text)


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> Fields:
    parts = _split(text)
    faults: List[Fault] = []
    numbered: List[Tuple[int, int]] = []
    normal = [_normalised(position, part, text, numbered, faults) for position, part in enumerate(parts)]
    if faults:
        raise ValidationError(faults, f"schedule {text!r}")
    from croniter import croniter  # 26 ms, and more where its dependencies are not imported yet

    # What croniter makes of numbered weekdays beside plain ones depends on its version.
    expanded, _ = croniter.expand(" ".join(part or "*" for part in normal))
    sets = [
        tuple(range(kind.low, kind.high + 1)) if "*" in found else tuple(found)
        for kind, found in zip(_FIELDS, expanded)
    ]
    days = frozenset(sets[_DAY])
    return Fields(
        seconds=tuple(sorted(sets[5])) if len(sets) > 5 else (0,),
        minutes=tuple(sorted(sets[0])),
        hours=tuple(sorted(sets[1])),
        days=days - {LAST},
        last_day=LAST in days,
        months=tuple(sorted(sets[3])),
        weekdays=frozenset(sets[_WEEKDAY]) if normal[_WEEKDAY] else frozenset(),
        nth_weekdays=frozenset(numbered),
        both_days=parts[_DAY][0] in "*?" or parts[_WEEKDAY][0] in "*?",
        fixed_time=parts[0][0] != "*" and parts[1][0] != "*",
    )


def _split(text: str) -> List[str]:
    """The fields, in lower case."""
    where = f"schedule {text!r:.80}"

    def refuse(what: str) -> ValidationError:
        return ValidationError([Fault(where, what)])

    if len(text) > MAX_TEXT:
        raise refuse(f"it has {len(text)} characters; {MAX_TEXT} are allowed")
    odd = [character for character in text if not ("\x20" <= character <= "\x7e" or character == "\t")]
    if odd:
        raise refuse(f"{odd[0]!r} does not belong into cron text; ASCII letters, digits and '*/,-?#@' do")
    lowered = text.strip(" \t").lower()
    if lowered.startswith("@"):
        if lowered == "@reboot":
            raise refuse("'@reboot' is no time; use auto_start=True for what is to run when a scheduler starts")
        if lowered not in ALIASES:
            raise refuse(f"{lowered!r} is none of {', '.join(ALIASES)}")
        lowered = ALIASES[lowered]
    parts = lowered.split()
    if len(parts) not in (5, 6):
        what = "is empty" if not parts else f"has {len(parts)} field{'' if len(parts) == 1 else 's'}"
        raise refuse(
            f"it {what}; a schedule has five (minute, hour, day of month, month, day of week), or six with seconds last"
        )
    return parts


def _normalised(position: int, part: str, text: str, numbered: List[Tuple[int, int]], faults: List[Fault]) -> str:
    """A field as every croniter reads it, without the weekdays that go to ``numbered``; faults go to ``faults``."""
    kind = _FIELDS[position]
    items: List[str] = []
    for item in part.split(","):
        try:
            nth = _nth_weekday(kind, item) if position == _WEEKDAY else None
            if nth is not None:
                numbered.append(nth)
            else:
                items.append(_item(position, kind, item))
        except _Refused as refused:
            faults.append(Fault(f"schedule {text!r:.80}, field {position + 1} ({kind.name})", str(refused)))
    return ",".join(items)


class _Refused(Exception):
    pass


def _item(position: int, kind: _Kind, item: str) -> str:
    """One item of a list, in numbers."""
    if not item:
        raise _Refused("there is nothing between two commas, or before or after one")
    body, slash, step_text = item.partition("/")
    step = ""
    if slash:
        if not step_text.isdigit():
            raise _Refused(f"the step of {item!r} is a whole number, got {step_text!r}")
        if int(step_text) == 0:
            raise _Refused(f"the step of {item!r} is 0; it is at least 1")
        step = f"/{int(step_text)}"
    if body == "*":
        return f"*{step}"
    if body == "?":
        if position not in (_DAY, _WEEKDAY) or step:
            raise _Refused(f"{item!r}: a '?' stands by itself, in a field of days; write '*'")
        return "*"
    if position == _DAY and body == LAST:
        if step:
            raise _Refused(f"{item!r}: the last day takes no step")
        return LAST
    if position == _DAY and body.endswith("w"):
        raise _Refused(f"{item!r}: the nearest working day ('W') is not supported; name the days")
    first_text, dash, last_text = body.partition("-")
    first = _number(position, kind, item, first_text)
    if not dash:
        first = first % 7 if position == _WEEKDAY else first
        # With a step: on to the end of the field. croniter before 7 has it otherwise for a step beyond that.
        return f"{first}-{kind.high}{step}" if step and first + int(step[1:]) <= kind.high else str(first)
    last = _number(position, kind, item, last_text)
    if position == _WEEKDAY and last == 0 and first > 0:
        last = SUNDAY_TOO  # a week that ends on Sunday
    if first == last:
        raise _Refused(f"{item!r} is a range of one; write {first_text!r}")
    if first > last:
        upper = _range(first_text, str(kind.high) if first_text.isdigit() else _spelled(kind, kind.high))
        lower = _range(str(kind.low) if last_text.isdigit() else _spelled(kind, kind.low), last_text)
        raise _Refused(f"{item!r} runs backwards; write '{upper},{lower}'")
    if last == SUNDAY_TOO and position == _WEEKDAY:
        size = int(step[1:]) if step else 1
        return ",".join(str(day % 7) for day in range(first, last + 1, size))
    return f"{first}-{last}{step}"


def _nth_weekday(kind: _Kind, item: str) -> Optional[Tuple[int, int]]:
    """``5#2``, the second Friday, and ``L5``, the last one; None for anything else."""
    if "#" in item:
        day_text, _, number_text = item.partition("#")
        if number_text not in ("1", "2", "3", "4", "5"):
            raise _Refused(f"{item!r}: after '#' stands which one of the month, 1 to 5")
        return _number(_WEEKDAY, kind, item, day_text) % 7, int(number_text)
    if item.startswith(LAST) or item.endswith(LAST):
        if len(item) == 1 or "/" in item:
            raise _Refused(f"{item!r}: the last one of a weekday is written 'L5', for Friday")
        return _number(_WEEKDAY, kind, item, item.strip(LAST)) % 7, 0
    return None


def _number(position: int, kind: _Kind, item: str, text: str) -> int:
    named = kind.names.get(text)
    if named is not None:
        return named
    if not text.isdigit():
        names = f" or a name such as {next(iter(kind.names))!r}" if kind.names else ""
        raise _Refused(f"{item!r}: {text!r} is no number{names}")
    number = int(text)
    high = SUNDAY_TOO if position == _WEEKDAY else kind.high
    if not kind.low <= number <= high:
        raise _Refused(f"{item!r}: {number} lies outside {kind.low} to {high}")
    return number


def _range(first: str, last: str) -> str:
    """As it may be written: a range of one is none."""
    return first if first == last else f"{first}-{last}"


def _spelled(kind: _Kind, number: int) -> str:
    return next((name for name, value in kind.names.items() if value == number), str(number))
