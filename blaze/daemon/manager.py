"""One scheduler for a state directory, from whichever process asks: made here, or reached in the process that has it.

::

    scheduler = get_or_create_scheduler(blocks, sequences)
    start_scheduler()
    update_jobs([SubmitSequenceData("etl", seq_run_interval="*/15 * * * *")])
    stop_scheduler()

A scheduler that is made here answers other processes as a daemon does: they get a
client of it from the same call.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any, Dict, Iterable, List, Optional, Union

from ..core.blaze import Blaze
from ..core.block import BlazeBlock
from ..core.ground.errors import NoDaemon, Refused
from ..core.ground.own_log import OwnLog
from ..core.remember.records import JobRecord
from ..core.seq import BlazeSequence, SubmitSequenceData
from .host import ServedScheduler
from .offline import known_sequences, store_submissions
from .owner import Owned, OwnerLock, owner_of
from .remote import RemoteScheduler, connect
from .service import HARD, SOFT
from .state_dir import find_state_dir

__all__ = ["get_or_create_scheduler", "start_scheduler", "stop_scheduler", "update_jobs"]

StateDir = Union[str, "os.PathLike[str]", None]
AnyScheduler = Union[Blaze, RemoteScheduler]

log = OwnLog("daemon")


class _Handlers:
    """SIGTERM and Ctrl-C stop a scheduler softly, where the program has no handlers of its own."""

    def __init__(self, host: ServedScheduler) -> None:
        self._host = host
        self._before: Dict[int, Any] = {}
        #: The signal that came.
        self.number: Optional[int] = None

    def install(self) -> None:
        """Install them, if this is the thread that may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._stop)

    def restore(self) -> None:
        """Put back what was there."""
        if threading.current_thread() is threading.main_thread():
            while self._before:
                signal.signal(*self._before.popitem())

    def _stop(self, number: int, frame: Optional[FrameType]) -> None:
        self.restore()  # the second one ends at once
        self.number = number
        self._host.stop_softly()


class _Here:
    """The scheduler that this process serves, with the thread that watches over it."""

    def __init__(self, host: ServedScheduler, lock: OwnerLock) -> None:
        self.host = host
        self.lock = lock
        self.pid = os.getpid()
        self.error: Optional[BaseException] = None
        self.handlers = _Handlers(host)
        self.keeper: Optional[threading.Thread] = None
        threading.Thread(target=self._watch, name="blaze-host", daemon=True).start()

    def _watch(self) -> None:
        try:
            self.host.watch()
        except BaseException as error:  # told to who stops it
            self.error = error
            log.error("the scheduler did not stop well: %s", error)
            self.host.ended.set()

    @property
    def alive(self) -> bool:
        """Whether it is this process's, and has not ended."""
        return self.pid == os.getpid() and not self.host.ended.is_set()


#: Whether this Python starts no thread any more once the main program has ended (gh-113964).
ENDS_WITH_MAIN = (3, 12) <= sys.version_info < (3, 12, 2)

#: Protects the next two.
_lock = threading.RLock()
_here: Optional[_Here] = None
#: The daemon's scheduler that this process has asked for last.
_remote: Optional[RemoteScheduler] = None


def get_or_create_scheduler(
    blocks: Optional[BlazeBlock] = None,
    sequences: Optional[BlazeSequence] = None,
    *,
    state_dir: StateDir = None,
    **settings: Any,
) -> AnyScheduler:
    """This process's scheduler, else the one of the daemon that serves the state directory, else a new one here.

    A new one answers other processes at once, and is started by :func:`start_scheduler`. If
    this process has one, sequences that it does not know are added to it.

    :param state_dir: default: ``$BLAZE_STATE_DIR``, else the nearest ``.blaze/``, else a new one here.
    :param settings: further arguments of ``Blaze`` for a new one, such as ``max_workers``.

    Raises :class:`StateError` if the state can't be used, and :class:`Refused` if this process
    has a scheduler on another state directory.
    """
    global _here, _remote
    with _lock:
        mine = _mine(state_dir)
        if mine is not None:
            _add(mine, sequences)
            return mine
        directory = _directory(state_dir)
        try:
            lock = OwnerLock(directory)
        except Owned:
            _remote = connect(directory, sequences)
            return _remote
        try:
            _here = _serve(lock, Blaze(blocks, sequences, state_dir=directory, **settings))
        except BaseException:
            lock.undo()
            raise
        _remote = None
        return _here.host.scheduler


def start_scheduler() -> AnyScheduler:
    """Start the scheduler of :func:`get_or_create_scheduler`; returns at once.

    The process then lives on, also when its main program has ended, until
    :func:`stop_scheduler`, SIGTERM or Ctrl-C, which stop it softly. A daemon's scheduler is
    started where it is, and keeps no other process alive.
    """
    with _lock:
        here = _here if _here is not None and _here.alive else None
        if here is None:
            return _reached().start()
        here.host.scheduler.start()
        if here.keeper is None:
            if ENDS_WITH_MAIN:
                warnings.warn(
                    "Python 3.12.0 and 3.12.1 start no thread once the main program has ended, and so no further run: "
                    "keep it from ending, or use 3.12.2 or later",
                    RuntimeWarning,
                    stacklevel=2,
                )
            here.handlers.install()
            here.keeper = threading.Thread(target=_keep_alive, args=(here,), name="blaze-keeper")
            here.keeper.start()
        return here.host.scheduler


def stop_scheduler(shutdown: bool = False) -> bool:
    """Stop this process's scheduler, or else the daemon; whether there was one.

    ``shutdown=True`` clears jobs and history, too: the state file is moved to ``archive/`` first.
    """
    global _here, _remote
    with _lock:
        here, _here = _here, None
        if here is not None and here.alive:
            here.host.stop(HARD if shutdown else SOFT)
            here.host.ended.wait()
            here.handlers.restore()
            if here.error is not None:
                raise here.error
            return True
        try:
            _reached().stop(shutdown)
        except NoDaemon:
            return False
        finally:
            _remote = None
        return True


def update_jobs(
    jobs: Union[SubmitSequenceData, Iterable[SubmitSequenceData]],
    *,
    sequences: Optional[BlazeSequence] = None,
    state_dir: StateDir = None,
) -> List[JobRecord]:
    """Store jobs, all or none, from any process; whatever runs fires them from now on.

    They go to this process's scheduler, else to the daemon. If there is neither, they are
    checked against ``sequences``, those at the top level of the calling module, and those
    that the last daemon served, and are fired after the next start.

    Raises :class:`ValidationError` with every fault, and :class:`NoDaemon` if nothing is known to check against.
    """
    given = [jobs] if isinstance(jobs, SubmitSequenceData) else list(jobs)
    with _lock:
        mine = _mine(state_dir)
    if mine is not None:
        return mine.submit(given)
    directory = _directory(state_dir)
    module = [value for value in sys._getframe(1).f_globals.values() if isinstance(value, BlazeSequence)]
    known = module if sequences is None else [sequences, *module]
    owner = owner_of(directory)
    # If it is this process, its definition is being loaded: a daemon that waits for itself would wait for ever.
    if owner is not None and owner.pid != os.getpid():
        try:
            with connect(directory, _joined(known)) as remote:
                return remote.submit(given)
        except NoDaemon:
            if owner_of(directory) is not None:
                raise
            # It has ended meanwhile. What it may have stored is not stored twice: it is the same.
    return store_submissions(directory, given, known_sequences(directory, known))


# ---------------------------------------------------------------------- inside


def _mine(state_dir: StateDir) -> Optional[Blaze]:
    """This process's scheduler. Raises :class:`Refused` if it is on another state directory than the one named."""
    if _here is None or not _here.alive:
        return None
    scheduler = _here.host.scheduler
    if state_dir is not None and _directory(state_dir) != scheduler.state_dir:
        raise Refused(
            f"this process has a scheduler on {scheduler.state_dir}: stop it first, or make a Blaze of your own"
        )
    return scheduler


def _directory(given: StateDir) -> Path:
    return find_state_dir(None if given is None else os.fspath(given)).path


def _reached() -> RemoteScheduler:
    """The daemon's scheduler. Raises :class:`NoDaemon`."""
    return _remote if _remote is not None else connect(_directory(None))


def _serve(lock: OwnerLock, scheduler: Blaze) -> _Here:
    host = ServedScheduler(scheduler, lock)
    try:
        host.serve()
    except BaseException:
        scheduler.stop()
        raise
    return _Here(host, lock)


def _joined(registries: Iterable[BlazeSequence]) -> BlazeSequence:
    """One registry; of two sequences of one id it has the first."""
    joined = BlazeSequence()
    for registry in registries:
        joined.become({**registry, **joined})
    return joined


def _add(scheduler: Blaze, sequences: Optional[BlazeSequence]) -> None:
    if sequences is not None and any(seq_id not in scheduler.sequences for seq_id in sequences):
        scheduler.redefine(_joined([scheduler.sequences, sequences]))


def _keep_alive(here: _Here) -> None:
    """Be the thread that the interpreter waits for before it ends."""
    here.host.ended.wait()
    number = here.handlers.number
    if number is not None and threading.main_thread().is_alive():
        # The program itself goes on, and is told of the signal as if Blaze were not there.
        os.kill(os.getpid(), number)


def _forget() -> None:
    """In a forked child: the scheduler is its parent's, and so is the lock."""
    global _here, _remote, _lock
    if _here is not None:
        _here.lock.forget()
    _here, _remote = None, None
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
