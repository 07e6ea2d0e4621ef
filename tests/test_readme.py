"""The figures of the README and of the page on Mini-Taskonomy are those of the committed results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_speeds() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "cpu.json").read_text())
    text = (ROOT / "README.md").read_text()
    assert script("table").table(results) in text, "put `python benchmarks/table.py` into the README"


def test_tables_of_mini_taskonomy() -> None:
    tables = script("minitaskonomy")
    page, results = tables.PAGE.read_text(), json.loads(tables.RESULTS.read_text())
    assert {name for _, name, _ in tables.BLOCK.findall(page)} == set(tables.BLOCKS)
    assert tables.filled(page, results) == page, "run python benchmarks/minitaskonomy.py"
