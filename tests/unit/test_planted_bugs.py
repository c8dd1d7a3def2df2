"""The planted bugs still fit the code: one that does not can prove nothing about the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.planted import BUGS
from tests.mutation.workshop import with_changes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_fits_the_code(bug):
    code = (ROOT / "blaze" / bug.file).read_text(encoding="utf-8")
    compile(with_changes(code, bug.changes), bug.file, "exec")
    for name in bug.tests:
        assert (ROOT / "tests" / name).is_file()
