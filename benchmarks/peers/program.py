"""Measures Blaze beside its peers and tells about it: ``make bench-peers``, or ``python -m benchmarks.peers``.

Results go to benchmarks/peers/results.json as they come; the page benchmarks/RESULTS.md and its charts are made
from them. With --only or --workload, the other results stay as they were. ``--report`` makes the page and measures
nothing.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import List, Optional, Sequence

from ..bench import ROOT
from ..report import Report, note
from . import charts, page, readme
from .field import entries
from .measuring import ABSENT, QUICK, Effort, measure
from .results import Results
from .venvs import BLAZE, inventory
from .workloads import WORKLOADS

BENCHMARKS = ROOT / "benchmarks"
PAGE = BENCHMARKS / "RESULTS.md"
RESULTS = BENCHMARKS / "peers" / "results.json"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the program; its exit status: 0, or 1 if a cell of an installed contestant could not be measured."""
    options = _options(arguments)
    results = Results.read(options.results)
    if not options.report:
        _measure(options, results)
    if not options.quick or options.report:
        directory = options.page.parent
        written = charts.write(results, directory / "charts")
        options.page.write_text(page.text(results, written), encoding="utf-8")
        if options.page == PAGE:
            readme.update(results, ROOT / "README.md")
        note(f"{options.page} and {len(written)} charts are written")
    if options.json:
        sys.stdout.write(json.dumps(results.cells, indent=2, ensure_ascii=False) + "\n")
    failed = [
        f"{workload}, {key}: {cell['error']}"
        for workload, cells in results.cells.items()
        for key, cell in cells.items()
        if "error" in cell and workload in options.workload
    ]
    for line in failed:
        note(f"EMPTY {line}")
    return 1 if any(ABSENT not in line for line in failed) else 0


def _measure(options: argparse.Namespace, results: Results) -> None:
    options.results.parent.mkdir(parents=True, exist_ok=True)
    work = options.dir if options.dir is not None else BENCHMARKS / ".work"
    work.mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="peers-", dir=work)).resolve()
    try:
        chosen = [entry for entry in entries() if _matches(entry.key, options.only)]
        results.machine = Report(base, {}).machine()
        for name in {entry.contestant.venv for entry in chosen} | {BLAZE}:
            found = inventory(name)
            if found is not None:
                results.installed[name] = found
        effort = QUICK if options.quick else Effort()
        if options.rounds:
            effort = effort._replace(rounds=options.rounds)
        for workload in options.workload:
            measure(results, workload, chosen, effort, base / workload)
            shutil.rmtree(base / workload, ignore_errors=True)
    finally:
        results.save()
        shutil.rmtree(base, ignore_errors=True)


def _matches(key: str, patterns: List[str]) -> bool:
    return any(fnmatch.fnmatch(key, pattern) or key.partition(":")[0] == pattern for pattern in patterns)


def _options(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    names = [entry.key for entry in entries()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="workloads:\n"
        + "\n".join(f"  {key:<10}{work.title}: {work.about}" for key, work in WORKLOADS.items())
        + "\ncontestants:\n  "
        + " ".join(names),
    )
    parser.add_argument(
        "--only",
        type=lambda text: _chosen(text, names, "contestant"),
        default=["*"],
        metavar="NAME[,NAME]",
        help="these contestants; all settings ('huey') or one ('huey:nosync'), patterns too",
    )
    parser.add_argument(
        "--workload",
        type=_workloads,
        default=list(WORKLOADS),
        metavar="NAME[,NAME]",
        help="these workloads; patterns too",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repetition, no page: does it all work?")
    parser.add_argument("--rounds", type=int, metavar="N", help="repetitions after the warm-up (default 7)")
    parser.add_argument("--report", action="store_true", help="measure nothing; make page and charts from the results")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, too")
    parser.add_argument("--dir", type=Path, help="for databases; on a real disk (default: benchmarks/.work)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where results are kept")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="the page")
    options = parser.parse_args(arguments)
    if options.quick and options.results == RESULTS:
        options.results = BENCHMARKS / ".work" / "quick.json"  # those that were measured stay
    return options


def _chosen(text: str, names: Sequence[str], what: str) -> List[str]:
    patterns = [part.strip() for part in text.split(",")]
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            raise argparse.ArgumentTypeError(f"there is no {what} {pattern!r}; there are {', '.join(names)}")
    return patterns


def _workloads(text: str) -> List[str]:
    patterns = _chosen(text, list(WORKLOADS), "workload")
    return [name for name in WORKLOADS if _matches(name, patterns)]
