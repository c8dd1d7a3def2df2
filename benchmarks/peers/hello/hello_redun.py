"""Two tasks with redun, the call graph in SQLite: ``python hello_redun.py STATE_DIR``."""

import sys

from redun import Scheduler, task
from redun.config import Config

redun_namespace = "hello"


@task()
def greet() -> str:
    return "hello"


@task()
def shout(text: str) -> str:
    return text.upper()


scheduler = Scheduler(config=Config({"backend": {"db_uri": f"sqlite:///{sys.argv[1]}/redun.db"}}))
scheduler.load()
print(scheduler.run(shout(greet())))
