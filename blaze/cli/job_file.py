"""Job files: what ``blazed jobs submit`` takes."""

from __future__ import annotations

from typing import Any, List

from ..core.ground.errors import Fault, ValidationError
from .json_file import read_json


def read_job_file(path: str) -> List[Any]:
    """The objects in a file: a list of them, ``{"jobs": [...]}``, or one; ``-`` is stdin.

    Raises :class:`ValidationError` with the places of what is wrong.
    """
    parsed = read_json(path)
    if isinstance(parsed, dict):
        parsed = parsed["jobs"] if set(parsed) == {"jobs"} else [parsed]
    if not isinstance(parsed, list):
        raise ValidationError([Fault(path, 'it is a list of submissions: [{"seq_id": ...}, ...]')], path)
    if not parsed:
        raise ValidationError([Fault(path, "there is no submission in it")], path)
    return parsed
