"""The example, with networks trained for a moment only."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from example_modules import load_example

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    return load_example("digits")


def test_the_example_ranks_measures_and_draws(
    digits: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "experiment", partial(digits.experiment, epochs=1))
    result = CliRunner().invoke(digits.main, ["--output", str(tmp_path / "digits.png"), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert "Mean Spearman correlation with the truth" in result.stdout
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_images_of_training_readout_and_test_are_disjoint(digits: ModuleType) -> None:
    parts = [set(range(1797)[part]) for part in (digits.TRAIN, digits.READOUT, digits.TEST)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_the_same_seed_gives_the_same_result(digits: ModuleType) -> None:
    first, second = (digits.experiment(1, epochs=1) for _ in range(2))
    np.testing.assert_array_equal(first.truth.values, second.truth.values)
    np.testing.assert_array_equal(first.affinities["dds"].values, second.affinities["dds"].values)


def test_the_readout_is_ridge_regression_scored_on_the_test_images(digits: ModuleType) -> None:
    """On raw pixels, against scikit-learn."""
    from sklearn.linear_model import Ridge

    tasks = digits.make_tasks(torch.Generator().manual_seed(0))
    for task in (tasks["digit"], tasks["inpaint"]):
        images = task.images.flatten(1).double().numpy()
        wanted = np.eye(10)[task.targets] if task.classes else task.targets.double().numpy()
        train, test = images[digits.READOUT], images[digits.TEST]
        penalty = digits.RIDGE * ((train - train.mean(0)) ** 2).sum(0).mean()
        answers = Ridge(alpha=penalty).fit(train, wanted[digits.READOUT]).predict(test)
        truth = wanted[digits.TEST]
        if task.classes:
            expected = (answers.argmax(1) == truth.argmax(1)).mean()
        else:
            expected = 1 - ((answers - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
        assert digits.transfer(torch.nn.Flatten(), task) == pytest.approx(expected, abs=1e-6)


def test_tasks_are_what_they_say(digits: ModuleType) -> None:
    tasks = digits.make_tasks(torch.Generator().manual_seed(0))
    digit, images = tasks["digit"].targets, tasks["digit"].images
    assert torch.equal(tasks["parity"].targets, digit % 2)
    assert set(digit[tasks["loops"].targets == 2].tolist()) == {8}
    for turn in range(4):
        turned = tasks["rotation"].targets == turn
        assert torch.equal(tasks["rotation"].images[turned], images[turned].rot90(turn, (2, 3)))
    hidden = (tasks["inpaint"].images != images).flatten(1).sum(1)
    assert hidden.max() <= 16
    # A one-pixel dot has its centre there and no spread; ink is standardised over the images.
    dots = torch.zeros(3, 1, 8, 8)
    for i, (row, column) in enumerate([(1, 2), (4, 4), (7, 0)]):
        dots[i, 0, row, column] = 1 + i
    centre = torch.tensor([[1.0, 2.0], [4.0, 4.0], [7.0, 0.0]])
    torch.testing.assert_close(digits.geometry(dots)[:, 1:3], (centre - centre.mean(0)) / centre.std(0))
