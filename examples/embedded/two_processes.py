"""Two processes that embed Blaze on one state directory; one of them is killed with SIGKILL.

    python examples/embedded/two_processes.py [--seconds N]

Both know the same sequence and submit the same job, which fires every second. Each tick is fired
once between them; when one is killed, the other goes on alone. At the end the ticks are shown
with the process that ran each, as its hook noted them, and counted from what is recorded.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import List

from pipeline import sequences  # the file beside this one

from blaze import Blaze, RunEvent, StateManager, SubmitSequenceData


def embed(state_dir: Path, witness: Path) -> None:
    """Be one of the two: schedule until killed, or until standard input ends."""

    def note(event: RunEvent) -> None:
        with witness.open("a") as file:
            file.write(f"{event.scheduled_at:%H:%M:%S} {os.getpid()}\n")

    with Blaze(sequences=sequences, state_dir=state_dir, loop_interval=0.5, on_run_end=note) as scheduler:
        scheduler.submit(SubmitSequenceData("weather", seq_run_interval="* * * * * *"))
        print("ready", flush=True)
        sys.stdin.read()


def main() -> int:
    """Start two, kill one, and look at what they did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6, help="how long they work (default 6)")
    parser.add_argument("--embed", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.embed:
        embed(*options.embed)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        state_dir, witness = Path(temporary) / "state", Path(temporary) / "witness"
        witness.touch()
        command = [sys.executable, __file__, "--embed", str(state_dir), str(witness)]
        both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for process in both:
            process.stdout.readline()  # "ready"
        time.sleep(options.seconds / 2)
        both[0].send_signal(signal.SIGKILL)
        print(f"{datetime.now(timezone.utc):%H:%M:%S} process {both[0].pid} is killed; {both[1].pid} goes on")
        time.sleep(options.seconds / 2)
        both[1].communicate(timeout=30)
        both[0].communicate()
        return tell(state_dir, witness.read_text().splitlines())


def tell(state_dir: Path, lines: List[str]) -> int:
    """Show the ticks, and whether each was fired once."""
    for line in lines:
        print(f"tick of {line.split()[0]} was run by process {line.split()[1]}")
    twice = [tick for tick, number in Counter(line.split()[0] for line in lines).items() if number > 1]
    with StateManager(state_dir) as state:
        runs = [run for run in state.runs(limit=1000).items if run.scheduled is not None]
    ticks = sorted(run.scheduled for run in runs if not run.missed)
    skipped = sum(run.missed or 0 for run in runs)
    seconds = max(run.scheduled for run in runs) - min(run.missed_since or run.scheduled for run in runs) + 1
    once = not twice and len(ticks) == len(set(ticks)) and len(ticks) + skipped == seconds
    print(f"{len(ticks)} ticks in {seconds:.0f} seconds: {'each once' if once else 'NOT each once'}, {skipped} skipped")
    return 0 if once else 1


if __name__ == "__main__":
    sys.exit(main())
