"""Processes that die on purpose: a run is played in a forked child until it is killed, and then carried on.

Needs ``os.fork``. The child inherits the test's blocks, closures included, and what it
changes in memory dies with it, as in a crash.
"""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, Union

from blaze.core.do.result import RunHandle
from blaze.core.ground.errors import BlazeError
from blaze.core.seq import BlazeSequence, Sequence

from .faults import Crash, Faults
from .outcome import SequenceRun
from .scheduler import VirtualScheduler
from .story import story_of_record, story_of_result

if TYPE_CHECKING:
    from blaze.core.what.declarations import Parameters

#: Real seconds after which a child that neither dies nor ends is killed.
CHILD_SECONDS = 60
#: Longest traceback that comes back from a child, in characters.
ERROR_LIMIT = 10_000


def run_through_crashes(
    seq: Sequence[Any, Any],
    parameters: Optional[Parameters] = None,
    *,
    faults: Faults,
    state_dir: Union[str, os.PathLike[str]],
    **settings: Any,
) -> SequenceRun:
    """Run a sequence durably, in processes that are killed where ``faults`` say, and carry it on to its end here.

    :param seq: what ``@sequences.sequence`` returned.
    :param faults: its :meth:`~Faults.crash_at` and :meth:`~Faults.crash_after` say where; one
        process dies of each. Other faults strike in each process anew.
    :param state_dir: the state that outlives them.
    :param settings: those of :class:`VirtualScheduler`.

    ``executions(step)`` of what comes back counts the calls in all processes together, of
    blocks that run in threads or coroutines. Raises :class:`BlazeError` if a crash is never reached.
    """
    if not hasattr(os, "fork"):
        raise BlazeError("run_through_crashes() needs os.fork(), which this system has not")
    for step in seq.definition.steps:
        faults.meet((step.step_name, step.block_name))
    crashes, faults.crashes = faults.crashes, []
    lives = _Lives(seq, parameters, faults, state_dir, settings)
    for crash in crashes:
        lives.live_and_die(crash)
    return lives.live_on()


class _Lives:
    """One run, in one process after the other."""

    def __init__(
        self,
        seq: Sequence[Any, Any],
        parameters: Optional[Parameters],
        faults: Faults,
        state_dir: Union[str, os.PathLike[str]],
        settings: Dict[str, Any],
    ) -> None:
        self._seq_id = seq.seq_id
        self._registry = BlazeSequence()
        self._registry.include(seq)
        self._parameters = parameters
        self._faults = faults
        self._state_dir = state_dir
        self._settings = settings
        #: How often each step was called, in all processes.
        self._calls: Counter[str] = Counter()
        self._begun = False

    def live_and_die(self, crash: Crash) -> None:
        """Begin the run, or go on with it, in a child that has to die of it."""

        def live(tell: Callable[[str], None]) -> None:
            self._faults.doom(crash)
            scheduler, handles = self._start(tell)
            for handle in handles:
                scheduler.finish(handle)

        told, died = _in_child(live)
        self._begun = True
        self._calls.update(told)
        if not died:
            raise BlazeError(f"{crash} was never reached; the steps that were called: {', '.join(told) or 'none'}")

    def live_on(self) -> SequenceRun:
        """Carry the run to its end in this process."""
        self._faults.doom(None)
        scheduler, handles = self._start(lambda step: self._calls.update([step]))
        try:
            if not handles:  # it had ended before the last process died
                return SequenceRun(story_of_record(scheduler.state, "last"), None, self._calls)
            result = scheduler.finish(handles[-1])
            logs = story_of_record(scheduler.state, result.run_id).logs
            return SequenceRun(story_of_result(result)._replace(logs=logs), result, self._calls)
        finally:
            self._faults.when_called = None
            scheduler.stop()

    def _start(self, tell: Callable[[str], None]) -> Tuple[VirtualScheduler, List[RunHandle]]:
        """A scheduler in this process, and the run: taken over from the process before, or begun here."""
        self._faults.when_called = tell
        scheduler = VirtualScheduler(self._registry, self._state_dir, probe=self._faults, **self._settings)
        scheduler.start()
        if not self._begun:
            return scheduler, [scheduler.trigger(self._seq_id, self._parameters)]
        return scheduler, [handle for handle in scheduler.recovered if handle.seq_id == self._seq_id]


def _in_child(live: Callable[[Callable[[str], None]], None]) -> Tuple[List[str], bool]:
    """Call a function in a forked child: the words that it told, and whether it was killed by itself.

    Raises :class:`BlazeError` with the child's traceback if it failed instead.
    """
    words, word_end = os.pipe()
    errors, error_end = os.pipe()
    with warnings.catch_warnings():
        # Threads of the parent are of no concern to the child, which opens everything anew.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_the_child(live, word_end, error_end)
    os.close(word_end)
    os.close(error_end)
    told, error = _read_all(words), _read_all(errors)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return told.split(), True
    if os.WIFSIGNALED(status):
        raise BlazeError(f"the child was ended by signal {os.WTERMSIG(status)} after {CHILD_SECONDS} s at the latest")
    if error:
        raise BlazeError(f"the child failed before it was to be killed:\n{error}")
    return told.split(), False


def _be_the_child(live: Callable[[Callable[[str], None]], None], words: int, errors: int) -> None:
    """Never returns."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_SECONDS)
        live(lambda step: (os.write(words, f"{step}\n".encode()), None)[1])
    except BaseException:
        # Its end: the parent reads this when it has read all the words, and a pipe takes 64 KiB without being read.
        os.write(errors, traceback.format_exc()[-ERROR_LIMIT:].encode())
    finally:
        os._exit(0)


def _read_all(descriptor: int) -> str:
    parts: List[bytes] = []
    while True:
        part = os.read(descriptor, 65536)
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


__all__ = ["run_through_crashes"]
