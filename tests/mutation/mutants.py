"""The mutations of a module: cosmic-ray's, and statements that are left out; one for each place, drawn by a seed."""

from __future__ import annotations

import ast
from random import Random
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import parso  # noqa: F401  (before cosmic_ray, which can't be imported otherwise)
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

#: Turn a comparison into one that means the same for the values that Blaze compares.
SAME = ("Eq_Is", "NotEq_IsNot", "Is_Eq", "IsNot_NotEq")
DROP = "drop"


class Mutant(NamedTuple):
    """A mutation of a module."""

    operator: str
    occurrence: int
    #: Of what is changed, from 1.
    line: int
    column: int

    @property
    def key(self) -> str:
        """Its name, for as long as the module stays as it is."""
        return f"{self.operator}:{self.occurrence}"


def sample(code: str, number: int, seed: int) -> List[Mutant]:
    """At most so many mutations, each of another place; the same ones for the same seed, and more of them for more."""
    places: Dict[Tuple[int, int, str], List[Mutant]] = {}
    for mutant in all_mutants(code):
        kind = mutant.operator.partition("_")[0]
        places.setdefault((mutant.line, mutant.column, kind), []).append(mutant)
    random = Random(seed)
    drawn = [random.choice(sorted(places[place])) for place in sorted(places)]
    random.shuffle(drawn)
    return drawn[:number]


def all_mutants(code: str) -> Iterator[Mutant]:
    """Every mutation there is."""
    tree = get_ast(code)
    nodes = list(ast_nodes(tree))
    for name in sorted(operator_names()):
        operator_class = get_operator(name)
        if operator_class.arguments() or name.endswith(SAME):
            continue
        operator = operator_class()
        positions = (position[0] for node in nodes for position in operator.mutation_positions(node))
        for occurrence, (line, column) in enumerate(positions):
            yield Mutant(name, occurrence, line, column)
    for occurrence, statement in enumerate(_statements(code)):
        yield Mutant(DROP, occurrence, statement.lineno, statement.col_offset)


def mutated(code: str, mutant: Mutant) -> str:
    """The code with a mutation."""
    if mutant.operator != DROP:
        changed = mutate_code(code, get_operator(mutant.operator)(), mutant.occurrence)
        if changed is None:
            raise ValueError(f"{mutant} is no mutation of this code")
        return str(changed)
    statement: Any = _statements(code)[mutant.occurrence]
    lines = code.splitlines(keepends=True)
    first, last = statement.lineno - 1, statement.end_lineno - 1
    tail = lines[last].encode()[statement.end_col_offset :].decode()
    return "".join([*lines[:first], " " * statement.col_offset + "pass" + tail, *lines[last + 1 :]])


def _statements(code: str) -> List[ast.stmt]:
    """Those that can be left out: calls whose value nobody wants, and what is noted in an object."""
    return [
        node
        for node in ast.walk(ast.parse(code))
        if (isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await)))
        or isinstance(node, ast.AugAssign)
        or (
            isinstance(node, ast.Assign)
            and all(isinstance(one, (ast.Attribute, ast.Subscript)) for one in node.targets)
        )
    ]


__all__ = ["Mutant", "all_mutants", "mutated", "sample"]
