"""The table of the README's section "How it compares", between two marks, made from the same results as the page."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

from .charts import duration
from .field import LEVELS, MEMORY, Entry, entries
from .results import Results

BEGIN, END = "<!-- measured: make bench-peers -->", "<!-- /measured -->"
#: Workloads of the columns.
SHOWN = ("chain", "fan", "runs", "kill")
#: Left out, so that Huey has one row for each level: polling costs it a factor, and can be set.
LEFT_OUT = ("huey:default",)


def table(results: Results) -> str:
    """What a step and a run cost where something is stored, and what a kill does."""
    rows: List[Tuple[int, float, str]] = []
    for entry in entries():
        if entry.setting.level == MEMORY or entry.contestant.key == "bare_loops" or entry.key in LEFT_OUT:
            continue
        times = [results.per_unit(workload, entry.key) for workload in ("chain", "fan", "runs")]
        if not any(times):
            continue
        figures = [duration(time.median) if time else "–" for time in times]
        name = f"{entry.contestant.title} ({entry.setting.how.replace(' (default)', '')})"
        name = f"**{name}**" if entry.contestant.key == "blaze" else name
        first = times[0] or times[2]
        row = " | ".join((name, entry.setting.level, *figures, *_kill(results, entry)))
        rows.append((LEVELS.index(entry.setting.level), first.median if first else 0.0, f"| {row} |"))
    tiny = any(results.measured.get(workload, {}).get("shrink", 1) != 1 for workload in SHOWN)
    if not rows or tiny:
        return "Not measured yet."
    head = (
        "| | survives | a step of a chain | a step of a fan-out | a run of 3 steps "
        "| finished after kill -9 and restart | done twice although built upon |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    return "\n".join([head, *(row for _, _, row in sorted(rows))])


def _kill(results: Results, entry: Entry) -> Tuple[str, str]:
    kills = (results.cell("kill", entry.key) or {}).get("kills", [])
    if not kills:
        return "–", "–"
    finished = sum(kill["finished"] for kill in kills)
    again = sum(len(kill["built_upon_again"]) for kill in kills)
    return f"{finished} of {len(kills)}", f"{again} of {sum(kill['completed'] for kill in kills)}"


def update(results: Results, path: Path) -> None:
    """Put the table between the marks. Raises ValueError if they are not there."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{path} has no place for the table: {BEGIN} … {END}")
    path.write_text(f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}", encoding="utf-8")
