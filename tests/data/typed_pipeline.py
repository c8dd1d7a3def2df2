"""What a type checker has to see through the decorators; ``tests/unit/test_typing.py`` shows it to mypy.

Each ``type: ignore`` is a wrong call: mypy is told to complain about those that are not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Coroutine, Dict, List, Optional

from typing_extensions import assert_type

from blaze import BlazeBlock, BlazeSequence, RunResult, SeqBlockData

if TYPE_CHECKING:
    from typing_extensions import reveal_type

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block
def bare(endpoint: str, limit: int = 100) -> List[int]:
    return [limit] * len(endpoint)


@blocks.block()
def empty(endpoint: str, limit: int = 100) -> List[int]:
    return bare(endpoint, limit)


@blocks.block("other", tags=["extract"], retries=3, timeout=1.5, retry_on=OSError)
def called(endpoint: str, limit: int = 100) -> List[int]:
    return bare(endpoint, limit)


@blocks.block(executor="process")
async def fetch(endpoint: str, *, limit: int) -> Dict[str, int]:
    return {endpoint: limit}


@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("other")], seq_id="etl")
def etl(context: Optional[Dict[str, Any]] = None, *, strict: bool = False) -> Dict[str, Any]:
    return context or {}


@sequences.sequence(blocks, [SeqBlockData("other")])
def nightly() -> int:
    return 5


def right() -> None:
    assert_type(bare("x"), List[int])
    assert_type(empty("x", 5), List[int])
    assert_type(called(endpoint="x", limit=5), List[int])
    assert_type(etl({"a": 1}, strict=True), Dict[str, Any])
    assert_type(etl.run({"other": {"limit": 1}}), RunResult)
    assert_type(etl.validate(), None)
    assert_type(etl.graph("dot"), str)
    assert_type(etl.seq_id, str)
    assert_type(nightly(), int)


async def awaited() -> None:
    pending = assert_type(fetch("x", limit=1), Coroutine[Any, Any, Dict[str, int]])
    assert_type(await pending, Dict[str, int])


def wrong() -> None:
    bare()  # type: ignore[call-arg]
    bare(5)  # type: ignore[arg-type]
    bare("x", "5")  # type: ignore[arg-type]
    bare("x", limti=5)  # type: ignore[call-arg]
    empty(b"x")  # type: ignore[arg-type]
    called("x", limit=None)  # type: ignore[arg-type]
    called("x", 1, 2)  # type: ignore[call-arg]
    called("x").append("y")  # type: ignore[arg-type]
    fetch("x", 1)  # type: ignore[misc, unused-coroutine]
    etl(5)  # type: ignore[arg-type]
    etl({}, strict="no")  # type: ignore[arg-type]
    etl({}, strick=True)  # type: ignore[call-arg]
    nightly(5)  # type: ignore[call-arg]
    etl.run(5)  # type: ignore[arg-type]
    etl.rum()  # type: ignore[attr-defined]
    blocks.block(retries="3")  # type: ignore[call-overload]
    blocks.block(retrys=3)  # type: ignore[call-overload]
    sequences.sequence(blocks, ["other"])  # type: ignore[list-item]


if TYPE_CHECKING:
    reveal_type(bare)
    reveal_type(empty)
    reveal_type(called)
    reveal_type(fetch)
    reveal_type(etl.__call__)
    reveal_type(nightly.__call__)
