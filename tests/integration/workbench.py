"""Sequences wired on the spot, three ways of running them behind one interface, and a clock moved by hand."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context

from blaze import Blaze, BlazeBlock, BlazeSequence, Clock, SeqBlockData

#: Seconds after which a test gives up waiting for what should have happened at once.
PATIENCE = 10.0

#: Seconds that a thread asks to wait for what is overdue.
OVERDUE = 0.001


def wait_until(condition, what="it", seconds=PATIENCE):
    """Wait for what has no event of its own."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.001)


def wait(event, what="it"):
    """Wait for an event, but not for ever."""
    assert event.wait(PATIENCE), f"{what} did not happen within {PATIENCE} s"


def within_patience(function, *args, **kwargs):
    """What ``function`` returns or raises; a hang is a failure of the test and not of the whole session."""
    outcome = []

    def call():
        try:
            outcome.append((True, function(*args, **kwargs)))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=copy_context().run, args=(call,), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcome, f"it hung for {PATIENCE} s"
    fine, value = outcome[0]
    if fine:
        return value
    raise value


def keep(context):
    """A finaliser that returns what it is given."""
    return context


class Workbench:
    """Blocks, and the sequences that are wired of them; every step has a block of its own name."""

    def __init__(self):
        self.blocks = BlazeBlock()
        self.sequences = BlazeSequence()
        self.wiring = []

    def step(self, name, function, *dependencies, parameters=None, run_when="all_success", **settings):
        """Add a step after ``dependencies``; ``settings`` are those of its block."""
        self.blocks.block(name=name, **settings)(function)
        self.wiring.append(SeqBlockData(name, list(dependencies), parameters or {}, run_when=run_when))

    def sequence(self, finaliser=keep, seq_id="seq", **settings):
        """Wire the steps added so far; the next ones begin another sequence."""
        wiring, self.wiring = self.wiring, []
        return self.sequences.sequence(blocks=self.blocks, sequence=wiring, seq_id=seq_id, **settings)(finaliser)


class Way:
    """One way of running: ``"in_memory"`` (no scheduler), or a scheduler that is ``"unsaved"`` or ``"durable"``."""

    def __init__(self, kind, folder):
        self.kind = kind
        self.schedulers = []
        self._folder = folder

    @property
    def has_scheduler(self):
        return self.kind != "in_memory"

    def scheduler(self, bench, **settings):
        """A started scheduler, stopped at the end of the test."""
        settings.setdefault("max_workers", 4)
        settings.setdefault("durability", "process" if self.kind == "durable" else "memory")
        settings.setdefault("state_dir", self._folder / f"state{len(self.schedulers)}")
        scheduler = Blaze(sequences=bench.sequences, **settings)
        self.schedulers.append(scheduler)
        return scheduler.start()

    def run(self, bench, parameters=None, seq_id="seq", **settings):
        """Run a sequence of the bench to its end."""
        if not self.has_scheduler:
            return within_patience(bench.sequences.run, seq_id, parameters, **settings)
        return self.scheduler(bench, **settings).run(seq_id, parameters, timeout=PATIENCE)

    @property
    def state(self):
        """What the last scheduler recorded."""
        return self.schedulers[-1].state

    def close(self):
        for scheduler in self.schedulers:
            scheduler.stop(grace=0.0)


def hold(scheduler):
    """Let this scheduler start no step, and tell no other."""
    scheduler._open().engine.pool.hold(True)


class HandClock(Clock):
    """Time that moves only when told to, whatever is in hand."""

    def __init__(self, now=1_000.0):
        super().__init__()
        self._now = now
        self._changed = threading.Condition()
        #: How often each thread that watches the clock has gone to sleep, by the event that wakes it.
        self._looks = {}
        self.time = lambda: 1_700_000_000.0 + self._now
        self.monotonic = lambda: self._now

    def wait(self, event, timeout, patience):
        with self._changed:
            self._looks[event] = self._looks.get(event, 0) + 1
            self._changed.notify_all()
        # What is due by now is not waited for: time may have moved while this thread was on its way here.
        return event.wait(PATIENCE if timeout is None or timeout > OVERDUE else OVERDUE)

    def advance(self, seconds):
        """Move on, and return when whoever watches the clock has done all that was due by then."""
        with self._changed:
            self._now += seconds
            assert self._changed.wait_for(lambda: self._looks, PATIENCE), "nothing watches the clock"
            # Twice: the first look that is seen to end may have begun before the change.
            for _ in range(2):
                before = dict(self._looks)
                for event in before:
                    event.set()
                assert self._changed.wait_for(
                    lambda before=before: all(self._looks[event] > looks for event, looks in before.items()), PATIENCE
                ), "nobody looked"
