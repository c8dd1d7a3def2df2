"""Names and ids: their grammar, near matches, and fresh ones."""

from __future__ import annotations

import os
import re
import sys
from typing import Iterable, Optional

#: Longest name, in characters.
MAX_NAME = 128
#: Most steps of one sequence: the state file has 20 bits for a step's place in it.
MAX_STEPS = 1 << 20

# \Z, not $: a name that ends in a newline is not a name. ASCII only, so that a
# name can be part of a path, a table and a URL.
_STEP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}\Z")
_DOTTED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


def name_fault(name: object, *, dotted: bool = False) -> Optional[str]:
    """What is wrong with a name, or ``None``. ``dotted`` allows ``.``, as seq_id and job_id do."""
    if not isinstance(name, str):
        return f"a name is a str, not {type(name).__name__}"
    if (_DOTTED if dotted else _STEP).match(name):
        return None
    shown = repr(name if len(name) <= 40 else name[:37] + "...")
    if not name:
        return "a name can't be empty"
    if len(name) > MAX_NAME:
        return f"{shown} is {len(name)} characters long; {MAX_NAME} are allowed"
    marks = "'_', '-' and '.'" if dotted else "'_' and '-'"
    return f"{shown} is not a valid name: ASCII letters, digits, {marks} are allowed, the first a letter, digit or '_'"


def did_you_mean(wrong: str, known: Iterable[str], prefix: str = "") -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, or ``""``."""
    import difflib  # errors only: kept out of the start-up

    near = difflib.get_close_matches(str(wrong), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{prefix}{near[0]}'?" if near else ""


def new_run_id() -> str:
    """A fresh run id: 16 hexadecimal digits of which any unique prefix names the run."""
    return os.urandom(8).hex()


def new_instance_id(name: Optional[str] = None) -> str:
    """A readable, unique name for a scheduler: ``etl-x1y2z3``."""
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    tail = "".join(alphabet[byte % 36] for byte in os.urandom(6))
    return f"{name or 'blaze'}-{tail}"


def place_of_caller(depth: int) -> str:
    """``file.py:line`` of the frame ``depth`` above the function that calls this."""
    frame = sys._getframe(depth + 1)
    path = frame.f_code.co_filename
    try:
        here = os.getcwd() + os.sep
    except OSError:  # the current directory is gone
        return f"{path}:{frame.f_lineno}"
    return f"{path[len(here) :] if path.startswith(here) else path}:{frame.f_lineno}"
