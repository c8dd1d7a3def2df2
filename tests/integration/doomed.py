"""Processes that die on purpose: functions run in forked children, and pipelines whose blocks kill their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import sys
import time
import traceback

from blaze import Blaze, StateManager, current
from tests.integration.workbench import PATIENCE, Workbench, wait_until

#: Seconds after which a child that hangs is ended by the system.
CHILD_SECONDS = 60


class Child:
    """A forked child that calls a function; what that returns or raises comes back through a pipe."""

    def __init__(self, function, *args, **kwargs):
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                signal.alarm(CHILD_SECONDS)
                os.close(reading)
                with os.fdopen(writing, "wb") as pipe:
                    try:
                        answer = pickle.dumps((True, function(*args, **kwargs)))
                    except BaseException:
                        answer = pickle.dumps((False, traceback.format_exc()))
                    pipe.write(answer)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        self._pipe = os.fdopen(reading, "rb")
        self._waited = None

    def kill(self):
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        """Wait for its end: the signal that ended it, or 0."""
        if self._waited is None:
            with self._pipe:
                self._answer = self._pipe.read()
            _, status = os.waitpid(self.pid, 0)
            self._waited = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return self._waited

    def result(self):
        """What the function returned."""
        died_of = self.wait()
        assert self._answer, f"the child died of signal {died_of}"
        fine, value = pickle.loads(self._answer)
        assert fine, f"in the child:\n{value}"
        return value

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.kill()
        self.wait()


def in_child(function, *args, **kwargs):
    """What a function returns in a process of its own."""
    with Child(function, *args, **kwargs) as child:
        return child.result()


def until_killed(function, *args, **kwargs):
    """Call a function in a process of its own, which has to kill itself."""
    with Child(function, *args, **kwargs) as child:
        if child.wait() != signal.SIGKILL:
            child.result()
            raise AssertionError("the child was not killed")


def die():
    """kill -9 to this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def is_gone(pid):
    """Whether a process has ended; a zombie that nobody has reaped counts."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        pass
    if sys.platform == "linux":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ended(handle):
    """The result of a run. Where the clock stands still, nothing but a poke makes the timekeeper look."""

    def look():
        handle._run.engine.timekeeper.poke()
        return handle.done()

    wait_until(look, "the end of the run")
    return handle.result()


class StartingGun:
    """Lets several processes go on at the same instant."""

    def __init__(self, path):
        self._path = path
        self._held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def wait(self):
        """In a child: until the gun is fired."""
        os.close(self._held)
        mine = os.open(self._path, os.O_RDWR)
        fcntl.flock(mine, fcntl.LOCK_SH)
        os.close(mine)

    def fire(self):
        """Let all go."""
        fcntl.flock(self._held, fcntl.LOCK_UN)
        os.close(self._held)


class Witness:
    """A file to which processes add words, each in one write; it outlives them."""

    def __init__(self, path):
        self.path = path

    def tell(self, word):
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{word}\n".encode())
        finally:
            os.close(descriptor)

    def told(self):
        return self.path.read_text().splitlines() if self.path.exists() else []

    def wait_for(self, word, times=1):
        end = time.monotonic() + PATIENCE
        while self.told().count(word) < times:
            assert time.monotonic() < end, f"nobody told {word!r} within {PATIENCE} s; only {self.told()}"
            time.sleep(0.002)


class Doomed(Workbench):
    """A pipeline on one state directory, run by processes that die and by those that come after them."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.state_dir = folder / "state"
        self.witness = Witness(folder / "witness")
        self.open = []

    # ------------------------------------------------------------------ blocks

    def once(self, name):
        """True the first time, whichever process asks; False ever after."""
        try:
            os.close(os.open(self.folder / f"once-{name}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def die_once(self, name):
        """Kill this process at the first call."""
        if self.once(name):
            die()

    def work(self, name, *dependencies, value=None, dies=False, **settings):
        """Add a step that tells its name, may die at its first execution, and returns ``value`` or its name."""

        def block():
            self.witness.tell(current().step)
            if dies:
                self.die_once(name)
            return name if value is None else value

        self.step(name, block, *dependencies, **settings)

    def again(self):
        """A pipeline without steps yet on the same state and witness, as after a change of the source."""
        return type(self)(self.folder)

    # ------------------------------------------------------------------ processes

    def blaze(self, **settings):
        """A scheduler in this process, not started; stopped at the end of the test."""
        settings.setdefault("max_workers", 4)
        settings.setdefault("state_dir", self.state_dir)
        settings.setdefault("grace", 0.0)
        scheduler = Blaze(sequences=self.sequences, **settings)
        self.open.append(scheduler)
        return scheduler

    def start(self, **settings):
        """A scheduler in this process that has taken over what there was."""
        return self.blaze(**settings).start()

    def crash(self, seq_id="seq", parameters=None, **settings):
        """Take over what there is, or start a run, in a child that has to die of it; the id of the newest run."""

        def live_and_die():
            scheduler = self.start(**settings)
            handles = scheduler.recovered or [scheduler.trigger(seq_id, parameters)]
            return [(str(ended(handle)), handle.result().error) for handle in handles]

        until_killed(live_and_die)
        with self.state() as state:
            return state.find_run("last").run_id

    def resume(self, **settings):
        """Take over the one run that is open, here, and carry it to its end."""
        scheduler = self.start(**settings)
        (handle,) = scheduler.recovered
        return ended(handle)

    def state(self):
        """What is recorded, asked without a scheduler."""
        return StateManager(self.state_dir)

    def told(self):
        """The steps that were executed, in order, by whichever process."""
        return self.witness.told()

    def instances(self):
        """Names of the lock files."""
        return sorted(os.listdir(self.state_dir / "instances"))

    def close(self):
        for scheduler in self.open:
            scheduler.stop()
