"""The daemon: a process that loads a definition, schedules it and answers at the socket, until it is stopped.

It starts in the order lock, definition, state, recovery, socket, and only then says that it
serves (RELIABILITY R54). SIGTERM and SIGINT stop it softly, a second one at once; SIGHUP loads
the definition again. After a kill -9 the next start goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Type

from ..core.blaze import Blaze
from ..core.ground.capture import let_info_through
from ..core.ground.errors import BlazeError
from ..core.ground.own_log import OwnLog
from ..core.logger import BlazeLogger
from ..core.seq import BlazeSequence
from .definition import LoadedDefinition, find_definition, load_definition
from .host import ServedScheduler
from .owner import OwnerLock
from .readiness import Readiness
from .state_dir import find_state_dir

#: What the daemon is called, but for its unique tail.
NAME = "blaze"
WORKERS, LOOP_INTERVAL, GRACE = 8, 5.0, 10.0

log = OwnLog("daemon")


class Settings(NamedTuple):
    """How a daemon is to run."""

    #: Absolute.
    state_dir: Path
    #: A path, or a dotted module.
    definition: str
    name: Optional[str] = None
    workers: int = WORKERS
    #: Seconds.
    loop_interval: float = LOOP_INTERVAL
    #: Seconds that running blocks get when it stops.
    grace: float = GRACE

    def arguments(self) -> List[str]:
        """The same as arguments of ``python -m blaze.daemon``."""
        found = [
            *("--state-dir", str(self.state_dir)),
            *("--definition", self.definition),
            *("--workers", str(self.workers)),
            *("--loop-interval", repr(self.loop_interval)),
            *("--grace", repr(self.grace)),
        ]
        return found if self.name is None else [*found, "--name", self.name]


def absolute_definition(given: Optional[str]) -> str:
    """The definition that is meant; a file by its whole path, so that it is found again from wherever.

    Raises :class:`DefinitionError` if there is none.
    """
    found = find_definition(given)
    return os.path.abspath(os.path.expanduser(found)) if os.path.exists(os.path.expanduser(found)) else found


def run_daemon(settings: Settings, readiness: Readiness, console: bool = True) -> None:
    """Be the daemon; returns when it has stopped.

    :param console: show the log on stderr, too.

    Raises :class:`Owned` if another one serves the state directory, :class:`DefinitionError`,
    and :class:`StateError`; then nothing is left behind that was not there before.
    """
    lock = OwnerLock(settings.state_dir)
    try:
        loaded = load_definition(settings.definition)
        logger = BlazeLogger(silent=not console, log_dir=settings.state_dir / "log")
        scheduler = _scheduler_of(settings, loaded, logger)
    except BaseException:
        lock.undo()
        raise
    let_info_through()  # after the definition, which may have set up logging itself
    with _logging(logger):
        _warn_of(loaded)
        told = {**settings._asdict(), "state_dir": str(settings.state_dir)}
        host = ServedScheduler(scheduler, lock, lambda: _load_again(settings.definition), told)
        _serve(host, lock, readiness, loaded.warnings)


def _scheduler_of(settings: Settings, loaded: LoadedDefinition, logger: BlazeLogger) -> Blaze:
    return Blaze(
        loaded.blocks,
        loaded.sequences,
        logger,
        max_workers=settings.workers,
        loop_interval=settings.loop_interval,
        state_dir=settings.state_dir,
        name=settings.name or NAME,
        grace=settings.grace,
    )


def _serve(host: ServedScheduler, lock: OwnerLock, readiness: Readiness, warnings: List[str]) -> None:
    with _signals(host):
        try:
            with _heard() as warned:
                host.scheduler.start()
            host.serve()
        except BaseException:
            host.scheduler.stop()
            lock.release()
            raise
        told = {
            "instance": host.scheduler.instance_id,
            "pid": os.getpid(),
            "state_dir": str(host.state_dir),
            "warnings": [*warnings, *warned],
        }
        log.info("%s serves %s (PID %d)", told["instance"], told["state_dir"], os.getpid())
        readiness.serving(told)
        host.watch()
        log.info("%s has stopped", told["instance"])


def _load_again(source: str) -> BlazeSequence:
    loaded = load_definition(source)
    _warn_of(loaded)
    return loaded.sequences


def _warn_of(loaded: LoadedDefinition) -> None:
    for warning in loaded.warnings:
        log.warning("%s", warning)


# ---------------------------------------------------------------------- signals and uncaught errors


@contextlib.contextmanager
def _signals(host: ServedScheduler) -> Iterator[None]:
    """Handlers that leave a wish; the second one that ends is the system's own, which ends at once."""

    def end(number: int, frame: Optional[FrameType]) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_DFL)
        host.stop_softly()

    def reload(number: int, frame: Optional[FrameType]) -> None:
        host.want_reload()

    handlers: Dict[int, Callable[[int, Optional[FrameType]], None]] = {signal.SIGINT: end, signal.SIGTERM: end}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = reload
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging(logger: BlazeLogger) -> Iterator[None]:
    """The log from before the scheduler opens it until after it has closed it; what nobody catches goes there."""

    def uncaught(kind: Type[BaseException], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        log.critical("an error that nobody has caught", exc_info=(kind, error or kind(), trace))

    def uncaught_in_thread(args: Any) -> None:
        if args.exc_type is not SystemExit:
            uncaught(args.exc_type, args.exc_value, args.exc_traceback)

    before = threading.excepthook
    logger.start()
    threading.excepthook = uncaught_in_thread
    try:
        yield
    finally:
        threading.excepthook = before
        logger.stop()


@contextlib.contextmanager
def _heard() -> Iterator[List[str]]:
    """What goes to the log as a warning or worse meanwhile: whoever starts a daemon in the background is told of it."""
    heard: List[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            first, _, more = record.getMessage().partition("\n")
            heard.append(f"{first.rstrip(':')}; its log tells the rest" if more else first)

    ear, logger = Ear(logging.WARNING), logging.getLogger("blaze")
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


# ---------------------------------------------------------------------- the program


def main(argv: Optional[Sequence[str]] = None) -> int:
    """``python -m blaze.daemon``; 0 when it was stopped, 1 when it could not be started."""
    options = _parser().parse_args(argv)
    readiness = Readiness(options.ready_fd)
    try:
        settings = Settings(
            find_state_dir(options.state_dir).path,
            absolute_definition(options.definition),
            options.name,
            options.workers,
            options.loop_interval,
            options.grace,
        )
        run_daemon(settings, readiness, console=options.ready_fd is None)
    except BlazeError as error:
        if not readiness.failed(error):
            print(f"blaze.daemon: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m blaze.daemon", description=__doc__.partition("\n")[0])
    parser.add_argument("--state-dir", metavar="DIR", help="default: the nearest .blaze in this directory or above it")
    parser.add_argument("--definition", metavar="FILE", help="a file or a dotted module; default: ./definition.py")
    parser.add_argument("--name", help=f"default: {NAME}; a unique tail is added")
    parser.add_argument("--workers", type=int, default=WORKERS, metavar="N", help="steps at a time (%(default)s)")
    parser.add_argument("--loop-interval", type=float, default=LOOP_INTERVAL, metavar="SECONDS")
    parser.add_argument("--grace", type=float, default=GRACE, metavar="SECONDS")
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    return parser
