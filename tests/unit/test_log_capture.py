"""Records made inside steps are tagged and kept, and the application sees what it saw before."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import io
import logging
import logging.config
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from blaze.core.ground import capture, prints
from blaze.core.ground.capture import install, uninstall
from blaze.core.ground.context import RunInfo, StepContext, running
from blaze.core.ground.errors import StepCancelled
from blaze.core.ground.prints import PrintCapture, flush_prints

from .logging_application import Shown, application

Kept = List[logging.LogRecord]


def the_logging_tree() -> Dict[str, Any]:
    """Everything about ``logging`` and the streams that must be as it was. Pytest's own handlers come and go."""

    def node(logger: logging.Logger) -> Tuple[Any, ...]:
        handlers = [handler for handler in logger.handlers if not type(handler).__module__.startswith("_pytest")]
        patched = {name for name in vars(logger) if callable(vars(logger)[name])} - {"manager"}
        level = (type(logger.level), logger.level)
        return level, handlers, list(logger.filters), logger.propagate, logger.disabled, patched

    loggers = {
        name: node(logger)
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger)
    }
    return {
        "root": node(logging.root),
        "loggers": loggers,
        "factory": logging.getLogRecordFactory(),
        "disabled below": logging.root.manager.disable,
        "streams": (sys.stdout, sys.stderr),
        "last resort": logging.lastResort,
    }


@pytest.fixture(autouse=True)
def isolation() -> Iterator[None]:
    for name in ("blaze", "app", "app.blocks"):
        logging.getLogger(name)
    before = the_logging_tree()
    yield
    after = the_logging_tree()
    untouched: Tuple[Any, ...] = ((int, logging.NOTSET), [], [], True, False, set())
    for name, node in after["loggers"].items():
        assert node == before["loggers"].get(name, untouched), name
    after["loggers"] = before["loggers"]
    assert after == before
    assert capture._installs == 0 and not capture._block_loggers and not capture._demands and not prints._tees
    assert running.get() is None


@contextlib.contextmanager
def installed(*modules: str) -> Iterator[None]:
    install(modules)
    try:
        yield
    finally:
        uninstall()


@contextlib.contextmanager
def step(kept: Optional[Kept] = None, name: str = "clean", on_log: Any = None) -> Iterator[StepContext]:
    take = on_log or (None if kept is None else lambda context, record: kept.append(record))
    context = StepContext(RunInfo("r1", "etl"), name, 1, on_log=take)
    token = running.set(context)
    try:
        yield context
    finally:
        running.reset(token)


def messages(kept: Kept) -> List[str]:
    return [record.getMessage() for record in kept]


blocks = logging.getLogger("app.blocks")


# --- what is tagged and kept ---


def test_a_plain_logger_call_in_a_block_is_tagged_and_kept_although_nothing_configured_logging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept: Kept = []
    with application(), installed("app.blocks"), step(kept):
        blocks.info("%d rows", 120)
        blocks.debug("too fine")
    assert messages(kept) == ["120 rows"]
    record = kept[0].__dict__
    assert [record[tag] for tag in ("seq_id", "run_id", "step", "attempt")] == ["etl", "r1", "clean", 1]
    assert capsys.readouterr().err == ""


def test_a_warning_without_configuration_still_comes_out_of_the_last_resort(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    with application(), installed("app.blocks"), step(kept) as context:
        blocks.warning("shown as before")
        context.logger.warning("so is this")
    assert messages(kept) == ["shown as before", "so is this"]
    assert capsys.readouterr().err == "shown as before\nso is this\n"


def test_any_logger_that_the_application_opened_is_kept_down_to_its_own_level() -> None:
    kept: Kept = []
    with application(logging.DEBUG, Shown()), installed(), step(kept):
        logging.getLogger("app.elsewhere").debug("fine")
    assert messages(kept) == ["fine"]


def test_the_logger_of_the_context_is_kept_whatever_the_application_shows(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    shown = Shown()
    for handler in (None, shown):
        with application(logging.WARNING, handler), installed(), step(kept, name="new_step") as context:
            context.logger.info("kept")
            context.logger.error("kept and shown")
    assert messages(kept) == ["kept", "kept and shown"] * 2
    assert shown.messages == ["kept and shown"]
    assert capsys.readouterr().err == "kept and shown\n"


def test_without_a_step_nothing_is_tagged_or_kept() -> None:
    shown = Shown()
    with application(logging.WARNING, shown), installed("app.blocks"):
        blocks.info("no")
        blocks.warning("yes")
        assert not blocks.isEnabledFor(logging.INFO)
    assert shown.messages == ["yes"]
    assert "run_id" not in vars(shown.records[0])


def test_a_step_that_keeps_nothing_is_tagged_only() -> None:
    shown = Shown()
    with application(logging.WARNING, shown), installed("app.blocks"), step():
        blocks.info("no")
        blocks.warning("yes")
    assert shown.messages == ["yes"]
    assert vars(shown.records[0])["run_id"] == "r1"


def test_steps_in_threads_and_tasks_never_mix() -> None:
    kept: Dict[str, Kept] = {f"s{i}": [] for i in range(8)}

    def work(name: str) -> None:
        with step(kept[name], name=name):
            for i in range(50):
                blocks.info("%s %d", name, i)

    async def task(name: str) -> None:
        with step(kept[name], name=name):
            for i in range(50):
                blocks.info("%s %d", name, i)
                await asyncio.sleep(0)

    async def all_tasks() -> None:
        await asyncio.gather(*(task(f"s{i}") for i in range(4, 8)))

    with application(), installed("app.blocks"):
        threads = [threading.Thread(target=work, args=(f"s{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        asyncio.run(all_tasks())
        for thread in threads:
            thread.join()
    for name, records in kept.items():
        assert messages(records) == [f"{name} {i}" for i in range(50)]
        assert {vars(record)["step"] for record in records} == {name}


def test_a_thread_of_a_block_is_kept_if_it_was_given_the_context() -> None:
    kept: Kept = []
    with application(), installed("app.blocks"), step(kept):
        for run in (contextvars.copy_context().run, lambda f, *args: f(*args)):
            thread = threading.Thread(target=run, args=(blocks.info, "from a thread"))
            thread.start()
            thread.join()
    assert messages(kept) == ["from a thread"]


# --- what the application shows ---


def test_handlers_of_the_application_see_exactly_what_they_saw_before() -> None:
    child = logging.getLogger("app.blocks.child")

    def lines_shown(with_blaze: bool) -> List[Tuple[str, str]]:
        at_root, at_logger = Shown(), Shown()
        blocks.addHandler(at_logger)
        try:
            with application(logging.WARNING, at_root), contextlib.ExitStack() as stack:
                if with_blaze:
                    stack.enter_context(installed("app.blocks", "app"))
                    stack.enter_context(step([]))
                for logger in (blocks, child, logging.getLogger("app"), logging.getLogger("blaze.run.etl.x")):
                    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
                        logger.log(level, "%s %s", logger.name, level)
                blocks.setLevel(logging.DEBUG)
                child.debug("now")
                blocks.setLevel(logging.NOTSET)
                blocks.propagate = False
                blocks.info("here only")
                blocks.error("here only")
                blocks.propagate = True
        finally:
            blocks.removeHandler(at_logger)
        return [("root", line) for line in at_root.messages] + [("logger", line) for line in at_logger.messages]

    assert lines_shown(with_blaze=True) == lines_shown(with_blaze=False)


def test_children_of_a_block_module_are_not_opened() -> None:
    shown = Shown()
    with application(logging.WARNING, shown), installed("app"), step([]):
        assert not logging.getLogger("app.made.later").isEnabledFor(logging.INFO)
        assert logging.getLogger("app").getEffectiveLevel() == logging.WARNING


@contextlib.contextmanager
def filtered(logger: logging.Logger, *filters: Any) -> Iterator[None]:
    for one in filters:
        logger.addFilter(one)
    try:
        yield
    finally:
        for one in filters:
            logger.removeFilter(one)


def mask(record: logging.LogRecord) -> bool:
    """Masks a secret in the record itself, and drops what is not to be told at all."""
    record.msg, record.args = record.getMessage().replace("hunter2", "***"), None
    return "drop" not in record.msg


@pytest.mark.parametrize("name", ["app.blocks", "app.other", "blaze.run.etl", "root"])
@pytest.mark.parametrize("modules", [(), ("app.blocks",)])
def test_what_a_filter_on_the_logger_masks_or_drops_is_kept_so(name: str, modules: Tuple[str, ...]) -> None:
    logger = logging.getLogger(name) if name != "root" else logging.getLogger()
    shown = Shown()
    kept: Kept = []
    with application(logging.INFO, shown), installed(*modules), step(kept), filtered(logger, mask):
        logger.info("password %s", "hunter2")
        logger.info("drop this")
        logger.warning("end", extra={"step": "mine"})
    assert messages(kept) == shown.messages == ["password ***", "end"]
    assert vars(kept[-1])["step"] == "mine"


def test_a_filter_on_the_logger_sees_what_only_blaze_let_through_once_and_nobody_else_does() -> None:
    seen: List[str] = []
    shown = Shown()
    kept: Kept = []
    with application(logging.WARNING, shown), installed("app.blocks"), step(kept):
        with filtered(blocks, lambda record: seen.append(record.getMessage()) or True, mask):
            blocks.info("hunter2")
            blocks.debug("not even kept")
            blocks.info("drop")
        blocks.info("hunter2 again")
    assert seen == ["hunter2", "drop"]
    assert messages(kept) == ["***", "hunter2 again"]
    assert shown.messages == []


def test_filters_that_come_and_go_while_a_step_runs_count_at_once() -> None:
    kept: Kept = []
    with application(), installed(), step(kept):
        for _ in range(3):
            blocks.warning("hunter2")
            with filtered(blocks, mask):
                blocks.warning("hunter2")
        with filtered(blocks, mask), filtered(logging.getLogger("app"), lambda record: False):
            blocks.warning("hunter2, and filters of a logger above have no say")
    assert messages(kept) == ["hunter2", "***"] * 3 + ["***, and filters of a logger above have no say"]


def test_a_filter_that_logs_itself_loses_neither_line() -> None:
    other = logging.getLogger("app.other")
    kept: Kept = []

    def tell(record: logging.LogRecord) -> bool:
        if record.name == "app.blocks":
            other.warning("about hunter2")
        return True

    with application(), installed(), step(kept), filtered(blocks, tell, mask), filtered(other, mask):
        blocks.warning("hunter2")
    assert messages(kept) == ["about ***", "***"]


def test_a_filter_that_raises_reaches_the_block_as_ever() -> None:
    def fail(record: logging.LogRecord) -> bool:
        raise LookupError

    kept: Kept = []
    with application(), installed(), step(kept), filtered(blocks, fail), pytest.raises(LookupError):
        blocks.warning("hunter2")
    assert kept == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a filter may give another record since Python 3.12")
def test_a_record_that_a_filter_gives_instead_is_kept_instead() -> None:
    def copied(record: logging.LogRecord) -> logging.LogRecord:
        record = copy.copy(record)
        record.msg = "***"
        return record

    shown = Shown()
    kept: Kept = []
    with application(logging.INFO, shown), installed("app.blocks"), step(kept), filtered(blocks, copied):
        blocks.warning("hunter2")
    assert messages(kept) == shown.messages == ["***"]
    assert vars(kept[0])["run_id"] == vars(shown.records[0])["run_id"]


def test_filters_on_the_logger_of_prints_are_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    with filtered(logging.getLogger("blaze.print"), mask), PrintCapture(), step(kept):
        print("hunter2\ndrop")
    assert messages(kept) == ["***"]
    assert capsys.readouterr().out == "hunter2\ndrop\n"


def test_a_level_that_the_application_changes_meanwhile_counts_at_once() -> None:
    shown = Shown()
    kept: Kept = []
    with application(logging.WARNING, shown), installed("app.blocks"), step(kept):
        blocks.info("1")
        logging.root.setLevel(logging.INFO)
        blocks.info("2")
        logging.root.setLevel(logging.ERROR)
        blocks.info("3")
    assert shown.messages == ["2"]
    assert messages(kept) == ["1", "2", "3"]


def test_what_the_application_switched_off_stays_off() -> None:
    kept: Kept = []
    with application(), installed("app.blocks"), step(kept):
        logging.disable(logging.INFO)
        blocks.info("no")
        logging.disable(logging.NOTSET)
        blocks.disabled = True
        blocks.info("no")
        blocks.disabled = False
        blocks.info("yes")
    assert messages(kept) == ["yes"]


def test_dict_config_in_between_is_obeyed_and_left_in_place() -> None:
    before = (logging.root.handlers[:], logging.root.level, blocks.level)
    shown = Shown()
    kept: Kept = []
    try:
        with installed("app.blocks"), step(kept) as context:
            logging.config.dictConfig(
                {
                    "version": 1,
                    "disable_existing_loggers": False,
                    "handlers": {"shown": {"()": lambda: shown}},
                    "root": {"level": "ERROR", "handlers": ["shown"]},
                    "loggers": {"app.blocks": {"level": "WARNING"}, "blaze": {"level": "WARNING"}},
                }
            )
            blocks.info("kept")
            blocks.warning("shown")
            context.logger.info("the application closed blaze itself")
            context.logger.warning("shown once")
        assert (blocks.level, logging.getLogger("blaze").level) == (logging.WARNING, logging.WARNING)
        assert logging.getLogger("blaze").propagate is True
    finally:
        logging.root.handlers, level, own = before[0], before[1], before[2]
        logging.root.setLevel(level)
        blocks.setLevel(own)
        logging.getLogger("blaze").setLevel(logging.NOTSET)
    assert messages(kept) == ["kept", "shown", "shown once"]
    assert shown.messages == ["shown", "shown once"]


@pytest.mark.parametrize(("propagate", "expected"), [(False, []), (True, ["once"])])
def test_propagate_of_blaze_set_by_the_application_meanwhile_is_obeyed(propagate: bool, expected: List[str]) -> None:
    shown = Shown()
    blaze = logging.getLogger("blaze")
    with application(logging.WARNING, shown):
        with installed():
            assert not blaze.propagate  # relayed instead
            blaze.propagate = propagate
            blaze.error("once")
        assert blaze.propagate is propagate
        blaze.propagate = True
    assert shown.messages == expected


def test_an_explicit_level_below_blaze_is_the_applications_and_shown() -> None:
    shown = Shown()
    logger = logging.getLogger("blaze.run.etl")
    logger.setLevel(logging.DEBUG)
    try:
        with application(logging.WARNING, shown), installed(), step([]):
            logger.debug("shown, as without Blaze")
            logging.getLogger("blaze.run").info("not shown, as without Blaze")
    finally:
        logger.setLevel(logging.NOTSET)
    assert shown.messages == ["shown, as without Blaze"]


def test_the_root_logger_is_never_touched() -> None:
    before = logging.root.level, list(logging.root.handlers), list(logging.root.filters), dict(vars(logging.root))
    with installed("", "root"), step([]):
        assert not capture._block_loggers
        now = logging.root.level, list(logging.root.handlers), list(logging.root.filters), dict(vars(logging.root))
        assert now == before


# --- the user's code is never hurt ---


@pytest.mark.parametrize("tag", ["seq_id", "run_id", "step", "attempt"])
def test_extra_with_the_name_of_a_tag_is_no_error_and_wins_on_the_record(tag: str) -> None:
    shown = Shown()
    with application(logging.INFO, shown), installed(), step([]):
        blocks.info("mine", extra={tag: "my own", "other": 1})
        blocks.warning("tagged")
    record = shown.records[0]
    assert (getattr(record, tag), vars(record)[tag]) == ("my own", "my own")
    assert f"%(message)s %({tag})s" % {**vars(record), "message": "m"} == "m my own"
    assert logging.Formatter(f"%({tag})s").format(shown.records[1]) in ("etl", "r1", "clean", "1")


def test_extra_that_logging_itself_refuses_is_refused_as_before() -> None:
    with application(logging.INFO, Shown()), installed(), step([]), pytest.raises(KeyError):
        blocks.info("x", extra={"message": "y"})


def test_tagged_records_are_copied_and_pickled_as_plain_ones() -> None:
    kept: Kept = []
    with application(), installed("app.blocks"), step(kept):
        blocks.info("x")
    for twin in (copy.copy(kept[0]), copy.deepcopy(kept[0]), pickle.loads(pickle.dumps(kept[0]))):
        assert type(vars(twin)) is dict
        assert vars(twin)["run_id"] == "r1"


def test_a_failing_hook_is_told_once_and_never_reaches_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(context: StepContext, record: logging.LogRecord) -> None:
        raise RuntimeError("disk full")

    shown = Shown()
    with application(logging.INFO, shown), installed(), step(on_log=broken):
        blocks.info("1")
        blocks.info("2")
    assert shown.messages == ["1", "2"]
    assert capsys.readouterr().err == "blaze: a log line could not be kept with its run (RuntimeError: disk full)\n"


def test_a_cancellation_that_arrives_in_the_hook_reaches_the_block() -> None:
    def cancelled(context: StepContext, record: logging.LogRecord) -> None:
        raise StepCancelled("timeout")

    with application(), installed("app.blocks"), step(on_log=cancelled), pytest.raises(StepCancelled):
        blocks.info("x")


def test_what_the_hook_itself_logs_is_not_kept_again() -> None:
    kept: Kept = []

    def talkative(context: StepContext, record: logging.LogRecord) -> None:
        kept.append(record)
        blocks.info("about %s", record.getMessage())

    with application(), installed("app.blocks"), step(on_log=talkative):
        blocks.info("1")
        blocks.info("2")
    assert messages(kept) == ["1", "2"]


def test_records_rebuilt_from_elsewhere_are_neither_tagged_nor_kept() -> None:
    kept: Kept = []
    with installed(), step(kept):
        record = logging.makeLogRecord({"name": "remote", "msg": "from another machine", "step": "theirs"})
    assert (kept, vars(record)["step"]) == ([], "theirs")


# --- factories of others ---


def test_the_factory_chains_to_the_previous_one_and_restores_it() -> None:
    class Own(logging.LogRecord):
        pass

    original = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Own)
    kept: Kept = []
    try:
        with application(), installed("app.blocks"), step(kept):
            blocks.info("x")
        assert logging.getLogRecordFactory() is Own
    finally:
        logging.setLogRecordFactory(original)
    assert type(kept[0]) is Own


def test_a_factory_put_on_top_stays_and_ours_below_becomes_transparent() -> None:
    original = logging.getLogRecordFactory()
    kept: Kept = []
    try:
        with application():
            with installed("app.blocks"):
                ours = logging.getLogRecordFactory()

                def on_top(*args: Any, **kwargs: Any) -> logging.LogRecord:
                    return ours(*args, **kwargs)

                logging.setLogRecordFactory(on_top)
                with installed("app.blocks"), step(kept):  # the second one stands above on_top: no double lines
                    blocks.info("1")
            assert logging.getLogRecordFactory() is on_top
            with step(kept):
                blocks.error("2")
            for _ in range(3):
                with installed("app.blocks"), step(kept):
                    blocks.info("3")
            assert logging.getLogRecordFactory() is on_top
    finally:
        logging.setLogRecordFactory(original)
    assert messages(kept) == ["1", "3", "3", "3"]


def test_a_factory_that_makes_odd_records_costs_the_tags_only(capsys: pytest.CaptureFixture[str]) -> None:
    class Odd:
        __slots__ = ("levelno", "name")

        def __init__(self, name: str, levelno: int, *args: Any) -> None:
            self.name, self.levelno = name, levelno

    original = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Odd)  # type: ignore[arg-type]
    try:
        with application(logging.ERROR), installed(), step([]):
            logging.getLogger("app").handle(logging.getLogRecordFactory()("app", logging.INFO))
    finally:
        logging.setLogRecordFactory(original)
    capsys.readouterr()


# --- install and uninstall ---


def test_installs_are_counted() -> None:
    install(["app"])
    install(["app.blocks"])
    uninstall()
    kept: Kept = []
    with application(), step(kept):
        blocks.info("still kept")
    uninstall()
    uninstall()  # one too many does nothing
    with application(), step(kept):
        blocks.info("no more")
    assert messages(kept) == ["still kept"]


def test_installs_from_many_threads_leave_nothing_behind() -> None:
    def work() -> None:
        for _ in range(100):
            with installed("app.blocks", "app"), step([]):
                blocks.info("x")

    threads = [threading.Thread(target=work) for _ in range(6)]
    with application():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_a_patch_of_somebody_else_on_the_logger_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(level: int) -> bool:
        return True

    monkeypatch.setitem(vars(blocks), "isEnabledFor", always)
    with installed("app.blocks"):
        assert vars(blocks)["isEnabledFor"] is not always
    assert vars(blocks)["isEnabledFor"] is always
    install(["app.blocks"])
    vars(blocks)["isEnabledFor"] = always  # put on top of ours
    uninstall()
    assert vars(blocks)["isEnabledFor"] is always


def test_importing_changes_nothing() -> None:
    code = (
        "import logging, sys, threading\n"
        "def now(): return logging.getLogRecordFactory(), sys.stdout, sys.stderr, logging.root.manager.disable\n"
        "before = now()\n"
        "import blaze.core.logger\n"
        "assert before == now() and threading.active_count() == 1\n"
        "for logger in (logging.root, *logging.root.manager.loggerDict.values()):\n"
        "    if isinstance(logger, logging.Logger) and logger.name.split('.')[0] in ('root', 'blaze'):\n"
        "        assert not logger.handlers and not logger.filters and logger.propagate\n"
        "        assert logger.level == (logging.WARNING if logger is logging.root else logging.NOTSET)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- fork ---


def in_a_fork(work: Callable[[], Any]) -> None:
    """Run ``work`` in a forked child; its assertion errors fail the test."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_a_child_forked_inside_a_block_never_calls_the_hook_of_its_parent() -> None:
    kept: Kept = []
    shown = Shown()

    def child() -> None:
        blocks.warning("tagged")
        assert kept == []
        assert vars(shown.records[0])["run_id"] == "r1"
        assert not blocks.isEnabledFor(logging.INFO)
        with step(kept, name="own"):  # a step that the child itself runs
            blocks.info("kept")
        assert messages(kept) == ["kept"]
        uninstall()

    with application(logging.WARNING, shown), installed("app.blocks"), step(kept):
        in_a_fork(child)


@needs_fork
def test_a_fork_while_another_thread_installs_leaves_the_child_a_free_lock() -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with installed("app.blocks"):
                pass

    thread = threading.Thread(target=busy)
    thread.start()
    try:

        def child() -> None:
            signal.alarm(20)
            with installed("app.blocks"), PrintCapture():
                pass

        for _ in range(20):
            in_a_fork(child)
    finally:
        stop.set()
        thread.join()


@needs_fork
def test_a_fork_while_another_thread_prints_leaves_the_child_a_free_lock(capsys: pytest.CaptureFixture[str]) -> None:
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with prints._print_lock:
            holds.set()
            done.wait(60)

    def child() -> None:
        signal.alarm(20)
        kept: Kept = []
        with step(kept):
            print("whole line")
        assert messages(kept) == ["whole line"]

    thread = threading.Thread(target=hold)
    with PrintCapture(), step([]):
        print("unfinished in the parent", end="")
        thread.start()
        holds.wait(60)
        try:
            in_a_fork(child)
        finally:
            done.set()
            thread.join()


# --- print ---


def printed(kept: Kept) -> List[Tuple[str, str, str]]:
    return [(record.name, record.levelname, record.getMessage()) for record in kept]


def test_prints_of_a_step_are_kept_line_by_line_and_shown_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    streams = sys.stdout, sys.stderr
    with PrintCapture():
        print("outside")
        with step(kept):
            print("a", 1)
            print("b", end="")
            print("c\n\nd%s")
            print("bad", file=sys.stderr)
            sys.stdout.writelines(["e\n", "f\n"])
        print("outside")
    name = "blaze.print"
    assert printed(kept) == [
        (name, "INFO", "a 1"),
        (name, "INFO", "bc"),
        (name, "INFO", "d%s"),
        (name, "WARNING", "bad"),
        (name, "INFO", "e"),
        (name, "INFO", "f"),
    ]
    assert vars(kept[0])["step"] == "clean"
    assert (sys.stdout, sys.stderr) == streams
    assert capsys.readouterr() == ("outside\na 1\nbc\n\nd%s\ne\nf\noutside\n", "bad\n")


def test_an_unfinished_line_is_kept_when_the_attempt_ends(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    with PrintCapture(), step(kept) as context:
        print("no newline", end="")
        assert kept == []
        flush_prints(context)
        flush_prints(context)
    assert messages(kept) == ["no newline"]


def test_unfinished_lines_are_bounded_in_number_and_length(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    with PrintCapture():
        for i in range(prints.MAX_UNFINISHED + 3):
            with step(kept):
                print(i, end="")
        assert messages(kept) == ["0", "1", "2"]
        tee: Any = sys.stdout
        assert len(tee._unfinished) == prints.MAX_UNFINISHED
        with step(kept):
            sys.stdout.write("x" * 70_000)
        assert len(messages(kept)[-1]) == 70_000


def test_of_a_progress_bar_the_last_state_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    with PrintCapture(), step(kept) as context:
        for percent in range(101):
            print(f"\r{percent} %", end="")
        tee: Any = sys.stdout
        assert tee._unfinished[id(context)][1] == "100 %"
        print("\r\nwindows\r\n", end="")
    assert messages(kept) == ["100 %", "windows"]


def test_what_a_handler_writes_is_not_kept_twice(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    with application(), installed("app.blocks"), PrintCapture(), step(kept):
        blocks.warning("by the last resort, to the captured stderr")
    assert [record.name for record in kept] == ["app.blocks"]
    assert capsys.readouterr().err == "by the last resort, to the captured stderr\n"


def test_captures_share_one_replacement(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    first, second = PrintCapture(), PrintCapture()
    streams = sys.stdout, sys.stderr
    first.install()
    first.install()
    second.install()
    first.uninstall()
    first.uninstall()
    with step(kept):
        print("once")
    second.uninstall()
    assert messages(kept) == ["once"]
    assert (sys.stdout, sys.stderr) == streams


def test_streams_replaced_by_others_meanwhile_stay(capsys: pytest.CaptureFixture[str]) -> None:
    kept: Kept = []
    other = io.StringIO()
    original = sys.stdout
    with PrintCapture(), step(kept):
        ours = sys.stdout
        with contextlib.redirect_stdout(other):
            print("redirected by the block")
        print("back")
        sys.stdout = other
    assert sys.stdout is other
    sys.stdout = ours  # left over: it only passes on
    with step(kept):
        print("passed on")
        with PrintCapture():
            assert sys.stdout is ours
            print("in charge again")
    assert sys.stdout is original
    assert messages(kept) == ["back", "in charge again"]
    assert other.getvalue() == "redirected by the block\n"
    assert capsys.readouterr().out == "back\npassed on\nin charge again\n"


def test_the_replacement_behaves_like_the_stream(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "out", "w+", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with PrintCapture(), step([]):
            assert (sys.stdout.encoding, sys.stdout.fileno(), sys.stdout.isatty()) == ("utf-8", file.fileno(), False)
            assert sys.stdout.write("abc") == 3
            sys.stdout.flush()
            sys.stdout.buffer.write(b"def")
            with pytest.raises(TypeError):
                sys.stdout.write(1)  # type: ignore[arg-type]
            with pytest.raises(AttributeError):
                _ = sys.stdout.nothing  # type: ignore[union-attr]
        monkeypatch.undo()
        file.seek(0)
        assert file.read() == "abcdef"


def test_a_program_without_a_console_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with PrintCapture(), step([]):
        print("nowhere")
    assert sys.stdout is None


def test_a_failing_hook_never_reaches_the_print(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(context: StepContext, record: logging.LogRecord) -> None:
        print("printed by the hook")
        raise RuntimeError("no")

    with application(), installed(), PrintCapture(), step(on_log=broken):
        print("1")
        print("2")
    out, err = capsys.readouterr()
    assert out == "1\nprinted by the hook\n2\nprinted by the hook\n"
    assert err.count("\n") == 1
