"""A child process that does one contestant's part of one workload, in that contestant's environment.

``python -m benchmarks.peers.cell CONTESTANT SETTING WORKLOAD SIZE DIR [ARGUMENT]``. It answers each
line that it is sent with one line of JSON, and ends when there is nothing more to read:

- repetitions (``chain`` … ``cron``): each line asks for one repetition;
- ``late`` and ``kill``: one line, one answer;
- ``idle``: the first line starts it, the second one begins the window, the third one ends it.

Whatever contestants print goes to standard error: the answers have a file descriptor of their own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, TextIO

from ..crontexts import cron_texts
from ..measure import Timed, WrongResult, spin
from . import workloads
from .workloads import GRAPHS


def answers(
    module: Any, setting: str, workload: str, size: int, place: Path, argument: str
) -> Iterator[Dict[str, Any]]:
    """One answer for each line that is read."""
    if workload == "late":
        ticks = module.late(setting, size, int(argument), place)
        yield {"late": workloads.lateness_of(ticks, size, int(argument))._asdict()}
    elif workload == "idle":
        with module.idle(setting, size, place):
            yield {}
            used = time.process_time()
            yield {}
            yield {"cpu": time.process_time() - used}
    elif workload == "kill":
        yield {"output": module.carry(setting, workloads.doomed_graph(), place, argument == "again")}
    else:
        with ExitStack() as stack:
            once = _repetition(stack, module, setting, workload, size, place)
            while True:
                gc.collect()
                before = spin()
                timed = once()
                after = spin()
                yield {"wall": timed.wall, "cpu": timed.cpu, "spin": (before.cpu + after.cpu) / 2}


def _repetition(
    stack: ExitStack, module: Any, setting: str, workload: str, size: int, place: Path
) -> Callable[[], Timed]:
    if workload in GRAPHS:
        graph = workloads.graph_of(workload, size)
        run_graph = stack.enter_context(module.graph(setting, graph, place))

        def once() -> Timed:
            timed, output = run_graph()
            workloads.require_graph(graph, output)
            return timed  # type: ignore[no-any-return]

    elif workload == "runs":
        run_all = stack.enter_context(module.runs(setting, size, place))

        def once() -> Timed:
            timed, outputs = run_all()
            workloads.require_runs(size, outputs)
            return timed  # type: ignore[no-any-return]

    else:
        add = stack.enter_context(module.cron(setting, list(cron_texts(size)), place))

        def once() -> Timed:
            timed, stored = add()
            workloads.require_jobs(size, stored)
            return timed  # type: ignore[no-any-return]

    return once


def main() -> None:
    """Answer until there is nothing more to read."""
    contestant, setting, workload, size, directory, *argument = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what contestants print to standard output is no answer
    try:
        module = importlib.import_module(f"{__package__}.contestants.{contestant}")
        found = answers(module, setting, workload, int(size), Path(directory), "".join(argument))
        for _ in sys.stdin:
            _say(out, next(found))
        found.close()
    except WrongResult as error:
        _say(out, {"error": f"wrong result: {error}"})
    except Exception as error:
        traceback.print_exc()
        _say(out, {"error": f"{type(error).__name__}: {str(error)[:300]}"})


def _say(out: TextIO, answer: Dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
    # What a contestant leaves running, such as threads that are no daemons, does not hold the measurement up.
    sys.stderr.flush()
    os._exit(0)
