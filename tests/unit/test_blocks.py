"""``BlazeBlock``: what the decorator registers, what it gives back, and what it refuses (R26, R48)."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import pickle
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import List

import pydantic
import pytest

from blaze import Abort, BlazeBlock, BlazeError, SeqBlockData, ValidationError
from blaze.core.block import Block

from .wired import faults_of, sequence_of


@dataclass
class Options:
    limit: int
    endpoint: str = "/rows"


class Model(pydantic.BaseModel):
    limit: int


@pytest.fixture
def blocks() -> BlazeBlock:
    return BlazeBlock()


#: Before Python 3.11, a decorator without arguments is called from the line of the ``def``.
BARE = 0 if sys.version_info >= (3, 11) else 1


def line() -> int:
    """The line of the caller."""
    return sys._getframe(1).f_lineno


# ---------------------------------------------------------------------- what is registered


def test_a_block_has_the_name_of_its_function_and_the_documented_defaults(blocks):
    @blocks.block
    def fetch(endpoint, limit=100): ...

    block = blocks["fetch"]
    assert isinstance(block, Block)
    assert block.name == "fetch"
    assert block.function is fetch
    assert (block.description, block.tags, block.data_model) == ("", (), None)
    assert (block.retries, block.retry_delay, block.timeout) == (None, None, None)
    assert (block.retry_backoff, block.retry_max_delay, block.retry_jitter) == (1.0, 3600.0, 0.0)
    assert block.retry_on == (Exception,)
    assert block.executor == "thread"
    assert block.persist_result is True


@pytest.mark.parametrize("decorate", [lambda b: b.block, lambda b: b.block(), lambda b: b.block(None)])
def test_the_decorator_may_stand_without_arguments(blocks, decorate):
    @decorate(blocks)
    def fetch(): ...

    assert list(blocks) == ["fetch"]
    assert blocks["fetch"].function is fetch


def test_the_name_may_be_given_by_position_or_by_keyword(blocks):
    blocks.block("one")(lambda: 1)
    blocks.block(name="two")(lambda: 2)
    assert list(blocks) == ["one", "two"]


def test_a_function_may_be_given_together_with_its_settings(blocks):
    def fetch(): ...

    assert blocks.block(fetch, retries=2) is fetch
    assert blocks["fetch"].retries == 2


def test_every_setting_is_kept(blocks):
    settings = {
        "description": "Rows of the API",
        "tags": ("extract", "api"),
        "data_model": Options,
        "retries": 3,
        "retry_delay": 0.5,
        "timeout": 30,
        "retry_backoff": 2.0,
        "retry_max_delay": 60.0,
        "retry_jitter": 0.25,
        "retry_on": (ConnectionError, TimeoutError),
        "executor": "gpu",
        "persist_result": False,
    }

    @blocks.block("fetch", **settings)
    def function(limit, endpoint): ...

    assert {name: getattr(blocks["fetch"], name) for name in settings} == settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [(["a", "b"], ("a", "b")), (("a",), ("a",)), ({"a"}, ("a",)), (frozenset("a"), ("a",)), ((), ())],
)
def test_tags_may_stand_in_any_collection(blocks, given, kept):
    blocks.block("fetch", tags=given)(lambda: 1)
    assert blocks["fetch"].tags == kept


@pytest.mark.parametrize("given", [OSError, (OSError,), [OSError]])
def test_one_exception_class_or_several_may_be_retried_on(blocks, given):
    blocks.block("fetch", retry_on=given)(lambda: 1)
    assert blocks["fetch"].retry_on == (OSError,)


def test_no_exception_at_all_may_be_retried_on(blocks):
    blocks.block("fetch", retry_on=())(lambda: 1)
    assert blocks["fetch"].retry_on == ()


def test_the_description_is_the_first_line_of_the_docstring_that_says_something(blocks):
    @blocks.block
    def fetch():
        """

        Fetch the rows.

        More of it.
        """

    assert blocks["fetch"].description == "Fetch the rows."


def test_a_given_description_wins_over_the_docstring(blocks):
    @blocks.block(description="Rows")
    def fetch():
        """Fetch the rows."""

    assert blocks["fetch"].description == "Rows"


def test_the_description_of_a_partial_is_that_of_its_function(blocks):
    def fetch(endpoint, limit):
        """Fetch the rows."""

    blocks.block("fetch")(functools.partial(fetch, limit=1))
    assert blocks["fetch"].description == "Fetch the rows."


def test_a_docstring_that_is_no_text_is_passed_over(blocks):
    def fetch(): ...

    fetch.__doc__ = 5
    blocks.block(fetch)
    assert blocks["fetch"].description == ""


def test_the_registry_is_a_mapping_of_blocks(blocks):
    blocks.block("b")(lambda: 1)
    blocks.block("a")(lambda: 1)
    assert (len(blocks), list(blocks), "a" in blocks, "c" in blocks, 5 in blocks) == (2, ["b", "a"], True, False, False)
    assert blocks.get("c") is None
    assert repr(blocks) == "<BlazeBlock of 2 blocks>"


@pytest.mark.parametrize(
    "name", ["a", "_", "0", "_private", "9lives", "a-b", "a--", "A_b-C", "None", "class", "end", "x" * 128]
)
def test_valid_names_are_accepted_whatever_they_mean_elsewhere(blocks, name):
    blocks.block(name)(lambda: 1)
    assert name in blocks


# ---------------------------------------------------------------------- the function afterwards


def test_the_decorated_function_is_the_function_itself(blocks):
    def fetch(endpoint: str, limit: int = 100) -> list:
        """Fetch the rows."""
        return [endpoint] * limit

    before = dict(vars(fetch))
    assert blocks.block(tags=["extract"])(fetch) is fetch
    assert vars(fetch) == before
    assert fetch("x", limit=2) == ["x", "x"]


def test_a_decorated_function_can_still_be_pickled():
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_an_async_function_stays_one(blocks):
    @blocks.block
    async def fetch():
        return 1

    assert blocks["fetch"].is_async
    assert asyncio.run(fetch()) == 1


def test_a_plain_function_is_not_async(blocks):
    blocks.block("fetch")(lambda: 1)
    assert not blocks["fetch"].is_async


class Callable_:
    def __call__(self, rows):
        return rows


class AsyncCallable:
    async def __call__(self, rows: int = 2):
        return rows


class GeneratorCallable:
    def __call__(self):
        yield 1


async def add(one, other):
    return one + other


def test_blocks_are_anything_that_can_be_called_by_name(blocks):
    blocks.block("function")(lambda rows: rows)
    blocks.block("object")(Callable_())
    blocks.block("partial")(functools.partial(lambda rows, n: rows * n, n=2))
    blocks.block("method")(Callable_().__call__)
    blocks.block("class")(Options)
    names = ("function", "object", "partial", "method")
    steps = [SeqBlockData(name, parameters={"rows": 1}) for name in names]
    outputs = sequence_of(blocks, *steps, SeqBlockData("class", parameters={"limit": 5})).run().outputs
    assert dict(outputs) == {"function": 1, "object": 1, "partial": 2, "method": 1, "class": Options(5)}


def test_async_objects_and_partials_are_awaited(blocks):
    blocks.block("object")(AsyncCallable())
    blocks.block("partial")(functools.partial(add, other=3))
    assert blocks["object"].is_async
    assert blocks["partial"].is_async
    sequence = sequence_of(blocks, SeqBlockData("object"), SeqBlockData("partial", parameters={"one": "@object"}))
    assert sequence.run().raise_for_status().outputs["partial"] == 5


registry = BlazeBlock()


@registry.block(name="module-level")
def at_module_level():
    return 1


# ---------------------------------------------------------------------- where it stands


def test_a_block_knows_the_file_and_line_of_its_decorator(blocks):
    @blocks.block
    def bare(): ...

    bare_at = line() - 3 + BARE

    @blocks.block(
        name="called",
        retries=1,
    )
    def function(): ...

    called_at = line() - 6

    blocks.block("by_hand")(lambda: 1)
    by_hand_at = line() - 1

    ends = {name: blocks[name].place.rpartition("/")[2] for name in blocks}
    assert ends == {
        "bare": f"test_blocks.py:{bare_at}",
        "called": f"test_blocks.py:{called_at}",
        "by_hand": f"test_blocks.py:{by_hand_at}",
    }


def test_the_place_is_relative_to_the_current_directory_if_it_is_below(blocks, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(Path(__file__).parent)
    blocks.block("a")(lambda: 1)
    assert blocks["a"].place == f"test_blocks.py:{line() - 1}"
    monkeypatch.chdir("/")
    blocks.block("b")(lambda: 1)
    assert blocks["b"].place.endswith(f"tests/unit/test_blocks.py:{line() - 1}")


def test_a_fault_names_the_block_and_where_its_decorator_stands(blocks):
    (fault,) = faults_of(blocks.block("fetch", retries=-1), lambda: 1)
    assert fault.startswith("block 'fetch' (")
    assert f"test_blocks.py:{line() - 2}): retries is a whole number from 0" in fault


# ---------------------------------------------------------------------- twice under one name


def test_a_second_function_of_the_same_name_is_refused_with_both_places(blocks):
    def define_first():
        @blocks.block
        def fetch(): ...

        return line() - 3 + BARE

    def define_second():
        @blocks.block
        def fetch(): ...

    first = define_first()
    (fault,) = faults_of(define_second)
    assert f"test_blocks.py:{line() - 5 + BARE})" in fault
    assert f"the name is taken by the block at {blocks['fetch'].place}; choose another with name=..." in fault
    assert blocks["fetch"].place.endswith(f":{first}")


def test_a_second_function_under_a_given_name_is_refused(blocks):
    blocks.block("fetch")(lambda: 1)
    (fault,) = faults_of(blocks.block("fetch"), at_module_level)
    assert "the name is taken" in fault
    assert blocks["fetch"].function is not at_module_level


def test_two_lambdas_on_one_line_are_two_functions(blocks):
    for function in (lambda: 1, lambda: 2):
        if "fetch" not in blocks:
            blocks.block("fetch")(function)
        else:
            assert "the name is taken" in faults_of(blocks.block("fetch"), function)[0]


def test_the_functions_that_a_factory_makes_need_names_of_their_own(blocks):
    def make(table, **settings):
        @blocks.block(**settings)
        def load():
            return table

        return load

    make("orders")
    (fault,) = faults_of(make, "customers")
    assert "the name is taken" in fault
    make("customers", name="load_customers")
    assert [blocks[name].function() for name in blocks] == ["orders", "customers"]


def test_the_functions_that_a_loop_makes_need_names_of_their_own(blocks):
    def define(table):
        @blocks.block
        def load(table=table):
            return table

    define("orders")
    assert "the name is taken" in faults_of(define, "customers")[0]


def test_one_function_registered_again_replaces_itself_with_its_new_settings(blocks):
    blocks.block(retries=1)(at_module_level)
    version = blocks.version
    blocks.block(retries=2)(at_module_level)
    assert (len(blocks), blocks["at_module_level"].retries) == (1, 2)
    assert blocks.version > version


def test_one_function_may_be_two_blocks(blocks):
    blocks.block("a")(at_module_level)
    blocks.block("b")(at_module_level)
    assert list(blocks) == ["a", "b"]


def test_a_factory_that_is_called_again_with_the_same_values_replaces_its_block(blocks):
    def register(registry):
        @registry.block
        def load():
            return registry, load

        return load

    register(blocks)
    second = register(blocks)
    assert blocks["load"].function is second


MODULE = """
import functools
from {here} import registry as blocks

def timed(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

@blocks.block(name="reloaded")
def fetch():
    return {value}

@blocks.block(name="reloaded_wrapped")
@timed
def clean():
    return {value}
"""


def load(path, value):
    path.write_text(MODULE.format(here=__name__, value=value))
    spec = importlib.util.spec_from_file_location("a_reloaded_module", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_reloaded_module_replaces_its_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    load(tmp_path / "definition.py", 1)
    load(tmp_path / "definition.py", 22)
    assert registry["reloaded"].function() == 22
    assert registry["reloaded_wrapped"].function() == 22


@pytest.mark.parametrize(
    "places",
    [
        ("<ipython-input-1-abc>", "<ipython-input-2-def>"),
        ("/tmp/ipykernel_55/111.py", "/tmp/ipykernel_55/222.py"),
        ("<stdin>", "<stdin>"),
        ("<python-input-0>", "<python-input-7>"),
    ],
)
def test_a_notebook_cell_or_an_input_that_is_run_again_replaces_its_block(blocks, places):
    source = "{blank}@blocks.block\ndef fetch():\n    return {value}\n"
    space = {"blocks": blocks, "__name__": "__main__"}
    for value, place in enumerate(places):
        exec(compile(source.format(blank="\n" * value, value=value), place, "exec"), space)
    assert blocks["fetch"].function() == 1


def test_a_plan_is_made_again_when_a_block_was_replaced(blocks):
    sequence = sequence_of(blocks, SeqBlockData("at_module_level"))
    blocks.block(retries=1)(at_module_level)
    assert sequence.plan().steps[0].retry.retries == 1
    blocks.block(retries=2)(at_module_level)
    assert sequence.plan().steps[0].retry.retries == 2


# ---------------------------------------------------------------------- what is refused

BAD_NAMES = [
    ("", "a name can't be empty"),
    (" ", "' ' is not a valid name"),
    ("a b", "'a b' is not a valid name"),
    ("a.b", "'a.b' is not a valid name"),
    ("-a", "the first a letter, digit or '_'"),
    ("a\n", r"'a\n' is not a valid name"),
    ("a\0", r"'a\x00' is not a valid name"),
    ("../x", "'../x' is not a valid name"),
    ("a/b", "is not a valid name"),
    ("naïve", "ASCII letters, digits"),
    ("tâche", "ASCII letters, digits"),
    ("٣", "ASCII letters, digits"),
    ("🔥", "is not a valid name"),
    ("@fetch", "is not a valid name"),
    ("x" * 129, "129 characters long; 128 are allowed"),
    (5, "a name is a str, not int"),
    (b"fetch", "a name is a str, not bytes"),
    (["fetch"], "a name is a str, not list"),
    (True, "a name is a str, not bool"),
]


@pytest.mark.parametrize(("name", "told"), BAD_NAMES, ids=[repr(name)[:20] for name, _ in BAD_NAMES])
def test_a_bad_name_is_refused(blocks, name, told):
    (fault,) = faults_of(blocks.block(name=name), lambda: 1)
    assert told in fault
    assert "test_blocks.py:" in fault
    assert "\n" not in fault
    assert "\0" not in fault
    assert not blocks


def test_a_name_of_a_megabyte_does_not_make_a_message_of_a_megabyte(blocks):
    (fault,) = faults_of(blocks.block("x" * 1_000_000), lambda: 1)
    assert len(fault) < 500


@pytest.mark.parametrize("function", [lambda: 1, functools.partial(add, 1), Callable_()])
def test_a_function_without_a_usable_name_is_told_to_take_one(blocks, function):
    (fault,) = faults_of(blocks.block, function)
    assert "give one with name=..." in fault


STATIC_IS_CALLABLE = pytest.mark.skipif(sys.version_info < (3, 10), reason="a staticmethod can't be called itself")


def generator():
    yield 1


async def async_generator():
    yield 1


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        functools.partial(generator),
        GeneratorCallable(),
        lambda: (yield),
        pytest.param(staticmethod(generator), marks=STATIC_IS_CALLABLE),
    ],
)
def test_a_generator_function_is_refused(blocks, function):
    (fault,) = faults_of(blocks.block("fetch"), function)
    assert "a generator function would hand on a generator that nobody has run; return a list" in fault
    assert not blocks


@pytest.mark.parametrize("function", [5, None, "fetch", ["fetch"], object()])
def test_what_can_not_be_called_is_refused(blocks, function):
    (fault,) = faults_of(blocks.block("fetch"), function)
    assert "a block is a function, got " in fault


HUGE = 10**400
BAD_SETTINGS = [
    ("retries", -1, "retries is a whole number from 0 to 1000000, got int -1"),
    ("retries", True, "got bool True"),
    ("retries", False, "got bool False"),
    ("retries", 1.0, "got float 1.0"),
    ("retries", "3", "got str '3'"),
    ("retries", float("nan"), "got float nan"),
    ("retries", 1_000_001, "from 0 to 1000000, got int 1000001"),
    ("retries", HUGE, "from 0 to 1000000, got int 1000"),
    ("retries", 10**5000, "from 0 to 1000000, got int "),
    ("retries", [3], "got list [3]"),
    ("retry_delay", -0.1, "retry_delay is a number of seconds from 0 to 1000000000, got float -0.1"),
    ("retry_delay", True, "got bool True"),
    ("retry_delay", "30", "got str '30'"),
    ("retry_delay", float("nan"), "got float nan"),
    ("retry_delay", float("inf"), "got float inf"),
    ("retry_delay", HUGE, "got int 1000"),
    ("retry_delay", timedelta(seconds=30), "got timedelta datetime.timedelta(seconds=30)"),
    ("timeout", 0, "timeout is a number of seconds above 0 (at most 1000000000), or None, got int 0"),
    ("timeout", -1, "got int -1"),
    ("timeout", False, "got bool False"),
    ("timeout", "10s", "got str '10s'"),
    ("timeout", float("nan"), "got float nan"),
    ("timeout", float("inf"), "got float inf"),
    ("timeout", 1e300, "got float 1e+300"),
    ("timeout", HUGE, "got int 1000"),
    ("timeout", 1j, "got complex 1j"),
    ("retry_backoff", -1, "retry_backoff is a factor from 0 to 1000000, got int -1"),
    ("retry_backoff", None, "got None"),
    ("retry_backoff", float("nan"), "got float nan"),
    ("retry_max_delay", -5, "retry_max_delay is a number of seconds from 0"),
    ("retry_max_delay", float("inf"), "got float inf"),
    ("retry_max_delay", None, "got None"),
    ("retry_jitter", 1.5, "retry_jitter is a fraction of the delay from 0 to 1, got float 1.5"),
    ("retry_jitter", -0.5, "got float -0.5"),
    ("retry_jitter", True, "got bool True"),
    ("retry_jitter", float("nan"), "got float nan"),
    ("retry_jitter", HUGE, "got int 1000"),
    ("retry_on", "ValueError", "retry_on is a tuple of exception classes, got str 'ValueError'"),
    ("retry_on", ("ValueError",), "got tuple ('ValueError',)"),
    ("retry_on", ValueError("x"), "got ValueError('x')"),
    ("retry_on", int, "got tuple (<class 'int'>,)"),
    ("retry_on", None, "got None"),
    ("tags", "extract", "tags are a list of str, got str 'extract'"),
    ("tags", [1], "got tuple (1,)"),
    ("tags", None, "got None"),
    ("tags", 5, "got int 5"),
    ("description", 5, "description is a str, got int 5"),
    ("description", b"x", "description is a str, got bytes b'x'"),
    ("persist_result", "no", "persist_result is True or False, got str 'no'"),
    ("persist_result", 1, "got int 1"),
    ("persist_result", None, "got None"),
    ("executor", "", 'executor is "thread", "process" or the name of an executor, got str \'\''),
    ("executor", None, "got None"),
    ("executor", 5, "got int 5"),
    ("data_model", dict, "data_model is a dataclass or a class with model_validate"),
    ("data_model", Options(1), "got Options(limit=1, endpoint='/rows')"),
    ("data_model", Model(limit=1), "got Model(limit=1)"),
    ("data_model", "Options", "got str 'Options'"),
    ("data_model", List[int], "got "),
]


@pytest.mark.parametrize(
    ("setting", "value", "told"), BAD_SETTINGS, ids=[f"{s}={type(v).__name__}" for s, v, _ in BAD_SETTINGS]
)
def test_a_bad_setting_is_refused(blocks, setting, value, told):
    (fault,) = faults_of(blocks.block("fetch", **{setting: value}), lambda limit=1: 1)
    assert told in fault
    assert fault.startswith("block 'fetch' (")
    assert len(fault) < 400
    assert not blocks


def test_an_async_block_runs_on_no_executor_but_the_event_loop(blocks):
    (fault,) = faults_of(blocks.block("fetch", executor="process"), add)
    assert "an async block runs on the event loop; executor='process' is for plain functions" in fault


def test_a_value_whose_repr_fails_is_refused_like_any_other(blocks):
    class Hostile:
        def __repr__(self):
            raise RuntimeError("no")

    for setting in ("retries", "timeout", "retry_on", "tags", "executor", "data_model"):
        (fault,) = faults_of(blocks.block("fetch", **{setting: Hostile()}), lambda: 1)
        assert "Hostile" in fault


def test_all_faults_of_a_block_are_told_at_once(blocks):
    faults = faults_of(blocks.block("a b", retries=-1, timeout=0, tags="x", executor="", retry_jitter=2), generator)
    told = ["not a valid name", "generator", "retries", "timeout", "retry_jitter", "tags", "executor"]
    assert len(faults) == len(told)
    assert all(any(word in fault for fault in faults) for word in told)


@pytest.mark.parametrize(
    ("setting", "near"), [("retrys", "retries"), ("time_out", "timeout"), ("excutor", "executor"), ("function", None)]
)
def test_an_unknown_setting_is_a_type_error_with_the_near_name(blocks, setting, near):
    with pytest.raises(TypeError) as caught:
        blocks.block("fetch", **{setting: 1})
    assert f"block() has no setting '{setting}'" in str(caught.value)
    assert f"test_blocks.py:{line() - 2}" in str(caught.value)
    assert near is None or f"did you mean '{near}'?" in str(caught.value)


def test_what_is_raised_is_a_value_error_of_blaze_that_lists_where_and_what(blocks):
    with pytest.raises(ValidationError) as caught:
        blocks.block("fetch", retries=-1, timeout=0)(lambda: 1)
    assert isinstance(caught.value, (BlazeError, ValueError))
    assert str(caught.value).startswith("2 faults in block 'fetch' (")
    ((where, what), (same, _)) = caught.value.errors
    assert where == same
    assert what == "retries is a whole number from 0 to 1000000, got int -1"
    assert pickle.loads(pickle.dumps(caught.value)).errors == caught.value.errors


def test_a_refused_block_leaves_the_registry_as_it_was(blocks):
    blocks.block(retries=1)(at_module_level)
    version = blocks.version
    faults_of(blocks.block(retries=-1), at_module_level)
    assert (blocks["at_module_level"].retries, blocks.version) == (1, version)


def test_the_signals_of_blaze_may_be_named_in_retry_on(blocks):
    blocks.block("fetch", retry_on=(Abort, KeyboardInterrupt))(lambda: 1)
    assert blocks["fetch"].retry_on == (Abort, KeyboardInterrupt)
