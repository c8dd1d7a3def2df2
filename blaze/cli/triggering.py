"""``blazed trigger``, ``cancel`` and ``retry``: runs in the daemon."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Optional

from ..core.ground.errors import BlazeError, NoDaemon
from .commands import Arguments, Commands, Parser
from .console import Console
from .exits import DONE, FAILED, INTERRUPTED
from .moments import duration
from .numbers import patience
from .parameters import add_parameter_flags, parameters_of
from .reaching import daemon_of, scheduler_of
from .state import reading, state_dir_of
from .text import visible

if TYPE_CHECKING:
    from ..daemon.remote import RemoteResult, RemoteRun


def register(commands: Commands) -> None:
    """Add the commands."""
    trigger = commands.add(
        "trigger", trigger_run, "start a run in the daemon", example="blazed trigger etl_pipeline --wait"
    )
    trigger.add_argument("sequence", metavar="SEQ", help="id of the sequence")
    add_parameter_flags(trigger)
    _add_wait(trigger)
    cancel = commands.add("cancel", cancel_run, "stop a run", example="blazed cancel last")
    cancel.add_argument("run", metavar="RUN", help="id of the run, a prefix of it, or last")
    retry = commands.add(
        "retry",
        retry_run,
        "run again what a run left undone; completed steps keep their outputs",
        example="blazed retry last-failed --from clean",
    )
    retry.add_argument("run", metavar="RUN", help="id of the run, a prefix of it, last or last-failed")
    retry.add_argument(
        "--from", dest="from_steps", action="append", metavar="STEP", help="run this step again, too, and what needs it"
    )
    _add_wait(retry)


def _add_wait(parser: Parser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait for its end; the exit status tells how it ended")
    parser.add_argument("--timeout", type=patience, metavar="SECONDS", help="with --wait: wait at most so long")


def trigger_run(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    given = parameters_of(args.param, args.param_file)
    with daemon_of(args) as daemon:
        return _tell(daemon.trigger_stored(args.sequence, given), args, console)


def retry_run(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    try:
        with daemon_of(args) as daemon:
            return _tell(daemon.retry(args.run, args.from_steps), args, console)
    except NoDaemon as error:
        raise NoDaemon(f"{error}{_without_daemon(args)}") from None


def _without_daemon(args: Arguments) -> str:
    """The command that does the same here, if the run can be found."""
    if not state_dir_of(args).has_state():
        return ""
    with contextlib.suppress(BlazeError), reading(args) as state:
        run = state.find_run(args.run)
        steps = "".join(f" --from {visible(step)}" for step in args.from_steps or ())
        return f"; or without one: blazed run {visible(run.seq_id)} --run {run.run_id}{steps}"
    return ""


def cancel_run(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with scheduler_of(args) as scheduler:
        run_id = scheduler.state.find_run(args.run).run_id
        changed = scheduler.cancel(run_id)
        ended = scheduler.state.find_run(run_id).status.ended
    if console.json:
        console.document({"run_id": run_id, "changed": changed})
    elif changed:
        console.note(f"run {run_id} {'is cancelled' if ended else 'is being stopped'}")
    else:
        console.note(f"run {run_id} had ended already")
    return None


def _tell(run: RemoteRun, args: Arguments, console: Console) -> int:
    """Tell the run's id at once, and its end if that is waited for."""
    if not args.wait:
        if console.json:
            console.document({"run_id": run.run_id, "seq_id": run.seq_id})
        else:
            console.print(run.run_id)
        return DONE
    if not console.json:
        console.note(f"run {run.run_id} of '{run.seq_id}' is started")
    try:
        result = run.result(args.timeout)
    except KeyboardInterrupt:
        console.note(f"run {run.run_id} goes on; 'blazed cancel {run.run_id}' stops it")
        return INTERRUPTED
    _tell_end(result, console)
    return DONE if result.ok else FAILED


def _tell_end(result: RemoteResult, console: Console) -> None:
    if console.json:
        console.document(result.to_dict())
        return
    reason = f" ({visible(result.reason)})" if result.reason else ""
    took = f" after {duration(result.duration)}" if result.duration is not None else ""
    console.print(f"{result.run_id}  {console.status(result.status)}{reason}{took}")
    if result.error:
        console.note(result.error)
    if not result.ok:
        console.note(f"to go on from what is done: blazed retry {result.run_id}")
