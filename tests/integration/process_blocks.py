"""Blocks that test_process_blocks.py runs in child processes."""

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import blaze.core.ground.context as context

log = logging.getLogger(__name__)


@dataclass
class Row:
    key: str
    amount: float


class TwoArguments(Exception):
    """Pickles, and can't be unpickled: its __init__ takes more than its args hold."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")


class HoldsALock(Exception):
    """Can't be pickled."""

    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class Frozen(Exception):
    """Refuses attributes."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


class LoadsOnlyHere:
    """Can be pickled in the child, and not read by the parent."""

    def __reduce__(self):
        return _only_in, (os.getpid(),)


def _only_in(pid):
    if os.getpid() != pid:
        raise RuntimeError("the wrong process")
    return LoadsOnlyHere()


def pid():
    return os.getpid()


def echo(value):
    return value


def length(value):
    return len(value)


def zeros(size):
    return bytes(size)


def rows(number):
    return [Row(str(n), n / 2) for n in range(number)]


def about():
    now = context.current()
    return (
        now.run_id,
        now.seq_id,
        now.step,
        now.attempt,
        now.deadline,
        now.scheduled_at,
        now.idempotency_key,
        now.info.job_id,
        now.cancelled,
    )


def throw(error_type, *arguments):
    raise error_type(*arguments)


def fail(kind, arguments=()):
    throw(getattr(sys.modules[__name__], kind, None) or __builtins__[kind], *arguments)


def fail_with_retry():
    from blaze.core.ground.errors import Retry

    raise Retry("later", delay=7.5)


def fail_by_recursion():
    return fail_by_recursion()


def make(kind):
    return {
        "a generator": lambda: (n for n in range(3)),
        "a lock": threading.Lock,
        "a nested lock": lambda: {"rows": [threading.Lock()]},
        "only here": LoadsOnlyHere,
    }[kind]()


def log_then_exit(status):
    log.warning("last words")
    os._exit(status)


def segfault():
    ctypes.string_at(0)


def shoot(number):
    os.kill(os.getpid(), number)
    return "survived"


def close_everything():
    os.closerange(3, 256)
    time.sleep(60)


def sleep():
    log.info("started %d", os.getpid())
    time.sleep(60)


def sleep_and_return(seconds):
    log.info("started %d", os.getpid())
    time.sleep(seconds)
    return "slept"


def spin():
    log.info("started %d", os.getpid())
    while True:
        pass


def hold_the_gil():
    log.info("started %d", os.getpid())
    sum(range(10**15))


def start_a_program():
    with subprocess.Popen(["sleep", "60"]) as program:
        log.info("started %d", program.pid)


def start_a_fork():
    forked = os.fork()
    if forked == 0:
        time.sleep(60)
        os._exit(0)
    log.info("started %d", forked)
    time.sleep(60)


def leave_a_fork_and_die():
    forked = os.fork()
    if forked == 0:
        os.setsid()  # escapes the group; still it must not keep the parent waiting
        time.sleep(1)
        os._exit(0)
    os._exit(4)


def signal_of_a_program():
    """What a program that a block starts does with SIGTERM and SIGINT."""
    statuses = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(["sleep", "60"]) as program:
            program.send_signal(number)
            statuses.append(program.wait())
    return statuses


def use_a_fork_pool():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


def count_up(to):
    for n in range(to):
        context.current().progress(n + 1, to)


def tell_progress_and_wait(path):
    context.current().progress(1, 3)
    context.current().progress(2, 3)
    while not os.path.exists(path):
        time.sleep(0.001)


def print_and_log(last):
    print("a line")
    print("a problem", file=sys.stderr)
    logging.getLogger(__name__).warning("logged")
    print(last, end="")


def log_many():
    quiet = logging.getLogger("quiet.family")
    quiet.propagate = False
    log.debug("too fine")
    log.info("plain %s", "words")
    quiet.warning("kept apart", extra={"rows": 3, "who": Row("a", 1.0)})
    context.current().logger.error("own logger")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.exception("with a traceback")
    thread = threading.Thread(target=log.info, args=("from a thread",))
    thread.start()
    thread.join()


def configure_logging_and_log():
    from logging.config import dictConfig

    dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "INFO", "handlers": []}})
    log.info("after dictConfig")


def leave_an_alarm():
    def ring(*_):
        raise RuntimeError("the alarm of another block")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def nap(seconds):
    time.sleep(seconds)
    return "slept"


def set_global(value):
    global kept
    kept = value


def place():
    return os.getcwd(), os.environ.get("BLAZE_TEST_PLACE"), list(sys.path), sys.argv


def write_at_exit(path):
    import atexit

    atexit.register(lambda: open(path, "w").close())


def open_fds():
    kinds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink(f"/proc/self/fd/{fd}").split(":")[0]
        except OSError:
            continue  # that of listdir itself
        if int(fd) > 2:
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def run_a_pool_inside(number):
    from blaze.core.do.processes import ChildPool

    pool = ChildPool()
    inner = context.StepContext(context.RunInfo("inner", "inner"), "inner", 1)
    try:
        return os.getpid(), pool.run(echo, {"value": number}, inner).value, pool.run(pid, {}, inner).value
    finally:
        pool.close(5)
