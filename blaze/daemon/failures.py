"""How an error travels: what the daemon raised comes out of the client as the same class, with the same message.

Errors that are no :class:`BlazeError` are faults of the daemon: the client gets a
:class:`DaemonError` that tells what happened; the traceback stays in the daemon's log.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Type

from ..core.ground.errors import (
    Abort,
    AmbiguousName,
    BlazeError,
    BlockCrashed,
    DaemonBusy,
    DaemonError,
    Fault,
    NoAnswer,
    NoDaemon,
    NotFound,
    ReferenceFailed,
    Refused,
    Retry,
    RunFailed,
    RunSuspended,
    StateError,
    StepTimeout,
    UnlikeVersion,
    ValidationError,
)
from .protocol import Code, Failure

#: Longest text of an unforeseen error that leaves the daemon, in characters.
MAX_UNFORESEEN = 500

#: An error travels under the code of its own class, or else of the nearest class that has one.
CODES: Mapping[Type[BaseException], Code] = {
    BlazeError: Code.FAILED,
    NotFound: Code.NOT_FOUND,
    AmbiguousName: Code.AMBIGUOUS,
    ValidationError: Code.INVALID,
    Refused: Code.REFUSED,
    UnlikeVersion: Code.UNLIKE_VERSION,
    DaemonBusy: Code.BUSY,
    DaemonError: Code.INTERNAL_ERROR,
    NoDaemon: Code.NO_DAEMON,
    NoAnswer: Code.NO_ANSWER,
    StateError: Code.STATE,
    TimeoutError: Code.WAITED_TOO_LONG,
    RunFailed: Code.RUN_FAILED,
    RunSuspended: Code.RUN_SUSPENDED,
    StepTimeout: Code.STEP_TIMEOUT,
    BlockCrashed: Code.BLOCK_CRASHED,
    ReferenceFailed: Code.REFERENCE_FAILED,
    Retry: Code.RETRY,
    Abort: Code.ABORT,
}

_CLASSES: Dict[int, Type[BaseException]] = {code: kind for kind, code in CODES.items()}
_CLASSES[Code.NOT_ALLOWED] = Refused
_CLASSES[Code.INVALID_PARAMS] = ValidationError


def is_foreseen(error: BaseException) -> bool:
    """Whether an error is an answer; any other is a fault of the daemon."""
    return isinstance(error, (BlazeError, TimeoutError))


def failure_of(error: BaseException) -> Failure:
    """What is sent of an error."""
    if not is_foreseen(error):
        return Failure(Code.INTERNAL_ERROR, unforeseen(error))
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    data: Dict[str, Any] = {}
    if isinstance(error, ValidationError):
        data = {"errors": [[str(where), str(what)] for where, what in error.errors], "subject": str(error.subject)}
    elif isinstance(error, AmbiguousName):
        data = {"candidates": [str(candidate) for candidate in error.candidates]}
    return Failure(code, _text(error), data)


def unforeseen(error: BaseException) -> str:
    """``"ValueError: ..."``, clipped."""
    text = _text(error)
    if len(text) > MAX_UNFORESEEN:
        text = text[:MAX_UNFORESEEN] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text can't be had)"


def error_of(failure: Failure) -> BaseException:
    """The error that the failure was made of."""
    kind = _CLASSES.get(failure.code, DaemonError)
    if kind is ValidationError:
        return ValidationError(_faults(failure), _string(failure.data.get("subject")))
    if kind is AmbiguousName:
        return AmbiguousName(failure.message, _strings(failure.data.get("candidates")))
    return kind(failure.message)


def _faults(failure: Failure) -> List[Fault]:
    errors = failure.data.get("errors")
    pairs = [_strings(pair) for pair in errors] if isinstance(errors, list) else []
    return [Fault(*pair) for pair in pairs if len(pair) == 2] or [Fault("", failure.message)]


def _strings(value: object) -> List[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
