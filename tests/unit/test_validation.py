"""What is wrong is told before anything runs: all of it, where it is, and what to write instead (R26 to R30, R48)."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blaze import Blaze, BlazeBlock, BlazeError, BlazeSequence, SeqBlockData, ValidationError
from blaze.core.ground.errors import NotFound
from blaze.core.what import compiler
from blaze.core.what.checker import clipped

from .wired import faults_of, keep, sequence_of

Step = SeqBlockData
NAN = float("nan")
HUGE = 10**5000


@dataclass
class Options:
    limit: int
    since: Optional[date] = None


@pytest.fixture
def witness() -> List[str]:
    """What was called."""
    return []


@pytest.fixture
def blocks(witness) -> BlazeBlock:
    blocks = BlazeBlock()

    @blocks.block
    def fetch(endpoint: str = "/", limit: int = 100, ratio: float = 1.0, flag: bool = False):
        witness.append("fetch")
        return [limit]

    @blocks.block
    def clean(rows: list, options: Optional[Options] = None):
        witness.append("clean")
        return rows

    @blocks.block
    def load(rows, table: str = "t", since: Union[date, None] = None, by_day: Optional[Dict[str, List[int]]] = None):
        witness.append("load")
        return table

    @blocks.block
    def every(**anything):
        witness.append("every")

    @blocks.block
    def nothing():
        witness.append("nothing")

    @blocks.block(data_model=Options)
    def modelled(limit, since):
        witness.append("modelled")

    return blocks


class Bad(NamedTuple):
    """A sequence, the parameters of a run, and what has to stand in its faults, one tuple of texts for each."""

    name: str
    steps: List[Any]
    parameters: Any
    told: List[Tuple[str, ...]]


def deep(levels: int, inside: Any = None) -> Any:
    for _ in range(levels):
        inside = [inside]
    return inside


def containing_itself() -> List[Any]:
    value: List[Any] = [1]
    value.append({"k": (value,)})
    return value


def doubling_itself() -> List[Any]:
    value: List[Any] = []
    value += [value, value]
    return value


def unknown(block: str, instead: str, **settings: Any) -> Bad:
    return Bad(
        f"block {clipped(block):.12}", [Step(block, **settings)], None, [(f"there is no block {block!r}", instead)]
    )


def named(name: Any, *told: str) -> Bad:
    return Bad(f"step name {clipped(name):.12}", [Step("nothing", name=name)], None, [("step 1 (", *told)])


def depends(on: Any, *told: str) -> Bad:
    steps = [Step("fetch"), Step("nothing", dependencies=on)]
    return Bad(f"dependencies {clipped(on):.20}", steps, None, [("step 'nothing' (", *told)])


def sets(name: str, value: Any, told: str) -> Bad:
    where = "step 'nothing' ("
    return Bad(f"{name}={type(value).__name__}", [Step("nothing", **{name: value})], None, [(where, told)])


def refers(text: Any, *told: str) -> Bad:
    steps = [Step("fetch"), Step("every", parameters={"value": text})]
    return Bad(f"reference {clipped(text):.20}", steps, None, [("step 'every' (", "parameter 'value'", *told)])


def gives(parameter: str, value: Any, *told: str, block: str = "fetch") -> Bad:
    """A bad value in the definition; each is tried in the parameters of a run as well."""
    parameters = {"rows": [], parameter: value} if block in ("clean", "load") else {parameter: value}
    steps = [Step(block, parameters=parameters)]
    return Bad(f"{block}.{parameter}={clipped(value):.20}", steps, None, [(f"step '{block}' (", *told)])


def submits(parameters: Any, *told: Tuple[str, ...]) -> Bad:
    steps = [Step("fetch"), Step("clean", ["fetch"], {"rows": "@fetch"})]
    return Bad(f"run {clipped(parameters):.30}", steps, parameters, list(told))


IN_ETL = "no step of this sequence"

CASES = [
    # -------------------------------------------------- blocks
    unknown("fetchh", "; did you mean 'fetch'?"),
    unknown("FETCH", "registered are 'clean', 'every', 'fetch'"),
    unknown("zzz", "registered are 'clean', 'every', 'fetch', 'load', 'modelled', 'nothing'"),
    unknown("fetch ", "did you mean 'fetch'?", name="step"),
    unknown("", "registered are", name="step"),
    unknown("@fetch", "did you mean 'fetch'?", name="step"),
    Bad("block is None", [Step(None, name="step")], None, [("step 'step' (", "there is no block None")]),
    Bad("block is a list", [Step(["fetch"], name="step")], None, [("there is no block ['fetch']",)]),
    Bad(
        "block is a function",
        [Step(keep, name="keep")],
        None,
        [("there is no block <function keep at ", "registered are 'clean'")],
    ),
    Bad(
        "three unknown blocks",
        [Step("a"), Step("b"), Step("c")],
        None,
        [("block 'a'",), ("block 'b'",), ("block 'c'",)],
    ),
    Bad("unknown and unnamed", [Step("a b")], None, [("step 1 (", "'a b' is not a valid name"), ("no block 'a b'",)]),
    # -------------------------------------------------- names of steps
    named("", "a name can't be empty"),
    named(" ", "' ' is not a valid name"),
    named("a b", "'a b' is not a valid name: ASCII letters, digits, '_' and '-' are allowed"),
    named("a.b", "'a.b' is not a valid name"),
    named("../x", "'../x' is not a valid name"),
    named("-a", "the first a letter, digit or '_'"),
    named("a\n", r"'a\n' is not a valid name"),
    named("a\0b", r"'a\x00b' is not a valid name"),
    named("é", "ASCII letters"),
    named("١٢", "ASCII letters"),
    named("🔥", "is not a valid name"),
    named("@a", "is not a valid name"),
    named("a→b", "is not a valid name"),
    named("x" * 129, "is 129 characters long; 128 are allowed"),
    named(5, "a name is a str, not int"),
    named(True, "a name is a str, not bool"),
    named(["a"], "a name is a str, not list"),
    named(b"a", "a name is a str, not bytes"),
    Bad(
        "one block twice",
        [Step("nothing"), Step("nothing")],
        None,
        [("step 2 (", "'nothing' is step 1 already", "SeqBlockData('nothing', ..., name='nothing_2')")],
    ),
    Bad(
        "one name three times",
        [Step("nothing", name="a"), Step("fetch", name="a"), Step("every", name="a")],
        None,
        [("step 2 (", "'a' is step 1 already"), ("step 3 (", "'a' is step 1 already")],
    ),
    Bad("a name that is another step's block", [Step("nothing"), Step("fetch", name="nothing")], None, [("step 2 (",)]),
    Bad("no step", [], None, [("seq 'etl' (", "the sequence has no steps")]),
    # -------------------------------------------------- dependencies
    depends("fetch", "dependencies are a list of step names, got str 'fetch'; write ['fetch']"),
    depends(None, "dependencies are a list of step names, got None"),
    depends(5, "got int 5"),
    depends({"fetch"}, "got set {'fetch'}"),
    depends({"fetch": 1}, "got dict {'fetch': 1}"),
    depends(b"fetch", "got bytes b'fetch'"),
    depends(Step("fetch"), "got SeqBlockData("),
    depends(["fetchh"], f"it depends on 'fetchh', which is {IN_ETL}; did you mean 'fetch'?"),
    depends(["@fetch"], "it depends on '@fetch'", "did you mean 'fetch'?"),
    depends(["fetch.rows"], "it depends on 'fetch.rows'", "did you mean 'fetch'?"),
    depends(["zzz"], f"it depends on 'zzz', which is {IN_ETL}; the steps are 'fetch', 'nothing'"),
    depends(["clean"], f"it depends on 'clean', which is {IN_ETL}"),
    depends([5], f"it depends on 5, which is {IN_ETL}"),
    depends([None], "it depends on None"),
    depends([["fetch"]], "it depends on ['fetch']"),
    depends([Step("fetch")], "it depends on SeqBlockData(block_name='fet"),
    depends(["fetch", "fetch"], "dependency 'fetch' is listed twice"),
    depends(["nothing"], "it depends on itself"),
    depends(["fetch\n"], r"it depends on 'fetch\n'"),
    depends([""], "it depends on ''"),
    depends(["x" * 1000], "it depends on 'xxx"),
    Bad(
        "several bad dependencies",
        [Step("fetch"), Step("nothing", ["a", "nothing", "fetch", "fetch", 5])],
        None,
        [("on 'a'",), ("itself",), ("twice",), ("on 5",)],
    ),
    # -------------------------------------------------- settings of a step
    sets("run_when", "all_succes", "got str 'all_succes'; did you mean 'all_success'?"),
    sets(
        "run_when", "ALL_DONE", "run_when is one of all_success, all_done, any_success, any_failed; got str 'ALL_DONE'"
    ),
    sets("run_when", "", "got str ''"),
    sets("run_when", None, "got None"),
    sets("run_when", ["all_done"], "got list ['all_done']"),
    sets("retries", -1, "retries is a whole number from 0 to 1000000, got int -1"),
    sets("retries", True, "got bool True"),
    sets("retries", 1.5, "got float 1.5"),
    sets("retries", "3", "got str '3'"),
    sets("retries", NAN, "got float nan"),
    sets("retries", HUGE, "got int "),
    sets("retry_delay", -1, "retry_delay is a number of seconds from 0"),
    sets("retry_delay", NAN, "got float nan"),
    sets("retry_delay", float("inf"), "got float inf"),
    sets("retry_delay", True, "got bool True"),
    sets("retry_delay", "5", "got str '5'"),
    sets("retry_delay", HUGE, "got int "),
    sets("timeout", 0, "timeout is a number of seconds above 0 (at most 1000000000), or None, got int 0"),
    sets("timeout", -1.5, "got float -1.5"),
    sets("timeout", NAN, "got float nan"),
    sets("timeout", float("inf"), "got float inf"),
    sets("timeout", True, "got bool True"),
    sets("timeout", "1h", "got str '1h'"),
    sets("timeout", HUGE, "got int "),
    Bad(
        "all settings",
        [Step("nothing", [], {}, None, "x", -1, -1, 0)],
        None,
        [("run_when",), ("retries",), ("retry_delay",), ("timeout",)],
    ),
    # -------------------------------------------------- parameters
    Bad("parameters is None", [Step("nothing", parameters=None)], None, [("a dict of keyword arguments, got None",)]),
    Bad("parameters is a list", [Step("nothing", parameters=[1])], None, [("got list [1]",)]),
    Bad("parameters is a str", [Step("nothing", parameters="a")], None, [("got str 'a'",)]),
    Bad("parameters is a set", [Step("nothing", parameters={"a"})], None, [("got set {'a'}",)]),
    gives("limt", 5, "block 'fetch' (", "has no parameter 'limt'; did you mean 'limit'?"),
    gives("zzz", 5, "has no parameter 'zzz'; it has 'endpoint', 'flag', 'limit', 'ratio'"),
    gives("x", 5, "block 'nothing' (", "has no parameter 'x'; it has none", block="nothing"),
    gives("", 5, "has no parameter ''"),
    gives("a\nb", 5, r"has no parameter 'a\nb'"),
    Bad("a key that is no str", [Step("fetch", parameters={5: 1})], None, [("has no parameter 5",)]),
    Bad("keys that are no str", [Step("every", parameters={None: 1, ("a",): 2})], None, [("None",), ("('a',)",)]),
    Bad(
        "a missing parameter",
        [Step("clean")],
        None,
        [("step 'clean' (", "parameter 'rows' of block 'clean' (", "is given nowhere", "parameters={'rows': ...}")],
    ),
    Bad(
        "a missing parameter with a dependency at hand",
        [Step("fetch"), Step("clean", ["fetch"])],
        None,
        [("is given nowhere: add parameters={'rows': '@fetch'} to the step, or give it to the run",)],
    ),
    Bad("two missing parameters", [Step("clean"), Step("load")], None, [("step 'clean'",), ("step 'load'",)]),
    gives("limit", "100", "parameter limit: expected int, got str '100'"),
    gives("limit", True, "parameter limit: expected int, got bool True"),
    gives("limit", 1.0, "parameter limit: expected int, got float 1.0"),
    gives("limit", None, "parameter limit: expected int, got None"),
    gives("limit", [1], "parameter limit: expected int, got list [1]"),
    gives("limit", "@@fetch", "parameter limit: expected int, got str '@fetch'"),
    gives("ratio", "0.5", "parameter ratio: expected float, got str '0.5'"),
    gives("ratio", True, "parameter ratio: expected float, got bool True"),
    gives("flag", 1, "parameter flag: expected bool, got int 1"),
    gives("flag", "yes", "parameter flag: expected bool, got str 'yes'"),
    gives("endpoint", 5, "parameter endpoint: expected str, got int 5"),
    gives("endpoint", b"/", "parameter endpoint: expected str, got bytes b'/'"),
    gives("options", {"limit": "x"}, "parameter options.limit: expected int, got str 'x'", block="clean"),
    gives("options", {"limt": 1, "limit": 1}, "parameter options.limt: Options has no field 'limt'", block="clean"),
    gives("options", {}, "parameter options.limit: is missing", block="clean"),
    gives("since", "2024-13-01", "parameter since: expected date", block="load"),
    gives("by_day", {"mon": [1, "2"]}, "parameter by_day['mon'][1]: expected int, got str '2'", block="load"),
    gives("limit", "x", "Options.limit: expected int, got str 'x'", block="modelled"),
    gives(
        "limt", 1, "Options, the data_model of block 'modelled', has no field 'limt'; did you", block="modelled"
    )._replace(told=[("has no field 'limt'; did you mean 'limit'?",), ("parameter 'limit' of block 'modelled'",)]),
    Bad(
        "two bad values and an unknown parameter",
        [Step("fetch", parameters={"limit": "x", "flag": 0, "zzz": 1})],
        None,
        [("parameter limit",), ("parameter flag",), ("parameter 'zzz'",)],
    ),
    # -------------------------------------------------- values of any depth
    gives("a", deep(101), "parameter 'a' is nested deeper than 100 levels, or contains itself", block="every"),
    gives("a", deep(5000), "is nested deeper than 100 levels", block="every"),
    gives("a", {"k": deep(100)}, "is nested deeper than 100 levels", block="every"),
    gives("a", containing_itself(), "or contains itself", block="every"),
    gives("a", doubling_itself(), "or contains itself", block="every"),
    gives("limit", deep(200), "parameter 'limit' is nested deeper"),
    # -------------------------------------------------- references
    refers("@nobody", f"refers to '@nobody', which is {IN_ETL}", "for the literal text write '@@nobody'"),
    refers("@fetchh", "did you mean '@fetch'?", "write '@@fetchh'"),
    refers("@fetchh.rows.0", "refers to '@fetchh.rows.0'", "did you mean '@fetch'?"),
    refers("@", "refers to '@'", "for the literal text write '@@'"),
    refers("@.", "refers to '@.'", "write '@@.'"),
    refers("@.rows", "refers to '@.rows'"),
    refers("@fetch.", "'@fetch.' has an empty part between its dots"),
    refers("@fetch..a", "'@fetch..a' has an empty part"),
    refers("@fetch.a.", "has an empty part"),
    refers("@every", "refers to '@every', the step itself"),
    refers("@every.rows", "refers to '@every.rows', the step itself"),
    refers("@fetch ", "refers to '@fetch '", "did you mean '@fetch'?"),
    refers("@fetch\n", r"refers to '@fetch\n'"),
    refers("@FETCH", "refers to '@FETCH'"),
    refers("@fetch[0]", "refers to '@fetch[0]'", "did you mean '@fetch'?"),
    refers("@fetch/rows", "refers to '@fetch/rows'"),
    refers("@me, myself", "write '@@me, myself'"),
    refers("@" + "x" * 10_000, "refers to '@xxx"),
    refers("@\0", r"refers to '@\x00'"),
    refers([["@nobody"]], "refers to '@nobody'"),
    refers({"k": ({"k": ["@nobody"]},)}, "refers to '@nobody'"),
    Bad(
        "several references",
        [Step("every", parameters={"a": ["@x", "@y"], "b": {"k": "@every"}})],
        None,
        [("'@x'",), ("'@y'",), ("the step itself",)],
    ),
    Bad("a reference instead of an int", [Step("fetch", parameters={"limit": "@nobody"})], None, [("'@nobody'",)]),
    # -------------------------------------------------- cycles
    Bad(
        "a cycle of two",
        [Step("nothing", ["every"]), Step("every", ["nothing"])],
        None,
        [("seq 'etl' (", "the steps wait for each other: nothing → every → nothing")],
    ),
    Bad(
        "a cycle of three",
        [Step("nothing", ["fetch"]), Step("every", ["nothing"]), Step("fetch", ["every"])],
        None,
        [("nothing → every → fetch → nothing",)],
    ),
    Bad(
        "a cycle of references",
        [Step("clean", parameters={"rows": "@load"}), Step("load", parameters={"rows": ["@clean.0"]})],
        None,
        [("clean → load → clean",)],
    ),
    Bad(
        "a cycle with a way in and a way out",
        [
            Step("fetch"),
            Step("nothing", ["fetch", "every"]),
            Step("every", ["nothing"]),
            Step("load", ["every"], {"rows": 1}),
        ],
        None,
        [("nothing → every → nothing",)],
    ),
    Bad(
        "two cycles",
        [
            Step("every", ["b"], name="a"),
            Step("every", ["a"], name="b"),
            Step("every", ["b", "d"], name="c"),
            Step("every", ["c"], name="d"),
        ],
        None,
        [("a → b → a",), ("c → d → c",)],
    ),
    Bad(
        "a cycle and everything else",
        [
            Step("nothing", ["every"]),
            Step("every", ["nothing"]),
            Step("fetch", ["x"], {"limit": "1"}, None, "never", -1),
        ],
        None,
        [("on 'x'",), ("run_when",), ("retries",), ("parameter limit",), ("nothing → every → nothing",)],
    ),
    # -------------------------------------------------- parameters of a run
    submits([], ("seq 'etl', parameters", "expected {step: {parameter: value}}, got list []")),
    submits("fetch", ("expected {step: {parameter: value}}, got str 'fetch'",)),
    submits(5, ("got int 5",)),
    submits([("fetch", {"limit": 1})], ("got list [",)),
    submits({"fetchh": {}}, ("there is no step 'fetchh' in this sequence; did you mean 'fetch'?",)),
    submits({"zzz": {}}, ("there is no step 'zzz' in this sequence; the steps are 'clean', 'fetch'",)),
    submits({"limit": 5}, ("there is no step 'limit'", "parameters are given by step: {'fetch': {'limit': ...}}")),
    submits({"fetch.limit": 5}, ("there is no step 'fetch.limit'", "did you mean 'fetch'?")),
    submits({None: {}}, ("there is no step None",)),
    submits({5: {}}, ("there is no step 5",)),
    submits({"": {}}, ("there is no step ''",)),
    submits({"x" * 10_000: {}}, ("there is no step 'xxx",)),
    submits({"fetch": 5}, ("step 'fetch' (parameters of the run)", "expected {parameter: value}, got int 5")),
    submits({"fetch": None}, ("expected {parameter: value}, got None",)),
    submits({"fetch": ["limit"]}, ("expected {parameter: value}, got list ['limit']",)),
    submits({"fetch": {"limt": 5}}, ("step 'fetch' (parameters of the run)", "did you mean 'limit'?")),
    submits({"fetch": {5: 5}}, ("has no parameter 5",)),
    submits({"fetch": {"limit": "5"}}, ("step 'fetch' (parameters of the run), parameter limit", "got str '5'")),
    submits({"fetch": {"limit": True}}, ("got bool True",)),
    submits({"fetch": {"limit": "@nobody"}}, ("(parameters of the run)", "refers to '@nobody'", "write '@@nobody'")),
    submits({"fetch": {"limit": "@fetch"}}, ("the step itself",)),
    submits({"fetch": {"limit": "@clean"}}, ("the steps wait for each other: fetch → clean → fetch",)),
    submits({"fetch": {"endpoint": ["@clean"]}}, ("the steps wait for each other: fetch → clean → fetch",)),
    submits({"clean": {"options": {"limit": "x"}}}, ("parameter options.limit: expected int",)),
    submits({"clean": {"rows": containing_itself()}}, ("parameter 'rows'", "or contains itself")),
    submits({"clean": {"rows": doubling_itself()}}, ("or contains itself",)),
    submits({"clean": {"rows": deep(101)}}, ("is nested deeper than 100 levels",)),
    submits({"clean": {"rows": {"a": 1}}}, ("parameter rows: expected list, got dict {'a': 1}",)),
    submits(
        {"fetch": {"limit": "5", "zzz": 1}, "nobody": {}, "clean": {"rows": "@x"}},
        ("no step 'nobody'",),
        ("parameter limit",),
        ("'zzz'",),
        ("'@x'",),
    ),
    Bad(
        "faults of the definition and of the run",
        [Step("fetch", parameters={"limit": "x"}), Step("clean")],
        {"fetch": {"flag": 5}, "nobody": {}},
        [("no step 'nobody'",), ("parameter limit",), ("parameter flag",), ("parameter 'rows'",)],
    ),
]


def test_the_table_has_more_than_a_hundred_cases():
    assert len(CASES) > 100


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_wrong_is_told_before_anything_runs(blocks, witness, case):
    sequence = sequence_of(blocks, *case.steps)
    faults = faults_of(sequence.run, case.parameters)
    assert len(faults) == len(case.told), faults
    for texts in case.told:
        assert any(all(text in fault for text in texts) for fault in faults), (texts, faults)
    for fault in faults:
        assert fault.startswith("seq 'etl'")
        assert "wired.py:21)" in fault or "parameters" in fault
        assert len(fault) < 700
        assert fault.isprintable()
    assert witness == []
    assert faults_of(sequence.validate, case.parameters) == faults


GIVEN = [
    case
    for case in CASES
    if case.parameters is None and len(case.steps) == 1 and isinstance(case.steps[0].parameters, dict)
]


@pytest.mark.parametrize("case", [case for case in GIVEN if case.steps[0].parameters], ids=lambda case: case.name)
def test_the_parameters_of_a_run_are_checked_as_those_of_the_definition_are(blocks, witness, case):
    step = case.steps[0]
    sequence = sequence_of(blocks, Step(step.block_name))
    faults = faults_of(sequence.run, {step.block_name: step.parameters})
    assert len(faults) == len(case.told)
    assert all("(parameters of the run)" in fault or "is given nowhere" in fault for fault in faults)
    assert witness == []


def test_a_cycle_of_one_is_told_as_such(blocks, witness):
    for step in (Step("nothing", ["nothing"]), Step("every", parameters={"a": "@every"})):
        (fault,) = faults_of(sequence_of(blocks, step).run)
        assert "itself" in fault
    assert witness == []


def test_a_long_cycle_is_shortened_but_comes_back_to_where_it_began(blocks):
    steps = [Step("nothing", [f"s{(n - 1) % 100}"], name=f"s{n}") for n in range(100)]
    (fault,) = faults_of(sequence_of(blocks, *steps).validate)
    assert fault.endswith(
        "the steps wait for each other: " + " → ".join([*(f"s{n}" for n in range(11)), "(89 more)", "s0"])
    )


def test_a_cycle_that_fits_is_shown_whole(blocks):
    steps = [Step("nothing", [f"s{(n - 1) % 11}"], name=f"s{n}") for n in range(11)]
    (fault,) = faults_of(sequence_of(blocks, *steps).validate)
    assert fault.endswith(" → ".join([*(f"s{n}" for n in range(11)), "s0"]))


def test_the_error_tells_how_many_faults_there_are_and_each_of_them(blocks):
    sequence = sequence_of(blocks, Step("fetch", ["x"], {"limit": "5"}), Step("clean"))
    with pytest.raises(ValidationError) as caught:
        sequence.validate()
    error = caught.value
    assert isinstance(error, (BlazeError, ValueError))
    place = sequence.definition.place
    assert [where for where, _ in error.errors] == [
        f"seq 'etl', step 'fetch' ({place})",
        f"seq 'etl', step 'fetch' ({place}), parameter limit",
        f"seq 'etl', step 'clean' ({place})",
    ]
    lines = str(error).splitlines()
    assert lines[0] == "3 faults in sequence 'etl':"
    assert lines[1:] == [f"  {where}: {what}" for where, what in error.errors]


def test_a_single_fault_is_one_line(blocks):
    with pytest.raises(ValidationError) as caught:
        sequence_of(blocks, Step("fetch", ["x"])).validate()
    assert str(caught.value) == ": ".join(caught.value.errors[0])


def test_a_value_whose_repr_fails_is_told_like_any_other(blocks):
    class Hostile:
        def __repr__(self):
            raise RuntimeError("no")

    hostile: Any = Hostile()
    steps = [
        Step(hostile, name="a"),
        Step("nothing", hostile),
        Step("fetch", [hostile], {"limit": hostile}, None, hostile, hostile, hostile, hostile),
        Step("every", parameters=hostile),
    ]
    faults = faults_of(sequence_of(blocks, *steps).run, {hostile: {}, "fetch": {"limit": 1}, "every": hostile})
    assert len(faults) == 10
    assert sum("Hostile" in fault for fault in faults) >= 9


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
    | st.sampled_from(["fetch", "a", "@a", "@fetch.0", "@@a", "@", "x" * 200, "a\n", 10**400, keep, int, object()]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner) | st.tuples(inner),
    max_leaves=6,
)  # fmt: skip
junk_names = st.sampled_from(["fetch", "every", "a"]) | junk
junk_steps = st.lists(
    st.builds(
        Step,
        junk_names,
        st.lists(junk_names, max_size=3) | junk,
        st.dictionaries(st.sampled_from(["limit", "rows"]) | st.text(max_size=3), junk, max_size=3) | junk,
        st.none() | junk_names,
        st.sampled_from(["all_success", "all_done"]) | junk,
        st.none() | junk,
        st.none() | junk,
        st.none() | junk,
    )
    | junk,
    max_size=4,
)


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=junk_steps, parameters=st.dictionaries(st.sampled_from(["fetch", "a"]) | st.text(max_size=3), junk) | junk)
def test_whatever_is_written_nothing_comes_out_but_a_validation_error_that_can_be_printed(
    blocks, witness, steps, parameters
):
    faults: List[Any] = []
    try:
        sequence = BlazeSequence().sequence(blocks, steps, "etl")(keep)
        sequence.graph()
        sequence.validate(parameters)
    except ValidationError as error:
        faults = error.errors or [""]
    assert all(str(fault).isprintable() and 0 < len(str(fault)) < 1500 for fault in faults)
    assert witness == []


# ---------------------------------------------------------------------- definitions that can never be right

DEFINITIONS = [
    ({"seq_id": ""}, "a name can't be empty"),
    ({"seq_id": "a b"}, "'a b' is not a valid name: ASCII letters, digits, '_', '-' and '.' are allowed"),
    ({"seq_id": ".a"}, "'.a' is not a valid name"),
    ({"seq_id": ".."}, "'..' is not a valid name"),
    ({"seq_id": "-a"}, "'-a' is not a valid name"),
    ({"seq_id": "a/b"}, "'a/b' is not a valid name"),
    ({"seq_id": "a\n"}, r"'a\n' is not a valid name"),
    ({"seq_id": "a\0"}, r"'a\x00' is not a valid name"),
    ({"seq_id": "é"}, "ASCII"),
    ({"seq_id": "x" * 129}, "129 characters long"),
    ({"seq_id": 5}, "a name is a str, not int"),
    ({"seq_id": ["etl"]}, "a name is a str, not list"),
    ({"sequence": "fetch"}, "sequence is a list of SeqBlockData, got str 'fetch'"),
    ({"sequence": None}, "got None"),
    ({"sequence": 5}, "got int 5"),
    ({"sequence": {"fetch": []}}, "got dict {'fetch': []}"),
    ({"sequence": SeqBlockData("fetch")}, "got SeqBlockData(block_name='fet"),
    ({"sequence": ["fetch"]}, "step 1 is a SeqBlockData, got str 'fetch'; write SeqBlockData('fetch')"),
    ({"sequence": [SeqBlockData("fetch"), keep]}, "step 2 is a SeqBlockData, got function <function keep at "),
    ({"sequence": [SeqBlockData]}, "step 1 is a SeqBlockData, got type <class 'blaze."),
    ({"sequence": [("fetch", ["a"])]}, "step 1 is a SeqBlockData, got tuple ('fetch', ['a'])"),
    ({"sequence": [None]}, "step 1 is a SeqBlockData, got None"),
    ({"blocks": None}, "blocks is a BlazeBlock, got None"),
    ({"blocks": {}}, "blocks is a BlazeBlock, got dict {}"),
    ({"blocks": BlazeBlock}, "blocks is a BlazeBlock, got ABCMeta <class 'blaze"),
    ({"description": 5}, "description is a str, got int 5"),
    ({"retries": -1}, "retries is a whole number from 0 to 1000000, got int -1"),
    ({"retries": True}, "got bool True"),
    ({"retries": None}, "got None"),
    ({"retries": HUGE}, "got int"),
    ({"retry_delay": NAN}, "retry_delay is a number of seconds from 0 to 1000000000, got float nan"),
    ({"retry_delay": None}, "got None"),
    ({"retry_delay": HUGE}, "got int"),
    ({"seq_run_timeout": 0}, "seq_run_timeout is a number of seconds above 0 (at most 1000000000), or None, got int 0"),
    ({"seq_run_timeout": NAN}, "got float nan"),
    ({"seq_run_timeout": False}, "got bool False"),
    ({"seq_run_timeout": "1h"}, "got str '1h'"),
    ({"auto_start": "yes"}, "auto_start is True or False, got str 'yes'"),
    ({"auto_start": 1}, "auto_start is True or False, got int 1"),
    ({"fail_stop": None}, "fail_stop is True or False, got None"),
    ({"seq_run_interval": 5}, "seq_run_interval is a str, got int 5"),
    ({"timezone": 5}, "timezone is a str, got int 5"),
]


SCHEDULERS = [
    ({"logger": 5}, "logger is a BlazeLogger, got int 5"),
    ({"max_workers": 0}, "max_workers is a whole number from 1 to 1000000, got int 0"),
    ({"auto_start": 1}, "auto_start is True or False, got int 1"),
    ({"loop_interval": NAN}, "loop_interval is a number of seconds from 0 to 1000000000, got float nan"),
    ({"state_dir": ""}, "state_dir is empty; for the current directory write '.'"),
    ({"state_dir": None}, "state_dir is the path of a directory, got None"),
    ({"state_dir": b"state"}, "state_dir is the path of a directory, got bytes b'state'"),
    ({"state_dir": "a\0b"}, "state_dir is the path of a directory, got str 'a\\x00b'"),
    ({"durability": "disk"}, "durability is one of process, power, memory; got str 'disk'"),
    ({"clock": 5}, "clock is a Clock, got int 5"),
    ({"executors": {"gpu": 1}}, "executors['gpu'] is a concurrent.futures.Executor, got int 1"),
    ({"keep_outputs": "no"}, "keep_outputs is True or False, got str 'no'"),
    ({"retention": 5}, "retention is a Retention, got int 5"),
    ({"on_run_end": 5}, "on_run_end is a function of one argument, got int 5"),
    ({"blaze_blocks": 5}, "blaze_blocks is a BlazeBlock, got int 5"),
    ({"sequences": {}}, "sequences is a BlazeSequence, got dict {}"),
]


@pytest.mark.parametrize(("arguments", "told"), SCHEDULERS, ids=[*(name for one, _ in SCHEDULERS for name in one)])
def test_a_scheduler_that_can_never_be_right_is_refused_when_it_is_made(arguments, told):
    assert faults_of(Blaze, **arguments) == [f"Blaze(): {told}"]


def test_all_that_is_wrong_with_a_scheduler_is_told_together():
    arguments = {name: value for one, _ in SCHEDULERS for name, value in one.items()}
    assert len(faults_of(Blaze, **arguments)) == len(arguments)


def test_a_schedule_that_can_never_be_right_is_told_with_what_else_is_wrong(blocks):
    sequences = BlazeSequence()
    steps = [SeqBlockData("fetchh")]
    etl = sequences.sequence(blocks=blocks, sequence=steps, seq_id="etl", seq_run_interval="61 * * * *")(keep)
    faults = faults_of(etl.run)
    assert len(faults) == 2
    assert any("there is no block 'fetchh'" in fault for fault in faults)
    assert any(str(etl.definition.place) in fault and "61" in fault and "minute" in fault for fault in faults)
    assert len(faults_of(etl.validate, {"fetchh": {"endpoint": "x"}})) == 2


@pytest.mark.parametrize(
    ("settings", "told"), DEFINITIONS, ids=[f"{k}={clipped(v):.15}" for d, _ in DEFINITIONS for k, v in d.items()]
)
def test_a_definition_that_can_never_be_right_is_refused_at_once(blocks, settings, told):
    sequences = BlazeSequence()
    settings = {"blocks": blocks, "sequence": [SeqBlockData("fetch")], "seq_id": "etl", **settings}
    (fault,) = faults_of(sequences.sequence(**settings), keep)
    assert told in fault
    assert fault.startswith("seq ")
    assert "test_validation.py:" in fault
    assert len(fault) < 500
    assert not sequences


def test_all_faults_of_a_definition_are_told_at_once(blocks):
    decorate = BlazeSequence().sequence(None, ["a", "b"], "a b", 5, 5, 5, 0, -1, -1, 0, 0)
    assert len(faults_of(decorate, keep)) == 12


def test_a_finaliser_has_to_be_callable(blocks):
    (fault,) = faults_of(BlazeSequence().sequence(blocks, [Step("fetch")], "etl"), 5)
    assert "a finaliser is a function, got int 5" in fault


def test_a_lambda_needs_a_seq_id(blocks):
    (fault,) = faults_of(BlazeSequence().sequence(blocks, [Step("fetch")]), lambda context: context)
    assert "give one with seq_id=..." in fault


def needs_two(context, other): ...


def needs_keyword(*, context): ...


def generator(context):
    yield context


async def async_generator(context):
    yield context


@pytest.mark.parametrize(
    ("finaliser", "told"),
    [
        (
            needs_two,
            "called with {step: output} as its only argument, or with none; needs_two(context, other) can't be",
        ),
        (needs_keyword, "needs_keyword(*, context) can't be"),
        (lambda a, b: a, "<lambda>(a, b) can't be"),
        (generator, "the finaliser is a generator function, whose body nobody would run"),
        (async_generator, "the finaliser is a generator function"),
    ],
)
def test_a_finaliser_that_could_not_be_called_is_told_before_anything_runs(blocks, witness, finaliser, told):
    sequence = sequence_of(blocks, Step("fetch"), finaliser=finaliser)
    (fault,) = faults_of(sequence.run)
    assert told in fault
    assert fault.startswith(f"seq 'etl' ({sequence.definition.place})")
    assert witness == []


def test_steps_may_come_from_any_iterable(blocks):
    sequences = BlazeSequence()
    for number, steps in enumerate([(Step("fetch"),), iter([Step("fetch")]), (Step(name) for name in ["fetch"])]):
        assert sequences.sequence(blocks, steps, f"s{number}")(keep).run().ok


@pytest.mark.parametrize("seq_id", ["etl", "a.b.c", "a..b", "_", "0", "a.", "x" * 128, "a-b_c.d"])
def test_valid_ids_are_accepted(blocks, seq_id):
    sequences = BlazeSequence()
    sequence = sequences.sequence(blocks, [Step("nothing")], seq_id)(keep)
    assert sequences[seq_id] is sequence
    assert sequence.run().seq_id == seq_id


def test_the_id_is_the_functions_name_unless_given(blocks):
    sequences = BlazeSequence()

    @sequences.sequence(blocks, [Step("nothing")])
    def my_pipeline(context=None): ...

    assert list(sequences) == ["my_pipeline"]
    assert my_pipeline.seq_id == "my_pipeline"


# ---------------------------------------------------------------------- twice under one id


def test_a_second_sequence_of_the_same_id_is_refused_with_both_places(blocks):
    sequences = BlazeSequence()
    first = sequences.sequence(blocks, [Step("nothing")], "etl")(keep)
    (fault,) = faults_of(sequences.sequence(blocks, [Step("nothing")], "etl"), needs_two)
    assert "test_validation.py:" in fault.partition(": ")[0]
    assert f"the id is taken by the sequence at {first.definition.place}; choose another seq_id" in fault
    assert sequences["etl"] is first


def test_the_same_function_registered_again_replaces_its_sequence(blocks):
    sequences = BlazeSequence()
    sequences.sequence(blocks, [Step("nothing")], "etl")(keep)
    again = sequences.sequence(blocks, [Step("fetch")], "etl")(keep)
    assert list(sequences) == ["etl"]
    assert list(again.run().outputs) == ["fetch"]


def test_the_sequences_that_a_factory_makes_need_ids_of_their_own(blocks):
    sequences = BlazeSequence()

    def make(table):
        @sequences.sequence(blocks, [Step("nothing")])
        def load(context=None):
            return table

    make("orders")
    assert "the id is taken" in faults_of(make, "customers")[0]


def test_a_notebook_cell_that_is_run_again_replaces_its_sequence(blocks):
    source = "@sequences.sequence(blocks, [Step('nothing')])\ndef etl(context=None):\n    return {value}\n"
    space = {"sequences": BlazeSequence(), "blocks": blocks, "Step": Step, "__name__": "__main__"}
    for value, place in enumerate(["<ipython-input-1-a>", "<ipython-input-2-b>"]):
        exec(compile(source.format(value=value), place, "exec"), space)
    assert space["etl"].run().output == 1


# ---------------------------------------------------------------------- what is not found


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("etll", "there is no sequence 'etll'; did you mean 'etl'?"),
        ("zzz", "there is no sequence 'zzz'; the sequences are 'etl', 'nightly'"),
        ("", "there is no sequence ''"),
        (None, "there is no sequence None"),
        (5, "there is no sequence 5"),
        (["etl"], "there is no sequence ['etl']"),
        ("etl\n", r"there is no sequence 'etl\n'; did you mean 'etl'?"),
        ("x" * 100_000, "there is no sequence 'xxx"),
    ],
)
def test_an_unknown_sequence_is_not_found_and_near_ones_are_told(blocks, wanted, told):
    sequences = BlazeSequence()
    for seq_id in ("etl", "nightly"):
        sequences.sequence(blocks, [Step("nothing")], seq_id)(keep)
    with pytest.raises(NotFound) as caught:
        sequences.run(wanted)
    assert told in str(caught.value)
    assert isinstance(caught.value, (BlazeError, LookupError))
    assert len(str(caught.value)) < 200
    assert wanted not in sequences
    with pytest.raises(NotFound):
        sequences[wanted]


def test_an_empty_registry_says_so():
    with pytest.raises(NotFound, match="there is no sequence 'etl'; no sequence is registered"):
        BlazeSequence().run("etl")


# ---------------------------------------------------------------------- executors and workers


def test_a_named_executor_has_to_be_given_to_the_run(blocks, witness):
    blocks.block("on_gpu", executor="gpu")(lambda: witness.append("gpu"))
    sequence = sequence_of(blocks, Step("on_gpu"))
    sequence.validate()  # what the run will have is not known yet
    for executors in (None, {}, {"gpus": ThreadPoolExecutor(1)}):
        (fault,) = faults_of(sequence.run, executors=executors)
        assert "seq 'etl', step 'on_gpu' (" in fault
        assert "wants the executor 'gpu', which was not given: pass executors={'gpu': ...}" in fault
        assert ("did you mean 'gpus'?" in fault) is bool(executors)
    assert witness == []
    with ThreadPoolExecutor(1) as pool:
        assert sequence.run(executors={"gpu": pool}).ok
    assert witness == ["gpu"]


def test_a_misspelt_built_in_executor_is_recognised(blocks):
    blocks.block("misspelt", executor="proces")(keep)
    (fault,) = faults_of(sequence_of(blocks, Step("misspelt")).run)
    assert "did you mean 'process'?" in fault


@pytest.mark.parametrize(
    ("executors", "told"),
    [
        (["gpu"], "executors is a dict of concurrent.futures executors, got list ['gpu']"),
        ({"gpu": None}, "executors['gpu'] is a concurrent.futures.Executor, got None"),
        ({"gpu": ThreadPoolExecutor}, "executors['gpu'] is a concurrent.futures.Executor, got type <class"),
        ("gpu", "got str 'gpu'"),
    ],
)
def test_what_is_given_as_executors_is_checked(blocks, witness, executors, told):
    (fault,) = faults_of(sequence_of(blocks, Step("nothing")).run, executors=executors)
    assert fault.startswith("etl.run(): ")
    assert told in fault
    assert witness == []


def inner():
    def nested():
        return 1

    return nested


@pytest.mark.parametrize("function", [lambda: 1, inner()])
def test_a_block_for_a_process_has_to_be_importable(blocks, function):
    blocks.block("in_process", executor="process")(function)
    (fault,) = faults_of(sequence_of(blocks, Step("in_process")).validate)
    assert "step 'in_process' (" in fault
    assert "runs in its own process, which must import it by name: define it with def at the top level" in fault


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "4", None, HUGE], ids=clipped)
def test_a_bad_number_of_workers_is_refused(blocks, witness, workers):
    (fault,) = faults_of(sequence_of(blocks, Step("nothing")).run, max_workers=workers)
    assert "etl.run(): max_workers is a whole number from 1 to 1000000, got " in fault
    assert witness == []


# ---------------------------------------------------------------------- signatures


def positional(a, b=1, /, c=2):
    return a, b, c


def test_parameters_that_can_not_be_given_by_name_are_told(blocks):
    blocks.block(positional)
    sequence = sequence_of(blocks, Step("positional", parameters={"c": 1}))
    (fault,) = faults_of(sequence.run)
    assert "block 'positional' (" in fault
    assert "takes 'a' by position only; remove the '/' from its signature" in fault
    (first, second) = faults_of(sequence.run, {"positional": {"a": 1}})
    assert "takes 'a' by position only" in first
    assert "has no parameter 'a'; it has 'c'" in second


def test_a_positional_parameter_with_a_default_does_no_harm(blocks):
    def tolerable(a=1, /, b=2):
        return a, b

    blocks.block(tolerable)
    assert sequence_of(blocks, Step("tolerable", parameters={"b": 5})).run().outputs["tolerable"] == (1, 5)


def test_a_built_in_without_a_signature_is_told_to_be_wrapped(blocks):
    blocks.block("dict")(dict)
    (fault,) = faults_of(sequence_of(blocks, Step("dict", parameters={"a": 1})).run)
    assert "block 'dict' (" in fault
    assert "has no signature that Python can tell; wrap it in a function made with def" in fault


def test_a_data_model_and_its_function_have_to_agree(blocks):
    @blocks.block(data_model=Options)
    def disagrees(limit, table):
        return table

    faults = faults_of(sequence_of(blocks, Step("disagrees", parameters={"limit": 1})).run)
    assert len(faults) == 2
    assert "has no parameter 'since', which is a field of its data_model Options" in faults[0]
    assert "needs 'table', of which its data_model Options has no field" in faults[1]


def test_a_parameter_that_the_data_model_does_not_know_is_refused_and_not_dropped(blocks):
    @blocks.block(data_model=Options)
    def query(limit, since, table="default"):
        return table

    (fault,) = faults_of(sequence_of(blocks, Step("query", parameters={"limit": 1, "table": "mine"})).run)
    assert "Options, the data_model of block 'query', has no field 'table'; it has 'limit', 'since'" in fault


# ---------------------------------------------------------------------- large graphs

MANY = 10_000


@pytest.fixture(autouse=True)
def _the_recursion_limit_is_left_alone():
    limit = sys.getrecursionlimit()
    yield
    assert sys.getrecursionlimit() == limit


def chain_of(count):
    blocks = BlazeBlock()
    blocks.block("nothing")(lambda: None)
    steps = [Step("nothing", [f"s{n - 1}"] if n else [], name=f"s{n}") for n in range(count)]
    return sequence_of(blocks, *steps, seq_run_timeout=None)


@pytest.fixture(scope="module")
def chain():
    """A sequence of ten thousand steps in a row."""
    return chain_of(MANY)


def seconds_of(work, count):
    """Processor time, which does not depend on what else the machine does."""
    started = time.process_time()
    work(count)
    return time.process_time() - started


def check_chain(count):
    chain_of(count).validate()


def tell_faults(count):
    """Half of them steps of an unknown block."""
    blocks = BlazeBlock()
    blocks.block("every")(lambda **anything: None)
    sequence = sequence_of(
        blocks,
        *(Step("nothin", [f"t{n}"], {"x": f"@u{n}"}, name=f"s{n}") for n in range(count // 4)),
        *(Step("every", [f"t{n}"], {"x": f"@u{n}"}, name=f"e{n}") for n in range(count // 4)),
    )
    with pytest.raises(ValidationError) as caught:
        sequence.validate()
    assert len(caught.value.errors) == count
    assert len(str(caught.value)) > count


@pytest.mark.parametrize("work", [check_chain, tell_faults])
def test_ten_times_as_many_steps_or_faults_take_about_ten_times_as_long(work):
    """R27. Work that grows with the square would take a hundred times as long."""
    few = min(seconds_of(work, MANY // 10) for _ in range(3))
    # Not the first time, if the machine has much else to do: what grows with the square never does.
    assert any(seconds_of(work, MANY) < 40 * few for _ in range(3))


def test_a_chain_of_ten_thousand_steps_is_checked_and_run(chain):
    plan = chain.plan()
    assert (len(plan.steps), plan.roots, plan.dependencies[-1]) == (MANY, (0,), (MANY - 2,))
    result = chain.run(max_workers=2).raise_for_status()
    assert result.order == tuple(f"s{n}" for n in range(MANY))


def test_a_fan_in_of_ten_thousand_steps_is_checked_and_run(blocks, witness):
    names = [f"s{n}" for n in range(MANY)]
    sequence = sequence_of(
        blocks,
        *(Step("nothing", name=name) for name in names),
        Step("every", parameters={"all": [f"@{name}" for name in names]}),
    )
    assert len(sequence.plan().dependencies[-1]) == MANY
    assert sequence.run(max_workers=2).ok
    assert len(witness) == MANY + 1


def test_a_cycle_of_ten_thousand_steps_is_found(blocks):
    sequence = sequence_of(blocks, *(Step("nothing", [f"s{(n - 1) % MANY}"], name=f"s{n}") for n in range(MANY)))
    (fault,) = faults_of(sequence.validate)
    assert fault.endswith("s9 → s10 → (9989 more) → s0")


def test_five_thousand_cycles_are_told_in_part(blocks):
    sequence = sequence_of(blocks, *(Step("nothing", [f"s{n ^ 1}"], name=f"s{n}") for n in range(MANY)))
    faults = faults_of(sequence.validate)
    assert faults[0].endswith("s0 → s1 → s0")
    assert len(faults) == 10


def test_the_parameters_of_a_run_are_checked_for_the_steps_that_they_are_for(chain):
    (fault,) = faults_of(chain.validate, {"s9999": {"x": 1}})
    assert "step 's9999' (parameters of the run)" in fault
    assert "has no parameter 'x'; it has none" in fault


# ---------------------------------------------------------------------- graph()


@pytest.fixture
def diamond(blocks):
    return sequence_of(
        blocks,
        Step("fetch"),
        Step("clean", parameters={"rows": "@fetch"}),
        Step("every", ["fetch"], name="audit", run_when="all_done"),
        Step("load", ["audit"], {"rows": "@clean"}),
    )


def test_the_graph_as_text_is_a_tree(diamond):
    assert diamond.graph().splitlines() == [
        "etl",
        "└─ fetch",
        "   ├─ clean",
        "   │  └─ load  ← audit, clean",
        "   └─ audit (every) [all_done]",
        "      └─ load",
    ]
    assert diamond.graph("text") == diamond.graph()


def test_a_part_of_the_tree_that_was_drawn_is_named_again_and_not_drawn_again(blocks):
    sequence = sequence_of(
        blocks,
        Step("nothing", name="a"),
        Step("nothing", name="b"),
        Step("nothing", ["a", "b"], name="join"),
        Step("nothing", ["join"], name="end"),
    )
    assert sequence.graph().splitlines() == [
        "etl",
        "├─ a (nothing)",
        "│  └─ join (nothing)  ← a, b",
        "│     └─ end (nothing)",
        "└─ b (nothing)",
        "   └─ join (nothing) ^",
    ]


def test_the_graph_as_mermaid(diamond):
    assert diamond.graph("mermaid").splitlines() == [
        "flowchart TD",
        '    s0["fetch"]',
        '    s1["clean"]',
        '    s2["audit (every) [all_done]"]',
        '    s3["load"]',
        "    s0 --> s1",
        "    s0 --> s2",
        "    s2 --> s3",
        "    s1 --> s3",
    ]


def test_the_graph_as_dot(diamond):
    assert diamond.graph("dot").splitlines() == [
        'digraph "etl" {',
        "    rankdir=LR;",
        "    node [shape=box];",
        '    "fetch" [label="fetch"];',
        '    "clean" [label="clean"];',
        '    "audit" [label="audit (every) [all_done]"];',
        '    "load" [label="load"];',
        '    "fetch" -> "clean";',
        '    "fetch" -> "audit";',
        '    "audit" -> "load";',
        '    "clean" -> "load";',
        "}",
    ]


def test_a_graph_is_drawn_although_parameters_are_missing_and_nothing_is_run(blocks, witness):
    assert sequence_of(blocks, Step("clean")).graph().splitlines() == ["etl", "└─ clean"]
    assert witness == []


def test_a_graph_of_a_broken_sequence_is_not_drawn(blocks):
    assert "no step" in faults_of(sequence_of(blocks, Step("nothing", ["x"])).graph)[0]


@pytest.mark.parametrize(
    "name", ["end", "graph", "subgraph", "node", "digraph", "strict", "class", "0", "a--b", "o-x", "_"]
)
@pytest.mark.parametrize("format", ["text", "mermaid", "dot"])
def test_names_that_mean_something_to_the_format_stay_names(blocks, name, format):
    drawn = sequence_of(blocks, Step("nothing", name=name), Step("every", [name]), seq_id=f"{name}.x").graph(format)
    for line in drawn.splitlines():
        if name in line and format == "mermaid" and line != "flowchart TD" and " --> " not in line:
            assert line.count('"') == 2
            assert f'"{name} (nothing)"' in line
        if format == "dot" and name in line and line.strip() != "node [shape=box];":
            assert f'"{name}"' in line or line.startswith(f'digraph "{name}.x"') or '"every"' in line
    assert name in drawn


@pytest.mark.parametrize(
    ("format", "told"),
    [
        ("mermiad", "graph(): format is one of text, mermaid, dot; got str 'mermiad'; did you mean 'mermaid'?"),
        ("DOT", "got str 'DOT'"),
        ("", "got str ''"),
        (None, "got None"),
        (5, "got int 5"),
        (["dot"], "got list ['dot']"),
    ],
)
def test_an_unknown_format_is_refused(diamond, format, told):
    (fault,) = faults_of(diamond.graph, format)
    assert told in fault


@pytest.mark.parametrize("format", ["text", "mermaid", "dot"])
def test_a_chain_of_ten_thousand_steps_is_drawn_in_little_space(chain, format):
    drawn = chain.graph(format)
    assert len(drawn) < 2_000_000
    assert len(drawn.splitlines()) >= MANY
    assert "s9999" in drawn.splitlines()[-1 if format != "dot" else -2]


def test_deep_levels_of_the_tree_are_numbered_and_not_indented():
    lines = chain_of(40).graph().splitlines()
    assert lines[30] == " " * 87 + "└─ s29 (nothing)"
    assert lines[31] == " " * 87 + "└─ (31) s30 (nothing)"
    assert lines[40] == " " * 87 + "└─ (40) s39 (nothing)"


def test_a_fan_in_of_ten_thousand_steps_is_drawn_in_little_space(blocks):
    names = [f"s{n}" for n in range(MANY)]
    sequence = sequence_of(blocks, *(Step("nothing", name=name) for name in names), Step("every", names))
    lines = sequence.graph().splitlines()
    assert lines[2] == "│  └─ every  ← s0, s1, s2, s3, s4, s5, …"
    assert len(lines) == 2 * MANY + 1


def test_a_sequence_of_more_steps_than_the_state_file_has_room_for_is_refused(blocks, monkeypatch):
    monkeypatch.setattr(compiler, "MAX_STEPS", 3)
    sequence = sequence_of(blocks, *(Step("nothing", name=f"s{n}") for n in range(4)))
    assert "the sequence has 4 steps; 3 are allowed" in faults_of(sequence.validate)[0]
