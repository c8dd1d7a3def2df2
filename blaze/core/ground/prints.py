"""What blocks print, kept line by line as log records of their step.

sys.stdout and sys.stderr are replaced on demand, and by what passes everything on; what is
printed outside steps is not looked at.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any, Dict, Iterable, List, Optional, Tuple, Type

from . import keeping
from .context import StepContext, running
from .keeping import complain, guard_forks, hand_over, is_handing_over, keeps, tag, tree_lock
from .log_format import MAX_TEXT

#: Logger name of captured prints.
PRINT_LOGGER = "blaze.print"

#: Steps whose unfinished printed line is remembered at a time, for each of stdout and stderr.
MAX_UNFINISHED = 256

# Held while unfinished printed lines are looked at. Innermost: nothing is called under it. Reentrant,
# since a signal handler may print.
_print_lock = threading.RLock()


def _in_child() -> None:
    global _print_lock
    _print_lock = threading.RLock()
    for tee in _tees:
        tee.forget()


keeping.in_child.append(_in_child)


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
        if context is None or self not in _tees or not keeps(context) or is_handing_over():
            return written
        # A handler of ``logging`` writes what was kept as a record already.
        if sys._getframe(1).f_globals.get("__name__") != "logging":
            try:
                self._take(context, text)
            except Exception:
                complain()
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
                tag(context, record)
                # No logger has made the record; its filters are obeyed all the same, if the application made one.
                logger = logging.root.manager.loggerDict.get(PRINT_LOGGER)
                passed: Any = logger.filter(record) if isinstance(logger, logging.Logger) else True
                if passed:
                    hand_over(context, passed if isinstance(passed, logging.LogRecord) else record)


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
