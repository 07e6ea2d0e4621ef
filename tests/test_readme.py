"""The figures in the pages are those of the committed results."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
assert SPEC is not None
assert SPEC.loader is not None
table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(table)


@pytest.mark.parametrize(("page", "write", "results"), table.PAGES, ids=[name for name, *_ in table.PAGES])
def test_figures(page: str, write: Callable[[str, Any], str], results: str) -> None:
    text = (ROOT / page).read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / results).read_text())
    assert write(text.replace(" x |", " times |"), measured) == text, "run `python benchmarks/table.py`"
