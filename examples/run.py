"""Schedule the mathematical pipeline until Ctrl-C, and answer other processes meanwhile.

    python examples/run.py

Then, in another terminal of the same folder, submit a job with ``python examples/submit.py``, and look
on with ``blazed status``. ``blazed start --definition examples/definition.py`` does the same
from the command line.
"""

from __future__ import annotations

from definition import blocks, sequences  # the file beside this one

from blaze.daemon.manager import get_or_create_scheduler, start_scheduler

if __name__ == "__main__":
    scheduler = get_or_create_scheduler(blocks, sequences)
    start_scheduler()  # returns at once; the process lives on until Ctrl-C
    print(f"{scheduler.instance_id} serves {scheduler.state_dir}; Ctrl-C stops it", flush=True)
