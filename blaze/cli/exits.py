"""Exit statuses: what a program that calls ``blazed`` can tell from them, and which error leads to which."""

from __future__ import annotations

from typing import Tuple, Type

from ..core.ground.errors import (
    AmbiguousName,
    BlazeError,
    DaemonBusy,
    NoAnswer,
    NoDaemon,
    NotFound,
    Refused,
    RunFailed,
    RunSuspended,
    StateError,
    ValidationError,
)

DONE = 0
#: A run failed, or something that has no status of its own went wrong.
FAILED = 1
USAGE = 2
#: The definition or the submission is not valid.
INVALID = 3
#: Not found, or ambiguous.
NOT_FOUND = 4
NO_DAEMON = 5
#: Refused: already running, locked, a state that can't be used.
REFUSED = 6
WAITED_TOO_LONG = 7
INTERRUPTED = 130
#: Nobody reads the output any more: what a program that SIGPIPE ended has.
BROKEN_PIPE = 141


class UsageError(BlazeError):
    """The command line can't be understood. ``usage`` is the command's."""

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


#: The first entry that an error is an instance of decides.
EXIT_STATUSES: Tuple[Tuple[Type[BaseException], int], ...] = (
    (UsageError, USAGE),
    (ValidationError, INVALID),
    (NotFound, NOT_FOUND),
    (AmbiguousName, NOT_FOUND),
    (NoDaemon, NO_DAEMON),
    (NoAnswer, WAITED_TOO_LONG),
    (DaemonBusy, REFUSED),
    (Refused, REFUSED),
    (StateError, REFUSED),
    (RunFailed, FAILED),
    (RunSuspended, INTERRUPTED),
    (TimeoutError, WAITED_TOO_LONG),
    (KeyboardInterrupt, INTERRUPTED),
    (BrokenPipeError, BROKEN_PIPE),
)


def exit_status_of(error: BaseException) -> int:
    """The exit status of an error."""
    return next((status for kind, status in EXIT_STATUSES if isinstance(error, kind)), FAILED)
