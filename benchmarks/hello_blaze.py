"""The smallest durable pipeline with Blaze, start to exit: ``python hello_blaze.py STATE_DIR``."""

import sys
from typing import Any, Dict

from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block
def greet() -> str:
    return "hello"


@blocks.block
def shout(text: str) -> str:
    return text.upper()


@sequences.sequence(
    blocks=blocks,
    sequence=[SeqBlockData("greet"), SeqBlockData("shout", parameters={"text": "@greet"})],
)
def hello(context: Dict[str, Any]) -> Any:
    return context["shout"]


with Blaze(sequences=sequences, state_dir=sys.argv[1]) as scheduler:
    print(scheduler.run("hello").raise_for_status().output)
