"""What every row is given: how much to do, how often, and where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from .measure import Pairs, Repetition, WrongResult, in_pairs
from .report import Report

#: The folder that holds ``blaze`` and ``benchmarks``.
ROOT = Path(__file__).resolve().parent.parent
#: Seconds that a child process may take.
CHILD_LIMIT = 600.0


@dataclass(frozen=True)
class Sizes:
    """How much work each row is."""

    #: Steps of a chain, width of a fan-out.
    steps: int = 1_000
    #: Runs of the 3-step pipeline.
    runs: int = 1_000
    #: How many times ``steps`` is the larger graph of the growth rows.
    growth: int = 10
    #: Runs that show whether memory grows.
    leak_runs: int = 100_000
    #: Seconds that they may take; then fewer are made.
    leak_seconds: float = 60.0
    #: Megabytes of the object that is passed.
    megabytes: int = 100
    #: Cron jobs that are submitted in one call, and those that are stored at a start.
    jobs: int = 10_000
    stored_jobs: int = 100_000
    #: Jobs that fire every second, and for how many seconds.
    late_jobs: int = 200
    late_seconds: int = 30
    #: Processes that share one state directory.
    processes: int = 8
    #: Jobs of which none is due, seconds for which that is watched, and seconds before.
    idle_jobs: int = 1_000
    idle_seconds: float = 60.0
    settle_seconds: float = 5.0
    #: Round trips over the daemon's socket, and clients that make them at once.
    calls: int = 10_000
    clients: int = 50
    #: Repetitions of what starts an interpreter and little else, unless more are asked for.
    starts: int = 15
    #: Turns before those that are measured.
    warmups: int = 1
    #: The recorded workflows in the large graph, and how many of each.
    workflows: Tuple[Tuple[str, int], ...] = (
        ("montage-chameleon-dss-10d-001", 4),
        ("montage-chameleon-2mass-01d-001", 1),
    )


#: Seconds rather than minutes; enough to see that everything works.
QUICK = Sizes(
    steps=200,
    runs=50,
    growth=5,
    leak_runs=2_000,
    leak_seconds=5.0,
    megabytes=4,
    jobs=200,
    stored_jobs=500,
    late_jobs=20,
    late_seconds=2,
    idle_jobs=20,
    idle_seconds=1.0,
    settle_seconds=0.2,
    calls=500,
    clients=10,
    starts=2,
    workflows=(("montage-chameleon-2mass-01d-001", 2),),
)


class Bench:
    """One call of the program, for the rows."""

    def __init__(self, base: Path, sizes: Sizes, repeat: int, report: Report) -> None:
        self.base = base
        self.sizes = sizes
        self.repeat = repeat
        self.report = report

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """A new directory for one repetition."""
        directory = Path(tempfile.mkdtemp(dir=self.base))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def pairs(self, bare: Repetition, blaze: Repetition, repeat: int = 0) -> Pairs:
        """Let two contestants take turns."""
        pairs = in_pairs(bare, blaze, max(self.repeat, repeat), self.sizes.warmups)
        self.report.spins.extend(pairs.spins)
        return pairs

    def python(self, arguments: Sequence[str], directory: Path) -> str:
        """What a new interpreter prints; it finds ``blaze``. Raises :class:`WrongResult` if it fails."""
        paths: List[str] = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
        # Whatever is imported is compiled once, the standard library and Blaze alike, into a place of our own:
        # the figures are the same in a source tree that may not be written to or was never imported before.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment.setdefault("PYTHONPYCACHEPREFIX", str(self.base / "compiled"))
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHILD_LIMIT,
        )
        if done.returncode:
            raise WrongResult(f"{' '.join(arguments)[:120]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout
