"""Bar charts as SVG, drawn from the results: readable on light and on dark pages, without any dependency.

Bars stand on a logarithmic scale, since the slowest is thousands of times slower than the fastest, and each bar
bears its figure. The durability level is the colour and is written out, too.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .field import LEVELS, MEMORY, POWER, PROCESS, Entry, entries
from .results import Results
from .workloads import WORKLOADS

#: Measures in pixels.
WIDTH, ROW, LABELS, FIGURES, TOP, BOTTOM = 860, 24, 300, 110, 88, 18

#: Of each level, on light and on dark pages; apart for those who can't tell red from green.
COLOURS = {MEMORY: ("#8a63d2", "#b392f0"), PROCESS: ("#0969da", "#58a6ff"), POWER: ("#bc4c00", "#f0883e")}
TOLD = {MEMORY: "nothing is stored", PROCESS: "survives kill -9", POWER: "survives a power cut"}


class Bar(NamedTuple):
    """One line of a chart."""

    label: str
    value: float
    told: str
    level: str
    #: Whether it is Blaze's, which is set in bold.
    ours: bool
    #: Whether it is a bare loop's, which is drawn hollow.
    bare: bool


class Chart(NamedTuple):
    """What is drawn."""

    name: str
    title: str
    subtitle: str
    bars: Tuple[Bar, ...]


def chart_of(results: Results, workload: str, name: str, title: str, keys: Optional[Sequence[str]] = None) -> Chart:
    """A chart of times: level by level, the fastest of each on top."""
    bars: List[Bar] = []
    for entry in entries():
        spread = results.per_unit(workload, entry.key)
        if spread is not None and (keys is None or entry.key in keys):
            bars.append(_bar(entry, workload, spread.median))
    bars.sort(key=lambda bar: (LEVELS.index(bar.level), bar.value))
    per = WORKLOADS[workload].per
    return Chart(name, title, f"time per {per}, median, logarithmic scale; shorter is better", tuple(bars))


def _bar(entry: Entry, workload: str, value: float) -> Bar:
    key, title = entry.contestant.key, entry.contestant.title
    parts = entry.setting.how.replace(" (default)", "").split(",")
    alike = [other for other in entry.contestant.settings if other.how.split(",")[0] == parts[0]]
    how = ",".join(parts[: min(len(alike), 2)])
    label = entry.setting.how if key == "bare_loops" else f"{title}: {how}"
    if workload in ("import", "hello"):
        label = title
    return Bar(label, value, duration(value), entry.level(workload), key == "blaze", key == "bare_loops")


def duration(seconds: float) -> str:
    """Seconds with a fit unit and three digits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            break
    value = seconds * factor
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def svg(chart: Chart) -> str:
    """The chart as a document of its own."""
    height = TOP + ROW * len(chart.bars) + BOTTOM
    space = WIDTH - LABELS - FIGURES
    lowest = math.floor(math.log10(min(bar.value for bar in chart.bars)))
    highest = max(math.log10(max(bar.value for bar in chart.bars)), lowest + 1)
    scale = space / (highest - lowest)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(chart.title)}</title>',
        f'<desc id="desc">{escape("; ".join(f"{bar.label}: {bar.told}" for bar in chart.bars))}</desc>',
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="16" y="26">{escape(chart.title)}</text>',
        f'<text class="soft" x="16" y="45">{escape(chart.subtitle)}</text>',
    ]
    x = 16.0
    for level in [level for level in LEVELS if any(bar.level == level for bar in chart.bars)]:
        parts.append(f'<rect class="{level}" x="{x:g}" y="57" width="11" height="11" rx="2"/>')
        parts.append(f'<text class="soft" x="{x + 16:g}" y="67">{TOLD[level]}</text>')
        x += 34 + 6.6 * len(TOLD[level])
    if any(bar.bare for bar in chart.bars):
        parts.append(f'<rect class="hollow soft-line" x="{x:g}" y="57" width="11" height="11" rx="2"/>')
        parts.append(f'<text class="soft" x="{x + 16:g}" y="67">by hand, without any package</text>')
    for decade in range(lowest, math.floor(highest) + 1):
        at = LABELS + (decade - lowest) * scale
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP - 4}" x2="{at:.1f}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{height - 5}">{_tick(decade)}</text>')
    for number, bar in enumerate(chart.bars):
        y = TOP + number * ROW
        width = max(2.0, (math.log10(bar.value) - lowest) * scale)
        ours = " ours" if bar.ours else ""
        kind = f"hollow {bar.level}-line" if bar.bare else bar.level
        parts.append(f'<text class="label{ours}" x="{LABELS - 8}" y="{y + 15}">{escape(_clipped(bar.label))}</text>')
        parts.append(f'<rect class="{kind}" x="{LABELS}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="2"/>')
        parts.append(f'<text class="figure{ours}" x="{LABELS + width + 6:.1f}" y="{y + 15}">{escape(bar.told)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _tick(decade: int) -> str:
    return duration(10.0**decade).replace(".00", "").replace(".0", "") if decade >= -6 else "0.1 µs"


def _clipped(text: str, most: int = 46) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _style() -> str:
    def rules(index: int, text: str, soft: str, grid: str, page: str) -> str:
        levels = "".join(
            f".{level}{{fill:{colours[index]}}}.{level}-line{{stroke:{colours[index]}}}"
            for level, colours in COLOURS.items()
        )
        return (
            f"text{{fill:{text}}}.soft,.tick{{fill:{soft}}}.soft-line{{stroke:{soft}}}"
            f".grid{{stroke:{grid}}}.page{{fill:{page}}}{levels}"
        )

    return (
        "text{font:12px -apple-system,'Segoe UI',Helvetica,Arial,sans-serif}.title{font-size:16px;font-weight:600}"
        ".label{text-anchor:end}.tick{font-size:10px;text-anchor:middle}.ours{font-weight:700}"
        + rules(0, "#1f2328", "#59636e", "#d1d9e0", "#ffffff")
        + f"@media(prefers-color-scheme:dark){{{rules(1, '#f0f6fc', '#9198a1', '#3d444d', '#0d1117')}}}"
        + ".hollow{fill:none;stroke-width:1.5}"
    )


#: Name → workload and title of the charts that are drawn.
DRAWN: Dict[str, Tuple[str, str]] = {
    "chain": ("chain", "A chain of steps that pass an integer"),
    "fan": ("fan", "One step, many side by side, and one that joins them"),
    "runs": ("runs", "Many runs of extract → transform → load"),
    "montage": ("montage", "A real workflow: Montage, 472 tasks"),
    "hello": ("hello", "A new process that runs a pipeline of two steps, start to exit"),
}


def write(results: Results, directory: Path) -> Dict[str, str]:
    """Draw what there are figures for; name → file name."""
    written: Dict[str, str] = {}
    for name, (workload, title) in DRAWN.items():
        chart = chart_of(results, workload, name, title)
        if len(chart.bars) > 1:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{name}.svg").write_text(svg(chart), encoding="utf-8")
            written[name] = f"{name}.svg"
    return written
