"""Numbers and times in flags, with errors that say which are taken."""

from __future__ import annotations

from argparse import ArgumentTypeError

from ..core.ground.errors import ValidationError
from .moments import since

#: Most records in one answer.
MOST = 10_000


def limit(text: str) -> int:
    """A whole number of records, 1 to 10,000."""
    return _whole(text, 1, MOST)


def count(text: str) -> int:
    """A whole number, 0 to 10,000."""
    return _whole(text, 0, MOST)


def positive(text: str) -> int:
    """A whole number, 1 to a billion."""
    return _whole(text, 1, 1_000_000_000)


def workers(text: str) -> int:
    """A number of workers, 1 to 10,000."""
    return _whole(text, 1, MOST)


def patience(text: str) -> float:
    """Seconds that something may take, none to 30 days."""
    return _number(text, 0.0, 2_592_000.0, "seconds")


def seconds(text: str) -> float:
    """Seconds between two looks, a tenth to a day."""
    return _number(text, 0.1, 86_400.0, "seconds")


def days(text: str) -> float:
    """A number of days."""
    return _number(text, 0.0, 100_000.0, "days")


def past(text: str) -> float:
    """Epoch seconds of a point in the past: an age such as ``15m``, or a date in ISO order."""
    try:
        return since(text)
    except ValidationError as error:
        raise ArgumentTypeError(str(error)) from None


def _whole(text: str, least: int, most: int) -> int:
    try:
        found = int(text) if len(text) <= 20 else most + 1
    except ValueError:
        found = least - 1
    if not least <= found <= most:
        raise ArgumentTypeError(f"{text!r:.60} is no whole number from {least} to {most}")
    return found


def _number(text: str, least: float, most: float, unit: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = least - 1
    if not least <= found <= most:
        raise ArgumentTypeError(f"{text!r:.60} is no number of {unit} from {least:.9g} to {most:.9g}")
    return found
