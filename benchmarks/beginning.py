"""Rows about what passes before a command or a daemon does anything: interpreters that start and import."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any, Dict, List

from .bench import Bench
from .daemon_definition import SEQUENCES
from .measure import Timed, require, stopwatch, stopwatch_of_children
from .report import Goal, Row, row_of
from .serving import DEFINITION, daemon, submit
from .startup import statements_of

#: The program ``blazed``, without the file that an installation makes for it.
BLAZED = "from blaze.cli.main import main\nstatus = main({arguments!r})\n"


def help_row(bench: Bench) -> List[Row]:
    """``blazed --help``, of which the parsers of all commands are made."""
    return [_command_row(bench, "help", ["--help"], bench.base, "usage: blazed")]


def status_json_row(bench: Bench) -> List[Row]:
    """``blazed status --json`` beside a daemon."""
    from blaze.daemon.client import Client

    with daemon(bench) as (state_dir, _), Client(state_dir) as client:
        submit(client, SEQUENCES)
        return [_command_row(bench, "status-json", ["status", "--json"], state_dir.parent, '"instances"')]


def _command_row(bench: Bench, key: str, arguments: List[str], directory: Path, printed: str) -> Row:
    program = BLAZED.format(arguments=arguments)
    statements = statements_of(bench, program, directory)

    def bare() -> Timed:
        return _started(bench, f"{statements}\nprint({printed!r})", directory, printed)

    def blaze() -> Timed:
        return _started(bench, program, directory, printed)

    pairs = bench.pairs(bare, blaze, bench.sizes.starts)
    what = f"a new interpreter that does 'blazed {' '.join(arguments)}'; bare: it imports the same standard modules"
    return row_of(key, what, pairs, 1e3, "ms/start", Goal())


def _started(bench: Bench, program: str, directory: Path, printed: str) -> Timed:
    stop = stopwatch_of_children()
    found = bench.python(["-c", program], directory)
    timed = stop()
    require(printed in found, f"it printed {found[:200]!r}")
    return timed


def detach_row(bench: Bench) -> List[Row]:
    """``blazed start --detach`` in a new directory until it returns, when the daemon serves."""
    start = BLAZED.format(arguments=["start", "--detach", "--definition", str(DEFINITION), "--json"])
    statements = statements_of(bench, BLAZED.format(arguments=["start", "--help"]), bench.base)
    engine = statements_of(bench, "import blaze.daemon.process", bench.base)

    def bare() -> Timed:
        stop = stopwatch()
        for program in (statements, engine):
            bench.python(["-c", program], bench.base)
        return stop()

    def blaze() -> Timed:
        with bench.fresh() as directory:
            stop = stopwatch()
            printed = bench.python(["-c", start], directory)
            timed = stop()
            _end(json.loads(printed), directory / ".blaze")
            return timed

    pairs = bench.pairs(bare, blaze, bench.sizes.starts)
    what = "'blazed start --detach' in a new directory, until it serves; bare: two interpreters, one after the other, "
    return [row_of("detach", what + "that import the same standard modules", pairs, 1e3, "ms", Goal())]


def _end(told: Dict[str, Any], state_dir: Path) -> None:
    from blaze.daemon.owner import owner_of

    owner = owner_of(state_dir)
    require(owner is not None and owner.pid == told["pid"], "it does not serve")
    os.kill(told["pid"], signal.SIGTERM)
    while owner_of(state_dir) is not None:
        pass
