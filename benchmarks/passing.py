"""Rows about a step that hands a large object on: nobody copies it, and it is pickled once or not at all.

As a program, ``python -m benchmarks.passing --how WAY --megabytes N DIRECTORY`` does it once
and prints what it found as JSON. The pickler is counted in two ways: by wrapping
``pickle.dumps`` before Blaze is imported, and by an object in the list that knows when it
is pickled, whatever does it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

from .bench import Bench
from .measure import Pairs, Spread, Timed, require, stopwatch
from .report import Goal, Row, row_of
from .resident import peak_bytes

#: Pickles below this size are small change: not the objects that are passed.
LARGE_PICKLE = 10_000
#: Share of the objects' size, and MiB besides, by which Blaze's peak memory may exceed the bare one: a copy is more.
PEAK_SHARE, PEAK_MORE = 0.25, 16
#: Integers in the list, for each megabyte of the bytes object.
ROWS_PER_MEGABYTE = 10_000

_made: Dict[str, Any] = {}
_pickles: List[float] = []
_probed: List[int] = []
_both_here = threading.Barrier(2)


def kept_row(bench: Bench) -> List[Row]:
    """A 100 MB object handed on and stored, against threads and a pickle file by hand."""
    return [_row(bench, "passing", "persist_result=True; bare: threads, pickle.dumps and a file", "file", "kept", 1)]


def unkept_row(bench: Bench) -> List[Row]:
    """A 100 MB object handed on and not stored (persist_result=False), against plain threads."""
    what = "persist_result=False; bare: threads, nothing stored"
    return [_row(bench, "passing-unkept", what, "nothing", "unkept", 0)]


def _row(bench: Bench, key: str, what: str, bare: str, blaze: str, pickles: int) -> Row:
    found: Dict[str, List[Dict[str, Any]]] = {bare: [], blaze: []}

    def once(how: str) -> Timed:
        with bench.fresh() as directory:
            megabytes = f"--megabytes={bench.sizes.megabytes}"
            one = json.loads(
                bench.python(["-m", "benchmarks.passing", f"--how={how}", megabytes, str(directory)], directory)
            )
        found[how].append(one)
        return Timed(*one["timed"])

    pairs: Pairs = bench.pairs(lambda: once(bare), lambda: once(blaze))
    mine = found[blaze]
    require(all(one["threads"] == 2 for one in mine), "the two readers did not run in two threads")
    counted = {(one["pickles"], one["probed"]) for one in mine}
    same = all(one["same"] for one in mine)
    peaks = [Spread.of(one["peak"] / 2**20 for one in found[how]).median for how in (bare, blaze)]
    notes = [
        "the readers have the very objects" if same else "THE READERS HAVE COPIES",
        *(f"{dumps} large calls of pickle.dumps, the list pickled {probed} times" for dumps, probed in sorted(counted)),
        f"{Spread.of(one['pickling'] for one in mine).median * 1e3:.0f} ms of it pickling",
        f"peak memory {peaks[1]:,.0f} MiB (bare {peaks[0]:,.0f}; before the run {mine[0]['before'] / 2**20:,.0f})",
    ]
    goal = Goal(words=f"no copy, pickled {'once' if pickles else 'never'}")
    lean = peaks[1] - peaks[0] <= PEAK_SHARE * bench.sizes.megabytes + PEAK_MORE
    reached = same and lean and counted == {(2 * pickles, pickles)}
    told = f"{bench.sizes.megabytes} MB of bytes and a list of {ROWS_PER_MEGABYTE * bench.sizes.megabytes:,} integers, "
    what = f"{told}each read by two threads; {what}"
    return row_of(key, what, pairs, 1e3, "ms/run", goal, words=reached, notes=notes)


# ---------------------------------------------------------------------- the child


class Probe:
    """Knows that it was pickled."""

    def __reduce__(self) -> Any:
        _probed.append(1)
        return Probe, ()


def counting_dumps(obj: Any, *arguments: Any, **named: Any) -> bytes:
    """``pickle.dumps``, with the time that large ones took noted."""
    start = time.perf_counter()
    data = _dumps(obj, *arguments, **named)
    if len(data) >= LARGE_PICKLE:
        _pickles.append(time.perf_counter() - start)
    return data


_dumps = pickle.dumps


def make_bytes(megabytes: int) -> bytes:
    """The bytes; every page written, or the system would not count them."""
    made = b"x" * (megabytes * 1_000_000)
    _made["bytes"] = made
    return made


def make_rows(megabytes: int) -> List[Any]:
    """The list."""
    made: List[Any] = list(range(megabytes * ROWS_PER_MEGABYTE))
    made.append(Probe())
    _made["rows"] = made
    return made


def look(data: Any, rows: Any) -> Dict[str, Any]:
    """What a reader got; two readers wait for each other, so they can't share a thread."""
    _both_here.wait(60)
    return {
        "same": data is _made["bytes"] and rows is _made["rows"],
        "length": len(data) + len(rows),
        "thread": threading.get_ident(),
    }


def by_hand(megabytes: int, directory: Path, store: bool) -> Tuple[Timed, List[Dict[str, Any]]]:
    """The work without Blaze; with ``store``, the objects are pickled to files before they are handed on."""
    stop = stopwatch()
    with ThreadPoolExecutor(4) as pool:
        making = [pool.submit(_make_and_store, make, megabytes, directory, store) for make in (make_bytes, make_rows)]
        data, rows = (future.result() for future in making)
        readers = [pool.submit(look, data, rows) for _ in range(2)]
        found = [reader.result() for reader in readers]
    return stop(), found


def _make_and_store(make: Any, megabytes: int, directory: Path, store: bool) -> Any:
    made = make(megabytes)
    if store:
        (directory / f"{make.__name__}.pickle").write_bytes(pickle.dumps(made, 5))
    return made


def with_blaze(megabytes: int, directory: Path, store: bool) -> Tuple[Timed, List[Dict[str, Any]]]:
    """The work with Blaze."""
    from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData

    blocks, sequences = BlazeBlock(), BlazeSequence()
    for function in (make_bytes, make_rows):
        blocks.block(persist_result=store)(function)
    blocks.block(look)
    given = {"data": "@make_bytes", "rows": "@make_rows"}

    @sequences.sequence(
        blocks=blocks,
        sequence=[
            SeqBlockData("make_bytes", parameters={"megabytes": megabytes}),
            SeqBlockData("make_rows", parameters={"megabytes": megabytes}),
            SeqBlockData("look", name="reader_1", parameters=given),
            SeqBlockData("look", name="reader_2", parameters=given),
        ],
        seq_id="passing",
        seq_run_timeout=120,
    )
    def finaliser(context: Any = None) -> Any:
        return [context["reader_1"], context["reader_2"]]

    with Blaze(sequences=sequences, max_workers=4, state_dir=directory) as scheduler:
        stop = stopwatch()
        result = scheduler.run("passing").raise_for_status()
        return stop(), result.output


def main() -> None:
    """Do it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", choices=["file", "nothing", "kept", "unkept"], required=True)
    parser.add_argument("--megabytes", type=int, required=True)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    # Before Blaze is imported, which may keep a reference of its own.
    pickle.dumps = counting_dumps
    work = by_hand if options.how in ("file", "nothing") else with_blaze
    if work is with_blaze:
        import blaze  # noqa: F401
    before = peak_bytes()
    timed, readers = work(options.megabytes, options.directory, options.how in ("file", "kept"))
    length = options.megabytes * (1_000_000 + ROWS_PER_MEGABYTE) + 1
    lengths = [reader["length"] for reader in readers]
    if lengths != [length, length]:
        raise SystemExit(f"the readers got {lengths} items and bytes, not {length} each")
    found = {
        "timed": timed,
        "same": all(reader["same"] for reader in readers),
        "threads": len({reader["thread"] for reader in readers}),
        "pickles": len(_pickles),
        "pickling": sum(_pickles),
        "probed": len(_probed),
        "peak": peak_bytes(),
        "before": before,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
