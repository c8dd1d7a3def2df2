"""Submit the mathematical pipeline: now, and every five minutes for a month.

    python examples/submit.py

With a scheduler at work (``python examples/run.py``), the first run begins at once; without one, the jobs
are stored and fired when one is started. The same from a file:
``blazed jobs submit --job-file examples/jobs.json``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from definition import sequences  # the file beside this one

from blaze import SubmitSequenceData
from blaze.daemon.manager import update_jobs

if __name__ == "__main__":
    stored = update_jobs(
        [
            SubmitSequenceData("math_pipeline", job_id="math_once", parameters={"generate_numbers": {"count": 3}}),
            SubmitSequenceData(
                "math_pipeline",
                parameters={
                    "generate_numbers": {"count": 10},
                    "calculate_statistics": {"numbers": "@generate_numbers"},  # the output of that block
                },
                seq_run_interval="*/5 * * * *",
                start_date=datetime.now(),
                end_date=datetime.now() + timedelta(days=30),
            ),
        ],
        sequences=sequences,
    )
    for job in stored:
        when = job.next_at.astimezone().isoformat(" ", "seconds") if job.next_at else "never"
        print(f"{job.job_id} of {job.seq_id}: next at {when}")
