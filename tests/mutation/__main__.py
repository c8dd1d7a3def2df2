"""``python -m tests.mutation``: change the code, and see whether the tests notice.

    planted [NAME ...]            the bugs of planted.py, whose name has one of these in it
    random [MODULE ...]           cosmic-ray's mutations of the core's modules (``modules.py``), a sample of each
    report [MODULE ...]           what the random ones came to so far, with those that survived

Everything happens in a copy below ``--directory``. A ``random`` campaign that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .planted import BUGS
from .workshop import ROOT, Verdict, Workshop

#: Seconds that the tests of a planted bug may take.
PATIENCE = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "mutation", help="default: %(default)s")
    parser.add_argument("--sample", type=int, default=30, metavar="N", help="mutations of a module (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="draws them (%(default)s)")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after so long, to be continued")
    parser.add_argument("--again", action="store_true", help="try once more what survived")
    parser.add_argument("what", choices=("planted", "random", "report"))
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.what == "planted":
        return planted(options)
    from . import campaign

    if options.what == "random":
        campaign.go_on(options.directory, options.names, options.sample, options.seed, options.minutes, options.again)
    return campaign.report(options.directory, options.names)


def planted(options: argparse.Namespace) -> int:
    workshop = Workshop(options.directory / "planted")
    unnoticed = 0
    for bug in BUGS:
        if options.names and not any(name in bug.name for name in options.names):
            continue
        began = time.monotonic()
        with workshop.changed(bug.file, bug.changes):
            verdict, told = workshop.judge(bug.tests, PATIENCE)
        unnoticed += verdict in (Verdict.SURVIVED, Verdict.ERROR)
        print(f"{verdict.value:9} {time.monotonic() - began:6.1f} s  {bug.name}\n{'':21}{told[:150]}", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
