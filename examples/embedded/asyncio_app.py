"""Blaze inside asyncio: runs are awaited, and the event loop is never held up.

    python examples/embedded/asyncio_app.py [--state-dir DIR]

Three runs are started and awaited together; then the program waits for two ticks of a job that fires every
second, while a heartbeat shows that the loop goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import List

from pipeline import sequences  # the file beside this one

from blaze import Blaze, RunEvent, SubmitSequenceData


async def heartbeat(beats: List[int]) -> None:
    """Count what the event loop finds time for."""
    while True:
        beats[0] += 1
        await asyncio.sleep(0.005)


async def main(state_dir: Path) -> None:
    """Run things by hand, then on a schedule."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Queue[RunEvent] = asyncio.Queue()

    def tell(event: RunEvent) -> None:
        # Hooks are called in a thread of their own.
        if event.job_id is not None:
            loop.call_soon_threadsafe(ended.put_nowait, event)

    beats = [0]
    with Blaze(sequences=sequences, state_dir=state_dir, on_run_end=tell) as scheduler:
        results = await asyncio.gather(*(scheduler.trigger("weather") for _ in range(3)))
        for result in results:
            print(f"by hand  {result.status}  {result.output}")
        scheduler.submit(SubmitSequenceData("weather", seq_run_interval="* * * * * *"))
        beating = asyncio.create_task(heartbeat(beats))
        for _ in range(2):
            event = await asyncio.wait_for(ended.get(), timeout=30)
            print(f"{event.scheduled_at:%H:%M:%S}  {event.status}  {scheduler.state.find_run(event.run_id).preview}")
        beating.cancel()
    print("the event loop went on" if beats[0] > 10 else "the event loop was held up")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state-dir", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(options.state_dir or Path(temporary) / "state"))
