"""Numbers in flags, with errors that say which are taken."""

from __future__ import annotations

from argparse import ArgumentTypeError

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


def seconds(text: str) -> float:
    """A number of seconds."""
    return _number(text, 0.1, 86_400.0, "seconds")


def days(text: str) -> float:
    """A number of days."""
    return _number(text, 0.0, 100_000.0, "days")


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
        raise ArgumentTypeError(f"{text!r:.60} is no number of {unit} from {least:g} to {most:g}")
    return found
