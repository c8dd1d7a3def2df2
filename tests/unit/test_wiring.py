"""From outputs to arguments: references, paths, names that match, precedence, data models, finalisers (R28)."""

from __future__ import annotations

import enum
import sqlite3
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType, SimpleNamespace
from typing import Any, Dict, List, NamedTuple, Optional

import pydantic
import pytest

from blaze import BlazeBlock, BlazeSequence, RunFailed, RunStatus, SeqBlockData, ValidationError
from blaze.core.ground.errors import ReferenceFailed

from .wired import faults_of, keep, sequence_of


class Color(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: Any
    y: Any = 0


@pytest.fixture
def blocks() -> BlazeBlock:
    """``source`` gives what it is told to; ``echo`` gives what it got."""
    blocks = BlazeBlock()

    @blocks.block
    def source(value=None):
        return value

    @blocks.block
    def echo(value=None):
        return value

    @blocks.block
    def every(**arguments):
        return arguments

    @blocks.block
    def fail():
        raise LookupError("nothing there")

    return blocks


def passed_on(blocks, output, reference, block="echo"):
    """What a block gets for a reference to the step ``source`` that gave ``output``."""
    sequence = sequence_of(
        blocks,
        SeqBlockData("source"),
        SeqBlockData(block, parameters={"value": reference}),
    )
    return sequence.run({"source": {"value": output}}).raise_for_status().outputs[block]


def doubled(inside, again):
    """Forty containers, and 2**40 paths through them."""
    for _ in range(40):
        inside = again(inside)
    return inside


@pytest.mark.parametrize("again", [lambda v: [v, v], lambda v: (v, v), lambda v: {"a": v, "b": v}])
@pytest.mark.parametrize("inside", [["@source"], ["text"], {1}])
def test_what_stands_in_many_places_is_compiled_and_made_once(blocks, again, inside):
    received = passed_on(blocks, "S", doubled(inside, again))
    for _ in range(40):
        first, second = received.values() if isinstance(received, dict) else received
        assert first is second
        received = first
    assert received == (["S"] if inside == ["@source"] else inside)
    assert received is not inside


# ---------------------------------------------------------------------- references


@pytest.mark.parametrize(
    ("written", "received"),
    [
        ("@source", "S"),
        (["@source"], ["S"]),
        (["a", "@source", 1, "@source"], ["a", "S", 1, "S"]),
        ({"k": "@source"}, {"k": "S"}),
        (("a", "@source"), ("a", "S")),
        ({"a": [{"b": ("@source", [{"c": "@source"}])}]}, {"a": [{"b": ("S", [{"c": "S"}])}]}),
        ([[[[["@source"]]]]], [[[[["S"]]]]]),
        (Point("@source", ["@source"]), Point("S", ["S"])),
        (OrderedDict(b=1, a="@source"), OrderedDict(b=1, a="S")),
        (defaultdict(list, a="@source"), defaultdict(list, a="S")),
        ([OrderedDict(a="@source")], [OrderedDict(a="S")]),
        ({1: "@source", None: "@source", ("a",): "x"}, {1: "S", None: "S", ("a",): "x"}),
    ],
)
def test_a_reference_is_followed_wherever_it_stands(blocks, written, received):
    value = passed_on(blocks, "S", written)
    assert value == received
    assert type(value) is type(received)


def test_what_surrounds_a_reference_keeps_its_kind_and_order(blocks):
    value = passed_on(blocks, "S", defaultdict(list, b=1, a="@source"))
    assert value.default_factory is list
    assert list(value) == ["b", "a"]


@pytest.mark.parametrize(
    ("written", "received"),
    [
        ("@@source", "@source"),
        ("@@", "@"),
        ("@@@source", "@@source"),
        ("@@source.key", "@source.key"),
        ("@@nobody", "@nobody"),
        (["@@a", {"k": "@@b"}, ("@@c",)], ["@a", {"k": "@b"}, ("@c",)]),
        (["@@a", "@source"], ["@a", "S"]),
        ("me@example.org", "me@example.org"),
        (" @source", " @source"),
        ("", ""),
        ({"@source": 1}, {"@source": 1}),
        ({"@@source": 1}, {"@@source": 1}),
        ({"@source"}, {"@source"}),
        (b"@source", b"@source"),
    ],
)
def test_what_is_no_reference_arrives_as_the_text_that_is_meant(blocks, written, received):
    assert passed_on(blocks, "S", written) == received


@pytest.mark.parametrize("output", ["@source", "@nobody", "@@x", ["@echo", {"k": "@source.x"}]])
def test_an_output_is_never_looked_through_for_references(blocks, output):
    def give(value=None):
        return output

    blocks.block("give")(give)
    sequence = sequence_of(blocks, SeqBlockData("give"), SeqBlockData("echo", parameters={"value": ["@give"]}))
    assert sequence.run().outputs["echo"] == [output]


def test_outputs_are_handed_on_by_reference_and_not_copied(blocks):
    rows = [{"a": 1}]
    assert passed_on(blocks, rows, "@source") is rows
    assert passed_on(blocks, rows, ["@source"])[0] is rows
    assert passed_on(blocks, rows, {"k": "@source.0"})["k"] is rows[0]


# ---------------------------------------------------------------------- paths


class Thing:
    def __init__(self, **values):
        self.__dict__.update(values)

    @property
    def half(self):
        return 0.5

    @property
    def broken(self):
        raise ValueError("no connection")


def row() -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("SELECT 1 AS id, 'x' AS name").fetchone()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("output", "path", "found"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b": {"c": 1}}}, "a.b.c", 1),
        ({"a": [10, {"b": 20}]}, "a.1.b", 20),
        ([1, 2, 3], "0", 1),
        ([1, 2, 3], "-1", 3),
        ([[1, 2], [3, 4]], "-1.-2", 3),
        ((1, 2), "1", 2),
        ("text", "0", "t"),
        ({0: "zero"}, "0", "zero"),
        ({"0": "text", 0: "number"}, "0", "text"),
        ({-1: "minus"}, "-1", "minus"),
        ({"items": 1, "keys": 2}, "items", 1),
        ({"": {"a b": 1}, "x": {"a b": 5}}, "x.a b", 5),
        ({"é": 1}, "é", 1),
        ({"a": None}, "a", None),
        (MappingProxyType({"a": 1}), "a", 1),
        (OrderedDict(a=1), "a", 1),
        (Thing(a=[1]), "a.0", 1),
        (Thing(), "half", 0.5),
        (Thing(_private=1), "_private", 1),
        (SimpleNamespace(a=Thing(b={"c": 1})), "a.b.c", 1),
        (Point(1, 2), "y", 2),
        (Point(1, 2), "1", 2),
        (namedtuple("P", "a")(5), "a", 5),
        (date(2024, 1, 31), "year", 2024),
        (Color.RED, "value", "red"),
        (row(), "name", "x"),
        (row(), "0", 1),
        (range(5), "-1", 4),
    ],
)
def test_a_path_walks_through_keys_attributes_and_indexes(blocks, output, path, found):
    assert passed_on(blocks, output, f"@source.{path}") == found
    assert passed_on(blocks, output, {"k": [f"@source.{path}"]}) == {"k": [found]}


FAILING = [
    ({"rows": 1}, "row", "the output 'source' has no key 'row'; did you mean 'rows'?"),
    ({"b": 1, "a": 2}, "x", "the output 'source' has no key 'x'; it has 'a', 'b'"),
    ({}, "x", "the output 'source' has no key 'x'; it is empty"),
    ({n: n for n in range(12)}, "x", "has no key 'x'; it has '0', '1', '10', '11', '2', '3', '4', '5' and 4 more"),
    ({"a": {"b": 1}}, "a.c", "the output 'source.a' has no key 'c'"),
    ({"a": {"b": 1}}, "a.b.c.d", "the output 'source.a.b' is an int, which has no 'c'"),
    ({"a": 1}, "items", "has no key 'items'"),
    ([1, 2], "2", "the output 'source' has no item 2; its length is 2"),
    ([1, 2], "-3", "has no item -3; its length is 2"),
    ([], "0", "has no item 0; its length is 0"),
    ([1, 2], "first", "the output 'source' is a list, which has no 'first'"),
    ([1, 2], "1.5", "the output 'source.1' is an int, which has no '5'"),
    ([1, 2], "٣", "is a list, which has no '٣'"),
    ([1, 2], "1" * 5000, "is a list, which has no '1111"),
    (None, "a", "the output 'source' is None, which has no 'a'"),
    ({"a": None}, "a.b", "the output 'source.a' is None, which has no 'b'"),
    (5, "0", "is an int, which has no '0'"),
    (Thing(a=1), "b", "is a Thing, which has no 'b'"),
    (Thing(a=1), "__class__", "is a Thing, which has no '__class__'"),
    (Thing(), "__dict__.a", "is a Thing, which has no '__dict__'"),
    (Thing(), "broken", "the output 'source' raises ValueError('no connection')"),
    (row(), "nam", "has no key 'nam'; did you mean 'name'?"),
    (row(), "7", "has no item 7; its length is 2"),
]


@pytest.mark.parametrize(
    ("output", "path", "told"), FAILING, ids=[f"{path[:12]}-{told[-20:]}" for _, path, told in FAILING]
)
def test_a_path_that_leads_nowhere_fails_the_step_and_tells_how_far_it_got(blocks, output, path, told):
    with pytest.raises(RunFailed) as caught:
        passed_on(blocks, output, {"k": f"@source.{path}"})
    error = caught.value.__cause__
    assert isinstance(error, ReferenceFailed)
    assert str(error).startswith(f"parameter 'value': '@source.{path}' can't be followed: the output 'source")
    assert told in str(error)
    assert "step 'echo', attempt 1 of 1" in str(caught.value)


def test_a_path_that_leads_nowhere_is_not_retried(blocks):
    sequence = sequence_of(
        blocks,
        SeqBlockData("source"),
        SeqBlockData("echo", parameters={"value": "@source.x"}),
        SeqBlockData("every", dependencies=["echo"]),
        retries=3,
    )
    result = sequence.run()
    assert (result.steps["echo"].status, result.steps["echo"].attempts) == ("FAILED", 1)
    assert (result.steps["every"].status, result.steps["every"].reason) == ("SKIPPED", "upstream_failed")


def test_a_step_that_runs_although_the_one_it_refers_to_has_no_output_gets_none_for_it(blocks):
    sequence = sequence_of(
        blocks,
        SeqBlockData("fail"),
        SeqBlockData(
            "every", parameters={"whole": "@fail", "path": "@fail.a.0", "in": ["@fail.x"]}, run_when="all_done"
        ),
    )
    assert sequence.run().outputs["every"] == {"whole": None, "path": None, "in": [None]}


# ---------------------------------------------------------------------- dependencies


def test_a_reference_adds_the_dependency_that_it_needs(blocks):
    sequence = sequence_of(
        blocks,
        SeqBlockData("every", parameters={"a": {"deep": ["@echo.0"]}, "b": "@source"}),
        SeqBlockData("echo", parameters={"value": ["@source"]}),
        SeqBlockData("source", parameters={"value": 1}),
    )
    assert sequence.plan().dependencies == ((1, 2), (2,), ())
    result = sequence.run()
    assert result.order == ("source", "echo", "every")
    assert result.outputs["every"] == {"a": {"deep": [1]}, "b": 1}


def test_a_dependency_that_is_declared_and_referred_to_is_one(blocks):
    sequence = sequence_of(
        blocks,
        SeqBlockData("source"),
        SeqBlockData("every", dependencies=["source"], parameters={"a": "@source", "b": ["@source"]}),
    )
    assert sequence.plan().dependencies == ((), (0,))


def test_a_dependency_may_be_declared_without_its_output_being_used(blocks):
    sequence = sequence_of(blocks, SeqBlockData("every", dependencies=["source"]), SeqBlockData("source"))
    result = sequence.run()
    assert (result.order, result.outputs["every"]) == (("source", "every"), {})


def test_a_reference_in_the_parameters_of_a_run_adds_a_dependency_to_that_run(blocks):
    sequence = sequence_of(blocks, SeqBlockData("echo"), SeqBlockData("source", parameters={"value": [7]}))
    assert sequence.plan().dependencies == ((), ())
    parameters = {"echo": {"value": {"k": "@source.0"}}}
    assert sequence.plan(parameters).dependencies == ((1,), ())
    result = sequence.run(parameters)
    assert (result.order, result.outputs["echo"]) == (("source", "echo"), {"k": 7})
    assert sequence.plan().dependencies == ((), ())


def test_a_run_that_replaces_the_only_reference_does_not_wait_for_its_step(blocks):
    sequence = sequence_of(blocks, SeqBlockData("source"), SeqBlockData("echo", parameters={"value": "@source"}))
    assert sequence.plan().dependencies == ((), (0,))
    assert sequence.plan({"echo": {"value": 5}}).dependencies == ((), ())


def test_a_run_that_replaces_a_reference_still_waits_for_declared_dependencies(blocks):
    sequence = sequence_of(
        blocks, SeqBlockData("source"), SeqBlockData("echo", ["source"], parameters={"value": "@source"})
    )
    assert sequence.plan({"echo": {"value": 5}}).dependencies == ((), (0,))
    assert sequence.run({"echo": {"value": 5}}).outputs["echo"] == 5


def test_dependencies_may_stand_in_a_tuple(blocks):
    assert sequence_of(blocks, SeqBlockData("source"), SeqBlockData("echo", ("source",))).plan().dependencies[1] == (0,)


# ---------------------------------------------------------------------- names that match


def block_of(blocks, name, function):
    blocks.block(name)(function)


def test_a_parameter_with_the_name_of_a_dependency_receives_its_output(blocks):
    block_of(blocks, "load", lambda source, limit=5: (source, limit))
    sequence = sequence_of(blocks, SeqBlockData("source", parameters={"value": "S"}), SeqBlockData("load", ["source"]))
    assert sequence.run().raise_for_status().outputs["load"] == ("S", 5)


def test_a_parameter_with_a_default_and_the_name_of_a_dependency_receives_its_output_too(blocks):
    block_of(blocks, "load", lambda source="default": source)
    sequence = sequence_of(blocks, SeqBlockData("source", parameters={"value": "S"}), SeqBlockData("load", ["source"]))
    assert sequence.run().outputs["load"] == "S"


def test_the_name_of_a_step_that_is_no_dependency_matches_nothing(blocks):
    block_of(blocks, "load", lambda source="default": source)
    sequence = sequence_of(blocks, SeqBlockData("source"), SeqBlockData("load"))
    assert sequence.run().outputs["load"] == "default"


def test_a_dependency_that_a_reference_added_matches_by_name_too(blocks):
    block_of(blocks, "load", lambda first, source: (first, source))
    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": ["S"]}),
        SeqBlockData("load", parameters={"first": "@source.0"}),
    )
    assert sequence.run().raise_for_status().outputs["load"] == ("S", ["S"])


def test_it_is_the_name_of_the_step_that_matches_and_not_of_its_block(blocks):
    block_of(blocks, "load", lambda rows, source="default": (rows, source))
    sequence = sequence_of(
        blocks, SeqBlockData("source", name="rows", parameters={"value": "S"}), SeqBlockData("load", ["rows"])
    )
    assert sequence.run().raise_for_status().outputs["load"] == ("S", "default")


def test_no_name_matches_in_a_block_that_takes_any(blocks):
    sequence = sequence_of(blocks, SeqBlockData("source"), SeqBlockData("every", ["source"]))
    assert sequence.run().outputs["every"] == {}


def test_a_dependency_without_an_output_matches_as_none(blocks):
    block_of(blocks, "load", lambda fail="default": fail)
    sequence = sequence_of(blocks, SeqBlockData("fail"), SeqBlockData("load", ["fail"], run_when="all_done"))
    assert sequence.run().outputs["load"] is None


# ---------------------------------------------------------------------- precedence


@pytest.mark.parametrize(
    ("run", "step", "dependencies", "expected"),
    [
        ({}, {}, [], "default"),
        ({}, {}, ["source"], "match"),
        ({}, {"source": "step"}, [], "step"),
        ({}, {"source": "step"}, ["source"], "step"),
        ({"source": "run"}, {}, [], "run"),
        ({"source": "run"}, {}, ["source"], "run"),
        ({"source": "run"}, {"source": "step"}, ["source"], "run"),
        ({"source": "run"}, {"source": "@other"}, ["source"], "run"),
        ({"source": "@other"}, {"source": "step"}, ["source"], "other"),
        ({"source": None}, {"source": "step"}, ["source"], None),
        ({}, {"source": None}, ["source"], None),
    ],
)
def test_the_run_wins_over_the_step_the_step_over_the_match_and_the_match_over_the_default(
    blocks, run, step, dependencies, expected
):
    block_of(blocks, "load", lambda source="default": source)
    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": "match"}),
        SeqBlockData("echo", name="other", parameters={"value": "other"}),
        SeqBlockData("load", dependencies, step),
    )
    assert sequence.run({"load": run}).raise_for_status().outputs["load"] == expected


def test_the_parameters_of_a_run_are_merged_with_those_of_the_step_name_by_name(blocks):
    sequence = sequence_of(blocks, SeqBlockData("every", parameters={"a": {"x": 1, "y": 2}, "b": 1}))
    assert sequence.run({"every": {"a": {"x": 9}, "c": 3}}).outputs["every"] == {"a": {"x": 9}, "b": 1, "c": 3}


def test_the_parameters_of_one_run_are_gone_in_the_next(blocks):
    sequence = sequence_of(blocks, SeqBlockData("echo", parameters={"value": 1}))
    values = [sequence.run(given).outputs["echo"] for given in ({"echo": {"value": 2}}, None, {}, {"echo": {}})]
    assert values == [2, 1, 1, 1]


def test_a_run_may_replace_a_value_of_the_definition_that_is_wrong(blocks):
    @blocks.block
    def typed(limit: int):
        return limit

    sequence = sequence_of(blocks, SeqBlockData("typed", parameters={"limit": "ten"}))
    assert len(faults_of(sequence.run)) == 1
    assert sequence.run({"typed": {"limit": 10}}).outputs["typed"] == 10


def test_any_mapping_will_do_for_parameters(blocks):
    given = MappingProxyType({"value": 1})
    sequence = sequence_of(blocks, SeqBlockData("echo", parameters=given))
    assert sequence.run().outputs["echo"] == 1
    assert sequence.run(MappingProxyType({"echo": MappingProxyType({"value": 2})})).outputs["echo"] == 2


# ---------------------------------------------------------------------- one block, several steps


def test_a_block_may_be_used_in_several_steps_of_different_names(blocks):
    sequence = sequence_of(
        blocks,
        SeqBlockData("echo", name="first", parameters={"value": 1}),
        SeqBlockData("echo", name="second", parameters={"value": ["@first"]}),
        SeqBlockData("echo", parameters={"value": ["@second", "@first"]}),
    )
    assert dict(sequence.run().outputs) == {"first": 1, "second": [1], "echo": [[1], 1]}


def test_a_step_may_have_the_name_of_another_block(blocks):
    sequence = sequence_of(
        blocks,
        SeqBlockData("echo", name="source", parameters={"value": "echo"}),
        SeqBlockData("source", name="echo", parameters={"value": "@source"}),
    )
    assert dict(sequence.run().outputs) == {"source": "echo", "echo": "echo"}


@pytest.mark.parametrize("name", ["a-b", "_", "0", "9-lives", "None", "true", "x" * 128])
def test_any_valid_name_can_be_referred_to(blocks, name):
    sequence = sequence_of(
        blocks,
        SeqBlockData("source", name=name, parameters={"value": {"0": "S"}}),
        SeqBlockData("echo", parameters={"value": f"@{name}.0"}),
    )
    assert sequence.run().raise_for_status().outputs["echo"] == "S"


# ---------------------------------------------------------------------- what is mutable


MUTABLE = [
    [],
    {"a": []},
    [[[]]],
    ([],),
    [([],)],
    {"a": ({"b": []},)},
    Point([], {}),
    OrderedDict(a=[]),
    [defaultdict(list)],
    {1, 2},
    [{1, 2}],
    bytearray(b"x"),
    [bytearray(b"x")],
    ["@source", []],
    ["@source", ([],)],
    {"a": "@source", "b": {"c": [set()]}},
    ["@@x", []],
]


def spoil(value: Any) -> None:
    """Change everything in a value that can be changed."""
    if isinstance(value, (dict, list, tuple)):
        for item in list(value.values() if isinstance(value, dict) else value):
            spoil(item)
    if isinstance(value, dict):
        value["spoilt"] = True
    elif isinstance(value, list):
        value.append("spoilt")
    elif isinstance(value, set):
        value.add("spoilt")
    elif isinstance(value, bytearray):
        value.extend(b"spoilt")


@pytest.mark.parametrize("written", MUTABLE, ids=repr)
def test_a_block_that_changes_its_argument_changes_no_other_run_step_or_attempt(blocks, written):
    seen: List[str] = []

    def spoiler(value):
        seen.append(repr(value))
        spoil(value)
        if len(seen) % 2:
            raise LookupError

    blocks.block("spoiler", retries=1)(spoiler)
    before = repr(written)
    parameters = {"value": written}
    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": "S"}),
        SeqBlockData("spoiler", parameters=parameters),
        SeqBlockData("spoiler", name="again", dependencies=["spoiler"], parameters=parameters),
    )
    for _ in range(2):
        sequence.run().raise_for_status()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert repr(written) == before


@dataclass
class Settings:
    limits: List[int]
    by_name: Dict[str, List[int]] = field(default_factory=dict)


class SettingsModel(pydantic.BaseModel):
    limits: List[int]


@pytest.mark.parametrize("cls", [Settings, SettingsModel])
def test_what_a_dict_of_the_definition_was_converted_to_is_made_anew_for_each_call(blocks, cls):
    def spoiler(settings):
        assert type(settings) is cls
        settings.limits.append(0)
        return len(settings.limits)

    spoiler.__annotations__["settings"] = cls
    blocks.block(spoiler)
    sequence = sequence_of(blocks, SeqBlockData("spoiler", parameters={"settings": {"limits": [1]}}))
    assert [sequence.run().raise_for_status().outputs["spoiler"] for _ in range(3)] == [2, 2, 2]


def test_a_data_model_is_made_anew_for_each_call(blocks):
    @blocks.block(data_model=Settings)
    def spoiler(limits, by_name):
        limits.append(0)
        by_name["a"] = []
        return len(limits), len(by_name)

    sequence = sequence_of(blocks, SeqBlockData("spoiler", parameters={"limits": [1], "by_name": {"b": [1]}}))
    assert [sequence.run().raise_for_status().outputs["spoiler"] for _ in range(3)] == [(2, 2)] * 3


def test_what_is_done_to_a_list_or_dict_after_the_definition_changes_no_sequence(blocks):
    shared: Dict[str, Any] = {"value": ["orders"]}
    dependencies = ["source"]
    steps = [SeqBlockData("source"), SeqBlockData("echo", dependencies, shared)]
    sequence = BlazeSequence().sequence(blocks, steps, seq_id="etl")(keep)
    shared["value"].append("customers")
    shared["other"] = 1
    dependencies.append("nobody")
    steps[1].parameters = {}
    steps.clear()
    assert sequence.run().outputs["echo"] == ["orders"]


def test_sequences_made_in_a_loop_may_share_one_dict(blocks):
    sequences = BlazeSequence()
    parameters = {}
    for table in ("orders", "customers"):
        parameters["value"] = table
        sequences.sequence(blocks, [SeqBlockData("echo", parameters=parameters)], seq_id=table)(keep)
    assert [sequences.run(table).outputs["echo"] for table in sequences] == ["orders", "customers"]


def test_objects_are_handed_on_as_they_are(blocks):
    client = Thing()
    sequence = sequence_of(blocks, SeqBlockData("echo", parameters={"value": [client, {"k": client}]}))
    value = sequence.run().outputs["echo"]
    assert value[0] is client
    assert value[1]["k"] is client


def test_the_objects_of_a_run_are_handed_on_as_they_are(blocks):
    rows = [{"a": [1]}]
    assert sequence_of(blocks, SeqBlockData("echo")).run({"echo": {"value": rows}}).outputs["echo"] is rows


# ---------------------------------------------------------------------- annotations


def test_what_json_has_no_type_for_is_converted_where_the_annotation_asks_for_it(blocks):
    @blocks.block
    def typed(day: date, color: Color, settings: Optional[Settings] = None, ratio: float = 1.0):
        return day, color, settings, ratio

    given = {"day": "2024-01-31", "color": "red", "settings": {"limits": [1]}, "ratio": 2}
    expected = (date(2024, 1, 31), Color.RED, Settings([1]), 2.0)
    assert sequence_of(blocks, SeqBlockData("typed", parameters=given)).run().outputs["typed"] == expected
    assert sequence_of(blocks, SeqBlockData("typed")).run({"typed": given}).outputs["typed"] == expected


def test_an_output_is_not_held_against_the_annotation(blocks):
    @blocks.block
    def typed(limit: int):
        return limit

    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": "ten"}),
        SeqBlockData("typed", parameters={"limit": "@source"}),
    )
    assert sequence.run().outputs["typed"] == "ten"


def test_a_block_that_takes_any_name_gets_all_of_them(blocks):
    @blocks.block
    def mixed(first, *args, second=2, **others):
        return first, args, second, others

    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": "S"}),
        SeqBlockData("mixed", parameters={"first": 1, "anything": "@source", "args": 5, "others": 6}),
    )
    assert sequence.run().raise_for_status().outputs["mixed"] == (1, (), 2, {"anything": "S", "args": 5, "others": 6})


@pytest.mark.parametrize("name", ["self", "context", "function", "name", "arguments", "kwargs", "attempt", "outputs"])
def test_parameters_may_have_any_name(blocks, name):
    space: Dict[str, Any] = {}
    exec(f"def block({name}): return {name}", space)
    blocks.block(space["block"])
    assert sequence_of(blocks, SeqBlockData("block", parameters={name: 1})).run().outputs["block"] == 1


# ---------------------------------------------------------------------- data models


@dataclass
class Query:
    limit: int
    since: Optional[date] = None
    tags: List[str] = field(default_factory=list)

    def __post_init__(self):
        if isinstance(self.limit, int) and self.limit > 100:
            raise ValueError("limit is too high")


class QueryModel(pydantic.BaseModel):
    limit: int = pydantic.Field(le=100)
    since: Optional[date] = None
    tags: List[str] = []

    @pydantic.field_validator("tags")
    @classmethod
    def lower(cls, value):
        return [tag.lower() for tag in value]


@pytest.fixture(params=[Query, QueryModel])
def model(request):
    return request.param


@pytest.fixture
def query(blocks, model):
    """A block behind the data model, which tells what it got."""

    @blocks.block("query", data_model=model)
    def function(limit, since, tags):
        return limit, since, tags

    return "query"


def test_a_data_model_converts_the_arguments_and_fills_in_its_defaults(blocks, query):
    sequence = sequence_of(blocks, SeqBlockData(query, parameters={"limit": 5, "since": "2024-01-31"}))
    assert sequence.run().raise_for_status().outputs[query] == (5, date(2024, 1, 31), [])


def test_a_data_model_sees_the_parameters_of_a_run(blocks, query):
    sequence = sequence_of(blocks, SeqBlockData(query, parameters={"limit": 5}))
    assert sequence.run({query: {"limit": 6, "since": "2024-01-31"}}).outputs[query][:2] == (6, date(2024, 1, 31))


def test_a_data_model_sees_outputs_when_they_are_known(blocks, query):
    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": {"day": "2024-01-31"}}),
        SeqBlockData(query, parameters={"limit": 5, "since": "@source.day", "tags": ["a"]}),
    )
    assert sequence.run().raise_for_status().outputs[query] == (5, date(2024, 1, 31), ["a"])


def test_a_dependency_matches_a_field_of_the_data_model_by_name(blocks, query):
    sequence = sequence_of(
        blocks, SeqBlockData("source", name="limit", parameters={"value": 7}), SeqBlockData(query, ["limit"])
    )
    assert sequence.run().raise_for_status().outputs[query] == (7, None, [])


def test_an_output_that_the_data_model_refuses_fails_the_step_before_its_block_is_called(blocks, query, model):
    sequence = sequence_of(
        blocks, SeqBlockData("source", parameters={"value": 500}), SeqBlockData(query, parameters={"limit": "@source"})
    )
    result = sequence.run()
    assert result.status is RunStatus.FAILED
    error = result.steps[query].error
    assert isinstance(error, ValidationError)
    assert f"seq 'etl', step 'query' ({sequence.definition.place}), {model.__name__}" in str(error)


def test_what_the_data_model_refuses_is_told_before_anything_runs(blocks, query, model):
    (fault,) = faults_of(sequence_of(blocks, SeqBlockData(query, parameters={"limit": "five", "tags": []})).run)
    assert "step 'query' (" in fault
    assert f"wired.py:21), {model.__name__}.limit: " in fault
    assert "got str 'five'" in fault


def test_a_data_model_judges_the_whole_when_all_of_it_is_known(blocks, query, model):
    (fault,) = faults_of(sequence_of(blocks, SeqBlockData(query)).run, {query: {"limit": 500}})
    assert f"step 'query' (parameters of the run), {model.__name__}" in fault
    assert "limit is too high" in fault or "less than or equal to 100" in fault


def test_what_is_known_is_checked_before_the_run_although_the_rest_is_not(blocks, query, model):
    sequence = sequence_of(
        blocks,
        SeqBlockData("source"),
        SeqBlockData(query, parameters={"limit": "@source", "since": "yesterday", "tags": [1]}),
    )
    faults = faults_of(sequence.run)
    assert len(faults) == 2
    assert f"{model.__name__}.since" in faults[0]
    assert f"{model.__name__}.tags[0]" in faults[1]


def test_what_is_not_known_before_the_run_is_no_fault(blocks, query):
    @dataclass
    class Range:
        first: int
        last: int = 0

        def __post_init__(self):
            if self.last < self.first:
                raise ValueError("the last comes before the first")

    @blocks.block(data_model=Range)
    def ranged(first, last):
        return first, last

    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": 9}),
        SeqBlockData("ranged", parameters={"first": 5, "last": "@source"}),
    )
    assert sequence.run().raise_for_status().outputs["ranged"] == (5, 9)


def test_a_block_that_takes_any_name_is_bounded_by_its_data_model(blocks):
    @blocks.block(data_model=Query)
    def query(**fields):
        return fields

    assert sequence_of(blocks, SeqBlockData("query", parameters={"limit": 1})).run().outputs["query"] == {
        "limit": 1,
        "since": None,
        "tags": [],
    }
    assert len(faults_of(sequence_of(blocks, SeqBlockData("query")).run)) == 1
    (fault,) = faults_of(sequence_of(blocks, SeqBlockData("query", parameters={"limit": 1, "sinc": None})).run)
    assert "Query, the data_model of block 'query', has no field 'sinc'; did you mean 'since'?" in fault


def test_any_class_with_model_validate_will_do(blocks):
    class Own:
        @classmethod
        def model_validate(cls, given):
            own = cls()
            own.limit = int(given["limit"]) + 1
            return own

    @blocks.block(data_model=Own)
    def query(limit):
        return limit

    assert sequence_of(blocks, SeqBlockData("query", parameters={"limit": "5"})).run().outputs["query"] == 6


# ---------------------------------------------------------------------- finalisers


def no_argument():
    return "none"


def one_argument(context):
    return context


def with_default(context=None):
    return context


def any_number(*contexts):
    return contexts[0]


def two_with_default(context, other=5):
    return context


async def async_one(context):
    return context


async def async_none():
    return "none"


def keyword_only(*, context="default"):
    return context


class Finaliser:
    def __call__(self, context):
        return context


class AsyncFinaliser:
    async def __call__(self, context):
        return context


EVERYTHING = {"source": 1, "echo": [1]}


@pytest.mark.parametrize(
    ("finaliser", "output"),
    [
        (no_argument, "none"),
        (async_none, "none"),
        (keyword_only, "default"),
        (lambda **kwargs: kwargs, {}),
        (one_argument, EVERYTHING),
        (with_default, EVERYTHING),
        (any_number, EVERYTHING),
        (two_with_default, EVERYTHING),
        (async_one, EVERYTHING),
        (Finaliser(), EVERYTHING),
        (AsyncFinaliser(), EVERYTHING),
        (lambda context, /: context, EVERYTHING),
        (dict, EVERYTHING),
        (len, 2),
    ],
)
def test_the_finaliser_gets_the_outputs_if_it_takes_an_argument_and_its_value_is_the_output(blocks, finaliser, output):
    sequence = sequence_of(
        blocks,
        SeqBlockData("source", parameters={"value": 1}),
        SeqBlockData("echo", parameters={"value": ["@source"]}),
        finaliser=finaliser,
    )
    assert sequence.run().raise_for_status().output == output


def test_the_finaliser_does_not_run_after_a_failure(blocks):
    called = []
    sequence = sequence_of(blocks, SeqBlockData("fail"), SeqBlockData("source"), finaliser=called.append)
    result = sequence.run()
    assert (result.status, result.output, called) == (RunStatus.FAILED, None, [])


def test_a_finaliser_that_fails_fails_the_run_and_keeps_the_outputs(blocks):
    def finaliser(context):
        raise LookupError("no such table")

    result = sequence_of(blocks, SeqBlockData("source", parameters={"value": 1}), finaliser=finaliser).run()
    assert (result.status, result.outputs["source"]) == (RunStatus.FAILED, 1)
    with pytest.raises(RunFailed, match="no such table") as caught:
        result.raise_for_status()
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_sequence_is_called_like_its_function(blocks):
    def finaliser(context=None, *, extra=1):
        """Tell what came of it."""
        return context, extra

    sequence = sequence_of(blocks, SeqBlockData("source"), finaliser=finaliser)
    assert sequence() == (None, 1)
    assert sequence({"a": 1}, extra=2) == ({"a": 1}, 2)
    assert (sequence.__name__, sequence.__doc__) == ("finaliser", "Tell what came of it.")
    assert (sequence.description, sequence.__wrapped__) == ("Tell what came of it.", finaliser)


# ---------------------------------------------------------------------- blocks that come later


def test_blocks_may_be_registered_after_the_sequence(blocks):
    sequence = sequence_of(blocks, SeqBlockData("later"))
    assert "there is no block 'later'" in faults_of(sequence.validate)[0]
    blocks.block("later")(lambda: 5)
    sequence.validate()
    assert sequence.run().outputs["later"] == 5
