"""Every error that Blaze raises on purpose, and the two signals a block may raise.

All derive from :class:`BlazeError`, but for :class:`StepCancelled`, which must pass
through a block's ``except Exception``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence

if TYPE_CHECKING:
    from blaze.core.do.result import RunResult  # for annotations only; never imported at run time


class BlazeError(Exception):
    """Base class of the errors of Blaze."""


class Fault(NamedTuple):
    """One thing that is wrong with a definition or a submission."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class ValidationError(BlazeError, ValueError):
    """A definition, a submission or a value is not valid. Nothing was run or stored.

    ``errors`` lists *every* fault that was found, each as ``(where, what)``.
    """

    def __init__(self, errors: Sequence[Fault], subject: str = "") -> None:
        self.errors: List[Fault] = list(errors)
        self.subject = subject
        super().__init__(self.errors, subject)

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return str(self.errors[0])
        head = f"{len(self.errors)} faults" + (f" in {self.subject}" if self.subject else "")
        return head + ":\n" + "\n".join(f"  {fault}" for fault in self.errors)


class RunFailed(BlazeError):
    """Raised by ``RunResult.raise_for_status()``; ``__cause__`` is the block's own exception."""

    def __init__(self, message: str, result: Optional[RunResult] = None) -> None:
        super().__init__(message)
        self.result = result


class RunSuspended(BlazeError):
    """The scheduler stopped before the run ended; the next start resumes it."""


class NotFound(BlazeError, LookupError):
    """No run, sequence or step of this name. The message lists near names."""


class AmbiguousName(BlazeError, LookupError):
    """A prefix that fits several runs; ``candidates`` are their ids."""

    def __init__(self, message: str, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.candidates = list(candidates)


class StateError(BlazeError):
    """The state directory or its database can't be used; the message says what to do."""


class Refused(BlazeError):
    """Not done: it is not allowed, or does not go with how things stand. Nothing was changed."""


class UnlikeVersion(Refused):
    """The daemon and this program speak different versions of the protocol."""


class DaemonBusy(Refused):
    """The daemon serves as many connections as it may, and none of them could make room."""


class DaemonError(BlazeError):
    """The daemon failed at a request or does not know it, or what came from the other end is not the protocol."""


class NoDaemon(BlazeError, ConnectionError):
    """No daemon serves the state directory, or it went away before it answered."""


class NoAnswer(BlazeError, TimeoutError):
    """The daemon did not answer in time; whether it does what it was asked for is not known."""


class Retry(BlazeError):
    """Raised by a block to ask for another attempt.

    ``delay`` (seconds) overrides the step's own retry delay; what is no number is a
    :class:`ValidationError`, which fails the step without a retry. The attempt counts
    against ``retries`` as any failed attempt does; ``retry_on`` is not consulted.
    """

    def __init__(self, message: str = "the block asked for a retry", *, delay: Optional[float] = None) -> None:
        super().__init__(message)
        if delay is not None and (isinstance(delay, bool) or not isinstance(delay, (int, float)) or delay != delay):
            raise ValidationError([Fault("Retry()", f"delay is a number of seconds, got {type(delay).__name__}")])
        self.delay = delay

    def __reduce__(self) -> Any:
        return _rebuild_retry, (type(self), self.args, self.delay)


def _rebuild_retry(cls: type, args: Any, delay: Optional[float]) -> Any:
    error = cls(*args)
    error.delay = delay
    return error


class Abort(BlazeError):
    """Raised by a block to fail at once, whatever retries are left."""


class StepTimeout(BlazeError, TimeoutError):
    """An attempt ran past its ``timeout``, or its run past ``seq_run_timeout``."""


class BlockCrashed(BlazeError):
    """The process of an ``executor="process"`` block died: the signal or exit status is in the message."""


class ReferenceFailed(BlazeError):
    """``"@step.key"`` could not be followed into the step's output. Not retried."""


class StepCancelled(BaseException):
    """Raised inside a block that has to stop: by ``check_cancelled()``, or straight into its thread.

    Not an :class:`Exception`, so that a block's ``except Exception`` can't swallow it.
    """
