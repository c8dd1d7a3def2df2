"""A daemon that does not outlive the process which started it: what a test needs.

It waits at a pipe of which its starter has the other end. The end of that pipe, which comes
however the starter dies, kills the daemon and what its blocks have started.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Tuple, Union

from ..core.ground.errors import BlazeError, DaemonError, NoAnswer
from ..core.remember.database import prepare_directory
from .process import Settings, absolute_definition
from .readiness import MAX_WORD, read_word
from .remote import FIRST_LOOK, STOPPING, RemoteScheduler

if TYPE_CHECKING:
    from ..testing.outcome import SequenceRun

#: Seconds that it may take until it serves.
PATIENCE = 60.0
#: Seconds between two looks at the file for what other processes have changed.
LOOP_INTERVAL = 0.25
#: Seconds that running blocks get when it is stopped.
GRACE = 1.0
#: Seconds between two looks whether its parent lives.
LOOK_FOR_PARENT = 1.0
#: Lines of its log that a failed test's report shows.
LINES_SHOWN = 200
#: The file below ``log/`` that gets what is written to stdout and stderr until it serves.
START_LOG = "start.log"

_PROGRAM = """\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
from blaze.daemon.leashed import wear
wear(int(sys.argv.pop(1)))
from blaze.daemon.process import main
sys.exit(main())"""


class LeashedDaemon(RemoteScheduler):
    """A real daemon in a process of its own, which dies with this one.

    ::

        with LeashedDaemon("shop/pipelines.py", "./state-of-tests") as daemon:
            assert daemon.run("orders").ok
            daemon.kill()
            daemon.start()

    :param definition: a file or a dotted module, as for ``blazed start``.
    :param state_dir: where its state is.
    :param workers: steps at a time.
    :param loop_interval: seconds between two looks for what other processes have changed.
    :param grace: seconds that running blocks get when it is stopped.

    It serves when this returns. Raises what keeps a daemon from starting, such as a :class:`ValidationError`
    of its definition.
    Besides :meth:`kill`, :meth:`restart`, :meth:`log` and :meth:`inspect` it is what ``get_or_create_scheduler``
    gives to a process that has no scheduler of its own. Time is real, and no faults reach it.
    """

    def __init__(
        self,
        definition: Union[str, os.PathLike[str]],
        state_dir: Union[str, os.PathLike[str]],
        *,
        workers: int = 4,
        loop_interval: float = LOOP_INTERVAL,
        grace: float = GRACE,
    ) -> None:
        if os.name != "posix":
            raise BlazeError("a daemon that dies with its starter needs a POSIX system")
        directory = Path(os.path.abspath(os.fspath(state_dir)))
        source = absolute_definition(os.fspath(definition))
        self._settings = Settings(directory, source, "test", workers, loop_interval, grace)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._leash = -1
        super().__init__(directory)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> Optional[int]:
        """Its process; None if it does not run."""
        process = self._process
        return process.pid if process is not None and _fate(process) is None else None

    def start(self) -> LeashedDaemon:
        """Start it again after a stop or :meth:`kill`; returns when it serves. Does nothing if it runs."""
        if self.pid is None:
            self._reap()
            self._start()
        return self

    def kill(self) -> None:
        """``kill -9``, to it and to what its blocks have started."""
        self._reap()

    def stop(self, shutdown: bool = False) -> None:
        """Stop it, softly or (``shutdown``) with its jobs and history; returns when it has ended."""
        super().stop(shutdown)
        end = time.monotonic() + STOPPING
        while self.pid is not None and time.monotonic() < end:
            time.sleep(FIRST_LOOK)
        self._reap()

    def restart(self) -> LeashedDaemon:
        """Stop it softly, and start it again on the same state."""
        if self.pid is not None:
            self.stop()
        return self.start()

    def log(self) -> str:
        """All that it has logged, since its first start."""
        folder = self.state_dir / "log"
        files = [folder / START_LOG, *sorted(folder.glob("run_*"))]
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file())

    def inspect(self, run_id: str = "last") -> SequenceRun:
        """What is recorded of a run, with the assertions of ``run_sequence``; see ``blaze.testing.SequenceRun``.

        :param run_id: an id, a unique prefix of one, ``"last"`` or ``"last-failed"``.
        """
        from ..testing.outcome import SequenceRun
        from ..testing.story import story_of_record

        return SequenceRun(story_of_record(self.state, run_id))

    def close(self) -> None:
        """Kill it, if it runs, and close connection and file."""
        self._reap()
        super().close()

    def sections(self) -> Iterator[Tuple[str, str]]:
        """What the report of a failed test shows of it: a title and a text each."""
        process = self._process
        ended = None if process is None else _fate(process)
        state = "was stopped" if process is None else "runs" if ended is None else f"ended with status {ended}"
        lines = self.log().splitlines()
        left_out = [f"... {len(lines) - LINES_SHOWN} lines before"] if len(lines) > LINES_SHOWN else []
        yield f"log of the blaze daemon, which {state}", "\n".join([*left_out, *lines[-LINES_SHOWN:]])

    # ------------------------------------------------------------------ the process

    def _start(self) -> None:
        log_dir = self.state_dir / "log"
        prepare_directory(self.state_dir)
        log_dir.mkdir(mode=0o700, exist_ok=True)
        held, self._leash = os.pipe()
        heard, ready = os.pipe()
        output = os.open(log_dir / START_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(held), *self._settings.arguments(), "--ready-fd", str(ready)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(held, ready),
                start_new_session=True,
                # What the test can import, its definition can.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
            )
        finally:
            for descriptor in (held, ready, output):
                os.close(descriptor)
        try:
            word = read_word(_all_of(heard, time.monotonic() + PATIENCE))
        finally:
            os.close(heard)
        if word is not None and word.serving is not None:
            return
        self._reap()
        if word is not None and word.error is not None:
            raise word.error
        raise DaemonError(f"the daemon died before it served; what it wrote:\n{self.log()}")

    def _reap(self) -> None:
        process, self._process = self._process, None
        leash, self._leash = self._leash, -1
        if process is not None:
            # It leads a group: what its blocks have started ends with it, also if it has ended by itself. Until it
            # is waited for, its number is no other group's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if leash >= 0:
            os.close(leash)

    def __enter__(self) -> LeashedDaemon:
        return self

    def __repr__(self) -> str:
        return f"<LeashedDaemon on {self.state_dir}: {'stopped' if self.pid is None else f'PID {self.pid}'}>"


def _fate(process: subprocess.Popen[bytes]) -> Optional[int]:
    """Its exit status, below zero for a signal; None if it runs. Where the system can, without waiting for it."""
    if process.returncode is not None or not hasattr(os, "waitid"):
        return process.poll()
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def wear(descriptor: int) -> None:
    """Let this process and its group be killed when the other end of a pipe is closed, or its parent dies.

    The latter since what a test has forked may hold the other end for longer than the test's process lives.
    """
    parent = os.getppid()

    def watch() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not selector.select(LOOK_FOR_PARENT) and os.getppid() == parent:
                pass
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="blaze-leash", daemon=True).start()


def _all_of(pipe: int, end: float) -> bytes:
    """What comes out of a pipe until it ends. Raises :class:`NoAnswer` if that is too late."""
    parts: List[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while sum(map(len, parts)) < MAX_WORD:
            if not selector.select(max(0.0, end - time.monotonic())):
                raise NoAnswer(f"the daemon does not serve after {PATIENCE:g} s")
            part = os.read(pipe, 65536)
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


__all__ = ["LeashedDaemon", "wear"]
