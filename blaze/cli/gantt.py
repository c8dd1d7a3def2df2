"""When each step of a run waited, ran, failed and waited for its retry, drawn as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .console import Console
from .moments import duration
from .text import clipped, padded, visible

if TYPE_CHECKING:
    from ..core.remember.records import AttemptRecord, RunRecord, StepRecord

#: What is drawn for an instant, where box characters are shown and elsewhere; what comes later covers what was before.
WAITS, RETRIES, FAILS, RUNS = range(4)
BOXES, PLAIN = "·╌▒█", ".-x#"
NAMES = ("waiting", "waiting for a retry", "failed attempt", "running")
STYLES = ("waiting", "waiting", "bad", "busy")
#: Columns of the drawing where the output has no width, and of the longest name.
USUAL, NAME = 60, 30
#: Steps that are drawn.
MOST = 100


class Span(NamedTuple):
    """A stretch of a step's life, in epoch seconds."""

    kind: int
    start: float
    end: float


def spans_of(
    run: RunRecord, steps: Sequence[StepRecord], attempts: Sequence[AttemptRecord], now: float
) -> Dict[str, List[Span]]:
    """What each step did, and when; steps that were never begun have nothing."""
    failed: Dict[str, List[AttemptRecord]] = {}
    for attempt in attempts:
        failed.setdefault(attempt.step, []).append(attempt)
    ends = {step.name: _end(step, now) for step in steps}
    return {step.name: _spans(run, step, failed.get(step.name, []), ends, now) for step in steps}


def _end(step: StepRecord, now: float) -> Optional[float]:
    if step.started is None:
        return None
    return now if step.seconds is None else step.started + step.seconds


def _spans(
    run: RunRecord, step: StepRecord, failed: Sequence[AttemptRecord], ends: Dict[str, Optional[float]], now: float
) -> List[Span]:
    if step.started is None:
        return []
    pieces: List[Tuple[int, float, float]] = [(FAILS, one.started, one.started + one.seconds) for one in failed]
    last_failed = max((one.started for one in failed), default=None)
    if last_failed is None or step.started > last_failed + 1e-3:
        pieces.append((RUNS, step.started, ends[step.name] or now))
    pieces.sort(key=lambda piece: piece[1])
    before = [end for name in step.dependencies for end in (ends.get(name),) if end is not None]
    at = max([run.created, *before])
    spans: List[Span] = []
    for number, (kind, start, end) in enumerate(pieces):
        if start > at:
            spans.append(Span(RETRIES if number else WAITS, at, start))
        spans.append(Span(kind, start, end))
        at = end
    if step.retry is not None and step.retry > at:
        spans.append(Span(RETRIES, at, now))
    return spans


def draw(
    run: RunRecord, steps: Sequence[StepRecord], attempts: Sequence[AttemptRecord], now: float, console: Console
) -> List[str]:
    """The lines, with a scale and a legend."""
    spans = spans_of(run, steps, attempts, now)
    drawn = [step for step in steps if spans[step.name]]
    if not drawn:
        return []
    first = min([run.created, *(span.start for step in drawn for span in spans[step.name])])
    last = max(span.end for step in drawn for span in spans[step.name])
    name_width = min(NAME, max(len(step.name) for step in drawn))
    width = USUAL if console.looks.width is None else max(10, console.looks.width - name_width - 3)
    width = min(width, 2 * USUAL)
    chars = BOXES if console.looks.boxes else PLAIN
    total = max(last - first, 1e-6)
    lines = [f"{' ' * name_width}  0{duration(total).rjust(width - 1)}"]
    for step in drawn[:MOST]:
        kinds: List[Optional[int]] = [None] * width
        for span in spans[step.name]:
            start = min(width - 1, int((span.start - first) / total * width))
            end = max(start + 1, round((span.end - first) / total * width))
            for place in range(start, min(end, width)):
                kinds[place] = span.kind if kinds[place] is None else max(span.kind, kinds[place] or 0)
        name = padded(clipped(visible(step.name), name_width), name_width)
        lines.append(f"{name}  {_painted(kinds, chars, console)}".rstrip())
    if len(drawn) > MOST:
        lines.append(f"... and {len(drawn) - MOST:,} steps more")
    used = sorted({span.kind for step in drawn for span in spans[step.name]})
    lines.append("  ".join(f"{console.paint(chars[kind], STYLES[kind])} {NAMES[kind]}" for kind in used))
    return lines


def _painted(kinds: Sequence[Optional[int]], chars: str, console: Console) -> str:
    parts: List[str] = []
    start = 0
    for place in range(1, len(kinds) + 1):
        if place == len(kinds) or kinds[place] != kinds[start]:
            kind = kinds[start]
            text = " " * (place - start) if kind is None else chars[kind] * (place - start)
            parts.append(text if kind is None else console.paint(text, STYLES[kind]))
            start = place
    return "".join(parts)
