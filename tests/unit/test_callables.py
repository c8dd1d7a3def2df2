"""What is read of plain functions is what ``inspect`` tells of them."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, List, Tuple

import pytest

from blaze.core.what.callables import NOTHING, is_async, is_generator, parameters_of, takes
from blaze.core.what.declarations import SeqBlockData


def nothing() -> None: ...
def plain(a, b: int, c: str = "c"): ...
def by_position(a, b=1, /, c=2, *, d, e: List[int] = ()): ...
def starred(a, *rest: int, named=None, needed, **more: str): ...
def only_named(*, a=1, b): ...
def everything(*args, **kwargs): ...
def with_locals(a, b=2):
    c = a
    return [b for _ in range(c)]


async def coroutine(a=1): ...
def generator(a):
    yield a


async def async_generator():
    yield 1


class Callme:
    def __init__(self, a, b=2): ...
    def __call__(self, a): ...
    async def method(self, a, *, b): ...


@functools.wraps(plain)
def wrapped(*args):
    return plain(*args)


FUNCTIONS: List[Callable[..., Any]] = [
    nothing, plain, by_position, starred, only_named, everything, with_locals, coroutine, generator, async_generator,
    lambda a, b=1: a, Callme, Callme(1), Callme(1).method, wrapped, functools.partial(plain, 1),
    functools.partial(plain, b=1), functools.lru_cache(plain), sorted,
]  # fmt: skip


def from_inspect(function: Callable[..., Any]) -> List[Tuple[Any, ...]]:
    return [
        (found.name, found.kind, found.default, found.annotation)
        for found in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("function", FUNCTIONS, ids=[str(number) for number in range(len(FUNCTIONS))])
def test_a_callable_is_read_as_inspect_reads_it(function: Callable[..., Any]) -> None:
    empty = inspect.Parameter.empty
    found = parameters_of(function)
    assert from_inspect(function) == [
        (
            one.name,
            one.kind,
            empty if one.default is NOTHING else one.default,
            empty if one.annotation is NOTHING else one.annotation,
        )
        for one in found
    ]
    for count in range(5):
        try:
            inspect.signature(function).bind(*[None] * count)
        except TypeError:
            assert not takes(found, count)
        else:
            assert takes(found, count)
    if inspect.isroutine(function):
        assert is_async(function) == inspect.iscoroutinefunction(function)
        assert is_generator(function) == (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function))


def test_what_has_no_signature_is_refused_as_inspect_refuses_it() -> None:
    with pytest.raises((TypeError, ValueError)):
        parameters_of(dict)
    with pytest.raises(TypeError):
        parameters_of(1)  # type: ignore[arg-type]


def test_steps_are_compared_shown_and_made_one_by_one() -> None:
    step = SeqBlockData("a", parameters={"b": 1})
    assert step == SeqBlockData("a", [], {"b": 1}) != SeqBlockData("a")
    assert step != "a"
    assert repr(SeqBlockData("a", ["b"])).startswith("SeqBlockData(block_name='a', dependencies=['b'], parameters={}, ")
    SeqBlockData("a").dependencies.append("b")
    assert SeqBlockData("a").dependencies == []
