"""``blazed list``, ``graph`` and ``check``: what a definition holds, and whether it is valid."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from ..core.ground.errors import BlazeError, Fault, ValidationError
from .commands import Arguments, Commands
from .console import Console, state_cell
from .definitions import add_definition_flag, find_sequence, has_definition, load
from .exits import DONE, INVALID
from .moments import beside, iso, local, until
from .state import reading_if_any
from .text import clipped, counted, visible

if TYPE_CHECKING:
    from ..core.seq import Sequence
    from ..core.status_report import SequenceStatus

FORMATS = ("text", "mermaid", "dot")
#: Columns of a description in a table.
DESCRIPTION = 60


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add("list", list_sequences, "list the sequences", example="blazed list")
    add_definition_flag(parser)
    parser = commands.add(
        "graph", draw_graph, "draw the steps of a sequence", example="blazed graph etl_pipeline --format mermaid"
    )
    parser.add_argument("sequence", metavar="[DEFINITION:]SEQ")
    parser.add_argument("--format", choices=FORMATS, default="text", help="text (default), mermaid or dot")
    add_definition_flag(parser)
    parser = commands.add(
        "check",
        check_definition,
        "check every sequence of a definition, and tell all faults",
        example="blazed check ./definition.py",
    )
    parser.add_argument("source", nargs="?", metavar="DEFINITION", help="file or module (default: ./definition.py)")
    add_definition_flag(parser)


# ---------------------------------------------------------------------- list


class _Line(NamedTuple):
    """A sequence: declared in the definition, recorded in the state, or both."""

    seq_id: str
    declared: Optional[Sequence[Any, Any]]
    recorded: Optional[SequenceStatus]

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data."""
        mine, told = self.declared, self.recorded
        return {
            "seq_id": self.seq_id,
            "declared": mine is not None,
            "description": mine.description if mine else None,
            "steps": len(mine.definition.steps) if mine else None,
            "place": mine.definition.place if mine else None,
            "interval": mine.seq_run_interval if mine else None,
            "auto_start": mine.auto_start if mine else None,
            "jobs": told.jobs if told else 0,
            "status": told.status if told else "PENDING",
            "last_run": iso(told.last_run) if told else None,
            "next_run": iso(told.next_run) if told else None,
        }


def list_sequences(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from ..core.status_report import lines_of

    declared = _declared(args, console)
    recorded: Dict[str, SequenceStatus] = {}
    with reading_if_any(args, console) as state:
        if state is not None:
            recorded = {line.seq_id: line for line in lines_of(state.overview())}
    lines = [_Line(seq_id, declared.get(seq_id), recorded.get(seq_id)) for seq_id in sorted({*declared, *recorded})]
    if console.json:
        console.document({"sequences": [line.to_dict() for line in lines]})
    else:
        _show(lines, console)
    return None


def _declared(args: Arguments, console: Console) -> Dict[str, Sequence[Any, Any]]:
    if not has_definition(args):
        return {}
    try:
        return dict(load(args.definition, console).sequences)
    except BlazeError as error:
        if args.definition:
            raise
        console.warn(f"the definition can't be loaded, and only what is recorded is listed: {error}")
        return {}


def _show(lines: List[_Line], console: Console) -> None:
    now = time.time()
    rows = []
    for line in lines:
        mine, told = line.declared, line.recorded
        due = told.next_run if told else None
        rows.append(
            (
                line.seq_id,
                len(mine.definition.steps) if mine else None,
                told.jobs if told else 0,
                beside(told.last_run if told else None, now, "Never run"),
                "-" if due is None else f"{local(due)} {until(due - now)}",
                state_cell(told.status if told else "PENDING"),
                clipped(mine.description if mine else "(not in the definition here)", DESCRIPTION),
            )
        )
    console.table(("Seq ID", "Steps", "Jobs", "Last Run", "Next Run", "Status", "Description"), rows)


# ---------------------------------------------------------------------- graph


def draw_graph(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    sequence = find_sequence(args.sequence, args, console).sequence
    drawn = sequence.graph(args.format)
    if console.json:
        console.document({"seq_id": sequence.seq_id, "format": args.format, "graph": drawn})
    else:
        console.drawing(drawn)
    return None


# ---------------------------------------------------------------------- check


def check_definition(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    definition = load(args.source or args.definition, console)
    faults = [fault for sequence in definition.sequences.values() for fault in faults_of(sequence)]
    if console.json:
        console.document(
            {
                "definition": str(definition.path),
                "valid": not faults,
                "sequences": sorted(definition.sequences),
                "blocks": sorted(definition.blocks),
                "faults": [{"where": where, "what": what} for where, what in faults],
                "warnings": definition.warnings,
            }
        )
    elif not faults:
        console.print(
            f"{visible(definition.path)} is valid: {counted(len(definition.sequences), 'sequence')}, "
            f"{counted(len(definition.blocks), 'block')}"
        )
    if faults:
        console.error(str(ValidationError(faults, str(definition.path))))
    return INVALID if faults else DONE


def faults_of(sequence: Sequence[Any, Any]) -> List[Fault]:
    """Everything that is wrong with a sequence, but for parameters that its runs may be given."""
    try:
        sequence._base_plan(None)
    except ValidationError as error:
        return error.errors
    return []
