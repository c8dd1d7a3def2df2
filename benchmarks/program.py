"""A benchmark program: rows that can be asked for by name, a table for people, a document for programs."""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .bench import QUICK, Bench, Sizes
from .measure import WrongResult
from .report import Report, Row, Wrong, note

#: Measured repetitions, after one that is not; with ``--quick``.
REPEAT, REPEAT_QUICK = 7, 2


class Work(NamedTuple):
    """Something that can be asked for with ``--only``."""

    measure: Callable[[Bench], List[Row]]
    #: Whether ``--quick`` leaves it out, unless it is asked for by name.
    long: bool = False


def run_program(
    name: str, about: Optional[str], work: Mapping[str, Work], arguments: Optional[Sequence[str]] = None
) -> int:
    """Run the program ``python -m benchmarks.<name>``; its exit status: 0, or 1 if a result was wrong."""
    options = _options(name, about, work, arguments)
    base = _work_directory(options.dir)
    given = {name: value for name, value in vars(options).items() if name in ("quick", "repeat", "only")}
    report = Report(base, given)
    bench = Bench(base, QUICK if options.quick else Sizes(), options.repeat, report)
    try:
        for key in options.only or [key for key, row in work.items() if not (options.quick and row.long)]:
            _measure(bench, key, work[key])
        found, text = report.to_dict(), report.text()
    finally:
        shutil.rmtree(base, ignore_errors=True)
        if options.dir is None:
            _remove_if_empty(base.parent)
    print(text, file=sys.stderr if options.json == "-" else sys.stdout)
    if options.json:
        document = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        if options.json == "-":
            sys.stdout.write(document)
        else:
            Path(options.json).write_text(document, encoding="utf-8")
    return 1 if report.wrong else 0


def _measure(bench: Bench, key: str, work: Work) -> None:
    start = time.perf_counter()
    report = bench.report
    try:
        report.rows.extend(work.measure(bench))
    except WrongResult as error:
        report.wrong.append(Wrong(key, str(error)))
        note(f"{key}: WRONG: {error}")
    except Exception as error:
        # The other rows are worth having all the same.
        report.wrong.append(Wrong(key, f"{type(error).__name__}: {error}"))
        note(f"{key}: WRONG\n{traceback.format_exc()}")
    else:
        note(f"{key}: measured in {time.perf_counter() - start:.1f} s")


def _work_directory(given: Optional[Path]) -> Path:
    """A new directory below the one that was asked for."""
    parent = Path(__file__).resolve().parent / ".work" if given is None else given
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="bench-", dir=parent)).resolve()


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        pass  # another benchmark is at work in it


def _options(
    name: str, about: Optional[str], work: Mapping[str, Work], arguments: Optional[Sequence[str]]
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows:\n" + "\n".join(f"  {key:<16}{_told(row)}" for key, row in work.items()),
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions: does it all work?")
    parser.add_argument(
        "--only",
        type=lambda text: _rows(text, work),
        metavar="ROW[,ROW]",
        help="these rows; patterns such as 'chain*' too",
    )
    parser.add_argument("--repeat", type=_count, metavar="N", help=f"measured repetitions (default {REPEAT})")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; '-': to stdout, the table to stderr")
    parser.add_argument("--dir", type=Path, help="for databases; on a real disk (default: .work beside this program)")
    options = parser.parse_args(arguments)
    if options.repeat is None:
        options.repeat = REPEAT_QUICK if options.quick else REPEAT
    return options


def _told(work: Work) -> str:
    first = (work.measure.__doc__ or "").splitlines()[0]
    return first + (" (not with --quick)" if work.long else "")


def _rows(text: str, work: Mapping[str, Work]) -> List[str]:
    found: Dict[str, Any] = {}
    for pattern in text.split(","):
        matching = fnmatch.filter(work, pattern.strip())
        if not matching:
            raise argparse.ArgumentTypeError(f"there is no row {pattern!r}; there are {', '.join(work)}")
        found.update(dict.fromkeys(matching))
    return list(found)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a number of at least 1, not {text!r}")
    return int(text)
