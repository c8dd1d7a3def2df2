"""The definitions that the last daemon served, so far as it takes to check a submission without them.

They stand in ``definitions.json`` in the state directory: sequences, their wiring, and the
names and annotations of their blocks' parameters; no code. What is read back are sequences that
can be submitted to and never run. An annotation that names a class of the user's own is left
out: of such a parameter everything is accepted, until the daemon sees it.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import decimal
import inspect
import json
import os
import pathlib
import uuid
from pathlib import Path
from typing import Any, Dict, List, Literal, NoReturn, Optional, Union, get_args, get_origin

from ..core.block import BlazeBlock
from ..core.ground.errors import BlazeError, Fault, StateError
from ..core.seq import BlazeSequence, SeqBlockData, Sequence
from ..core.what.annotations import is_literal, is_union, spell
from ..core.what.blocks import Block
from ..core.what.values import decode, encode

FILE_NAME = "definitions.json"
#: Version of what is in the file.
FORMAT = 1
#: Bytes beyond which the file is not the daemon's.
MAX_BYTES = 256 * 1024 * 1024

#: The classes whose names in an annotation are understood when it is read back.
_CLASSES: Dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        *(str, int, float, bool, bytes, list, dict, tuple, set, frozenset, object),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
        *(decimal.Decimal, uuid.UUID, pathlib.Path),
    )
}
#: What reading a file that somebody else has written may raise.
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, SyntaxError, RecursionError, MemoryError)
#: Instead of a default that is not known here. Not None, which would let the parameter be null.
_DEFAULT = object()


def record_definitions(state_dir: Path, sequences: BlazeSequence) -> None:
    """Write down what is served now. Raises :class:`StateError`."""
    told = {"format": FORMAT, "sequences": [_told(sequence) for sequence in sequences.values()]}
    path = state_dir / FILE_NAME
    new = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(told, file, separators=(",", ":"))
        os.replace(new, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise StateError(f"{path} can't be written: {error.strerror or error}") from error


def recorded_definitions(state_dir: Path) -> Optional[BlazeSequence]:
    """What the last daemon served; None if there was none. Raises :class:`StateError` for a file that is damaged."""
    path = state_dir / FILE_NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is too long")
        told = json.loads(path.read_text(encoding="ascii"))
        if told["format"] != FORMAT:
            raise ValueError("it was written by another version of Blaze")
        registry = BlazeSequence()
        for one in told["sequences"]:
            _read_back(one, registry)
    except FileNotFoundError:
        return None
    except (OSError, BlazeError, *_DAMAGE) as error:
        raise StateError(f"{path} can't be read ({error}): start the daemon, which writes it anew") from error
    return registry


# ---------------------------------------------------------------------- writing


def _told(sequence: Sequence[Any, Any]) -> Dict[str, Any]:
    definition = sequence.definition
    blocks = {step.block_name: definition.blocks.get(step.block_name) for step in definition.steps}
    return {
        "seq_id": sequence.seq_id,
        "description": sequence.description,
        "place": definition.place,
        "blocks": {name: _told_block(block) for name, block in blocks.items() if block is not None},
        "steps": [_told_step(step) for step in definition.steps],
    }


def _told_block(block: Block) -> Dict[str, Any]:
    signature = block.signature
    return {
        "place": block.place,
        "parameters": {
            name: [name in signature.required, _told_annotation(signature.hints.get(name, Any))]
            for name in signature.accepted
        },
        "open": signature.open,
    }


def _told_step(step: SeqBlockData) -> Dict[str, Any]:
    parameters: Dict[str, Any] = {}
    unknown: List[str] = []
    for name, value in step.parameters.items():
        faults: List[Fault] = []
        written = encode(value, name, faults)
        if faults:
            unknown.append(name)
        else:
            parameters[name] = written
    return {
        "block": step.block_name,
        "name": step.step_name,
        "dependencies": list(step.dependencies),
        "run_when": step.run_when,
        "parameters": parameters,
        "unknown": unknown,
    }


def _told_annotation(annotation: Any) -> Optional[str]:
    return spell(annotation) if _is_portable(annotation) else None


def _is_portable(annotation: Any) -> bool:
    """Whether it consists of what can be read back, by identity and not by name."""
    if annotation is None or annotation is type(None) or annotation is Ellipsis:
        return True
    if is_literal(annotation):
        return all(type(value) in (str, int, bool) for value in get_args(annotation)) and len(get_args(annotation)) < 10
    origin, args = get_origin(annotation), get_args(annotation)
    if is_union(annotation):
        return all(map(_is_portable, args))
    if origin is not None:
        return _CLASSES.get(getattr(origin, "__name__", "")) is origin and all(map(_is_portable, args))
    return annotation is Any or _CLASSES.get(getattr(annotation, "__name__", "")) is annotation


# ---------------------------------------------------------------------- reading


def _read_back(told: Dict[str, Any], registry: BlazeSequence) -> None:
    blocks = BlazeBlock()
    steps: List[SeqBlockData] = []
    for step in told["steps"]:
        # A block of its own for each step: what it is given may be unknown in one place only.
        parameters = {name: decode(value) for name, value in step["parameters"].items()}
        block = told["blocks"].get(step["block"])
        if block is not None:
            blocks.block(name=step["name"])(_stub(block, step["unknown"]))
            blocks[step["name"]].place = block["place"]
        parameters.update(dict.fromkeys(step["unknown"]))
        steps.append(SeqBlockData(step["name"], step["dependencies"], parameters, run_when=step["run_when"]))
    sequence = registry.sequence(blocks, steps, seq_id=told["seq_id"], description=told["description"])(_finaliser)
    sequence.definition.place = told["place"]


def _finaliser(context: Any = None) -> Any:
    return context


def _stub(told: Dict[str, Any], unknown: List[str]) -> Any:
    """A function with the parameters of a block."""

    def stub(**_: object) -> NoReturn:
        raise BlazeError("this is what is recorded of a block; only its daemon can run it")

    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if required else _DEFAULT,
            annotation=Any if spelled is None or name in unknown else _annotation(ast.parse(spelled, mode="eval")),
        )
        for name, (required, spelled) in told["parameters"].items()
    ]
    if told["open"]:
        parameters.append(inspect.Parameter("_others", inspect.Parameter.VAR_KEYWORD))
    stub.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return stub


def _annotation(node: ast.AST) -> Any:
    """The annotation that ``spell`` has written; nothing is evaluated."""
    if isinstance(node, ast.Expression):
        return _annotation(node.body)
    if isinstance(node, ast.Constant) and (node.value is None or node.value is Ellipsis):
        return type(None) if node.value is None else Ellipsis
    if isinstance(node, ast.Name):
        return Any if node.id == "Any" else _CLASSES[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[_annotation(node.left), _annotation(node.right)]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice
        items = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if node.value.id == "Literal":
            return Literal[tuple(ast.literal_eval(item) for item in items)]
        return _CLASSES[node.value.id][tuple(map(_annotation, items))]
    raise ValueError("an annotation that is not one of those that are written")
