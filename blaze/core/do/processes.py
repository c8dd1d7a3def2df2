"""Killable child processes that run the blocks with ``executor="process"``.

A thread of the engine calls :meth:`ChildPool.run` and blocks in it until the attempt ends; any
other thread may :meth:`~ChildPool.kill` the attempt. Children are fresh interpreters, kept warm
and reused; each leads a process group of its own, so that killing one takes along what its block
started, and none outlives this process (``child_main`` says how).

What is unpickled here comes from our own child over a socket pair that nobody else has.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional

from ..ground.context import StepContext, tags_of
from ..ground.errors import BlazeError, BlockCrashed
from ..ground.prints import PRINT_LOGGER
from .channel import BROKEN, ERROR, LOG, PROGRESS, PROTOCOL, RESULT, ChannelClosed
from .child import DEATH_SECONDS, Child, main_origin
from .child_main import a_type, main_cannot_be_imported, refuse_unguarded_call

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

    OnLog: TypeAlias = Callable[[StepContext, logging.LogRecord], None]

#: Most idle children kept; those above are ended as they become idle.
MAX_IDLE = 8
#: An idle child is ended after so many seconds, at the next use of the pool.
IDLE_SECONDS = 60.0


class ChildResult:
    """What a block returned: its pickle, made once, in the child, and the value."""

    __slots__ = ("pickled", "_step", "_value")

    def __init__(self, pickled: bytes, step: str) -> None:
        #: Protocol 5 pickle of the output.
        self.pickled = pickled
        self._step = step
        self._value: Optional[List[Any]] = None

    @property
    def value(self) -> Any:
        """The output, unpickled when it is first asked for. Raises :class:`BlazeError` if that fails."""
        if self._value is None:
            try:
                self._value = [pickle.loads(self.pickled)]
            except Exception as error:
                raise BlazeError(
                    f"the output of block {self._step!r} left its process, but can't be unpickled here "
                    f"({type(error).__name__}: {error})"
                ) from error
        return self._value[0]


class RemoteTraceback(Exception):
    """The cause of an exception that came out of a child: its traceback there, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class ChildPool:
    """Keeps warm children; one child runs one attempt at a time.

    ``on_log(context, record)`` is called, in the thread that runs the attempt, for each log record
    at INFO or above that the block makes; without it, the context's own ``on_log`` is. The record
    then goes to this process's logger of the same name, if that is enabled for its level. With
    ``keeps_prints``, it is called for each line that the block prints, too.

    In a fork of this process the pool starts anew, and leaves its parent's children alone.
    """

    def __init__(self, on_log: Optional[OnLog] = None, keeps_prints: bool = False) -> None:
        self._on_log = on_log
        self._keeps_prints = keeps_prints
        self._closed = False
        self._start_anew()
        _forget_in_forks()
        _pools.add(self)

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        # Guards _closed and the fields below. Held over nothing that blocks; no other lock is taken under it.
        self._lock = threading.Lock()
        self._released = threading.Condition(self._lock)
        self._idle: List[Child] = []
        self._busy: Dict[StepContext, Child] = {}
        #: Hung up on, or too stuck to die; here until reaped, so that close() finds every child somewhere.
        self._leaving: List[Child] = []

    def run(self, fn: Callable[..., Any], kwargs: Mapping[str, Any], context: StepContext) -> ChildResult:
        """Run one attempt in a child and wait for its end.

        Raises what the block raised (its traceback text in ``blaze_traceback`` and as the cause);
        :class:`BlockCrashed` if the child died or was killed; :class:`BlazeError` if the block, an
        argument or the output can't cross, or the block can't be imported in the child.
        """
        refuse_unguarded_call()
        request = _request(fn, kwargs, context)
        child = self._take(fn, context)
        reusable = False
        try:
            # Who stops an attempt sets _asked, then calls kill(): one that came before _take() is seen here.
            if context._asked is not None:
                reusable = True
                raise BlockCrashed(f"block {context.step!r} was stopped before it started")
            child.ask(fn, request, context)
            del request
            while True:
                kind, attempt, payload = child.channel.receive()
                if attempt != child.attempt:
                    child.ready = True  # READY; or what a thread of the block before said too late
                elif kind == LOG:
                    self._log(context, pickle.loads(payload))
                elif kind == PROGRESS:
                    context.progress(*pickle.loads(payload))
                elif kind == RESULT:
                    reusable = True
                    return ChildResult(payload, context.step)
                elif kind == ERROR:
                    reusable = True
                    raise _rebuilt(payload)
                elif kind == BROKEN:
                    message, text = pickle.loads(payload)
                    raise _with_traceback(BlazeError(f"block {context.step!r} {message}"), text)
        except ChannelClosed:
            raise BlockCrashed(child.cause_of_death(context.step)) from None
        finally:
            self._give_back(child, context, reusable)

    def kill(self, context: StepContext) -> bool:
        """Kill the child that runs this attempt, and all it started; whether there was one.

        From any thread. The ``run`` of the attempt then raises :class:`BlockCrashed` at once,
        unless its outcome has already arrived.
        """
        if self._pid != os.getpid():
            return False
        with self._lock:
            child = self._busy.get(context)
            if child is None:
                return False
            child.kill_wanted = True
        child.kill()
        return True

    def close(self, timeout: float) -> None:
        """End all children; nothing of them is left behind.

        Attempts that run have ``timeout`` seconds to end, then they are killed. Idle children may
        run their exit handlers for as long. Later calls of ``run`` raise :class:`BlazeError`.
        """
        deadline = time.monotonic() + timeout
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._leaving += idle
        for child in idle:
            child.hang_up()
        with self._lock:
            self._released.wait_for(lambda: not self._busy, max(0.0, timeout))
            late = list(self._busy.values())
            for child in late:
                child.kill_wanted = True
        for child in late:
            child.kill()
        with self._lock:
            self._released.wait_for(lambda: not self._busy, DEATH_SECONDS)
            leaving = list(self._leaving)
        self._strike_off([child for child in leaving if child.end(deadline - time.monotonic())])

    def _take(self, fn: Callable[..., Any], context: StepContext) -> Child:
        """A child that nobody else uses, registered as this attempt's before anything slow happens."""
        if self._pid != os.getpid():
            self._forget()
        dropped: List[Child] = []
        with self._lock:
            if self._closed:
                raise BlazeError(f"block {context.step!r} can't start: its pool of processes is closed")
            child = None
            while self._idle and child is None:
                child = self._idle.pop()
                if child.is_stale(fn) or not child.is_waiting():
                    dropped.append(child)
                    child = None
            if child is None:
                child = Child(self._keeps_prints)
            self._busy[context] = child
            self._leaving += dropped
        for old in dropped:
            old.hang_up()
        return child

    def _give_back(self, child: Child, context: StepContext, reusable: bool) -> None:
        gone = False
        if not reusable:
            child.kill()
            gone = child.end(0)
        now = child.idle_since = time.monotonic()
        dropped: List[Child] = []
        with self._lock:
            # In one step with the look at kill_wanted: a kill() that comes later finds nothing to kill.
            del self._busy[context]
            self._released.notify_all()
            if reusable and not child.kill_wanted and not self._closed:
                self._idle.append(child)
            elif not gone:
                dropped.append(child)
            while self._idle and (len(self._idle) > MAX_IDLE or self._idle[0].idle_since < now - IDLE_SECONDS):
                dropped.append(self._idle.pop(0))
            self._leaving += dropped
            leaving = list(self._leaving)
        for old in dropped:
            old.hang_up()
        if leaving:
            self._strike_off([old for old in leaving if old.has_left(now)])

    def _strike_off(self, gone: List[Child]) -> None:
        with self._lock:
            self._leaving = [child for child in self._leaving if child not in gone]

    def _log(self, context: StepContext, plain: Dict[str, Any]) -> None:
        on_log = self._on_log or context._on_log
        try:
            record = logging.makeLogRecord(plain)
            record.__dict__.update(tags_of(context))
            logger = logging.getLogger(record.name)
            passed = logger.filter(record)
            if not passed:
                return
            if isinstance(passed, logging.LogRecord):  # since Python 3.12 a filter may give another one
                record = passed
            if on_log is not None:
                on_log(context, record)
            if record.name == PRINT_LOGGER:
                return  # printed already, on the stdout that the child shares
            if not logger.disabled and logger.isEnabledFor(record.levelno):
                logger.callHandlers(record)
        except Exception:  # whoever listens fails, not the block
            logging.Handler().handleError(logging.makeLogRecord(plain))

    def _forget(self) -> None:
        """In a fork: the children, and the state of the lock, are the parent's."""
        children = [*self._idle, *self._busy.values(), *self._leaving]
        self._start_anew()
        for child in children:
            child.disown()


_pools: weakref.WeakSet[ChildPool] = weakref.WeakSet()
_hooked = False


def _forget_in_forks() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    # Not left to the next use: a fork (a gunicorn worker) that held the lifelines of its parent's children
    # would keep them alive when the parent dies.
    for pool in list(_pools):
        pool._forget()


# -- what goes into a child


def _request(fn: Callable[..., Any], kwargs: Mapping[str, Any], context: StepContext) -> bytes:
    if getattr(fn, "__module__", None) == "__main__" and main_origin() == (None, None):
        raise BlazeError(main_cannot_be_imported(f"block {context.step!r}"))
    deadline = context.deadline  # the public one: a subclass may work it out
    told = (tuple(context.info), context.step, context.attempt, deadline.timestamp() if deadline else None)
    try:
        return pickle.dumps((told, fn, dict(kwargs)), PROTOCOL)
    except Exception as error:
        raise BlazeError(_what_cannot_go(fn, kwargs, context, error)) from error


def _what_cannot_go(fn: Callable[..., Any], kwargs: Mapping[str, Any], context: StepContext, error: Exception) -> str:
    try:
        pickle.dumps(fn, PROTOCOL)
    except Exception as fault:
        return (
            f"block {context.step!r} can't run in a process, which has to import it by its name ({fault}): "
            "define it at module level (no lambda, no nested function), under its own name"
        )
    for name, value in kwargs.items():
        try:
            pickle.dumps(value, PROTOCOL)
        except Exception as fault:
            return f"parameter {name!r} of block {context.step!r}, {a_type(value)}, can't go to its process: {fault}"
    return f"the arguments of block {context.step!r} can't go to its process: {error}"


# -- what comes out of it


def _rebuilt(payload: bytes) -> BaseException:
    """The block's exception: of its own type if that survives pickling, else a BlazeError that tells it."""
    name, message, text, pickled = pickle.loads(payload)
    try:
        error = None if pickled is None else pickle.loads(pickled)
    except Exception:
        error = None
    if not isinstance(error, BaseException):
        error = BlazeError(f"{name}: {message}" if message else name)
    return _with_traceback(error, text)


def _with_traceback(error: BaseException, text: str) -> BaseException:
    with suppress(Exception):  # past a __setattr__ that refuses, as a frozen exception's does
        BaseException.__setattr__(error, "blaze_traceback", text)
        if error.__cause__ is None:
            BaseException.__setattr__(error, "__cause__", RemoteTraceback(text))
    return error
