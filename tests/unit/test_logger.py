"""BlazeLogger: where lines go, what they look like, and that nothing a log target does is ever felt."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import logging.config
import os
import pickle
import stat
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blaze.core.ground import capture
from blaze.core.ground.context import RunInfo, StepContext, running
from blaze.core.ground.errors import ValidationError
from blaze.core.ground.log_files import HourlyFileHandler
from blaze.core.ground.log_format import INDENT, MAX_TEXT, JsonFormatter, TextFormatter, clip, message_of, traceback_of
from blaze.core.ground.own_log import OwnLog
from blaze.core.logger import LEVELS, BlazeLogger

from .logging_application import Shown, application

blaze_logger = logging.getLogger("blaze")

#: 22 November 2026, 14:05:01.123 local time.
NOON = datetime(2026, 11, 22, 14, 5, 1, 123000).timestamp()


def the_logging_tree() -> Dict[str, Any]:
    def node(logger: logging.Logger) -> Tuple[Any, ...]:
        handlers = [handler for handler in logger.handlers if not type(handler).__module__.startswith("_pytest")]
        return type(logger.level), logger.level, handlers, list(logger.filters), logger.propagate, logger.disabled

    names = ["app", "blaze", "blaze.core", "blaze.run"]
    loggers = {name: node(logging.getLogger(name)) for name in names}
    return {"root": node(logging.root), **loggers, "factory": logging.getLogRecordFactory()}


@pytest.fixture(autouse=True)
def isolation() -> Iterator[None]:
    before = the_logging_tree()
    yield
    assert the_logging_tree() == before
    assert capture._installs == 0 and not capture._demands


@contextlib.contextmanager
def started(*loggers: BlazeLogger) -> Iterator[None]:
    for logger in loggers:
        logger.start()
    try:
        yield
    finally:
        for logger in loggers:
            logger.stop()


@contextlib.contextmanager
def step(on_log: Any = None) -> Iterator[StepContext]:
    context = StepContext(RunInfo("3fa9c2d1aabbccdd", "etl"), "clean", 1, on_log=on_log)
    token = running.set(context)
    try:
        yield context
    finally:
        running.reset(token)


def a_record(message: Any = "hello", *args: Any, created: float = NOON, **more: Any) -> logging.LogRecord:
    record = logging.LogRecord(
        more.pop("name", "blaze"), logging.INFO, __file__, 1, message, args, more.pop("exc", None)
    )
    record.created = created
    vars(record).update(more)
    return record


TAGS: Dict[str, Any] = {"seq_id": "etl", "run_id": "3fa9c2d1aabbccdd", "step": "clean", "attempt": 1}


def files_of(log_dir: Path) -> Dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(log_dir.iterdir())}


def lines_of(log_dir: Path) -> List[str]:
    """The messages of all text files, in the order of the files' names."""
    return [line.partition(": ")[2] for text in files_of(log_dir).values() for line in text.splitlines()]


# --- arguments ---


def test_wrong_arguments_are_all_named_at_once_with_what_to_write() -> None:
    with pytest.raises(ValidationError) as caught:
        BlazeLogger(level="WARNIN", format="xml", name="app", log_dir=3)  # type: ignore[arg-type]
    faults = {fault.where: fault.what for fault in caught.value.errors}
    assert set(faults) == {"level", "format", "name", "log_dir"}
    assert "did you mean 'WARNING'?" in faults["level"]
    assert all(level in faults["level"] for level in LEVELS)
    assert "'text' or 'json'" in faults["format"]


@pytest.mark.parametrize(("level", "number"), [("debug", 10), ("INFO", 20), (logging.ERROR, 40), (15, 15)])
def test_levels_are_names_or_numbers(level: Any, number: int) -> None:
    assert BlazeLogger(level=level).level == number


@pytest.mark.parametrize("level", ["", "NOTSET", 0, -1, None, True, 1.5, "20"])
def test_other_levels_are_refused(level: Any) -> None:
    with pytest.raises(ValidationError, match="not a log level"):
        BlazeLogger(level=level)


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    before = the_logging_tree()
    BlazeLogger(log_dir=tmp_path / "log", capture_print=True)
    assert the_logging_tree() == before
    assert not (tmp_path / "log").exists()


def test_it_says_that_it_cant_be_pickled() -> None:
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(BlazeLogger())


# --- the console ---


def test_lines_go_to_stderr_as_it_is_at_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    logger = BlazeLogger()
    with application(), started(logger):
        logger.info("%d jobs", 3)
        logger.debug("too fine")
        logging.getLogger("blaze.core").info("from below")
        redirected = io.StringIO()
        with contextlib.redirect_stderr(redirected):
            logger.info("elsewhere")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" ", 2)[2] for line in err.splitlines()] == [
        "INFO     blaze: 3 jobs",
        "INFO     blaze.core: from below",
    ]
    assert redirected.getvalue().endswith("INFO     blaze: elsewhere\n")


def test_silent_means_nothing_on_the_console_not_even_the_last_resort(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with application():
        for logger in (BlazeLogger(silent=True), BlazeLogger(silent=True, log_dir=tmp_path)):
            logger.error("before the start")
            with started(logger):
                logger.error("while started")
            logger.error("after the stop")
    assert capsys.readouterr() == ("", "")
    assert lines_of(tmp_path) == ["while started"]


def test_an_application_that_configured_logging_gets_the_lines_in_its_own_place_by_its_own_level(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for level, expected in ((logging.WARNING, ["w"]), (logging.INFO, ["i", "w"]), (logging.DEBUG, ["d", "i", "w"])):
        shown = Shown()
        with application(level, shown), started(BlazeLogger(log_dir=tmp_path / str(level))):
            for logger in (blaze_logger, logging.getLogger("blaze.core")):
                logger.debug("d")
                logger.info("i")
                logger.warning("w")
        assert shown.messages == expected * 2
        assert lines_of(tmp_path / str(level)) == ["i", "w"] * 2
    assert capsys.readouterr() == ("", "")


def test_an_application_that_configures_logging_later_takes_over_from_the_console(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = Shown()
    logger = BlazeLogger()
    with application(), started(logger):
        logger.warning("on the console")
        logging.root.addHandler(shown)
        logger.warning("at the application's handler")
        logger.info("below the application's level")
    assert capsys.readouterr().err.count("\n") == 1
    assert shown.messages == ["at the application's handler"]


def test_a_handler_of_the_application_on_blaze_counts_and_a_null_handler_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = BlazeLogger()
    shown = Shown()
    with application(handler=logging.NullHandler()), started(logger):
        logger.info("console")
        blaze_logger.addHandler(shown)
        logger.info("theirs")
        blaze_logger.removeHandler(shown)
    assert capsys.readouterr().err.count("\n") == 1
    assert shown.messages == ["theirs"]


def test_a_logger_that_does_not_propagate_uses_its_console(capsys: pytest.CaptureFixture[str]) -> None:
    logger = BlazeLogger()
    shown = Shown()
    blaze_logger.propagate = False
    try:
        with application(logging.DEBUG, shown), started(logger):
            logger.info("x")
            assert blaze_logger.propagate is False
        assert blaze_logger.propagate is False
    finally:
        blaze_logger.propagate = True
    assert capsys.readouterr().err.count("\n") == 1
    assert shown.messages == []


def test_two_started_loggers_make_one_line_and_the_second_takes_over(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second = BlazeLogger(log_dir=tmp_path), BlazeLogger(log_dir=tmp_path, level="DEBUG")
    with application():
        first.start()
        second.start()
        first.info("one")
        second.debug("for the second only")
        first.stop()
        first.info("two")
        second.stop()
        second.info("nobody listens")
    assert lines_of(tmp_path) == ["one", "for the second only", "two"]
    assert capsys.readouterr().err.count("\n") == 3


def test_starts_are_counted(tmp_path: Path) -> None:
    logger = BlazeLogger(silent=True, log_dir=tmp_path)
    logger.stop()
    with application(), started(logger):
        with started(logger):
            assert len(blaze_logger.handlers) == 3  # null, file, relay
        assert logger.started
        logger.info("still there")
    assert not logger.started
    logger.stop()
    assert lines_of(tmp_path) == ["still there"]


def test_an_explicit_level_of_the_application_comes_back(tmp_path: Path) -> None:
    shown = Shown()
    blaze_logger.setLevel(logging.ERROR)
    try:
        with application(logging.DEBUG, shown), started(BlazeLogger(log_dir=tmp_path)):
            blaze_logger.warning("in the file")
            blaze_logger.error("in both")
        assert blaze_logger.level == logging.ERROR
    finally:
        blaze_logger.setLevel(logging.NOTSET)
    assert (lines_of(tmp_path), shown.messages) == (["in the file", "in both"], ["in both"])


def test_dict_config_while_started_closes_no_file_for_good(tmp_path: Path) -> None:
    before = logging.root.handlers[:], logging.root.level
    logger = BlazeLogger(log_dir=tmp_path)
    try:
        with started(logger):
            logger.warning("1")
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}})
            logger.warning("2")
    finally:
        logging.root.handlers, level = before
        logging.root.setLevel(level)
    assert lines_of(tmp_path) == ["1", "2"]


@pytest.mark.parametrize("error", [OSError("broken pipe"), ValueError("closed")])
def test_a_broken_console_is_counted_and_never_felt(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    logger = BlazeLogger()
    with application(), started(logger):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Broken())
            logger.info("x")
            patch.setattr(sys, "stderr", None)
            logger.info("x")
        assert logger.errors == 1
    assert logger.errors == 1


def test_a_console_that_lacks_a_character_shows_its_escape() -> None:
    raw = io.BytesIO()
    logger = BlazeLogger()
    with application(), started(logger), contextlib.redirect_stderr(io.TextIOWrapper(raw, "ascii", "strict")):
        logger.info("→ ok")
        assert raw.getvalue().endswith(b"\\u2192 ok\n")


def test_a_failing_handler_of_the_application_never_reaches_the_caller() -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the application's bug")

    logger = BlazeLogger(silent=True)
    with application(logging.INFO, Failing()), started(logger):
        logger.info("x")
    assert logger.errors == 1


def test_a_failing_handler_of_the_application_never_reaches_what_blaze_logs_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """R66. It is told on stderr, as ``logging`` tells of handlers that fail by its rules."""

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the application's bug")

    with application(logging.INFO, Failing()):
        OwnLog("engine").warning("step %r is stuck", "a")
    told = capsys.readouterr().err
    assert "the application's bug" in told and "step %r is stuck" in told


def test_what_blaze_logs_itself_names_the_line_that_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    log = OwnLog("engine")
    log.error("x %s", 1)
    try:
        raise KeyError("k")
    except KeyError:
        log.exception("y")
    assert [(record.filename, record.funcName) for record in caplog.records] == [
        ("test_logger.py", "test_what_blaze_logs_itself_names_the_line_that_logged_it")
    ] * 2
    assert "KeyError" in caplog.text


def test_the_methods_are_those_of_logging_and_name_the_callers_line(caplog: pytest.LogCaptureFixture) -> None:
    logger = BlazeLogger(silent=True, name="blaze.core")
    with caplog.at_level(logging.DEBUG), started(logger):
        logger.debug("%s", 1)
        logger.info("%s", 2)
        logger.warning("%s", 3, extra={"job_id": "j"})
        logger.error("%s", 4)
        logger.critical("%s", 5)
        logger.log(15, "%s", 6)
        try:
            raise KeyError("k")
        except KeyError:
            logger.exception("%s", 7)
    assert [(r.name, r.levelno, r.getMessage()) for r in caplog.records] == [
        ("blaze.core", level, str(n)) for n, level in enumerate((10, 20, 30, 40, 50, 15, 40), 1)
    ]
    assert {(record.filename, record.funcName) for record in caplog.records} == {
        ("test_logger.py", "test_the_methods_are_those_of_logging_and_name_the_callers_line")
    }
    assert vars(caplog.records[2])["job_id"] == "j"
    assert caplog.records[6].exc_info is not None
    with pytest.raises(TypeError, match=r"logging\.INFO"):
        logger.log("INFO", "x")  # type: ignore[arg-type]


# --- what blocks log ---


def test_lines_of_blocks_reach_the_file_once_whichever_logger_they_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = BlazeLogger(log_dir=tmp_path, capture_print=True)
    with application(), started(logger):
        capture.install(["app"])
        with step(logger.keep) as context:
            logging.getLogger("app").info("plain")
            logging.getLogger("app").debug("too fine")
            context.logger.info("through current()")
            print("printed")
            logger.info("the engine")
        capture.uninstall()
        logging.getLogger("app").info("outside")
    assert [text.split(" ", 2)[2] for text in "".join(files_of(tmp_path).values()).splitlines()] == [
        "INFO     etl/clean#1 3fa9c2d1: plain",
        "INFO     etl/clean#1 3fa9c2d1: through current()",
        "INFO     etl/clean#1 3fa9c2d1: printed",
        "INFO     etl/clean#1 3fa9c2d1: the engine",
    ]
    out, err = capsys.readouterr()
    assert out == "printed\n"
    # The console has what was logged to Blaze; what the application shows is its own affair.
    assert [line.partition(": ")[2] for line in err.splitlines()] == ["through current()", "the engine"]


def test_keep_outside_start_and_stop_does_nothing(tmp_path: Path) -> None:
    logger = BlazeLogger(log_dir=tmp_path / "log")
    with step() as context:
        logger.keep(context, a_record(name="app"))
        with started(logger):
            pass
        logger.keep(context, a_record(name="app"))
    assert not (tmp_path / "log").exists()


def test_keep_obeys_the_level(tmp_path: Path) -> None:
    logger = BlazeLogger(log_dir=tmp_path, level="WARNING")
    with step() as context, started(logger):
        logger.keep(context, a_record("info", name="app"))
        logger.keep(context, a_record("warning", name="app", levelno=logging.WARNING))
    assert lines_of(tmp_path) == ["warning"]


# --- hourly files ---


@pytest.fixture
def hourly(tmp_path: Path) -> Iterator[HourlyFileHandler]:
    handler = HourlyFileHandler(tmp_path / "log")
    handler.setFormatter(TextFormatter())
    yield handler
    handler.close()


def test_each_record_goes_to_the_file_of_its_own_hour(hourly: HourlyFileHandler) -> None:
    hour = timedelta(hours=1)
    start = datetime(2026, 11, 22, 14, 59, 59, 999000)
    for message, when in (("a", start), ("b", start + hour), ("late", start), ("c", start + 10 * hour)):
        hourly.handle(a_record(message, created=when.timestamp()))
    files = files_of(Path(hourly.log_dir))
    assert {name: [line.partition(": ")[2] for line in text.splitlines()] for name, text in files.items()} == {
        "run_14_2026-11-22.log": ["a", "late"],
        "run_15_2026-11-22.log": ["b"],
        "run_00_2026-11-23.log": ["c"],
    }


def test_files_and_directory_are_private(hourly: HourlyFileHandler) -> None:
    old = os.umask(0)
    try:
        hourly.handle(a_record())
    finally:
        os.umask(old)
    directory = Path(hourly.log_dir)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(hourly.path_at(NOON)).stat().st_mode) == 0o600


def test_a_file_that_was_moved_deleted_or_lost_its_directory_is_made_anew(hourly: HourlyFileHandler) -> None:
    path = Path(hourly.path_at(NOON))
    hourly.handle(a_record("1"))
    path.rename(path.with_suffix(".1"))
    hourly.handle(a_record("2"))
    assert lines_of(path.parent) == ["1", "2"]
    path.unlink()
    hourly.handle(a_record("3"))
    assert path.read_text().endswith(": 3\n")
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    hourly.handle(a_record("4"))
    assert lines_of(path.parent) == ["4"]
    assert hourly.errors == 0


def test_a_truncated_file_goes_on_at_its_new_end(hourly: HourlyFileHandler) -> None:
    path = Path(hourly.path_at(NOON))
    hourly.handle(a_record("1"))
    os.truncate(path, 0)
    hourly.handle(a_record("2"))
    assert lines_of(path.parent) == ["2"]


def test_a_descriptor_that_was_closed_and_taken_by_another_file_is_never_written_or_closed(
    hourly: HourlyFileHandler, tmp_path: Path
) -> None:
    hourly.handle(a_record("1"))
    fd = hourly._fd
    assert fd is not None
    with open(tmp_path / "database", "wb") as other:
        os.dup2(other.fileno(), fd)  # a daemonising host program closed it, and the number was given out again
        hourly.handle(a_record("2"))
        assert os.path.sameopenfile(fd, other.fileno())
        os.close(fd)
    assert (tmp_path / "database").read_bytes() == b""
    assert lines_of(Path(hourly.log_dir)) == ["1", "2"]


@pytest.mark.parametrize("in_the_way", ["directory", "link", "fifo"])
def test_what_stands_in_the_files_place_is_counted_told_once_and_never_felt(
    in_the_way: str, hourly: HourlyFileHandler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(hourly.path_at(NOON))
    path.parent.mkdir()
    if in_the_way == "directory":
        path.mkdir()
    elif in_the_way == "link":
        path.symlink_to(tmp_path / "target")
    else:
        os.mkfifo(path)
    for _ in range(3):
        hourly.handle(a_record())
    assert hourly.errors == 3
    assert not (tmp_path / "target").exists()
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "can't be written" in err and str(path.parent) in err


def test_a_pipe_with_a_reader_is_refused_too(hourly: HourlyFileHandler) -> None:
    path = Path(hourly.path_at(NOON))
    path.parent.mkdir()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        hourly.handle(a_record())
        assert hourly.errors == 1
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)


def test_a_full_disk_loses_lines_and_nothing_else(
    hourly: HourlyFileHandler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    really_write = os.write
    room = [30]

    def write(fd: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        done = really_write(fd, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", write)
    hourly.handle(a_record("torn"))
    hourly.handle(a_record("lost"))
    room[0] = 10_000
    hourly.handle(a_record("whole"))
    text = Path(hourly.path_at(NOON)).read_text()
    assert len(text.splitlines()[0]) == 30
    assert text.splitlines()[1].endswith(": whole") and text.endswith("\n")
    assert hourly.errors == 2
    assert capsys.readouterr().err.count("No space left") == 1


@pytest.mark.parametrize("created", [float("nan"), float("inf"), -1e18, 1e18, None, "x"])
def test_a_record_with_a_senseless_time_is_written_under_the_present_hour(
    created: Any, hourly: HourlyFileHandler
) -> None:
    before = hourly.path_at(time.time())
    hourly.handle(a_record("x", created=created))
    assert hourly.errors == 0
    assert {before, hourly.path_at(time.time())} >= {str(path) for path in Path(hourly.log_dir).iterdir()}


def test_the_directory_is_fixed_when_the_handler_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    handler = HourlyFileHandler("log")
    assert handler.log_dir == str(tmp_path / "log")
    assert BlazeLogger(log_dir="log").log_dir == handler.log_dir
    handler.close()


def test_lines_of_many_threads_and_processes_are_whole(tmp_path: Path) -> None:
    logger = BlazeLogger(silent=True, log_dir=tmp_path, format="json")

    def work(name: str) -> None:
        for i in range(100):
            logger.info("%s %d %s", name, i, "x" * 2_000)

    with application(), started(logger):
        children = []
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    work(f"child{child}")
                finally:
                    os._exit(0)
            children.append(pid)
        threads = [threading.Thread(target=work, args=(f"thread{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
    lines = [json.loads(line) for text in files_of(tmp_path).values() for line in text.splitlines()]
    assert len(lines) == 600
    assert len({line["message"] for line in lines}) == 600


# --- formats ---


def test_a_text_line_has_time_level_step_and_message() -> None:
    offset = datetime.fromtimestamp(NOON).astimezone().isoformat()[-6:]
    line = TextFormatter().format(a_record("%d rows", 120, **TAGS))
    assert line == f"2026-11-22 14:05:01.123{offset} INFO     etl/clean#1 3fa9c2d1: 120 rows"
    assert TextFormatter().format(a_record("x", name="blaze.core")).endswith(" INFO     blaze.core: x")
    assert TextFormatter().format(a_record("x", seq_id="etl", run_id="3fa9c2d1aa")).endswith(" etl 3fa9c2d1: x")


def test_a_json_line_has_the_same_keys_always_and_exc_when_there_is_one() -> None:
    when = datetime.fromtimestamp(NOON, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    common = {"time": when, "level": "INFO", "logger": "blaze", "message": "hello"}
    assert json.loads(JsonFormatter().format(a_record(**TAGS))) == {**common, **TAGS}
    assert json.loads(JsonFormatter().format(a_record())) == {**common, **dict.fromkeys(TAGS)}
    line = json.loads(JsonFormatter().format(a_record(exc=an_error("boom"))))
    assert line["exc"].startswith("Traceback (most") and line["exc"].endswith("ValueError: boom")


def an_error(message: Any) -> Any:
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


def test_tracebacks_and_further_lines_are_indented_so_that_nothing_passes_for_a_record() -> None:
    forged = "x\r\n2026-11-22 14:05:01.123+00:00 ERROR    blaze: forged\n"
    head, *rest = (
        TextFormatter().format(a_record(forged, exc=an_error("boom"), stack_info="Stack:\n  here")).split("\n")
    )
    assert head.endswith("blaze: x")
    assert rest[0] == f"{INDENT}2026-11-22 14:05:01.123+00:00 ERROR    blaze: forged"
    assert all(line.startswith(INDENT) for line in rest)
    assert f"{INDENT}ValueError: boom" in rest and rest[-1] == f"{INDENT}  here"


def test_control_characters_are_escaped_everywhere() -> None:
    nasty = "\x1b[2J\x07\x9b\u202e\u2028\r\x00\ud800é\t"
    record = a_record(nasty, levelname=nasty, name=nasty, **{**TAGS, "step": nasty + "\n"})
    line = TextFormatter().format(record)
    assert "\\x1b[2J\\x07\\x9b\\u202e\\u2028\\r\\x00\\ud800é\t" in line
    assert "\\t\\n#1" in line
    assert "\n" not in line and not any(c in line for c in "\x1b\x07\x9b\u202e\u2028\r\x00\ud800")
    encoded = JsonFormatter().format(record)
    assert encoded.isascii() and encoded.isprintable()
    assert json.loads(encoded)["message"] == nasty.replace("\ud800", "\\ud800")


def test_message_and_traceback_are_bounded() -> None:
    for character in ("x", "é", "\U0001f600", "\ud800"):
        record = a_record(character * 1_000_000, exc=an_error(character * 1_000_000))
        for text in (message_of(record), traceback_of(record)):
            assert MAX_TEXT * 0.9 < len(text.encode("utf-8", "backslashreplace")) <= MAX_TEXT
            assert "clipped: 1000" in text
    assert clip("x" * MAX_TEXT) == "x" * MAX_TEXT


def test_the_end_of_a_long_traceback_is_kept() -> None:
    def deep(n: int) -> None:
        try:
            raise ValueError(f"level {n}" + "." * 500)
        except ValueError as error:
            if n == 0:
                raise KeyError("the last word") from error
            deep(n - 1)

    try:
        deep(200)
    except KeyError:
        text = traceback_of(a_record(exc=sys.exc_info()))
    assert "ValueError: level 200" in text and "[clipped: " in text
    assert text.endswith("KeyError: 'the last word'")
    assert len(text) <= MAX_TEXT


class Hostile:
    """An object that can't be shown."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        (Hostile(RuntimeError("x")), (), "<Hostile that can't be shown: RuntimeError>"),
        ("%s rows", (Hostile(RecursionError()),), "%s rows [arguments not shown:"),
        ("%d rows", ("many",), "%d rows [arguments not shown: %d format"),
        ("%s", (1, 2), "%s [arguments not shown: not all arguments"),
        ("100 %", (1,), "100 % [arguments not shown: incomplete format"),
        (None, (), "None"),
        ({"a": 1}, (), "{'a': 1}"),
    ],
)
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_message_that_cant_be_made_costs_its_own_text_only(
    formatter: logging.Formatter, message: Any, args: Tuple[Any, ...], expected: str
) -> None:
    assert expected in formatter.format(a_record(message, *args))


def test_hostile_tags_exceptions_and_times_are_contained() -> None:
    bad = Hostile(ValueError("no"))
    hostile: Dict[str, Any] = dict.fromkeys(TAGS, bad)
    record = a_record("m", exc=an_error(bad), **hostile)
    record.levelname = record.name = bad  # type: ignore[assignment]
    record.created = bad  # type: ignore[assignment]
    assert "Hostile that can't be shown" in TextFormatter().format(record)
    assert json.loads(JsonFormatter().format(record))["message"] == "m"
    record.exc_info = (1, 2, 3)  # type: ignore[assignment]
    assert "traceback not shown" in TextFormatter().format(record)
    assert json.loads(JsonFormatter().format(a_record(attempt=10**5000)))["attempt"] is not None


def test_formatting_leaves_the_record_as_it_is() -> None:
    record = a_record("x %s", "y", exc=an_error("boom"))
    before = dict(vars(record))
    TextFormatter().format(record)
    JsonFormatter().format(record)
    assert vars(record) == before


def test_a_record_that_came_through_a_queue_keeps_its_traceback() -> None:
    assert TextFormatter().format(a_record(exc_text="Traceback:\nboom")).endswith(f"\n{INDENT}Traceback:\n{INDENT}boom")


anything = st.one_of(
    st.text(alphabet=st.characters()),
    st.integers(),
    st.floats(),
    st.none(),
    st.binary(),
    st.lists(st.text(), max_size=3),
)


@given(
    message=anything,
    args=st.lists(anything, max_size=3),
    created=st.floats() | st.none(),
    tags=st.dictionaries(st.sampled_from(sorted(TAGS)), anything),
    error=st.none() | anything,
)
def test_any_record_becomes_one_valid_line_of_each_kind(
    message: Any, args: List[Any], created: Any, tags: Dict[str, Any], error: Any
) -> None:
    record = a_record(message, exc=None if error is None else an_error(error), created=created, **tags)
    record.args = tuple(args)
    text = TextFormatter().format(record)
    text.encode("utf-8")
    lines = text.split("\n")
    assert lines[0][:2] in ("20", "19") or not lines[0].startswith(" ")
    assert all(line.startswith(INDENT) for line in lines[1:])
    assert all(
        character.isprintable() or character == "\t" for line in lines for character in line if character < "\xa0"
    )
    line = JsonFormatter().format(record)
    assert line.isascii() and "\n" not in line
    decoded = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert set(decoded) - {"exc"} == {"time", "level", "logger", "message", *TAGS}
    json.dumps(decoded, ensure_ascii=False).encode("utf-8")  # no lone surrogates


@given(text=st.text(alphabet=st.characters()), limit=st.integers(100, 400), repeat=st.integers(1, 200))
def test_clipped_text_is_never_longer_than_the_limit(text: str, limit: int, repeat: int) -> None:
    text *= repeat
    for keep_end in (0, limit // 4):
        clipped = clip(text, limit, keep_end)
        assert clipped == text or len(clipped.encode("utf-8", "backslashreplace")) <= limit
