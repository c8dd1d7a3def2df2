"""``BlazeLogger``: where the lines of Blaze go. The standard ``logging``, below the logger ``blaze``.

Nothing is configured before :meth:`BlazeLogger.start`. Started, its handlers hang on the logger
``blaze`` and nowhere else; the root logger is left alone, and the application's own handlers
show neither more nor less than their levels say.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, List, NoReturn, Optional, Union

from .ground.capture import application_listens, lower_blaze, raise_blaze
from .ground.context import StepContext
from .ground.errors import Fault, ValidationError
from .ground.keeping import guard_forks, tree_lock
from .ground.log_files import HourlyFileHandler
from .ground.log_format import JsonFormatter, TextFormatter
from .ground.names import did_you_mean
from .ground.prints import PRINT_LOGGER, PrintCapture, console

__all__ = ["BlazeLogger", "HourlyFileHandler", "JsonFormatter", "TextFormatter"]

#: The levels that may be named, lowest first.
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_FORMATTERS = {"text": TextFormatter, "json": JsonFormatter}


class BlazeLogger:
    """Writes the lines of Blaze, and those that blocks log, to the console and to hourly files.

    - ``silent``: nothing on the console; files are written all the same.
    - ``level``: from which level on this logger's console and files show a line. The
      application's levels go on to decide what the application's handlers show.
    - ``log_dir``: directory of the files ``run_{hour}_{date}.log``; None: no files.
    - ``format``: ``"text"`` or ``"json"`` (JSON lines).
    - ``capture_print``: keep what blocks print with their run, too.
    - ``name``: ``"blaze"`` or a logger below it; the methods of this object write to it.

    The console is stderr. It is used only where no handler of the application, on the root
    logger or on ``blaze``, would show the line: an application that has configured logging
    gets Blaze's lines where it has all others.

    Raises :class:`ValidationError` for arguments that are not valid::

        logger = BlazeLogger(silent=True, log_dir="./log", format="json")
    """

    def __init__(
        self,
        silent: bool = False,
        level: Union[str, int] = "INFO",
        log_dir: Optional[Union[str, os.PathLike[str]]] = None,
        format: str = "text",
        capture_print: bool = False,
        name: str = "blaze",
    ) -> None:
        faults: List[Fault] = []
        self.silent = bool(silent)
        #: As a number of ``logging``.
        self.level: int = _level(level, faults)
        if format not in _FORMATTERS:
            faults.append(Fault("format", f"{format!r} is not a log format; write 'text' or 'json'"))
        if not isinstance(name, str) or not (name == "blaze" or name.startswith("blaze.")):
            faults.append(Fault("name", f"{name!r} is no logger of Blaze; write 'blaze' or 'blaze.' and more"))
        if log_dir is not None and not isinstance(log_dir, (str, os.PathLike)):
            faults.append(Fault("log_dir", f"a path is a str or an os.PathLike, not {type(log_dir).__name__}"))
        if faults:
            raise ValidationError(faults, "BlazeLogger")
        self.format = format
        self.log_dir = None if log_dir is None else os.path.abspath(os.path.expanduser(os.fspath(log_dir)))
        #: The logger of the standard library behind this object.
        self.logger: logging.Logger = logging.getLogger(name)
        self._prints = PrintCapture() if capture_print else None
        self._starts = 0
        self._handlers: List[logging.Handler] = []
        self._file: Optional[_File] = None
        self._lost = 0

    def start(self) -> None:
        """Attach the console and the files to the logger ``blaze``. Counted: as many stops end it."""
        guard_forks()
        with tree_lock:
            self._starts += 1
            if self._starts > 1:
                return
            # Without any handler, logging's last resort would print warnings of a silent logger.
            self._handlers = [logging.NullHandler() if self.silent else _Console()]
            if self.log_dir is not None:
                self._file = _File(self.log_dir)
                self._handlers.append(self._file)
            for handler in self._handlers:
                handler.setLevel(self.level)
                handler.setFormatter(_FORMATTERS[self.format]())
                logging.getLogger("blaze").addHandler(handler)
            lower_blaze(self.level)
            if self._prints:
                self._prints.install()

    def stop(self) -> None:
        """Undo one :meth:`start`; the last one detaches the handlers and closes the file."""
        with tree_lock:
            if self._starts == 0:
                return
            self._starts -= 1
            if self._starts:
                return
            if self._prints:
                self._prints.uninstall()
            raise_blaze(self.level)
            self._lost = self.errors
            self._file = None
            handlers, self._handlers = self._handlers, []
            for handler in handlers:
                logging.getLogger("blaze").removeHandler(handler)
        for handler in handlers:
            handler.close()

    @property
    def captures_print(self) -> bool:
        """Whether what blocks print is kept with their run."""
        return self._prints is not None

    @property
    def started(self) -> bool:
        """Whether the handlers are attached."""
        return self._starts > 0

    @property
    def errors(self) -> int:
        """Lines that could not be written, to the console or a file, since this object was made."""
        return self._lost + sum(getattr(handler, "errors", 0) for handler in self._handlers)

    def keep(self, context: StepContext, record: logging.LogRecord) -> None:
        """Write a record made inside a step to the hourly file, if it does not get there by itself.

        For the engine, with every captured record: those of ``blaze`` and below come through
        their handlers and are left out here. Never on the console. Never raises.
        """
        file = self._file
        if file is None or record.levelno < self.level:
            return
        name = record.name
        if name == PRINT_LOGGER or not (name == "blaze" or name.startswith("blaze.")):
            file.write(record)

    # The methods of ``logging.Logger``, but that a handler's failure never reaches the caller.

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args`` at DEBUG."""
        self._log(logging.DEBUG, msg, args, kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args`` at INFO."""
        self._log(logging.INFO, msg, args, kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args`` at WARNING."""
        self._log(logging.WARNING, msg, args, kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args`` at ERROR."""
        self._log(logging.ERROR, msg, args, kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args`` at ERROR, with the traceback of the exception that is being handled."""
        kwargs.setdefault("exc_info", True)
        self._log(logging.ERROR, msg, args, kwargs)

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args`` at CRITICAL."""
        self._log(logging.CRITICAL, msg, args, kwargs)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args`` at a level given as a number."""
        if not isinstance(level, int):
            raise TypeError(f"level must be a number, such as logging.INFO, not {level!r}")
        self._log(level, msg, args, kwargs)

    def _log(self, level: int, msg: object, args: Any, kwargs: Any) -> None:
        try:
            logger = self.logger
            # Not started, without any handler: a warning would come out of logging's last resort.
            if not logger.isEnabledFor(level) or (self.silent and not logger.hasHandlers()):
                return
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 2  # the caller's line, not this one
            logger.log(level, msg, *args, **kwargs)
        except Exception:
            self._lost += 1

    def __repr__(self) -> str:
        level = logging.getLevelName(self.level)
        return f"<BlazeLogger {self.logger.name} {level} silent={self.silent} log_dir={self.log_dir!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a BlazeLogger holds handlers and locks and can't be pickled; make one in each process")


def _level(level: object, faults: List[Fault]) -> int:
    if isinstance(level, str) and level.upper() in LEVELS:
        return int(getattr(logging, level.upper()))
    if isinstance(level, int) and not isinstance(level, bool) and level > 0:
        return int(level)
    near = did_you_mean(level.upper(), LEVELS) if isinstance(level, str) else ""
    allowed = ", ".join(LEVELS)
    faults.append(Fault("level", f"{level!r} is not a log level{near}; write one of {allowed}, or a number above 0"))
    return logging.INFO


def _is_own(handler: logging.Handler) -> bool:
    return isinstance(handler, (_Console, _File))


def _is_first(handler: Union[_Console, _File], record: logging.LogRecord) -> bool:
    """Whether no other started BlazeLogger takes this record to the same place: two make one line, not two."""
    for other in logging.getLogger("blaze").handlers:
        if other is handler:
            return True
        same_place = _is_own(other) and getattr(other, "log_dir", None) == getattr(handler, "log_dir", None)
        if same_place and record.levelno >= other.level:
            return False
    return True


class _Console(logging.Handler):
    """stderr as it is at the moment, where the application itself shows nothing."""

    errors = 0

    def filter(self, record: logging.LogRecord) -> Any:
        return _is_first(self, record) and not application_listens(_is_own) and super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        stream = console(sys.stderr)
        if stream is None:
            return
        try:
            line = self.format(record) + "\n"
            try:
                stream.write(line)
            except UnicodeEncodeError:  # an encoding that lacks a character; LANG=C
                stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
            stream.flush()
        except Exception:  # closed, broken pipe
            self.errors += 1


class _File(HourlyFileHandler):
    def filter(self, record: logging.LogRecord) -> Any:
        return _is_first(self, record) and super().filter(record)
