"""The program ``blazed``: from a command line to a command, and from an error to a few lines and an exit status."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, TextIO, Tuple

from .. import __version__
from ..core.ground.errors import BlazeError, ValidationError
from .commands import YES, Arguments, Commands, Parser, add_common_flags
from .console import Console
from .exits import BROKEN_PIPE, DONE, FAILED, INTERRUPTED, USAGE, UsageError, exit_status_of

#: The modules that register commands, in the order in which ``--help`` tells them, and which those are: for a
#: command only its own modules are imported.
COMMAND_MODULES: Mapping[str, Tuple[str, ...]] = {
    "run": ("run",),
    "daemons": ("start", "stop", "restart", "reload"),
    "status": ("status",),
    "sequences": ("list", "graph", "check"),
    "jobs": ("jobs",),
    "job_changes": ("jobs", "pause", "resume"),
    "triggering": ("trigger", "cancel", "retry"),
    "runs": ("runs",),
    "show": ("show",),
    "logs": ("logs",),
    "next": ("next",),
    "export": ("export",),
    "db": ("db",),
    "doctor": ("doctor",),
    "completion": ("completion",),
}

EPILOG = """\
exit status:
  0 done, 1 a run failed, 2 usage, 3 the definition or submission is not valid,
  4 not found or ambiguous, 5 no daemon where one is needed, 6 refused,
  7 waited too long, 130 interrupted

Every flag can be given in the environment: --state-dir as BLAZE_STATE_DIR."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command line; its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with _streams():
        return _main(arguments)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Something to write to in the place of streams that were closed before we came (``>&-``), which are None."""
    missing = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    if not missing:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            for name in missing:
                setattr(sys, name, nowhere)
            yield
        finally:
            for name in missing:
                setattr(sys, name, None)


def _main(arguments: List[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A locale that lacks a character shows its escape, and no traceback.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        status = BROKEN_PIPE
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == BROKEN_PIPE:
        _let_go_of(sys.stdout)
    return status


def run(arguments: List[str], environ: Mapping[str, str] = os.environ) -> int:
    """Run a command line; errors are told, but for a pipe that nobody reads any more."""
    # Until the command line is understood: how to tell that it can't be.
    args = Arguments(
        json="--json" in arguments or environ.get("BLAZE_JSON", "").lower() in YES,
        debug="--debug" in arguments,
        no_color="--no-color" in arguments,
    )
    console = Console(json=args.json, no_color=args.no_color, environ=environ)
    try:
        parser = build_parser(environ, modules_of(arguments))[0]
        if not arguments:
            parser.print_help(sys.stderr)
            return USAGE
        args = parser.parse_args(arguments)
        console = Console(json=args.json, no_color=args.no_color, environ=environ)
        return args._run(args, console) or DONE
    except BrokenPipeError:
        raise
    except SystemExit as error:  # argparse, after --help and --version
        return error.code if isinstance(error.code, int) else FAILED
    except (Exception, KeyboardInterrupt) as error:
        _tell(error, args, console)
        return exit_status_of(error)


def modules_of(arguments: Sequence[str]) -> Sequence[str]:
    """The modules of the command that a command line begins with; all of them, if it begins with none."""
    words = iter(arguments)
    for word in words:
        if word == "--state-dir":
            next(words, None)
        elif not word.startswith("-"):
            return [name for name, commands in COMMAND_MODULES.items() if word in commands] or list(COMMAND_MODULES)
    return list(COMMAND_MODULES)


def build_parser(
    environ: Mapping[str, str] = os.environ, modules: Optional[Sequence[str]] = None
) -> Tuple[Parser, Commands]:
    """The parser of the whole program, or of the commands of some modules; and these commands."""
    parser = Parser(
        prog="blazed",
        description="Run, schedule and watch the sequences of Blaze.",
        epilog=EPILOG,
        environ=environ,
    )
    parser.add_argument("--version", action="version", version=f"blazed {__version__}")
    add_common_flags(parser)
    commands = Commands(parser)
    for name in COMMAND_MODULES if modules is None else modules:
        importlib.import_module(f"{__package__}.{name}").register(commands)
    return parser, commands


def _tell(error: BaseException, args: Arguments, console: Console) -> None:
    if args.debug and not isinstance(error, KeyboardInterrupt):
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    if args.json and not console.answered:
        console.document({"error": _as_data(error)})
    console.error(_told(error))


def _told(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, UsageError):
        return f"{error}\n(see {error.usage or 'blazed --help'})"
    if isinstance(error, (BlazeError, TimeoutError)):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}\nThis should not happen; --debug shows where it did."


def _as_data(error: BaseException) -> Dict[str, Any]:
    told: Dict[str, Any] = {
        "kind": type(error).__name__,
        "message": _told(error),
        "exit_status": exit_status_of(error),
    }
    if isinstance(error, ValidationError):
        told["faults"] = [{"where": where, "what": what} for where, what in error.errors]
    candidates = getattr(error, "candidates", None)
    if candidates is not None:
        told["candidates"] = candidates
    return told


def _let_go_of(stream: TextIO) -> None:
    """What is still buffered for a pipe without a reader goes nowhere, also when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
