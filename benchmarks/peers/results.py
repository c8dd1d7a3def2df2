"""What was measured: one JSON file, written after every turn, from which the page and the charts are made."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ..measure import REFERENCE_SPIN, Spread
from .workloads import GRAPHS, steps_of

#: A list of numbers or strings in an indented document.
LIST = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")
#: The form of the file; a file of another form is measured anew.
FORM = 1


@dataclass
class Results:
    """All cells, and what they were measured on."""

    path: Optional[Path] = None
    #: Of the interpreter, the system, the disk.
    machine: Dict[str, Any] = field(default_factory=dict)
    #: Environment → what is installed in it.
    installed: Dict[str, Any] = field(default_factory=dict)
    #: Workload → when it was measured, with what options.
    measured: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    #: Workload → entry → what was found: ``times``, ``cpus``, ``spins`` of repetitions, other figures, or ``error``.
    cells: Dict[str, Dict[str, Dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Those of a file; none, if there is no file or it has another form."""
        results = cls(path)
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.get("form") == FORM:
                results.machine, results.installed = found["machine"], found["installed"]
                results.measured, results.cells = found["measured"], found["cells"]
        return results

    def begin(self, workload: str, entry: str, size: int) -> Dict[str, Any]:
        """A new cell, in place of what was there."""
        cell: Dict[str, Any] = {"size": size}
        self.cells.setdefault(workload, {})[entry] = cell
        return cell

    def stamp(self, workload: str, options: Mapping[str, Any]) -> None:
        """A workload is measured now."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.measured[workload] = {"at": now, **options}

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None:
            return
        document = {
            "form": FORM,
            "machine": self.machine,
            "installed": self.installed,
            "measured": self.measured,
            "cells": self.cells,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        text = LIST.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text)  # a list is a line
        beside = self.path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, self.path)

    def cell(self, workload: str, entry: str) -> Optional[Dict[str, Any]]:
        """What was found, if anything was."""
        return self.cells.get(workload, {}).get(entry)

    def per_unit(self, workload: str, entry: str) -> Optional[Spread]:
        """Seconds a step, run or job; None: there is no such figure."""
        cell = self.cell(workload, entry)
        if not cell or not cell.get("times"):
            return None
        return Spread.of(cell["times"]).times(1 / _divisor(workload, cell["size"]))

    def at_reference(self, workload: str, entry: str) -> Optional[float]:
        """The same as it would be if the spin loop had always been as fast as on the quiet reference machine.

        Right for what computes, too small for what waits for a disk or a timer.
        """
        cell = self.cell(workload, entry)
        if not cell or not cell.get("times"):
            return None
        found = [time * REFERENCE_SPIN / spin for time, spin in zip(cell["times"], cell["spins"])]
        return Spread.of(found).median / _divisor(workload, cell["size"])

    def spins(self) -> List[float]:
        """Every spin."""
        return [spin for cells in self.cells.values() for cell in cells.values() for spin in cell.get("spins", ())]


def _divisor(workload: str, size: int) -> int:
    return steps_of(workload, size) if workload in GRAPHS else size if workload in ("runs", "cron") else 1
