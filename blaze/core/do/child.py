"""One child process: how it starts, what it is told, and how it ends with nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from ..ground.context import StepContext
from ..ground.errors import BlazeError
from .channel import PREPARE, PROTOCOL, RUN, Channel, MainOrigin, ModuleOrigin, Surroundings

if TYPE_CHECKING:
    import select
    import socket
    import subprocess

#: Seconds that a child whose end of the channel is closed has to exit, before its group is killed.
EXIT_SECONDS = 1.0
#: Seconds to wait for the death of a killed child; one stuck in the kernel is looked at again later.
DEATH_SECONDS = 5.0


class Child:
    """One child process, as its owner sees it.

    One thread at a time works with it; :meth:`kill` and the methods that end it may come from any.
    """

    def __init__(self, keeps_prints: bool = False) -> None:
        self._keeps_prints = keeps_prints
        self.attempt = 0
        self.ready = False
        self.kill_wanted = False
        self.idle_since = 0.0
        self._left_at: Optional[float] = None
        # Orders kill() and the reaping: a pid is signalled only as long as it can't be another process's.
        self._mortal = threading.Lock()
        self._popen: Optional[subprocess.Popen[bytes]] = None
        self._status: Optional[int] = None
        self._sock: Optional[socket.socket] = None
        self._poll: Optional[select.poll] = None
        self._peek = 0
        self._lifeline = -1
        # Which module object each name meant when the child was told about it; see is_stale().
        self._modules: Dict[str, Tuple[Any, Any]] = {}
        self._surroundings: Tuple[Any, ...] = ()
        self.channel: Channel

    def ask(self, fn: Callable[..., Any], request: bytes, context: StepContext) -> None:
        """Start the process if there is none, tell it what changed here, and send the request."""
        if self._sock is None:
            self._start(context)
        self.attempt += 1
        prepare = self._news(fn)
        if prepare is not None:
            self.channel.send(PREPARE, self.attempt, prepare)
        self.channel.send(RUN, self.attempt, request)

    def _start(self, context: StepContext) -> None:
        import select
        import socket
        import subprocess

        if os.name != "posix":
            raise BlazeError(f'block {context.step!r}: executor="process" needs Linux, macOS or another POSIX system')
        spawn = sys.modules.get("multiprocessing.spawn")  # set_executable() there is how embedders name their python
        executable = spawn.get_executable() if spawn else sys.executable
        if not executable or getattr(sys, "frozen", False):
            raise BlazeError(f"block {context.step!r}: there is no Python interpreter to start a process with")
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        given: List[int] = []
        try:
            ours, theirs = (_above_stdio(end.detach()) for end in socket.socketpair())
            given.append(theirs)
            self._sock = socket.socket(fileno=ours)
            self.channel = Channel(self._sock)
            self._poll, self._peek = select.poll(), socket.MSG_PEEK | socket.MSG_DONTWAIT
            self._poll.register(self._sock, select.POLLIN)
            end, self._lifeline = map(_above_stdio, os.pipe())
            given.append(end)
            code = (
                f"import sys; sys.path[:] = {_path()!a}; "
                f"from blaze.core.do.child_main import main; main({theirs}, {end})"
            )
            popen = subprocess.Popen(
                [executable, *flags, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=given,
                start_new_session=True,  # its own group: kill reaches what it started, Ctrl-C does not reach it
            )
        except OSError as error:
            raise BlazeError(f"no process could be started for block {context.step!r}: {error}") from error
        finally:
            for fd in given:
                os.close(fd)
        with self._mortal:
            self._popen = popen
        if self.kill_wanted:  # it came while there was nothing to kill
            self.kill()

    def _news(self, fn: Callable[..., Any]) -> Optional[bytes]:
        """What the child has to know before it can load ``fn``, if anything is new since it was last told."""
        environment = getattr(os.environ, "_data", os.environ)  # decoding all of it costs more than the rest
        try:
            directory: Optional[str] = os.getcwd()
        except OSError:
            directory = None
        name, module = _module_of(fn)
        surroundings = (sys.path, directory, environment)
        if name in self._modules and surroundings == self._surroundings:
            return None
        told = None
        if surroundings != self._surroundings:
            self._surroundings = (list(sys.path), directory, dict(environment))
            told = Surroundings(
                _path(), [str(arg) for arg in sys.argv], directory, dict(os.environ), self._keeps_prints
            )
        origins: Dict[str, ModuleOrigin] = {}
        if name not in self._modules:
            self._modules[name] = _version(module)
            file = getattr(module, "__file__", None)
            if name != "__main__" and file and os.path.isfile(file):
                search = getattr(module, "__path__", None)
                origins[name] = os.path.abspath(file), None if search is None else list(search)
        return pickle.dumps((told, origins, main_origin()), PROTOCOL)

    def is_stale(self, fn: Callable[..., Any]) -> bool:
        """Whether the child imported this block's module before it was loaded again here."""
        name, module = _module_of(fn)
        known = self._modules.get(name)
        return known is not None and any(old is not new for old, new in zip(known, _version(module)))

    def is_waiting(self) -> bool:
        """Whether an idle child is still there."""
        if self._sock is None or self._poll is None:
            return False
        if not self._poll.poll(0):
            return True
        try:  # end of file, or what a thread of the last block said too late
            return bool(self._sock.recv(1, self._peek))
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL to the child and its group, and wake the thread that listens to it. From any thread."""
        import socket

        with self._mortal:
            if self._sock is not None:
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
            if self._popen is not None and self._status is None:
                with suppress(OSError):
                    os.killpg(self._popen.pid, signal.SIGKILL)
                with suppress(OSError):  # a block may have moved itself to another group
                    os.kill(self._popen.pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Let an idle child end by itself; :meth:`has_left` or :meth:`end` must follow."""
        import socket

        self._left_at = time.monotonic()
        with self._mortal, suppress(OSError):
            if self._sock is not None:
                self._sock.shutdown(socket.SHUT_RDWR)

    def has_left(self, now: float) -> bool:
        """Reap a child that was hung up on, if it is gone; kill it if it takes too long. Does not wait."""
        if self._left_at is not None and now > self._left_at + DEATH_SECONDS:
            self.kill()
        return self._has_exited() and self.end(0)

    def end(self, patience: float) -> bool:
        """Wait ``patience`` seconds for the exit, kill what is left of the group, and reap. Whether it is gone."""
        if self._popen is not None and self._status is None:
            self._await_exit(patience)
            self.kill()  # while the pid is still its own, as a zombie: for what the block started
            if not self._await_exit(DEATH_SECONDS):
                return False
            with self._mortal:
                self._status = self._popen.wait()
        self._close()
        return True

    def cause_of_death(self, step: str) -> str:
        """Bury the child; then what became of it, as a sentence."""
        gone = self.end(0 if self.kill_wanted else EXIT_SECONDS)
        died = f"the process of block {step!r} died"
        if self.kill_wanted:
            return f"the process of block {step!r} was killed by Blaze"
        if not self.ready:
            died += " before the block could start (its stderr says why)"
        if not gone or self._status is None:
            return died
        if self._status >= 0:
            return f"{died}: exited with status {self._status}"
        try:
            name = signal.Signals(-self._status).name
        except ValueError:
            name = str(-self._status)
        hint = "; not by Blaze: perhaps by the system for want of memory (dmesg tells)" if name == "SIGKILL" else ""
        return f"{died}: killed by signal {name}{hint}"

    def disown(self) -> None:
        """In a fork: let go of what belongs to the parent's child without touching it."""
        self._mortal = threading.Lock()
        if self._popen is not None:
            self._popen.returncode = 0  # not ours to wait for
        self._close()

    def _close(self) -> None:
        with self._mortal:
            if self._sock is not None:
                self._sock.close()
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def _await_exit(self, seconds: float) -> bool:
        deadline, pause = time.monotonic() + seconds, 0.0002
        while not self._has_exited():
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return True

    def _has_exited(self) -> bool:
        if self._popen is None or self._status is not None:
            return True
        if sys.platform != "darwin" and hasattr(os, "waitid"):
            try:  # does not reap: until the group is killed, the pid must not become another process's
                return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
            except ChildProcessError:
                pass  # the host program ignores SIGCHLD, or waits for any child
        return self._popen.poll() is not None


def _above_stdio(fd: int) -> int:
    """The same descriptor with a number above 2: a host program may have closed its standard streams."""
    if fd > 2:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _path() -> List[str]:
    return [entry for entry in sys.path if isinstance(entry, str)]


def _module_of(fn: Callable[..., Any]) -> Tuple[str, Any]:
    name = getattr(fn, "__module__", None) or ""
    return name, sys.modules.get(name)


def _version(module: Any) -> Tuple[Any, Any]:
    # importlib.reload keeps the module object and gives it a new spec.
    return module, getattr(module, "__spec__", None)


def main_origin() -> MainOrigin:
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name and name != "__main__":
        return name, getattr(main, "__file__", None)
    file = getattr(main, "__file__", None)
    return None, os.path.abspath(file) if file and os.path.isfile(file) else None
