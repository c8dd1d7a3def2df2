"""The page ``benchmarks/RESULTS.md``, made from the results and from what ``field.py`` tells of each contestant."""

from __future__ import annotations

import statistics
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..measure import REFERENCE_SPIN, Spread
from .charts import duration
from .explanations import why
from .field import FIELD, LEVELS, NO_TELEMETRY, Contestant, Entry, entries
from .results import Results
from .workloads import (
    DOOMED_CHAIN,
    DOOMED_FAN,
    DOOMED_SECONDS,
    LATE_SECONDS,
    TURNS,
    WORKLOADS,
)

HEAD = """# Blaze beside what you might pick instead

Written by `python -m benchmarks.peers`: don't edit this page, measure it again. Every figure is from one machine and
one sitting, in which everyone took turns; nothing is quoted from elsewhere.
"""

AGAIN = """## Make it again

```bash
make bench-peers                              # installs the peers into .venv-peers, measures, writes this page
make bench-peers ARGS="--quick"               # a few minutes: does it all work?
make bench-peers ARGS="--only huey,blaze --workload chain,kill"   # some of it; the rest of the page stays
.venv/bin/python -m benchmarks.peers --report # this page from the stored results, without measuring
```

Versions are pinned in [peers/pins.ini](peers/pins.ini); all that was installed, and every single repetition, is in
[peers/results.json](peers/results.json). The workloads are in [peers/workloads.py](peers/workloads.py), what each peer
is given in [peers/contestants/](peers/contestants/), one file each. A few hundred megabytes are installed, about half
an hour is measured. Leave the machine alone meanwhile.
"""

HOW = """## How to read it

- **Levels.** *memory*: nothing is stored. *process*: survives `kill -9`, may lose its last moments at a power cut.
  *power*: an fsync with every commit. Compare within a level: an fsync costs more than all else here together. What
  exactly is stored differs, and stands in each row.
- **Turns.** Each repetition of one is followed by one of the next: A B C A B C. The first of each is dropped. While it
  is another one's turn, a process is stopped. Figures are medians with the least and the greatest.
- **Checked.** Every repetition's output is compared with the right one; a wrong one leaves its cell empty, with the
  error.
- **Spin** is a fixed loop, run before and after each repetition: milliseconds per million rounds. What stands below
  *at spin {reference:g}* is the median of each time corrected by its spin: right for what computes, and off for what
  waits for a disk or a timer. Take ratios below 1.5 for equal.
- **N** is smaller where a repetition would take more than a few seconds; compare the cost of one.
- **× Blaze** is the cost in units of Blaze's best at the same level, both at the same spin: 2.0 is twice as slow.
- Not timed: imports, declaring the graph, opening the database, starting workers. Four threads, where there are
  threads.
- Telemetry is off: {telemetry}.
"""


def text(results: Results, charts: Mapping[str, str]) -> str:
    """The page."""
    reference = HOW.format(reference=REFERENCE_SPIN, telemetry=", ".join(f"`{n}={v}`" for n, v in NO_TELEMETRY.items()))
    parts = [HEAD, _when(results), _summary(results), AGAIN, reference]
    for workload, work in WORKLOADS.items():
        if results.cells.get(workload):
            parts.append(f"## {work.title}\n\n{work.about}\n")
            if workload in charts:
                parts.append(f"![{work.title}](charts/{charts[workload]})\n")
            parts += [_table_of(workload)(results, workload), _empty(results, workload)]
    parts += [_sizes(results), _slower(results), _readings(results)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


# ---------------------------------------------------------------------- on what


def _when(results: Results) -> str:
    machine = results.machine
    dates = sorted(stamp["at"] for stamp in results.measured.values())
    if not dates:
        return "Nothing has been measured."
    spins = results.spins()
    noise = f"{statistics.median(spins):.1f} ({min(spins):.1f} – {max(spins):.1f})" if spins else "–"
    seconds = sum(stamp.get("seconds", 0) for stamp in results.measured.values())
    lines = [
        f"- Measured: {_minute(dates[0])} to {_minute(dates[-1])} UTC, {seconds / 60:.0f} minutes of measuring",
        f"- Machine: {machine.get('processors')} processors, {machine.get('processor')}, {machine.get('file_system')}",
        f"- {machine.get('system')}, {machine.get('python')}, SQLite {machine.get('sqlite')}",
        f"- Spin: {noise} ms; the wider apart, the noisier the figures",
        "- Versions: " + ", ".join(f"{c.title} {_version(results, c)}" for c in FIELD if c.distribution),
    ]
    shrunk = [name for name, stamp in results.measured.items() if stamp.get("shrink", 1) != 1]
    if shrunk:
        lines.append(f"- **Tiny sizes (`--quick`), no measurement: {', '.join(shrunk)}**")
    return "\n".join(lines) + "\n"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _version(results: Results, contestant: Contestant) -> str:
    found = results.installed.get(contestant.venv, {}).get("distributions", {})
    return str(found.get(contestant.distribution, "(not installed)"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def _told(entry: Entry) -> str:
    name = f"{entry.contestant.title}: {entry.setting.how}"
    return f"**{name}**" if entry.contestant.key == "blaze" else name


def _found(results: Results, workload: str) -> Iterator[Tuple[Entry, Dict[str, Any]]]:
    for entry in entries():
        cell = results.cell(workload, entry.key)
        if cell is not None and "error" not in cell and entry.why_not(workload) is None:
            yield entry, cell


def best_of_blaze(results: Results, workload: str, level: str) -> Optional[Tuple[Entry, float]]:
    """Blaze's best at a level, and its time at the reference spin."""
    times = [
        (entry, at)
        for entry, _ in _found(results, workload)
        if entry.contestant.key == "blaze" and entry.level(workload) == level
        for at in [results.at_reference(workload, entry.key)]
        if at is not None
    ]
    return min(times, key=lambda pair: pair[1], default=None)


# ---------------------------------------------------------------------- tables


def _table_of(workload: str) -> Any:
    if workload in TURNS:
        return _times
    return {"late": _late, "idle": _idle, "kill": _kill, "import": _starts, "hello": _starts}[workload]


def _times(results: Results, workload: str) -> str:
    per = WORKLOADS[workload].per
    rows: List[Tuple[int, float, Tuple[str, ...]]] = []
    for entry, cell in _found(results, workload):
        spread, at = results.per_unit(workload, entry.key), results.at_reference(workload, entry.key)
        if spread is None or at is None:
            continue
        level = entry.level(workload)
        ours = best_of_blaze(results, workload, level)
        cpu = statistics.median(cell["cpus"]) / statistics.median(cell["times"]) * 100
        row = (
            _told(entry), level, entry.setting.stored if level == entry.setting.level else "nothing",
            f"{cell['size']:,}" if cell["size"] > 1 else "",
            duration(spread.median), _range(spread, cell),
            f"{cpu:.0f} %", f"{statistics.median(cell['spins']):.0f}", duration(at),
            f"{at / ours[1]:.2f}" if ours else "–",
        )  # fmt: skip
        rows.append((LEVELS.index(level), at, row))
    head = (
        "who", "level", "stored", "N", f"per {per}, median", "min – max (repetitions)", "CPU", "spin",
        f"at spin {REFERENCE_SPIN:g}", "× Blaze",
    )  # fmt: skip
    return _table(head, [row for _, _, row in sorted(rows)])


def _range(spread: Spread, cell: Mapping[str, Any]) -> str:
    return f"{duration(spread.low)} – {duration(spread.high)} ({len(cell['times'])})"


def _late(results: Results, workload: str) -> str:
    rows = []
    for entry, cell in _found(results, workload):
        windows = cell.get("windows", [])
        if windows:
            figures = [_milliseconds([window[name] for window in windows]) for name in ("p50", "p99", "most")]
            sums = [str(sum(window[name] for window in windows)) for name in ("due", "missed", "twice")]
            rows.append((_told(entry), entry.level(workload), *figures, *sums))
    return _table(("who", "level", "p50", "p99", "max", "due", "missed", "twice"), rows) + (
        f"\nMedians over the windows of {LATE_SECONDS} s (least – greatest); counts are sums. A bare loop's block\n"
        "does nothing but take the time; Blaze has stored a run before its block begins, and a result after it;\n"
        "APScheduler's SQLite store writes the job's next time. A tick that began later than 10 s after the window\n"
        "counts as missed.\n"
    )


def _milliseconds(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    median, low, high = (f"{value:,.1f}" for value in (spread.median, spread.low, spread.high))
    return f"{median} ms" + (f" ({low} – {high})" if len(values) > 1 else "")


def _idle(results: Results, workload: str) -> str:
    rows = [
        (_told(entry), f"{cell['size']:,}", f"{cell['cpu_per_minute']:.4f} s")
        for entry, cell in _found(results, workload)
        if "cpu_per_minute" in cell
    ]
    return _table(("who", "jobs", "processor time a minute"), rows) + (
        "\nAll of them side by side over the same minute, after a settling time in which start-up polling ends.\n"
    )


def _starts(results: Results, workload: str) -> str:
    rows = []
    for entry, cell in _found(results, workload):
        if cell.get("times"):
            spread = Spread.of(cell["times"])
            row = (
                _told_start(entry, workload),
                duration(spread.median),
                _range(spread, cell),
                duration(statistics.median(cell["cpus"])),
                f"{statistics.median(cell['memory']) / 2**20:.1f} MiB",
            )
            rows.append((spread.median, row))
    head = ("who", "median", "min – max (repetitions)", "processor time", "most memory")
    return _table(head, [row for _, row in sorted(rows)])


def _told_start(entry: Entry, workload: str) -> str:
    title = entry.contestant.title
    title = f"**{title}**" if entry.contestant.key == "blaze" else title
    if workload == "import":
        return f"{title}: `{entry.contestant.imports}`"
    return f"{title} ({entry.level(workload)})"


def _kill(results: Results, workload: str) -> str:
    rows = []
    for entry, cell in _found(results, workload):
        kills = cell.get("kills", [])
        if kills:
            counts = [
                str(sum(len(kill[name]) for kill in kills))
                for name in ("completed_again", "built_upon_again", "in_flight_again", "never")
            ]
            completed = sum(kill["completed"] for kill in kills)
            finished = sum(kill["finished"] for kill in kills)
            row = (_told(entry), entry.level(workload), f"{finished} of {len(kills)}", f"{counts[0]} of {completed}")
            rows.append((*row, *counts[1:]))
    steps, later = DOOMED_CHAIN + DOOMED_FAN + 1, round(1.5 * DOOMED_SECONDS * 1e3)
    head = (
        "who", "level", "runs finished after the restart", "completed steps repeated", "of these, built upon",
        "steps in flight repeated", "steps that never ran",
    )  # fmt: skip
    return (
        _table(head, rows)
        + f"""
The same pipeline of {steps} steps for everyone, killed at the same points of its progress: when the 2nd to
{steps - 2}th step has begun, and up to {later} ms later (seeded, so always the same). The whole process group is
killed, then the same program is started again in the way that the documentation shows. A *witness*, a file that only
the bodies of the steps write to, tells what ran.

- A step is **completed** when its body had ended before the kill. Between that and the record of it some time passes,
  and nobody can promise anything for it. So the next column counts those that a step behind them **had begun to build
  upon**: they are beyond doubt, and what Blaze promises is that this column is 0.
- A step is **in flight** when its body had begun and not ended. To run it again is the best that anyone can do, since
  whether it did its work can't be known; Blaze does so with the same `idempotency_key`. Where it is not run again, it
  is among the steps that never ran.
- Sums over all kills.
"""
    )


def _empty(results: Results, workload: str) -> str:
    reasons: Dict[Tuple[str, str], List[str]] = {}
    for entry in entries():
        cell = results.cell(workload, entry.key)
        reason = entry.why_not(workload) or (cell or {}).get("error") or ("" if cell else "not measured")
        if reason:
            reasons.setdefault((entry.contestant.title, reason), []).append(entry.setting.how)
    if not reasons:
        return ""
    told = []
    for (title, reason), hows in reasons.items():
        settings = sum(1 for entry in entries() if entry.contestant.title == title)
        which = "" if len(hows) == settings else f" ({'; '.join(hows)})"
        told.append(f"{title}{which}: {_one_line(reason)}")
    return "Empty cells: " + ". ".join(told) + ".\n"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _sizes(results: Results) -> str:
    rows = []
    for contestant in FIELD:
        found = results.installed.get(contestant.venv)
        if found and contestant.distribution:
            row = (contestant.title, str(len(found["distributions"])), f"{found['bytes'] / 1e6:.1f} MB")
            rows.append((found["bytes"], row))
    if not rows:
        return ""
    return (
        "## Installed size\n\nDistributions in the environment, without pip and setuptools, and their files "
        "without bytecode.\n\n"
    ) + _table(("who", "distributions", "size"), [row for _, row in sorted(rows)])


# ---------------------------------------------------------------------- what it means


def _summary(results: Results) -> str:
    """Each level's fastest, workload by workload."""
    rows = []
    for workload in TURNS:
        if not results.cells.get(workload):
            continue
        for level in LEVELS:
            ours = best_of_blaze(results, workload, level)
            others = rivals(results, workload, level)
            if ours and others:
                entry, at = others[0]
                told = f"{duration(at)} ({entry.contestant.title}: {entry.setting.how})"
                work = WORKLOADS[workload]
                rows.append((f"{work.title}, per {work.per}", level, duration(ours[1]), told, f"{at / ours[1]:.2f}"))
    if not rows:
        return ""
    head = ("work", "level", "Blaze", "the fastest of the others", "× Blaze")
    return f"## In one table\n\nAt spin {REFERENCE_SPIN:g}; below 1 is faster than Blaze.\n\n" + _table(head, rows)


def rivals(results: Results, workload: str, level: str) -> List[Tuple[Entry, float]]:
    """The peers at a level, fastest first, with their times at the reference spin. Bare loops are no peers."""
    found = [
        (entry, at)
        for entry, _ in _found(results, workload)
        if entry.contestant.key not in ("blaze", "bare_loops") and entry.level(workload) == level
        for at in [results.at_reference(workload, entry.key)]
        if at is not None
    ]
    return sorted(found, key=lambda pair: pair[1])


def _slower(results: Results) -> str:
    if not results.cells:
        return ""
    lines = []
    for workload in TURNS:
        for level in LEVELS:
            ours = best_of_blaze(results, workload, level)
            faster = [(entry, at) for entry, at in rivals(results, workload, level) if ours and at < ours[1]]
            lines += [_told_slower(workload, level, entry, at, ours[1]) for entry, at in faster if ours]
    for workload in ("import", "hello"):
        found = [(results.at_reference(workload, entry.key), entry) for entry, _ in _found(results, workload)]
        times = [(at, entry) for at, entry in found if at is not None and entry.contestant.key != "bare_loops"]
        own = [at for at, entry in times if entry.contestant.key == "blaze"]
        faster_starts = [(at, entry) for at, entry in times if own and at < own[0]]
        for at, entry in sorted(faster_starts, key=lambda pair: pair[0]):
            lines.append(_told_slower(workload, "", entry, at, own[0]))
    told = "\n".join(lines) or "- Nowhere, in this sitting."
    return f"## Where Blaze is not the fastest at its level, and why\n\n{told}\n"


def _told_slower(workload: str, level: str, entry: Entry, at: float, ours: float) -> str:
    title = f"{WORKLOADS[workload].title}{level and f', {level}'}"
    named = f"{entry.contestant.title} ({entry.setting.how})"
    times = f"{duration(at)}, Blaze {duration(ours)}: {ours / at:.1f} times as long"
    return f"- **{title}**: {named} {times}. {why(workload, entry.key)}"


def _readings(results: Results) -> str:
    parts = ["## A fair reading of each\n"]
    for contestant in FIELD:
        if contestant.distribution:
            title = f"### {contestant.title} {_version(results, contestant)}\n"
            better = f"Does what Blaze does not: {contestant.strength}\n" if contestant.strength else ""
            parts += [title, contestant.reading + "\n", better]
    return "\n".join(part for part in parts if part)
