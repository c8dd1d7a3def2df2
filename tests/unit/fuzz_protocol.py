"""Lets a fuzzer that follows the branches loose on the parser: ``python tests/unit/fuzz_protocol.py -runs=1000000``.

Needs atheris (``pip install -e .[fuzz]``). Ends with another status than 0, and the frame, at the first one
that is neither a message nor refused. What it takes from the command line is libFuzzer's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["json", "blaze.daemon"]):
    from blaze.daemon import protocol

from tests.unit.random_frames import parsed_or_refused

if __name__ == "__main__":
    # The C parser has no branches that could be followed; Python's own has.
    import json.scanner

    protocol._read.__self__.scan_once = json.scanner.py_make_scanner(protocol._read.__self__)
    atheris.Setup(sys.argv, parsed_or_refused)
    atheris.Fuzz()
