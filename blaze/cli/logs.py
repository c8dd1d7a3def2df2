"""``blazed logs``: what the steps of runs logged, once or as it comes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..core.ground.errors import NotFound, StateError
from .commands import Arguments, Commands
from .console import Console
from .moments import local
from .numbers import count
from .state import reading, reading_if_any, state_dir_of
from .text import visible, visible_lines

if TYPE_CHECKING:
    from ..core.remember.records import LogRecord
    from ..core.state import StateManager

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LEVEL_STYLES = {"WARNING": "waiting", "ERROR": "bad", "CRITICAL": "bad", "DEBUG": "faint"}
#: Lines that are shown of many runs if nothing is said.
USUAL_TAIL = 100
#: Seconds between two looks.
LOOK = 0.25
PAGE = 1000


def register(commands: Commands) -> None:
    """Add ``logs``."""
    parser = commands.add(
        "logs",
        show_logs,
        "show what runs logged",
        example="blazed logs --follow\nblazed logs last --level warning --step clean",
    )
    parser.add_argument(
        "name", nargs="?", metavar="RUN|SEQ", help="a run (id, prefix, last, last-failed) or a sequence; default: all"
    )
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what is logged from now on")
    parser.add_argument(
        "--tail", type=count, metavar="N", help=f"the last N lines (default: {USUAL_TAIL}; of a run: all)"
    )
    parser.add_argument("--level", type=str.upper, choices=LEVELS, help="from this level on")
    parser.add_argument("--step", metavar="STEP", help="only of this step")


class _Wanted(NamedTuple):
    """Whose lines."""

    run_id: Optional[str]
    seq_id: Optional[str]
    step: Optional[str]
    level: Optional[str]

    def question(self) -> Dict[str, Any]:
        """As arguments of ``StateManager.logs``."""
        return self._asdict()


def show_logs(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    if args.follow:
        _follow(args, console)
        return None
    found: List[LogRecord] = []
    with reading_if_any(args, console) as state:
        if state is None:
            if args.name is not None:
                raise NotFound(f"there is no run and no sequence '{args.name}'")
        else:
            wanted = _wanted(state, args)
            if not console.json:
                _show_all(_lines(state, wanted, _tail(args, wanted)), console)
                return None
            found = list(_lines(state, wanted, _tail(args, wanted)))
    if console.json:
        console.document({"logs": [line.to_dict() for line in found]})
    return None


def _wanted(state: StateManager, args: Arguments) -> _Wanted:
    if args.name is None:
        return _Wanted(None, None, args.step, args.level)
    if args.name not in ("last", "last-failed") and args.name in state.overview().last_runs:
        return _Wanted(None, args.name, args.step, args.level)
    return _Wanted(state.find_run(args.name).run_id, None, args.step, args.level)


def _tail(args: Arguments, wanted: _Wanted) -> Optional[int]:
    if args.tail is not None or wanted.run_id is not None:
        return args.tail  # type: ignore[no-any-return]
    return USUAL_TAIL


def _lines(state: StateManager, wanted: _Wanted, tail: Optional[int]) -> Iterator[LogRecord]:
    if tail is not None:
        yield from state.logs(**wanted.question(), tail=tail)
        return
    cursor: Optional[str] = None
    while True:
        page = state.logs(**wanted.question(), limit=PAGE, cursor=cursor)
        yield from page
        cursor = page.next
        if cursor is None:
            return


def _show_all(lines: Iterator[LogRecord], console: Console) -> None:
    line = None
    for line in lines:
        _show(line, console)
    if line is None:
        console.note("nothing of this was logged; what blocks print is no line of the log")


def _show(line: LogRecord, console: Console) -> None:
    level = console.paint(visible(line.level_name).ljust(8), LEVEL_STYLES.get(line.level_name, ""))
    where = f"{visible(line.seq_id)} {visible(line.run_id[:8])}" + (f" {visible(line.step)}" if line.step else "")
    first, *more = visible_lines(line.message).split("\n")
    console.print(f"{local(line.at)} {level} {where}: {first}", *(f"    {text}" for text in more))


# ---------------------------------------------------------------------- following


def _follow(args: Arguments, console: Console) -> None:
    """Go on until the run has ended, or for ever; over files that are moved away and made anew, too."""
    database = state_dir_of(args).existing().database
    if not database.exists():
        console.note(f"there is no state in {database.parent} yet: waiting for it")
    wanted: Optional[_Wanted] = None
    cursor: Optional[str] = None
    seen: Optional[Tuple[int, int]] = None
    while True:
        identity = _identity(str(database))
        if identity is not None:
            cursor = cursor if identity == seen or seen is None else "log-0"
            seen = identity
            with reading(args) as state:
                wanted = wanted or _wanted(state, args)
                if _follow_one(state, wanted, args, console, cursor, str(database), identity):
                    return
                cursor = "log-0"  # of the file that takes the place of this one
        time.sleep(LOOK)


def _follow_one(
    state: StateManager,
    wanted: _Wanted,
    args: Arguments,
    console: Console,
    cursor: Optional[str],
    database: str,
    identity: Tuple[int, int],
) -> bool:
    """Follow one state file; whether there is nothing more to come."""
    tail = (_tail(args, wanted) if wanted.run_id is None else args.tail) if cursor is None else None
    while True:
        ended = wanted.run_id is not None and state.find_run(wanted.run_id).status.ended
        try:
            page = (
                state.logs(**wanted.question(), tail=tail)
                if tail is not None
                else state.logs(**wanted.question(), limit=PAGE, cursor=cursor)
            )
        except StateError:
            if _identity(database) == identity:
                raise
            return False
        tail, cursor = None, page.follow
        for line in page:
            if console.json:
                console.item(line.to_dict())
            else:
                _show(line, console)
        console.out.flush()
        if page.next is not None:
            continue
        if ended:
            return True
        time.sleep(LOOK)
        if _identity(database) != identity:
            return False


def _identity(database: str) -> Optional[Tuple[int, int]]:
    try:
        found = os.stat(database)
    except OSError:
        return None
    return found.st_dev, found.st_ino
