"""The figures in the pages are those of the committed results."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SPEEDS = script("table").PAGES


@pytest.mark.parametrize(("page", "write", "results"), SPEEDS, ids=[name for name, *_ in SPEEDS])
def test_speeds(page: str, write: Callable[[str, Any], str], results: str) -> None:
    text = (ROOT / page).read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / results).read_text())
    assert write(text.replace(" x |", " times |"), measured) == text, "run `python benchmarks/table.py`"


def test_tables_of_mini_taskonomy() -> None:
    tables = script("minitaskonomy")
    pages, results = [page.read_text() for page in tables.PAGES], json.loads(tables.RESULTS.read_text())
    assert {name for page in pages for _, name, _ in tables.BLOCK.findall(page)} == set(tables.BLOCKS)
    for page in pages:
        assert tables.filled(page, results) == page, "run python benchmarks/minitaskonomy.py"
