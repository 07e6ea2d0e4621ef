"""The example, with networks trained for a moment only."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner


@pytest.fixture(scope="module")
def distillation() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "distillation.py"
    spec = importlib.util.spec_from_file_location("distillation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["distillation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_example_trains_and_reports(distillation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    small = partial(distillation.experiment, epochs=3, teacher_epochs=1)
    outcomes = []
    monkeypatch.setattr(distillation, "experiment", lambda seed: outcomes.append(small(seed)) or outcomes[-1])
    try:
        result = CliRunner().invoke(distillation.main, ["--seeds", "1"])
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    assert "student, labels and DDS" in result.stdout
    (outcome,) = outcomes
    assert outcome["teacher"].similarity == pytest.approx(1)
    assert outcome["student, labels and DDS"].similarity > outcome["student, labels"].similarity
