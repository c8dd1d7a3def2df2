"""What runs inside the process of an ``executor="process"`` block.

The child is a fresh interpreter (never a fork of a threaded parent) that serves one attempt
after the other over a private socket pair, and dies with its parent, whatever the block is
doing. It imports the parent's ``__main__`` only if a block or an argument is defined there.

Blocks of one process follow each other in it: what a block leaves behind (module globals, its
current directory) the next one may find.
"""

from __future__ import annotations

import contextvars
import importlib.util
import io
import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import types
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NoReturn, Optional, Tuple

from ..ground.context import RunInfo, StepContext, running
from ..ground.errors import BlazeError
from ..ground.prints import PrintCapture, flush_prints
from .channel import (
    BROKEN,
    ERROR,
    LOG,
    MAIN_ALIAS,
    PREPARE,
    PROGRESS,
    PROTOCOL,
    READY,
    RESULT,
    Channel,
    ChannelClosed,
    MainOrigin,
    ModuleOrigin,
    Surroundings,
)

if TYPE_CHECKING:
    import socket

#: Longest traceback text that is sent, in characters; the middle of a longer one is cut out.
MAX_TRACEBACK = 64 * 1024
#: Least time between two progress frames, in seconds; the newest value is always sent in the end.
PROGRESS_PAUSE = 0.05


class _ChildContext(StepContext):
    """The block's context on this side: progress goes over to the parent."""

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[], None], *args: Any) -> None:
        super().__init__(*args)
        self._tell = tell

    def progress(self, done: float, total: Optional[float] = None) -> None:
        # Plain numbers only: the parent should not have to import numpy to show a bar.
        super().progress(_plain_number(done), None if total is None else _plain_number(total))
        self._tell()


class _Servant:
    """Serves the attempts of this process, one at a time, in the main thread."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.attempt = 0  # 0: none is running; what threads left behind log now belongs to nobody
        self.context: Optional[StepContext] = None
        self.importing_main = False
        self.main_origin: MainOrigin = (None, None)
        self.modules = _ModulesOfParent()
        self._keeps_prints = False
        self._progress = threading.Event()
        self._teller: Optional[threading.Thread] = None

    def serve(self) -> None:
        """Until the parent hangs up."""
        self.channel.send(READY, 0)
        while True:
            try:
                kind, attempt, payload = self.channel.receive()
            except ChannelClosed:
                return
            self.attempt = attempt
            try:
                # Bytes from our own parent, over a socket pair that nobody else has: safe to unpickle.
                request = _Unpickler(self, payload).load()
                if kind == PREPARE:
                    self._prepare(*request)
                    continue
            except BaseException as error:
                self.give_up(f"can't be loaded in its process: {_one_line(error)}", _traceback_text(error))
            del payload
            answer, payload = self._run(*request)
            del request
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (AttributeError, OSError, ValueError):
                    pass  # no such stream, or the block closed it
            signal.setitimer(signal.ITIMER_REAL, 0)  # a forgotten alarm must not hit the next block
            self._send_progress()
            self.attempt, self.context = 0, None
            self.channel.send(answer, attempt, payload)
            del payload

    def _prepare(
        self, surroundings: Optional[Surroundings], modules: Mapping[str, ModuleOrigin], main: MainOrigin
    ) -> None:
        self.modules.origins.update(modules)
        self.main_origin = main
        if surroundings is None:
            return
        if surroundings.keeps_prints and not self._keeps_prints:
            self._keeps_prints = True
            PrintCapture().install()
        sys.path[:] = surroundings.path
        sys.argv[:] = surroundings.argv
        if surroundings.directory is not None:
            try:
                os.chdir(surroundings.directory)
            except OSError:
                pass  # removed meanwhile: the block finds out if it matters to it
        for name in set(os.environ) - set(surroundings.environment):
            del os.environ[name]
        for name, value in surroundings.environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value

    def _run(
        self, context_fields: Tuple[Any, ...], fn: Callable[..., Any], kwargs: Mapping[str, Any]
    ) -> Tuple[int, bytes]:
        info, *rest = context_fields
        context = self.context = _ChildContext(self._tell_progress, RunInfo(*info), *rest)
        if self._keeps_prints:
            context._on_log = self._keep_print
        try:
            try:
                output = contextvars.copy_context().run(_call, context, fn, kwargs)
            finally:
                flush_prints(context)
            return RESULT, _pickled_output(output, context.step)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: a block that failed, no more
            try:
                pickled: Optional[bytes] = pickle.dumps(error, PROTOCOL)
            except Exception:
                pickled = None
            told = (type(error).__qualname__, _message(error), _traceback_text(error), pickled)
            return ERROR, pickle.dumps(told, PROTOCOL)

    def give_up(self, message: str, text: str) -> NoReturn:
        """Tell the parent why nothing can run here, and end the process."""
        try:
            self.channel.send(BROKEN, self.attempt, pickle.dumps((message, text), PROTOCOL))
            sys.stderr.flush()
            sys.stdout.flush()
        finally:
            os._exit(1)

    def _tell_progress(self) -> None:
        # One thread sends for all calls, so that progress() in a tight loop costs next to nothing.
        if self._teller is None:
            self._teller = threading.Thread(target=self._keep_telling, name="blaze-progress", daemon=True)
            self._teller.start()
        self._progress.set()

    def _keep_telling(self) -> None:
        while True:
            self._progress.wait()
            self._send_progress()
            time.sleep(PROGRESS_PAUSE)

    def _send_progress(self) -> None:
        context, attempt = self.context, self.attempt
        if self._progress.is_set() and context is not None:
            self._progress.clear()
            try:
                self.channel.send(PROGRESS, attempt, pickle.dumps(context._progress, PROTOCOL))
            except ChannelClosed:
                pass

    def forward(self, record: logging.LogRecord) -> None:
        """Send a record of the running attempt to the parent, as plain values."""
        attempt = self.attempt
        if attempt and record.levelno >= logging.INFO:
            try:
                self.channel.send(LOG, attempt, pickle.dumps(_plain_record(record), PROTOCOL))
            except ChannelClosed:
                pass
            except Exception:
                logging.Handler().handleError(record)

    def _keep_print(self, context: StepContext, record: logging.LogRecord) -> None:
        if context is self.context:  # not of a thread that the block before left behind
            self.forward(record)

    def import_main(self) -> None:
        """Run the parent's main module under another name and put it in the place of ours."""
        name, path = self.main_origin
        if MAIN_ALIAS in sys.modules:
            return
        if name is None and path is None:
            raise BlazeError(main_cannot_be_imported("an argument of the block"))
        module = types.ModuleType(MAIN_ALIAS)
        if name is not None:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.loader is None:
                raise BlazeError(f"the main module {name!r} can't be found in the process")
            code = spec.loader.get_code(name)  # type: ignore[attr-defined]
            path, module.__package__, module.__spec__ = spec.origin, spec.parent, spec
        elif path is not None:
            with io.open_code(path) as file:
                code = compile(file.read(), path, "exec")
        module.__file__ = path
        sys.modules["__main__"] = sys.modules[MAIN_ALIAS] = module
        self.importing_main = True
        exec(code, module.__dict__)
        self.importing_main = False
        _rename_to_main(module.__dict__.values())


#: Set in a child, and nowhere else.
_servant: Optional[_Servant] = None


def refuse_unguarded_call() -> None:
    """End this process if it is a child that is importing the parent's script.

    Whatever runs a sequence calls this first. A script that runs one at its top level would do so
    again in each of its children, without end.
    """
    if _servant is not None and _servant.importing_main:
        importing = sys._current_frames().get(threading.main_thread().ident or 0)  # we may be in a worker thread
        _servant.give_up(
            f"can't be loaded in its process: {_servant.main_origin[1] or _servant.main_origin[0]} runs a sequence "
            'when it is imported, and the process has to import it; put the calls under if __name__ == "__main__":',
            "".join(line for line in traceback.format_stack(importing) if __file__ not in line),
        )


def main_cannot_be_imported(what: str) -> str:
    """What to tell about something that is defined in a session, not in a file."""
    return (
        f"{what} is defined in an interactive session, a notebook, standard input or python -c, which the process "
        "of a block can't import; put it in a module (a .py file)"
    )


def main(channel_fd: int, lifeline_fd: int) -> None:
    """Entry point of the child; the parent's bootstrap line calls it."""
    import faulthandler
    import socket

    global _servant
    for fd in (channel_fd, lifeline_fd):
        os.set_inheritable(fd, False)  # what a block starts must not keep them open
    _die_with_parent(lifeline_fd)
    # Ctrl-C goes to a whole terminal, systemd's SIGTERM to a whole service: the parent decides what they mean for
    # a block. Handlers that do nothing, not SIG_IGN, which programs started by a block would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        faulthandler.enable()  # a segmentation fault says where, on stderr
    except (AttributeError, RuntimeError, ValueError, OSError):
        pass  # no stderr
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a killed block's last lines are not lost
    sock = socket.socket(fileno=channel_fd)
    servant = _servant = _Servant(Channel(sock, shielded=True))
    sys.meta_path.insert(0, servant.modules)
    _forward_logs(servant)
    os.register_at_fork(after_in_child=lambda: _forked(sock, lifeline_fd))
    servant.serve()


def _die_with_parent(lifeline: int) -> None:
    """Have this process and all that its blocks started killed when the parent is gone.

    The parent alone holds the other end of ``lifeline``, and never writes: end of file is its death,
    SIGKILL included. On Linux the kernel itself then kills our process group, which works even while
    a block holds the GIL for ever. (PR_SET_PDEATHSIG would fire when the parent's *thread* that
    started us ends, and would spare what the block started.) Elsewhere, and should that fail, a
    thread does it.
    """
    if sys.platform == "linux":
        import fcntl

        try:
            fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        except OSError:
            pass

    def watch() -> None:
        try:
            os.read(lifeline, 1)
            os.killpg(0, signal.SIGKILL)
        finally:
            os._exit(1)

    threading.Thread(target=watch, name="blaze-lifeline", daemon=True).start()


def _forked(sock: socket.socket, lifeline: int) -> None:
    """In a fork that a block made (multiprocessing.Pool): it has nothing to do with our parent."""
    global _servant
    if _servant is None:
        return
    _servant.attempt, _servant = 0, None
    sock.close()
    os.close(lifeline)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _forward_logs(servant: _Servant) -> None:
    # Not a handler on the root logger: dictConfig and basicConfig(force=True) would remove it, and loggers with
    # propagate=False never reach it. The NullHandler makes a script's basicConfig() do nothing here, so that
    # lines are printed once, by the parent.
    original = logging.Logger.callHandlers

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        servant.forward(record)
        original(logger, record)

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign, assignment]
    root = logging.getLogger()
    root.addHandler(logging.NullHandler())
    root.setLevel(min(root.level, logging.INFO))


class _ModulesOfParent:
    """An import finder: the modules that hold blocks come from the file that the parent loaded them from.

    So a definition that was loaded from a path outside ``sys.path`` can be imported here as well.
    """

    def __init__(self) -> None:
        self.origins: Dict[str, ModuleOrigin] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name not in self.origins:
            return None
        file, search = self.origins[name]
        return importlib.util.spec_from_file_location(name, file, submodule_search_locations=search)


class _Unpickler(pickle.Unpickler):
    """Imports the parent's ``__main__`` when, and only when, something in the request is from there."""

    def __init__(self, servant: _Servant, payload: bytes) -> None:
        super().__init__(io.BytesIO(payload))
        self._servant = servant

    def find_class(self, module: str, name: str) -> Any:
        if module in ("__main__", MAIN_ALIAS):
            self._servant.import_main()
        return super().find_class(module, name)


def _call(context: StepContext, fn: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    running.set(context)
    return fn(**kwargs)


def _pickled_output(output: Any, step: str) -> bytes:
    try:
        return pickle.dumps(output, PROTOCOL)
    except Exception as error:
        raise BlazeError(
            f"the output of block {step!r}, {a_type(output)}, can't leave its process ({_one_line(error)}): "
            "a process block must return something picklable"
        ) from error


def _rename_to_main(values: Any) -> None:
    # Outputs are stored and read by other processes, to which "__mp_main__" means nothing.
    for value in list(values):
        if isinstance(value, (type, types.FunctionType)) and value.__module__ == MAIN_ALIAS:
            value.__module__ = "__main__"
            if isinstance(value, type):
                _rename_to_main(vars(value).values())


def a_type(value: object) -> str:
    """How messages name the type of a value."""
    kind = type(value)
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__qualname__}"


def _plain_number(value: Any) -> float:
    return value if type(value) in (int, float) else float(value)


def _plain_record(record: logging.LogRecord) -> Dict[str, Any]:
    plain: Dict[str, Any] = {}
    for key, value in record.__dict__.items():
        if key in ("args", "exc_info", "relativeCreated"):
            continue
        if value is not None and type(value) not in (str, int, float, bool):
            value = repr(value)[:1000]
        plain[key] = value
    plain["msg"], plain["args"] = record.getMessage(), None
    if record.exc_info and not record.exc_text:
        plain["exc_text"] = logging.Formatter().formatException(record.exc_info)
    if record.name == MAIN_ALIAS:
        plain["name"] = "__main__"
    return plain


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MAX_TRACEBACK]
    except Exception:
        return "(its message can't be shown)"


def _one_line(error: BaseException) -> str:
    message = _message(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _traceback_text(error: BaseException) -> str:
    """The traceback without Blaze's own frames at its head."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == _call.__code__.co_filename:
        frames = frames.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception:
        text = f"{type(error).__qualname__}: (its traceback can't be shown)\n"
    if len(text) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return text
