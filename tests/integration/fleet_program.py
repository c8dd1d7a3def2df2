"""What the campaign of many processes runs in each of them: a scheduler, and a reader of orders.

    python fleet_program.py STATE_DIR WITNESS CLOCK_FILE NUMBER

Every block tells the witness file what it does. Orders come line by line on standard
input; what is done is answered on standard output. Odd processes have a sequence that even ones lack.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, SubmitSequenceData, current
from blaze.core.remember.retention import Retention
from tests.integration.shared_clock import SharedClock

#: Seconds between two looks at what the other processes did.
LOOP_INTERVAL = 0.3
#: Seconds that a slow block takes: longer than a second, in which most jobs are due again.
SLOW = 1.2

EVERY_SECOND, EVERY_OTHER, EVERY_THIRD = "* * * * * *", "* * * * * */2", "* * * * * */3"
#: job, sequence, interval, overlap, catch-up
JOBS = [
    ("skip-skip", "quick", EVERY_SECOND, "skip", "skip"),
    ("skip-latest", "slow", EVERY_SECOND, "skip", "latest"),
    ("skip-all", "quick", EVERY_SECOND, "skip", "all"),
    ("queue-skip", "quick", EVERY_SECOND, "queue", "skip"),
    ("queue-latest", "slow", EVERY_THIRD, "queue", "latest"),
    ("queue-all", "quick", EVERY_SECOND, "queue", "all"),
    ("allow-skip", "quick", EVERY_SECOND, "allow", "skip"),
    ("allow-latest", "slow", EVERY_OTHER, "allow", "latest"),
    ("allow-all", "quick", EVERY_SECOND, "allow", "all"),
    ("cancel-skip", "slow", EVERY_SECOND, "cancel_running", "skip"),
    ("cancel-latest", "slow", EVERY_OTHER, "cancel_running", "latest"),
    ("cancel-all", "quick", EVERY_SECOND, "cancel_running", "all"),
    ("rare", "rare", EVERY_SECOND, "skip", "latest"),
]


def submission(job_id: str, priority: int = 0) -> SubmitSequenceData:
    """One of the jobs above."""
    _, seq_id, interval, overlap, catchup = next(job for job in JOBS if job[0] == job_id)
    return SubmitSequenceData(
        seq_id, seq_run_interval=interval, job_id=job_id, timezone="UTC", overlap=overlap, catchup=catchup,
        priority=priority,
    )  # fmt: skip


def tell(kind: str) -> None:
    """One line, in one write, so that lines of threads and processes never mix."""
    here = current()
    info = here.run.info
    line = (
        f"{kind} {info.job_id} {info.scheduled_at} {here.run_id} {here.step} {here.idempotency_key} "
        f"{os.getpid()} {here.attempt}\n"
    )
    descriptor = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def wired(with_rare: bool) -> BlazeSequence:
    """The sequences of one process."""
    blocks, sequences = BlazeBlock(), BlazeSequence()

    @blocks.block
    def step(seconds: float = 0.0) -> str:
        tell("start")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            current().check_cancelled()
            time.sleep(0.02)
        tell("end")
        return current().step

    def chain(seq_id: str, *seconds: float) -> None:
        steps = [
            SeqBlockData("step", [f"s{number - 1}"] if number else [], {"seconds": some}, name=f"s{number}")
            for number, some in enumerate(seconds)
        ]
        sequences.sequence(blocks=blocks, sequence=steps, seq_id=seq_id)(len)

    chain("quick", 0.0, 0.02, 0.0)
    chain("slow", 0.0, SLOW, 0.0)
    if with_rare:
        chain("rare", 0.0, 0.05)
    return sequences


def obey(scheduler: Blaze, order: str, *words: str) -> object:
    """Do what one line says; what there is to answer."""
    if order == "submit":
        return scheduler.submit(submission(words[0], int(words[1]))).submitted
    if order == "status":
        return scheduler.health().ok
    if order == "once":
        scheduler.submit(SubmitSequenceData("quick", job_id=words[0]))
    elif order == "restart":
        scheduler.stop(grace=0.1)
        scheduler.start()
    elif order in ("pause", "resume"):
        getattr(scheduler, order)()
    else:
        getattr(scheduler, order)(words[0])  # pause_job, resume_job, cancel
    return None


def main(state_dir: str, witness: str, clock: str, number: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["WITNESS"] = witness
    with Blaze(
        sequences=wired(int(number) % 2 == 1),
        state_dir=state_dir,
        max_workers=8,
        loop_interval=LOOP_INTERVAL,
        clock=SharedClock(Path(clock)),
        grace=0.1,
        max_recoveries=1000,
        retention=Retention(runs=1_000_000, days=None),
    ) as scheduler:
        print("ready", scheduler.instance_id, flush=True)
        for line in sys.stdin:
            answer = obey(scheduler, *line.split())
            print("done", scheduler.instance_id, line.strip(), answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
