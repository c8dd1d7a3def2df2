"""Handing a log record over to the step that made it, so that it is kept with the run.

Beneath ``capture``, which has the records of ``logging``, and ``prints``, which has what is
printed. Whatever the taker of a record raises or logs itself, the block notices nothing.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextvars import ContextVar
from typing import Any, Callable, Dict, List, Optional, Tuple

from .context import StepContext, running, tags_of

#: Held while the logging tree, the record factory or sys.stdout and sys.stderr are changed. Outermost:
#: taken before any lock of ``logging``. Held across a fork, so that the child finds whole data and a free lock.
tree_lock = threading.RLock()

#: Called in a forked child, before it gets the lock of the tree.
in_child: List[Callable[[], None]] = []

_forks_guarded = False

# The step that was running where this process was forked. Its hook belongs to the parent, with
# the parent's locks and connections: here its records are tagged, but never handed over.
_inherited: Optional[StepContext] = None

# Set while a record is handed over: what the taker itself logs or prints is not kept.
_handing_over: ContextVar[bool] = ContextVar("blaze.handing_over", default=False)

_complained = False


def guard_forks() -> None:
    """Let the locks of this module survive ``fork``. Done once, at the first use and not at import."""
    global _forks_guarded
    with tree_lock:
        if not _forks_guarded and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=tree_lock.acquire, after_in_parent=tree_lock.release, after_in_child=_in_child)
        _forks_guarded = True


def _in_child() -> None:
    global _inherited
    _inherited = running.get()
    _handing_over.set(False)
    for forget in in_child:
        forget()
    tree_lock.release()


class Tags(Dict[str, Any]):
    """A record's ``__dict__`` that takes ``extra={"step": ...}`` of a block's log call.

    ``Logger.makeRecord`` refuses, with a KeyError in the user's code, an extra whose name is in the
    record's ``__dict__`` already. To the question whether a tag is there the answer is therefore no;
    the tag is there all the same, and the user's value overwrites it. Copies and pickles are plain.
    """

    __slots__ = ("waits_for",)

    def __init__(self, tags: Dict[str, Any]) -> None:
        super().__init__(tags)
        #: The step that gets the record as soon as the filters of its logger have seen it.
        self.waits_for: Optional[StepContext] = None

    def __contains__(self, key: object) -> bool:
        return key not in _TAG_NAMES and super().__contains__(key)

    def __reduce__(self) -> Tuple[Any, ...]:
        return dict, (dict(self),)


_TAG_NAMES = frozenset(("seq_id", "run_id", "step", "attempt"))


def tag(context: StepContext, record: logging.LogRecord) -> Tags:
    """Put ``seq_id, run_id, step, attempt`` on a record."""
    tags = Tags(record.__dict__)
    tags.update(tags_of(context))
    record.__dict__ = tags
    return tags


def keeps(context: Optional[StepContext]) -> bool:
    """Whether records of this step are kept."""
    return context is not None and context._on_log is not None and context is not _inherited


def is_handing_over() -> bool:
    """Whether what is logged or printed now is so by the taker of a record."""
    return _handing_over.get()


def hand_over(context: StepContext, record: logging.LogRecord) -> None:
    """Give a record to its step. Never raises, but for what is raised into this very thread."""
    take = context._on_log
    if take is None or context is _inherited or is_handing_over():
        return
    token = _handing_over.set(True)
    try:
        take(context, record)
    except Exception:  # not BaseException: StepCancelled may be raised into this very thread
        complain()
    finally:
        _handing_over.reset(token)


def complain() -> None:
    """Tell stderr once, as ``logging`` does for a handler that fails."""
    global _complained
    if _complained or not logging.raiseExceptions:
        return
    _complained = True
    error = sys.exc_info()[1]
    token = _handing_over.set(True)  # what is written here is not captured
    try:
        sys.stderr.write(f"blaze: a log line could not be kept with its run ({type(error).__name__}: {error})\n")
    except Exception:  # no stderr, or a closed one
        pass
    finally:
        _handing_over.reset(token)


def complain_again() -> None:
    """The next failure is told again."""
    global _complained
    _complained = False
