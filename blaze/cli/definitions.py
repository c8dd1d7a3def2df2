"""The definition and the sequence that a command line means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from .commands import Arguments, Parser
from .console import Console

if TYPE_CHECKING:
    from ..core.seq import Sequence
    from ..daemon.definition import LoadedDefinition


class Named(NamedTuple):
    """A sequence, as it was named, and the definition that it is in."""

    #: ``[DEFINITION:]SEQ``, so that a command to copy can be made of it.
    name: str
    definition: LoadedDefinition
    sequence: Sequence[Any, Any]


def add_definition_flag(parser: Parser) -> None:
    """Add ``--definition``."""
    parser.add_argument(
        "--definition",
        metavar="FILE",
        help="file or dotted module with the blocks and sequences (default: ./definition.py)",
    )


def load(given: Optional[str], console: Console) -> LoadedDefinition:
    """Load the definition; what may be wrong with it is told. Raises :class:`DefinitionError`."""
    from ..daemon.definition import find_definition, load_definition

    found = load_definition(find_definition(given))
    for warning in found.warnings:
        console.warn(warning)
    return found


def has_definition(args: Arguments) -> bool:
    """Whether there is a definition to look at."""
    from ..daemon.definition import DEFAULT, VARIABLE

    return bool(args.definition or os.environ.get(VARIABLE)) or os.path.exists(DEFAULT)


def find_sequence(name: str, args: Arguments, console: Console) -> Named:
    """The sequence that ``[DEFINITION:]SEQ`` means. Raises :class:`NotFound`, :class:`DefinitionError`."""
    source, _, seq_id = name.rpartition(":")
    definition = load(source or args.definition, console)
    return Named(name, definition, definition.sequences[seq_id])
