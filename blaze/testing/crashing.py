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
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Tuple, Union

from blaze.core.do.result import RunHandle
from blaze.core.ground.errors import BlazeError
from blaze.core.seq import BlazeSequence, Sequence

from .faults import Faults
from .outcome import SequenceRun
from .scheduler import VirtualScheduler
from .story import story_of_record, story_of_result

if TYPE_CHECKING:
    from blaze.core.what.declarations import Parameters

#: Real seconds after which a child that neither dies nor ends is killed.
CHILD_SECONDS = 60


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
    registry = _registry_of(seq)
    calls: Counter[str] = Counter()

    def play(tell: Callable[[str], None]) -> Tuple[VirtualScheduler, List[RunHandle]]:
        faults.when_called = tell
        scheduler = VirtualScheduler(registry, state_dir, probe=faults, **settings)
        scheduler.start()
        return scheduler, [handle for handle in scheduler.recovered if handle.seq_id == seq.seq_id]

    crashes, faults.crashes = faults.crashes, []
    started = False
    for crash in crashes:
        begins, started = not started, True

        def live(tell: Callable[[str], None], crash: Any = crash, begins: bool = begins) -> None:
            faults.doom(crash)
            scheduler, handles = play(tell)
            if begins:
                handles = [scheduler.trigger(seq.seq_id, parameters)]
            for handle in handles:
                scheduler.finish(handle)

        told, died = _in_child(live)
        calls.update(told)
        if not died:
            raise BlazeError(f"{crash} was never reached; the steps that were called: {', '.join(told) or 'none'}")
    return _carry_on(seq, parameters, play, started, calls, faults)


def _carry_on(
    seq: Sequence[Any, Any],
    parameters: Optional[Parameters],
    play: Callable[[Callable[[str], None]], Tuple[VirtualScheduler, List[RunHandle]]],
    started: bool,
    calls: Counter[str],
    faults: Faults,
) -> SequenceRun:
    """The last process is this one."""
    scheduler, handles = play(lambda step: calls.update([step]))
    try:
        if started and not handles:  # it had ended before the last process died
            return SequenceRun(story_of_record(scheduler.state, "last"), None, calls)
        handle = handles[-1] if started else scheduler.trigger(seq.seq_id, parameters)
        result = scheduler.finish(handle)
        logs = story_of_record(scheduler.state, result.run_id).logs
        return SequenceRun(story_of_result(result)._replace(logs=logs), result, calls)
    finally:
        faults.when_called = None
        scheduler.stop()


def _registry_of(seq: Sequence[Any, Any]) -> BlazeSequence:
    """A registry with this one sequence."""
    registry = BlazeSequence()
    registry.add(seq)
    return registry


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
        os.write(errors, traceback.format_exc().encode())
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
