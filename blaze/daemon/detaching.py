"""Starting the daemon in the background: a fresh interpreter in a session of its own.

It is not a fork, which would take over locks and threads of this process (RELIABILITY P5).
The call returns when the daemon serves, or with its error: the daemon says so over a pipe, and
the pipe's end tells if it dies without a word.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import blaze

from ..core.ground.errors import BlazeError, DaemonError, NoAnswer
from ..core.remember.database import prepare_directory
from .owner import refuse_foreign_link
from .process import Settings
from .readiness import MAX_WORD, read_word

#: Seconds that a daemon may take until it serves: it may have much to recover.
PATIENCE = 120.0
#: Lines of what it wrote that are told if it died.
TAIL = 20
#: The file that gets what is written to stdout and stderr until it serves.
START_LOG = "start.log"

_PROGRAM = """\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
from blaze.daemon.process import main
sys.exit(main())"""


def start_detached(settings: Settings, patience: float = PATIENCE) -> Dict[str, Any]:
    """Start a daemon and wait until it serves; its ``instance`` and ``pid``.

    Raises what kept it from starting, :class:`DaemonError` with the end of what it wrote if it
    died, and :class:`NoAnswer` if it takes longer than ``patience`` seconds; it is left alone then.
    """
    if os.name != "posix":
        raise BlazeError("--detach needs a POSIX system: let a service manager run 'blazed start' in the background")
    refuse_foreign_link(settings.state_dir)
    made = not settings.state_dir.exists()
    prepare_directory(settings.state_dir)
    log_dir = settings.state_dir / "log"
    made_log = not log_dir.exists()
    log_dir.mkdir(mode=0o700, exist_ok=True)
    try:
        return _start(settings, log_dir / START_LOG, patience)
    except BaseException:
        _clear_up(log_dir, made_log, settings.state_dir, made)
        raise


def _start(settings: Settings, log: Path, patience: float) -> Dict[str, Any]:
    ours, theirs = os.pipe()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    began = os.fstat(output).st_size
    try:
        child = subprocess.Popen(
            [*_interpreter(), *settings.arguments(), "--ready-fd", str(theirs)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(theirs,),
            start_new_session=True,
            env=_environment(),
        )
    finally:
        os.close(theirs)
        os.close(output)
    try:
        word = read_word(_heard(ours, patience))
    finally:
        os.close(ours)
        # Nobody waits for it from here on: it goes on without us.
        child.returncode = child.poll() or 0
    if word is not None and word.serving is not None:
        return word.serving
    child.returncode = None
    child.wait()
    if word is not None and word.error is not None:
        raise word.error
    raise DaemonError(f"the daemon died before it served; the end of {log}:\n{_tail(log, began)}")


def _interpreter() -> List[str]:
    """How the daemon is run: like ``-m blaze.daemon``, but that nothing in the current directory is imported."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, "-c", _PROGRAM]


def _environment() -> Dict[str, str]:
    """This process's, in which the same Blaze is found."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(blaze.__file__)))
    environment = dict(os.environ)
    if os.path.basename(root) not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return environment


def _heard(pipe: int, patience: float) -> bytes:
    """What the daemon says until it closes the pipe."""
    end = time.monotonic() + patience
    parts: List[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while sum(map(len, parts)) < MAX_WORD:
            if not selector.select(max(0.0, end - time.monotonic())):
                raise NoAnswer(f"the daemon does not serve after {patience:g} s; it goes on starting")
            part = os.read(pipe, 65536)
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


def _tail(log: Path, began: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(began, log.stat().st_size - 16384))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"(it can't be read: {error.strerror})"
    return "\n".join(f"  {line}" for line in lines[-TAIL:]) or "  (nothing was written)"


def _clear_up(log_dir: Path, made_log: bool, state_dir: Path, made: bool) -> None:
    """Leave nothing behind that was not there before, unless something was written."""
    log = log_dir / START_LOG
    try:
        if log.exists() and log.stat().st_size == 0:
            log.unlink()
        if made_log:
            log_dir.rmdir()
        if made:
            state_dir.rmdir()
    except OSError:
        pass
