"""The tree is clean under the formatters and checkers that CONTRIBUTING names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent
SOURCES = [
    str(p)
    for folder in ("csrc", "tests/cpp", "tests/cuda")
    for p in (ROOT / folder).rglob("*")
    if p.suffix in {".h", ".cpp", ".cu"}
]

COMMANDS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "clang-format": ["clang-format", "--dry-run", "--Werror", *SOURCES],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_clean(name: str) -> None:
    tool, *arguments = COMMANDS[name]
    result = subprocess.run([str(TOOLS / tool), *arguments], cwd=ROOT, text=True, capture_output=True)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
