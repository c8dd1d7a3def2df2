"""Telling what failed: the step, the attempt, its arguments, the user's own frames.

Exceptions and arguments are the user's objects, and asking them for their text runs the
user's code: whatever that raises, SystemExit included, is named in the story instead.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Mapping
from concurrent import futures
from types import TracebackType
from typing import Any, List, NamedTuple, Optional

from ..ground.errors import BlockCrashed
from ..ground.masking import MASK, is_secret, mask_urls
from ..ground.picture import encodable
from ..remember.codec import preview

#: Longest text of one argument and of all, in characters.
ARGUMENT_LIMIT = 120
ARGUMENTS_LIMIT = 1000
#: Longest traceback, in characters: beyond it its two ends.
TRACEBACK_LIMIT = 32 * 1024
#: Most frames of a traceback that are kept: the outermost and the innermost.
FRAME_LIMIT = 50

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
#: Where a block is called from: by Blaze, or by an executor.
_CALLERS = (_PACKAGE, os.path.dirname(futures.__file__) + os.sep)


class Failure(NamedTuple):
    """A failed attempt."""

    step: str
    attempt: int
    #: How many attempts the step has in all.
    allowed: int
    #: The block's own exception.
    error: BaseException
    #: ``type: message``.
    message: str
    #: The call, clipped, secrets masked.
    arguments: str
    #: The frames of the user's code, as Python prints them.
    traceback: str
    #: ``timeout``, ``crashed``, ``cancelled_by_user``, ... or None for an exception of the block.
    reason: Optional[str] = None

    def __str__(self) -> str:
        story = f"step '{self.step}', attempt {self.attempt} of {self.allowed}: {self.message}"
        if self.arguments:
            story += f"\n  arguments: {self.arguments}"
        if self.traceback:
            story += "\n" + "\n".join("  " + line for line in self.traceback.splitlines())
        return story


def describe(
    error: BaseException,
    step: str,
    attempt: int,
    allowed: int,
    arguments: Optional[Mapping[str, Any]],
    reason: Optional[str] = None,
) -> Failure:
    """The story of a failed attempt; contained: a failing ``repr`` or ``str`` is named, not raised."""
    return Failure(
        step,
        attempt,
        allowed,
        error,
        one_line(error),
        show_arguments(arguments) if arguments else "",
        user_frames(error),
        reason,
    )


def is_crash(error: BaseException, kind: str) -> bool:
    """Whether an attempt failed because the process that ran it died; ``kind``: of its block."""
    if isinstance(error, futures.BrokenExecutor):
        return kind not in ("thread", "async", "process")  # there it comes from an executor that the block uses
    return isinstance(error, BlockCrashed)


def one_line(error: BaseException) -> str:
    """``type: message``, the message as the exception tells it, but for the credentials of URLs."""
    try:
        text = mask_urls(str(error))
    except BaseException as inner:
        text = f"<its str() raised {type(inner).__name__}>"
    if len(text) > 4000:
        text = text[:4000] + f"... ({len(text)} characters in all)"
    return f"{type(error).__name__}: {encodable(text)}" if text else type(error).__name__


def show_arguments(arguments: Mapping[str, Any]) -> str:
    """``name=value, ...``, clipped; the values of names like password, token, secret and key are masked."""
    shown: List[str] = []
    for name, value in arguments.items():
        text = MASK if is_secret(name) else preview(value)
        shown.append(f"{name}={text if len(text) <= ARGUMENT_LIMIT else text[: ARGUMENT_LIMIT - 3] + '...'}")
    text = ", ".join(shown)
    return text if len(text) <= ARGUMENTS_LIMIT else text[: ARGUMENTS_LIMIT - 3] + "..."


def user_frames(error: BaseException) -> str:
    """The traceback without Blaze's own frames, which tell the user nothing."""
    try:
        remote = getattr(error, "blaze_traceback", None)
        if isinstance(remote, str):
            text = remote
        else:
            told = traceback.TracebackException(type(error), error, _first_user_frame(error.__traceback__), limit=None)
            _shorten(told)
            text = "".join(told.format()).rstrip()
        text = mask_urls(text)
        if len(text) > TRACEBACK_LIMIT:
            text = f"{text[: TRACEBACK_LIMIT // 2]}\n...\n{text[-TRACEBACK_LIMIT // 2 :]}"
        return encodable(text)
    except BaseException as inner:  # a broken __str__, a source file that is gone
        return f"{type(error).__name__} (its traceback can't be shown: {type(inner).__name__})"


def stack_of(thread_id: Optional[int]) -> Optional[str]:
    """Where the user's code is at this instant in another thread, as Python prints it; None if it isn't in any."""
    try:
        frame = sys._current_frames().get(thread_id or 0)
        frames = [(one, line) for one, line in traceback.walk_stack(frame)] if frame is not None else []
        while frames and frames[-1][0].f_code.co_filename.startswith((_PACKAGE, threading.__file__)):
            frames.pop()
        if len(frames) > FRAME_LIMIT:
            frames[FRAME_LIMIT // 2 : -FRAME_LIMIT // 2] = []
        stack = "".join(traceback.StackSummary.extract(iter(frames[::-1])).format())
    except Exception:  # a source file that is gone, memory
        return None
    return f"Traceback (most recent call last):\n{stack}" if stack else None


def tell_stack(error: BaseException, stack: Optional[str]) -> None:
    """Give an error that was raised nowhere the stack of the code that it is about."""
    if stack is not None:
        error.blaze_traceback = f"{stack}{type(error).__name__}: {error}"  # type: ignore[attr-defined]


def _first_user_frame(tb: Optional[TracebackType]) -> Optional[TracebackType]:
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_CALLERS):
        tb = tb.tb_next
    return tb


def _shorten(told: traceback.TracebackException) -> None:
    """A traceback of a thousand recursive frames keeps its two ends."""
    if len(told.stack) > FRAME_LIMIT:
        half = FRAME_LIMIT // 2
        told.stack[half:-half] = []
