"""Two tasks with doit, state in a file: ``python hello_doit.py STATE_DIR``."""

import sys
from typing import Any, Dict

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain


def greet() -> Dict[str, str]:
    return {"text": "hello"}


def shout(text: str) -> None:
    print(text.upper())


def task_greet() -> Dict[str, Any]:
    return {"actions": [greet]}


def task_shout() -> Dict[str, Any]:
    return {"actions": [shout], "getargs": {"text": ("greet", "text")}, "verbosity": 2}


tasks = {"task_greet": task_greet, "task_shout": task_shout}
sys.exit(DoitMain(ModuleTaskLoader(tasks)).run(["run", "--db-file", f"{sys.argv[1]}/doit.db", "--reporter", "zero"]))
