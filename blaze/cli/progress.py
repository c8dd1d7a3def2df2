"""Telling how a run goes on: living lines on a terminal, a line for each change elsewhere. All of it on stderr."""

from __future__ import annotations

import contextlib
import io
import shutil
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Deque, Dict, Iterator, List, Sequence

from ..core.ground.status import BlockStatus
from .console import Console, painted
from .moments import duration
from .text import clipped, visible

if TYPE_CHECKING:
    from ..core.do.events import StepEvent
    from ..core.remember.records import StepRecord

#: Steps that have a line of their own at a time, and columns of the bar.
LINES, BAR = 8, 24


class Progress:
    """What is told of a run of ``total`` steps while it goes on.

    ``note`` is a hook: it is called in another thread. The other methods belong to the
    thread that waits for the run.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.done = 0
        self.began = time.monotonic()
        self._news: Deque[StepEvent] = deque()
        self._running: Dict[str, StepRecord] = {}

    def note(self, event: StepEvent) -> None:
        """A step has ended, or an attempt has failed."""
        self._news.append(event)

    def look(self, steps: Sequence[StepRecord]) -> None:
        """Tell the news, and what runs by now."""
        self.tell_news()
        running = {step.name: step for step in steps if step.status is BlockStatus.RUNNING}
        self._show_running(running)
        self._running = running

    def tell_news(self) -> None:
        """Tell what has ended since the last time."""
        while self._news:
            event = self._news.popleft()
            if event.status.ended:
                self.done += 1
            self._show_change(event)

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """While the run goes on. What its blocks print is no data, and goes to stderr."""
        with contextlib.redirect_stdout(self.console.err):
            yield

    def _show_change(self, event: StepEvent) -> None:
        self._write(self._change(event))

    def _show_running(self, running: Dict[str, StepRecord]) -> None:
        for name, step in running.items():
            if name not in self._running or self._running[name].attempts != step.attempts:
                self._write(f"{self._clock()} {self._status('RUNNING')} {visible(name)}")

    def _change(self, event: StepEvent) -> str:
        parts = [f"{self._clock()} {self._status(event.status)} {visible(event.step)}"]
        if event.seconds is not None:
            parts.append(duration(event.seconds))
        if event.status is BlockStatus.RETRYING:
            parts.append(f"attempt {event.attempt} failed; the next one in {duration(event.delay or 0.0)}")
        elif event.reason:
            parts.append(event.reason)
        if event.status.ended:
            parts.append(f"({self.done}/{self.total})")
        if event.error:
            parts.append(clipped(visible(event.error.split("\n", 1)[0]), 200))
        return "  ".join(parts)

    def _status(self, status: object) -> str:
        text = str(status).ljust(9)
        return painted(text, str(status)) if self.console.err_looks.color else text

    @staticmethod
    def _clock() -> str:
        return time.strftime("%H:%M:%S")

    def _write(self, line: str) -> None:
        self.console.err.write(line + "\n")
        self.console.err.flush()


class LiveProgress(Progress):
    """The same on a terminal: a line for each running step, and a bar below them that shows done/total."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        # Held over a write to the terminal: what blocks print comes from other threads.
        self._lock = threading.Lock()
        self._drawn: List[str] = []

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """While the run goes on; what its blocks print stands above the living lines."""
        above = _Above(self)
        with contextlib.redirect_stdout(above), contextlib.redirect_stderr(above):
            try:
                yield
            finally:
                self.write_above("")
                self._redraw([])

    def write_above(self, text: str) -> None:
        """Write text that stays."""
        with self._lock:
            self._erase()
            self.console.err.write(text)
            if text.endswith("\n") or not text:
                self._draw()
            else:
                self._drawn = []
            self.console.err.flush()

    def _write(self, line: str) -> None:
        self.write_above(line + "\n")

    def _show_change(self, event: StepEvent) -> None:
        # What goes well is seen in the bar.
        if event.status is not BlockStatus.COMPLETED:
            super()._show_change(event)

    def _show_running(self, running: Dict[str, StepRecord]) -> None:
        width = shutil.get_terminal_size((80, 24)).columns - 1
        lines = [clipped(line, width) for line in self._lines(running)]
        self._redraw([painted(line, "busy") if self.console.err_looks.color else line for line in lines])

    def _lines(self, running: Dict[str, StepRecord]) -> List[str]:
        now = time.time()
        lines = [_line_of(step, now) for step in list(running.values())[:LINES]]
        if len(running) > LINES:
            lines.append(f"  and {len(running) - LINES} more")
        boxes = self.console.err_looks.boxes
        filled = BAR * self.done // max(1, self.total)
        bar = ("█" if boxes else "#") * filled + ("░" if boxes else ".") * (BAR - filled)
        return [*lines, f"{bar} {self.done}/{self.total}  {duration(time.monotonic() - self.began)}"]

    def _redraw(self, lines: List[str]) -> None:
        with self._lock:
            self._erase()
            self._drawn = lines
            self._draw()
            self.console.err.flush()

    def _erase(self) -> None:
        if self._drawn:
            self.console.err.write(f"\r\x1b[{len(self._drawn)}A\x1b[J")

    def _draw(self) -> None:
        self.console.err.write("".join(line + "\n" for line in self._drawn))


def _line_of(step: StepRecord, now: float) -> str:
    took = duration(max(0.0, now - step.started)) if step.started is not None else ""
    progress = step.progress
    done = "" if progress is None else f"  {progress.done:g}" + (f"/{progress.total:g}" if progress.total else "")
    attempt = f"  attempt {step.attempts}" if step.attempts > 1 else ""
    return f"  {visible(step.name)}  {took}{done}{attempt}"


class _Above(io.TextIOBase):
    """What is printed while living lines are drawn goes above them, line by line."""

    def __init__(self, progress: LiveProgress) -> None:
        self._progress = progress
        self._rest = ""

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def write(self, text: str) -> int:
        """Keep what is no line yet."""
        lines, newline, self._rest = (self._rest + text).rpartition("\n")
        if newline:
            self._progress.write_above(lines + newline)
        return len(text)


def progress_of(console: Console, total: int) -> Progress:
    """The kind that fits where stderr goes."""
    kind = LiveProgress if console.err_looks.terminal and console.err_looks.cursor else Progress
    return kind(console, total)
