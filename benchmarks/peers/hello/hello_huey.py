"""Two steps with Huey on SQLite, consumer in the same process: ``python hello_huey.py STATE_DIR``."""

import sys

from huey import SqliteHuey

huey = SqliteHuey("hello", filename=f"{sys.argv[1]}/huey.db")


@huey.task()
def greet() -> str:
    return "hello"


@huey.task()
def shout(text: str) -> str:
    return text.upper()


consumer = huey.create_consumer(workers=4, periodic=False)
consumer.start()
print(huey.enqueue(greet.s().then(shout))[1])
consumer.stop(graceful=True)
