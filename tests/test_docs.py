"""The guides: what they show runs, in the order of the page, and what they link to is there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from dds_transfer.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
GUIDES = ("practitioners.md", "pytorch.md", "rsa.md", "similarity.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", GUIDES)
def test_guide_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python blocks share their names, as in a notebook; each line of a shell block is a command ``dds``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    path = ROOT / "docs" / name
    text = path.read_text()
    names: dict[str, object] = {"__name__": "guide"}
    counts = {"python": 0, "sh": 0}
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        if language == "":  # what a test cannot run, such as a download
            continue
        counts[language] += 1
        line = text[: match.start(2)].count("\n")
        if language == "python":
            exec(compile("\n" * line + code, str(path), "exec"), names)  # errors name the line of the page
            continue
        for command in code.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(command, comments=True)
            assert program == "dds"
            result = CliRunner().invoke(main, arguments, prog_name="dds")
            assert result.exit_code == 0, f"{path}, after line {line}: {command}\n{result.output}"
    assert counts["python"] > 0 and (counts["sh"] > 0 or name == "pytorch.md")
    for module in set(sys.modules) - before:  # those that the page wrote
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


def test_every_language_is_known_and_links_lead_somewhere() -> None:
    for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = path.read_text()
        if path.name in GUIDES:
            assert {language for language, _ in BLOCK.findall(text)} <= {"", "python", "sh"}
        for place in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in place:
                assert (path.parent / place).exists(), f"{path} links to {place}"


def test_the_readme_lists_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [name for name in COMMANDS if f"dds {name} " not in text]
    assert not missing, f"the README does not show {', '.join(missing)}"
