"""Why a peer is faster where it is, found by profiling both; the figures beside are measured anew each time."""

from __future__ import annotations

from typing import Mapping, Tuple

_NOTHING_KEPT = (
    "Nothing is kept there, of runs or of steps. Blaze's scheduler keeps a record of every run in memory, too (rows of "
    "an in-memory database when it is triggered and when it has ended, for status(), history and logs), takes it to a "
    "worker and gives back a handle that can be waited for, awaited and cancelled. Of the processor time of such a run "
    "about a third is SQLite, a third makes and wires the run's state, and the rest is its three steps. "
    "`sequences.run()` keeps nothing, but starts a worker for each run, so that a step can be timed out, and making a "
    "thread costs more than the three steps."
)
_IN_THE_CALLING_THREAD = (
    "It calls the functions in the calling thread, by a recursion over a dict: no thread, no lock, no record of when a "
    "step ran."
)
_ONE_AFTER_THE_OTHER = " Two steps that wait for something wait one after the other."
_ONCE_AT_THE_END = "Its values go to the file once, when the run ends."

#: (workload, contestant or entry) → the reason.
REASONS: Mapping[Tuple[str, str], str] = {
    ("runs", "hamilton"): "A run is a walk over three entries of a dict in the calling thread. " + _NOTHING_KEPT,
    ("runs", "apscheduler:memory"): (
        "A job calls the three functions in a row: one hand-over to a pool, and no steps that are ordered, timed, "
        "retried or told apart. " + _NOTHING_KEPT
    ),
    ("runs", "huey:memory"): "Three messages through a list in memory, results in a dict. " + _NOTHING_KEPT,
    ("runs", "dask"): "Three entries of a dict and a thread pool that is there already. " + _NOTHING_KEPT,
    ("runs", "redun"): _NOTHING_KEPT,
    ("runs", "doit"): "Its values go to the file once, when a run ends, and not before the next step starts.",
    ("chain", "hamilton"): _IN_THE_CALLING_THREAD,
    ("montage", "hamilton"): _IN_THE_CALLING_THREAD + _ONE_AFTER_THE_OTHER,
    ("genome", "hamilton"): _IN_THE_CALLING_THREAD + _ONE_AFTER_THE_OTHER,
    ("rnaseq", "hamilton"): _IN_THE_CALLING_THREAD + _ONE_AFTER_THE_OTHER,
    ("chain", "doit"): _ONCE_AT_THE_END + " A killed run begins anew (see the kills below).",
    ("fan", "doit"): _ONCE_AT_THE_END,
    ("montage", "doit"): _ONCE_AT_THE_END,
    ("genome", "doit"): _ONCE_AT_THE_END,
    ("rnaseq", "doit"): _ONCE_AT_THE_END,
    ("cron", "huey"): (
        "A periodic task is declared in code: its expression is parsed into sets of numbers and kept in a dict. "
        "Nothing is stored, no time zone is taken and the next time is not computed; once a minute all expressions "
        "are tried."
    ),
    ("cron", "apscheduler"): (
        "It computes the next time of each. Blaze checks the parameters of each against its sequence, tells "
        "expressions that can never fire, computes the next time by croniter with the daylight-saving rules of "
        "Debian's cron (the bare loop shows what croniter alone costs), and inserts a row that other processes see."
    ),
    ("hello", "doit"): "It loads neither SQLite's schema nor threads; its state is one small file.",
    ("hello", "huey"): "The bulk of a short program is what it imports.",
    ("hello", "apscheduler"): "Nothing is stored.",
    ("import", "huey"): "It is two thousand lines.",
    ("import", "bare_loops"): "Only the standard library.",
}


def why(workload: str, entry: str) -> str:
    """The reason, as far as it is known."""
    contestant = entry.partition(":")[0]
    found = REASONS.get((workload, entry)) or REASONS.get((workload, contestant))
    return found or "Not explained yet: profile both."
