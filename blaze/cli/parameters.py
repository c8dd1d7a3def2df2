"""Parameters of a run, as a command line gives them: ``-p step.name=VALUE`` and ``--param-file``."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from ..core.ground.errors import Fault, ValidationError
from .commands import Parser
from .exits import UsageError

Parameters = Dict[str, Dict[str, Any]]


def add_parameter_flags(parser: Parser) -> None:
    """Add ``--param`` and ``--param-file``."""
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        metavar="STEP.NAME=VALUE",
        help="a parameter of a step; VALUE is JSON, or else text; may be given again",
    )
    parser.add_argument(
        "--param-file", metavar="FILE", help='JSON: {"step": {"name": value}}; "-" is stdin; --param goes before it'
    )


def parameters_of(words: Optional[Sequence[str]], file: Optional[str]) -> Parameters:
    """``{step: {name: value}}``. Raises :class:`UsageError` and :class:`ValidationError`."""
    found: Parameters = {} if file is None else _of_file(file)
    for word in words or ():
        place, equals, text = word.partition("=")
        step, dot, name = place.partition(".")
        if not (equals and dot and step and name):
            raise UsageError(f"-p {word!r:.80}: write step.name=VALUE, such as -p fetch.limit=10", "blazed run --help")
        found.setdefault(step, {})[name] = value_of(text)
    return found


def value_of(text: str) -> Any:
    """JSON, or else the text itself: ``10``, ``[1, 2]``, ``"10"`` and ``ten``."""
    from ..daemon.protocol import Malformed, decode

    try:
        return decode(text.encode("utf-8"))
    except (Malformed, UnicodeEncodeError):
        return text


def _of_file(path: str) -> Parameters:
    from .json_file import read_json

    value = read_json(path)
    if not isinstance(value, dict) or not all(isinstance(inner, dict) for inner in value.values()):
        raise ValidationError([Fault(path, 'it has to hold an object of objects: {"step": {"name": value}}')])
    return {step: dict(inner) for step, inner in value.items()}
