"""What the kill campaign runs in a child process: a DAG of steps that tell a witness file what they do and see.

    python crash_pipeline.py STATE_DIR WITNESS RUNS DURABILITY

resumes what is open, then starts RUNS runs. Each step returns a fresh random number,
so that a step that ran twice can't go unnoticed: whoever saw the first number would
differ from the record.
"""

from __future__ import annotations

import os
import random
import sys
import time

from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, current

STEPS = 30
WORKERS = 4

blocks = BlazeBlock()
sequences = BlazeSequence()


def tell(*words: object) -> None:
    """One line, in one write, so that lines of threads and processes never mix."""
    line = " ".join(map(str, words)) + "\n"
    descriptor = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@blocks.block
def step(first: int = 0, second: int = 0, sources: tuple = (), big: bool = False) -> list:
    here = current()
    tell("start", here.run_id, here.step, here.attempt, here.idempotency_key)
    for source, seen in zip(sources, (first, second)):
        tell("saw", here.run_id, source, seen)
    time.sleep(random.random() * 0.002)
    value = random.getrandbits(60)
    # Some outputs are large enough to be spilled to a file.
    return [value, "x" * 100_000] if big else [value]


def _wiring() -> list[SeqBlockData]:
    shape = random.Random(1)
    steps = [SeqBlockData("step", name="s0")]
    for number in range(1, STEPS):
        first, second = (f"s{shape.randrange(number)}" for _ in range(2))
        parameters = {
            "first": f"@{first}.0", "second": f"@{second}.0", "sources": (first, second), "big": number % 7 == 0,
        }  # fmt: skip
        steps.append(SeqBlockData("step", name=f"s{number}", parameters=parameters))
    return steps


@sequences.sequence(blocks=blocks, sequence=_wiring(), seq_id="dag")
def dag(context: dict) -> int:
    run_id = current().run_id
    for name, output in context.items():
        tell("recorded", run_id, name, output[0])
    return len(context)


def main(state_dir: str, witness: str, runs: int, durability: str) -> None:
    os.environ["WITNESS"] = witness
    with Blaze(sequences=sequences, state_dir=state_dir, max_workers=WORKERS, durability=durability) as scheduler:
        print("ready", flush=True)
        for handle in scheduler.runs:
            handle.result(120).raise_for_status()
        for _ in range(runs):
            result = scheduler.run("dag", timeout=120)
            assert result.raise_for_status().output == STEPS
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
