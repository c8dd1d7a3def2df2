"""How log records made inside blocks are tagged and kept, unseen by the application.

While installed, every record made while a step runs carries ``seq_id, run_id, step, attempt``
and is handed to the step's context. A record factory does it, so that it makes no difference
which logger the block uses, nor whether the application ever configured logging.

What the application shows stays as it is. Three things are open down to INFO although the
application's levels may be higher, and each is closed towards the application's handlers:

- the loggers named like the modules of the blocks, while a step runs (:class:`_BlockLogger`);
- ``blaze`` and what is below it (:class:`_Relay`);
- on demand, what blocks print (:class:`PrintCapture`).

What the application switched off stays off: ``logging.disable(...)`` and ``logger.disabled``.
The root logger is never touched. Filters of loggers and handlers are the application's:
they see a record after it was kept.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Type, cast

from .context import StepContext, running, tags_of
from .log_format import MAX_TEXT

#: Level down to which records made inside a step are kept.
KEEP_LEVEL = logging.INFO

#: Logger name of captured prints.
PRINT_LOGGER = "blaze.print"

#: Steps whose unfinished printed line is remembered at a time, for each of stdout and stderr.
MAX_UNFINISHED = 256

#: Held while the logging tree, the record factory or sys.stdout and sys.stderr are changed. Outermost:
#: taken before any lock of ``logging``. Held across a fork, so that the child finds whole data and a free lock.
tree_lock = threading.RLock()

# Held while unfinished printed lines are looked at. Innermost: nothing is called under it. Reentrant,
# since a signal handler may print.
_print_lock = threading.RLock()

_forks_guarded = False

# The step that was running where this process was forked. Its hook belongs to the parent, with
# the parent's locks and connections: here its records are tagged, but never handed over.
_inherited: Optional[StepContext] = None

# Set while a record is handed over: what the taker itself logs or prints is not kept.
_handing_over: ContextVar[bool] = ContextVar("blaze.handing_over", default=False)

_installs = 0
_complained = False


def install(modules: Iterable[str]) -> None:
    """Tag and keep the records made inside steps, until the matching :func:`uninstall`.

    ``modules`` are the modules in which blocks are defined: what their loggers say at INFO and
    above is kept whatever the application's levels are. Calls nest; they may come from any thread.
    """
    global _installs
    loggers = [logging.getLogger(name) for name in modules if isinstance(name, str)]
    guard_forks()
    with tree_lock:
        _installs += 1
        # Also when others are installed: the application may have put its own factory in their place.
        if not isinstance(logging.getLogRecordFactory(), _TaggingFactory):
            logging.setLogRecordFactory(_TaggingFactory(logging.getLogRecordFactory()))
        if _installs == 1:
            lower_blaze(KEEP_LEVEL)
        for logger in loggers:
            if logger is not logging.getLogger() and logger.name not in _block_loggers:
                _block_loggers[logger.name] = _BlockLogger(logger)


def uninstall() -> None:
    """Undo one :func:`install`; the last one restores what was there. Without an install, nothing happens."""
    global _installs, _complained
    with tree_lock:
        if _installs == 0:
            return
        _installs -= 1
        if _installs:
            return
        _complained = False
        while _block_loggers:
            _block_loggers.popitem()[1].close()
        raise_blaze(KEEP_LEVEL)
        factory = logging.getLogRecordFactory()
        while isinstance(factory, _TaggingFactory):
            factory = factory.previous
            logging.setLogRecordFactory(factory)


def guard_forks() -> None:
    """Let the locks of this module survive ``fork``. Done once, at the first use and not at import."""
    global _forks_guarded
    with tree_lock:
        if not _forks_guarded and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=tree_lock.acquire, after_in_parent=tree_lock.release, after_in_child=_in_child)
        _forks_guarded = True


def _in_child() -> None:
    global _inherited, _print_lock
    _inherited = running.get()
    _handing_over.set(False)
    _print_lock = threading.RLock()
    for tee in _tees:
        tee.forget()
    tree_lock.release()


# --- tagging and handing over ---


class _Tags(Dict[str, Any]):
    """A record's ``__dict__`` that takes ``extra={"step": ...}`` of a block's log call.

    ``Logger.makeRecord`` refuses, with a KeyError in the user's code, an extra whose name is in the
    record's ``__dict__`` already. To the question whether a tag is there the answer is therefore no;
    the tag is there all the same, and the user's value overwrites it. Copies and pickles are plain.
    """

    __slots__ = ()

    def __contains__(self, key: object) -> bool:
        return key not in _TAG_NAMES and super().__contains__(key)

    def __reduce__(self) -> Tuple[Any, ...]:
        return dict, (dict(self),)


_TAG_NAMES = frozenset(("seq_id", "run_id", "step", "attempt"))


class _TaggingFactory:
    """The installed log record factory. Left in place by others after the last uninstall, it adds nothing."""

    __slots__ = ("previous",)

    def __init__(self, previous: Callable[..., logging.LogRecord]) -> None:
        self.previous = previous

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.previous(*args, **kwargs)
        context = running.get()
        if context is not None and _installs:
            try:
                # Two of us may stand in one chain. And a record without a name was made elsewhere
                # and is only being rebuilt here (logging.makeLogRecord).
                if type(record.__dict__) is not _Tags and record.name:
                    _tag(context, record)
                    _hand_over(context, record)
            except Exception:  # a previous factory's own kind of record: it stays as it is
                _complain()
        return record


def _tag(context: StepContext, record: logging.LogRecord) -> None:
    tags = _Tags(record.__dict__)
    tags.update(tags_of(context))
    record.__dict__ = tags


def _keeps(context: Optional[StepContext]) -> bool:
    return context is not None and context._on_log is not None and context is not _inherited


def _hand_over(context: StepContext, record: logging.LogRecord) -> None:
    take = context._on_log
    if take is None or context is _inherited or _handing_over.get():
        return
    token = _handing_over.set(True)
    try:
        take(context, record)
    except Exception:  # not BaseException: StepCancelled may be raised into this very thread
        _complain()
    finally:
        _handing_over.reset(token)


def _complain() -> None:
    """Tell stderr once, as ``logging`` does for a handler that fails."""
    global _complained
    if _complained or not logging.raiseExceptions:
        return
    _complained = True
    error = sys.exc_info()[1]
    try:
        console(sys.stderr).write(
            f"blaze: a log line could not be kept with its run ({type(error).__name__}: {error})\n"
        )
    except Exception:  # no stderr, or a closed one
        pass


# --- loggers of block modules ---


class _BlockLogger:
    """The logger of a block's module, open down to INFO while a step runs.

    Its level is left alone: children would inherit a lower one and flood the application's
    handlers, and it would be seen outside steps. Instead ``isEnabledFor`` of this one logger says
    yes more often inside a step, and a filter, the first in line, keeps what only that let through
    from every handler. Both ask the logger's own answer each time, so that whatever the application
    changes meanwhile counts at once.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._overridden = vars(logger).get("isEnabledFor")  # somebody else's patch
        self._own_answer: Callable[[int], bool] = logger.isEnabledFor
        self._patch = self.is_enabled_for
        vars(logger)["isEnabledFor"] = self._patch
        logger.filters.insert(0, self)

    def close(self) -> None:
        self._logger.removeFilter(self)
        attributes = vars(self._logger)
        if attributes.get("isEnabledFor") is self._patch:
            if self._overridden is None:
                del attributes["isEnabledFor"]
            else:
                attributes["isEnabledFor"] = self._overridden

    def is_enabled_for(self, level: int) -> bool:
        if self._own_answer(level):
            return True
        return (
            level >= KEEP_LEVEL
            and _installs > 0
            and _keeps(running.get())
            and not self._logger.disabled
            and self._logger.manager.disable < level
        )

    def filter(self, record: logging.LogRecord) -> bool:
        return not _keeps(running.get()) or self._own_answer(record.levelno)


_block_loggers: Dict[str, _BlockLogger] = {}


# --- the logger "blaze" ---


class _Lowered(int):
    """A logger's level set by Blaze; ``before`` is the application's."""

    before: int

    def __new__(cls, level: int, before: int) -> _Lowered:
        self = super().__new__(cls, level)
        self.before = before
        return self


class _Relayed(int):
    """Stands in ``blaze.propagate`` while the relay propagates in its place.

    It counts as False, yet is not ``False``: what the application assigns meanwhile, be it True or
    False, is told apart and obeyed. Without the relay, which ``dictConfig`` may remove, it counts as True.
    """

    def __bool__(self) -> bool:
        return _relay not in logging.getLogger("blaze").handlers


_RELAYED = cast(bool, _Relayed())

_demands: List[int] = []


def lower_blaze(level: int) -> None:
    """Let ``blaze`` and the loggers below it make records down to ``level``, until :func:`raise_blaze`.

    Handlers of ``blaze`` itself see them all; those of the root logger see what they would have
    seen without. A level that is low enough already stays as it is.
    """
    with tree_lock:
        _demands.append(level)
        _adjust()


def raise_blaze(level: int) -> None:
    """Withdraw one demand of :func:`lower_blaze`; after the last one all is as the application has it."""
    with tree_lock:
        if level in _demands:
            _demands.remove(level)
            _adjust()


def _adjust() -> None:
    blaze = logging.getLogger("blaze")
    own = blaze.level.before if isinstance(blaze.level, _Lowered) else blaze.level
    effective = own or (blaze.parent.getEffectiveLevel() if blaze.parent else logging.WARNING)
    wanted = min(_demands) if _demands else effective
    if wanted < effective:
        if blaze.propagate:
            # In this order no record is shown twice: the relay is silent until it is in charge.
            blaze.addHandler(_relay)
            blaze.propagate = _RELAYED
        if blaze.level != wanted or not isinstance(blaze.level, _Lowered):
            blaze.setLevel(_Lowered(wanted, own))
    else:
        if isinstance(blaze.level, _Lowered):
            blaze.setLevel(own)
        if blaze.propagate is _RELAYED:
            blaze.propagate = True
        blaze.removeHandler(_relay)


class _Relay(logging.Handler):
    """Stands in for the propagation of ``blaze`` while its level is lowered.

    Only a lower level reaches loggers that do not exist yet (``blaze.run.<seq>.<step>``), and only
    here can their records be held back from the root logger's handlers.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        # Without the handler's lock: what is called from here takes the locks of other handlers.
        blaze = logging.getLogger("blaze")
        above = blaze.parent
        if blaze.propagate is _RELAYED and above is not None:
            nodes = _nodes_from(record.name, blaze)
            # Without any handler, logging's last resort shows warnings: exactly if it would have.
            if _application_level(nodes, above) <= record.levelno and (above.hasHandlers() or _bare(nodes)):
                above.callHandlers(record)
        return True


_relay = _Relay()


def _nodes_from(name: str, top: logging.Logger) -> List[logging.Logger]:
    """The logger of this name, its parent and so on up to ``top``."""
    node = top.manager.loggerDict.get(name)  # not getLogger: a foreign record must not create a logger
    nodes: List[logging.Logger] = []
    while isinstance(node, logging.Logger) and node is not top:
        nodes.append(node)
        node = node.parent
    return [*nodes, top] if node is top else [top]


def _application_level(nodes: List[logging.Logger], above: logging.Logger) -> int:
    for node in nodes:
        level = node.level.before if isinstance(node.level, _Lowered) else node.level
        if level:
            return level
    return above.getEffectiveLevel()


def _bare(nodes: List[logging.Logger]) -> bool:
    return not any(handler is not _relay for node in nodes for handler in node.handlers)


def application_listens(own: Callable[[logging.Handler], bool]) -> bool:
    """Whether a handler of the application is on ``blaze`` or above; ``own`` tells Blaze's from others."""
    node: Optional[logging.Logger] = logging.getLogger("blaze")
    while node is not None:
        for handler in node.handlers:
            if handler is not _relay and not isinstance(handler, logging.NullHandler) and not own(handler):
                return True
        node = node.parent if node.propagate or node.propagate is _RELAYED else None
    return False


# --- print ---


class _Tee:
    """Stands in for sys.stdout or sys.stderr: hands what steps print to their context as well.

    Left in place by others after the end of the capture, it only passes on.
    """

    def __init__(self, stream: Any, level: int) -> None:
        self.stream = stream
        self._level = level
        # Unfinished lines: id(context) -> (context, text). A context can't be weakly referenced.
        self._unfinished: Dict[int, Tuple[StepContext, str]] = {}

    def write(self, text: str) -> Any:
        written = self.stream.write(text)
        context = running.get()
        if context is None or self not in _tees or not _keeps(context) or _handing_over.get():
            return written
        # A handler of ``logging`` writes what was kept as a record already.
        if sys._getframe(1).f_globals.get("__name__") != "logging":
            try:
                self._take(context, text)
            except Exception:
                _complain()
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)

    def _take(self, context: StepContext, text: str) -> None:
        ready: List[Tuple[StepContext, str]] = []
        with _print_lock:
            held = self._unfinished.pop(id(context), None)
            lines = ((held[1] if held else "") + text).split("\n")
            rest = lines.pop()
            # A progress bar starts its line again and again: the last one counts.
            cut = rest.rfind("\r", 0, len(rest) - 1)
            rest = rest[cut + 1 :]
            ready.extend((context, line) for line in lines)
            if len(rest) >= MAX_TEXT:
                ready.append((context, rest))
            elif rest:
                self._unfinished[id(context)] = (context, rest)
                if len(self._unfinished) > MAX_UNFINISHED:
                    ready.append(self._unfinished.pop(next(iter(self._unfinished))))
        self._emit(ready)

    def finish(self, context: StepContext) -> None:
        with _print_lock:
            held = self._unfinished.pop(id(context), None)
        if held:
            self._emit([held])

    def forget(self) -> None:
        self._unfinished.clear()

    def _emit(self, lines: List[Tuple[StepContext, str]]) -> None:
        for context, line in lines:
            line = line.rstrip("\r").rpartition("\r")[2]
            if line.strip():
                record = logging.LogRecord(PRINT_LOGGER, self._level, "", 0, line, None, None)
                _tag(context, record)
                _hand_over(context, record)


_captures = 0

# The replacements in charge.
_tees: List[_Tee] = []


class PrintCapture:
    """Keeps what blocks print, line by line, as records of ``blaze.print``: INFO for stdout, WARNING for stderr.

    Everything is written through to the original streams, and outside steps that is all. The
    captures of a process share one replacement of sys.stdout and sys.stderr. Blank lines are not
    kept; of a line that was rewritten with a carriage return, the last state is.
    """

    def __init__(self) -> None:
        self._installed = False

    def install(self) -> None:
        """Begin. A second call on the same object does nothing."""
        global _captures
        guard_forks()
        with tree_lock:
            if self._installed:
                return
            self._installed = True
            _captures += 1
            for name, level in (("stdout", logging.INFO), ("stderr", logging.WARNING)):
                stream = getattr(sys, name)
                if stream is None:  # a program without a console
                    continue
                if not isinstance(stream, _Tee):
                    stream = _Tee(stream, level)
                    setattr(sys, name, stream)
                if stream not in _tees:
                    _tees.append(stream)

    def uninstall(self) -> None:
        """End. The last capture restores the streams, unless others have replaced them meanwhile."""
        global _captures
        with tree_lock:
            if not self._installed:
                return
            self._installed = False
            _captures -= 1
            if _captures:
                return
            _tees.clear()
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if isinstance(stream, _Tee):
                    stream.forget()
                    setattr(sys, name, stream.stream)

    def __enter__(self) -> PrintCapture:
        self.install()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.uninstall()


def flush_prints(context: StepContext) -> None:
    """Keep what the step printed without a newline at the end. For the engine, when an attempt ends."""
    for tee in list(_tees):
        tee.finish(context)


def console(stream: Any) -> Any:
    """The stream behind a :class:`PrintCapture`: what Blaze itself writes is not captured."""
    return stream.stream if isinstance(stream, _Tee) else stream
