"""Blaze inside a plain thread of a program that has other things to do.

    python examples/embedded/thread.py [--seconds N] [--state-dir DIR]

The program's own work goes on in the main thread; a thread of its own has the scheduler, fires
a job every second, and stops it softly at the end: what would still be running is resumed by
the next start.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

from pipeline import sequences  # the file beside this one

from blaze import Blaze, SubmitSequenceData


def keep_scheduling(state_dir: Path, ready: threading.Event, stop: threading.Event) -> None:
    """The thread's work."""
    with Blaze(sequences=sequences, state_dir=state_dir, max_workers=2) as scheduler:
        scheduler.submit(SubmitSequenceData("weather", seq_run_interval="* * * * * *"))
        ready.set()
        stop.wait()
        print(scheduler.status())
        for run in reversed(scheduler.state.runs(job_id="weather").items):
            print(f"{run.scheduled_at:%H:%M:%S}  {run.status}  {run.preview}")


def main() -> None:
    """Do something else for a few seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long the program works (default 3)")
    parser.add_argument("--state-dir", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        ready, stop = threading.Event(), threading.Event()
        state_dir = options.state_dir or Path(temporary) / "state"
        scheduling = threading.Thread(target=keep_scheduling, args=(state_dir, ready, stop))
        scheduling.start()
        ready.wait()
        print("the main thread does its own work")
        stop.wait(options.seconds)
        stop.set()
        scheduling.join()


if __name__ == "__main__":
    main()
