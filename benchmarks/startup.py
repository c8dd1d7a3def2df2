"""Rows about fresh interpreters: ``import blaze``, and a hello pipeline from start to exit."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List

from .bench import Bench
from .measure import Timed, require, stopwatch_of_children
from .report import Goal, Row, row_of

#: What a program that declares and runs imports.
IMPORT = "from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, SubmitSequenceData"
#: Runs a program that uses Blaze and prints the import statements in its own files that the standard library
#: served, and how many modules of its own were loaded.
RECORDER = """
import builtins, os, sys
real, found = builtins.__import__, {}
known = getattr(sys, "stdlib_module_names", None)

def recording(name, globals=None, locals=None, fromlist=(), level=0):
    module = real(name, globals, locals, fromlist, level)
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    top = name.partition(".")[0]
    if importer == "blaze" and not level and top != "blaze":
        if top in known if known else "site-packages" not in (getattr(sys.modules[top], "__file__", None) or ""):
            found.setdefault(name, {}).update(dict.fromkeys(fromlist or ()))
    return module

out, sys.stdout = sys.stdout, open(os.devnull, "w")
builtins.__import__ = recording
exec(sys.argv[1])
builtins.__import__ = real
sys.stdout = out
import json
statements = [
    f"from {name} import {', '.join(names)}" if names and "*" not in names else f"import {name}"
    for name, names in found.items() if name != "__future__"
]
own = sum(1 for name in sys.modules if name.partition(".")[0] == "blaze")
print(json.dumps({"statements": statements, "own": own, "croniter": "croniter" in sys.modules}))
"""

HERE = Path(__file__).resolve().parent
#: What both hello pipelines print.
HELLO = "HELLO\n"


def statements_of(bench: Bench, program: str, directory: Path) -> str:
    """The import statements of standard modules that Blaze's files execute while a program runs."""
    return "\n".join(_recorded(bench, program, directory)["statements"])


def _recorded(bench: Bench, program: str, directory: Path) -> Dict[str, Any]:
    recorded: Dict[str, Any] = json.loads(bench.python(["-c", RECORDER, program], directory))
    return recorded


def import_row(bench: Bench) -> List[Row]:
    """Importing what a program declares with, against importing the standard modules that its own files import."""
    recorded = _recorded(bench, IMPORT, bench.base)
    statements = "\n".join(recorded["statements"])

    def started(program: str) -> Timed:
        stop = stopwatch_of_children()
        printed = bench.python(["-c", f"{program}\nprint('done')"], bench.base)
        timed = stop()
        require(printed == "done\n", f"the interpreter printed {printed!r}")
        return timed

    pairs = bench.pairs(lambda: started(statements), lambda: started(IMPORT), bench.sizes.starts)
    names = sorted({statement.split()[1] for statement in recorded["statements"]})
    what = f"a new interpreter that imports what declares blocks and sequences ({recorded['own']} modules of its own"
    what += f"{', and croniter' if recorded['croniter'] else ''}); bare: the same standard modules: {', '.join(names)}"
    return [row_of("import", what, pairs, 1e3, "ms/start", Goal(ratio=1.3))]


def hello_row(bench: Bench) -> List[Row]:
    """Two steps, durable, fresh state directory, from the start of the process to its end."""

    def started(script: str, database: str, tables: Dict[str, int]) -> Timed:
        with bench.fresh() as directory:
            stop = stopwatch_of_children()
            printed = bench.python([str(HERE / script), str(directory)], directory)
            timed = stop()
            require(printed == HELLO, f"{script} printed {printed!r}")
            with closing(sqlite3.connect(str(directory / database))) as connection:
                for table, rows in tables.items():
                    found = connection.execute(f"SELECT count(*) FROM {table} WHERE status = 'COMPLETED'").fetchone()[0]
                    require(found == rows, f"{script}: {found} rows in {table}, not {rows}")
            return timed

    rows = {"runs": 1, "steps": 2}
    pairs = bench.pairs(
        lambda: started("hello_bare.py", "bare.db", rows),
        lambda: started("hello_blaze.py", "blaze.db", rows),
        bench.sizes.starts,
    )
    what = "two steps, durable, new state directory, process start to exit; bare: sqlite3 and a thread pool by hand"
    return [row_of("hello", what, pairs, 1e3, "ms/start", Goal(ratio=2.0))]
