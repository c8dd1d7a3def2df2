"""What a benchmark found, and how it is shown: aligned tables for people, one JSON document for programs."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .measure import REFERENCE_SPIN, Pairs, Spin, Spread

#: The columns of most rows: what is compared with what.
AGAINST_BARE = ("bare", "Blaze", "ratio")


@dataclass(frozen=True)
class Goal:
    """What is to be reached; what is None does not matter."""

    #: Greatest median of the ratio.
    ratio: Optional[float] = None
    #: Greatest median of Blaze's figure, in the row's unit.
    value: Optional[float] = None
    #: What else has to be true, in words.
    words: str = ""

    def told(self, unit: str) -> str:
        """The goal as text."""
        parts = [] if self.ratio is None else [f"≤ {self.ratio:g} ×"]
        parts += [] if self.value is None else [f"≤ {self.value:g} {unit}"]
        return ", ".join(parts + ([self.words] if self.words else []))

    def reached(self, ratio: Optional[Spread], value: Spread, words: bool) -> Optional[bool]:
        """Whether all of it is reached; None without a goal."""
        if not self.told(""):
            return None
        return (
            (self.ratio is None or (ratio is not None and ratio.median <= self.ratio))
            and (self.value is None or value.median <= self.value)
            and (words or not self.words)
        )


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    key: str
    what: str
    #: Of ``bare`` and ``blaze``.
    unit: str
    bare: Optional[Spread]
    blaze: Spread
    ratio: Optional[Spread]
    goal: str
    #: None: there is no goal.
    reached: Optional[bool]
    #: ``ratio`` of processor time; no goal is set on it, but it is steadier than time on a busy machine.
    cpu_ratio: Optional[Spread] = None
    #: How fast the machine was meanwhile; None if that was not measured.
    spin: Optional[Spin] = None
    notes: Tuple[str, ...] = ()
    #: What the three columns of figures are.
    columns: Tuple[str, str, str] = AGAINST_BARE


@dataclass(frozen=True)
class Wrong:
    """A row that could not be measured, because the work was not done."""

    key: str
    what: str


def row_of(
    key: str,
    what: str,
    pairs: Pairs,
    per: float,
    unit: str,
    goal: Goal,
    *,
    words: bool = False,
    notes: Sequence[str] = (),
) -> Row:
    """The row of a comparison.

    :param per: units in one second of a repetition: for µs a step, 1e6 by the number of steps.
    :param words: whether what ``goal.words`` says is true.
    """
    bare, blaze = (Spread.of(one.wall for one in times).times(per) for times in (pairs.bare, pairs.blaze))
    reached = goal.reached(pairs.ratio, blaze, words)
    if goal.value is not None:
        notes = [*notes, f"{blaze.median * REFERENCE_SPIN / pairs.spin.cpu:.1f} {unit} at the spin of the reference"]
    told = goal.told(unit)
    return Row(key, what, unit, bare, blaze, pairs.ratio, told, reached, pairs.cpu_ratio, pairs.spin, tuple(notes))


@dataclass
class Report:
    """Everything that one call of the program found."""

    directory: Path
    options: Dict[str, Any]
    rows: List[Row] = field(default_factory=list)
    wrong: List[Wrong] = field(default_factory=list)
    spins: List[Spin] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def machine(self) -> Dict[str, Any]:
        """What it ran on."""
        return {
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "sqlite": sqlite3.sqlite_version,
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(),
            "processors": os.cpu_count(),
            "file_system": file_system(self.directory),
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        }

    def noise(self) -> Dict[str, Any]:
        """How fast the spin loop was, in milliseconds per million rounds."""
        if not self.spins:
            return {"reference": REFERENCE_SPIN, "cpu": None, "wall": None}
        cpu, wall = Spread.of(spin.cpu for spin in self.spins), Spread.of(spin.wall for spin in self.spins)
        return {"reference": REFERENCE_SPIN, "cpu": asdict(cpu), "wall": asdict(wall)}

    def to_dict(self) -> Dict[str, Any]:
        """All of it, fit for JSON. A row's ``spin`` is [processor time, wall clock]."""
        return {
            "date": self.started.isoformat(timespec="seconds"),
            "options": self.options,
            "machine": self.machine(),
            "spin_ms_per_million": self.noise(),
            "rows": [asdict(row) for row in self.rows],
            "wrong": [asdict(wrong) for wrong in self.wrong],
        }

    def text(self) -> str:
        """The tables, below what they were measured on."""
        machine, noise = self.machine(), self.noise()
        lines = [
            f"Blaze benchmark of {self.started:%Y-%m-%d %H:%M} UTC",
            f"{machine['python']}, SQLite {machine['sqlite']}, {machine['system']}, {machine['processors']} × "
            f"{machine['processor']}, {machine['file_system']}, load {machine['load']}",
        ]
        if noise["cpu"] is not None:
            lines.append(
                f"spin: {_plain(noise['cpu'])} ms of processor time, {_plain(noise['wall'])} ms of wall clock "
                f"per million rounds (quiet reference: {REFERENCE_SPIN:g}); the wider apart, the noisier the figures"
            )
        if machine["file_system"] in ("tmpfs", "ramfs"):
            lines.append("NOTE: this file system is in memory; durable rows tell nothing here (--dir)")
        for columns in dict.fromkeys(row.columns for row in self.rows):
            rows = [row for row in self.rows if row.columns == columns]
            head = ("row", "unit", *(f"{name} (min – max)" for name in columns), "of CPU", "spin", "goal", "reached")
            lines += ["", *_aligned([head, *(_cells(row) for row in rows)]), ""]
            lines += [f"{row.key}: {'; '.join((row.what, *row.notes))}" for row in rows]
        lines += [f"WRONG {wrong.key}: {wrong.what}" for wrong in self.wrong]
        return "\n".join(lines)


def file_system(path: Path) -> str:
    """Type of the file system that holds ``path``, where the system tells (Linux)."""
    best = ("", "unknown file system")
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return best[1]
    real = os.path.realpath(path)
    for line in mounts:
        _, mount, kind, *_ = line.split()
        if (real + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cells(row: Row) -> Tuple[str, ...]:
    reached = {None: "", True: "yes", False: "NO"}[row.reached]
    spin = "–" if row.spin is None else f"{row.spin.cpu:.0f}/{row.spin.wall:.0f}"
    figures = (_shown(row.bare), _shown(row.blaze), _shown(row.ratio, 2))
    cpu = "–" if row.cpu_ratio is None else f"{row.cpu_ratio.median:.2f}"
    return (row.key, row.unit, *figures, cpu, spin, row.goal or "–", reached)


def _shown(spread: Optional[Spread], digits: Optional[int] = None) -> str:
    if spread is None:
        return "–"
    if digits is None:
        digits = 0 if spread.median >= 1000 else 1 if spread.median >= 10 else 2
    median, low, high = (f"{value:,.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return f"{median} ({low} – {high})"


def _plain(spread: Dict[str, float]) -> str:
    return f"{spread['median']:.1f} ({spread['low']:.1f} – {spread['high']:.1f})"


def _aligned(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (rows[0], ["-" * width for width in widths], *rows[1:])
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in lines]


def note(text: str) -> None:
    """Tell what goes on, to whoever waits for the table."""
    print(text, file=sys.stderr, flush=True)
