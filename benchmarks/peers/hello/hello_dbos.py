"""Two steps with DBOS on SQLite: ``python hello_dbos.py STATE_DIR``."""

import sys

from dbos import DBOS, DBOSConfig


@DBOS.step()
def greet() -> str:
    return "hello"


@DBOS.step()
def shout(text: str) -> str:
    return text.upper()


@DBOS.workflow()
def hello() -> str:
    return shout(greet())


config: DBOSConfig = {
    "name": "hello",
    "system_database_url": f"sqlite:///{sys.argv[1]}/dbos.sqlite",
    "log_level": "ERROR",
}
DBOS(config=config)
DBOS.launch()
print(hello())
DBOS.destroy()
