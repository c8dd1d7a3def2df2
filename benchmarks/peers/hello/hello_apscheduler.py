"""Two steps in one job of APScheduler, memory store: ``python hello_apscheduler.py STATE_DIR``."""

import threading

from apscheduler.schedulers.background import BackgroundScheduler

done = threading.Event()


def greet() -> str:
    return "hello"


def shout(text: str) -> str:
    return text.upper()


def pipeline() -> None:
    print(shout(greet()))
    done.set()


scheduler = BackgroundScheduler(timezone="UTC")
scheduler.start()
scheduler.add_job(pipeline)
done.wait()
scheduler.shutdown()
