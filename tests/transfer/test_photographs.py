"""The example on photographs, with a network trained for a moment only."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from example_modules import load_example
from sklearn.datasets import load_sample_images

import dds_ext

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_example("photographs")
    monkeypatch.setattr(module, "CROPS", dict.fromkeys(module.CROPS, 60))
    return module


def test_the_example_ranks_measures_and_draws(
    photographs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "experiment", partial(photographs.experiment, epochs=1))
    result = CliRunner().invoke(photographs.main, ["--output", str(tmp_path / "p.png"), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert "Sources for where a crop is from by dds, 60 images" in result.stdout
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_ranking_is_by_similarity_to_the_answers(photographs: ModuleType) -> None:
    result = photographs.experiment(1, epochs=0)
    random = torch.Generator().manual_seed(1)
    photographs.make_crops(photographs.TRAIN, random)
    crops, classes = photographs.make_crops(photographs.READOUT, random)
    scores = dict(zip(result.ranking.sources, result.ranking.scores, strict=True))
    answers = np.eye(6)[classes]
    assert scores["pixels"] == pytest.approx(dds_ext.dds(crops.flatten(1).double().numpy(), answers), abs=1e-9)
    assert set(scores) == set(result.accuracy)
    assert len(scores) == 3 + 2 * 4
    # Colours tell sky from petals. By chance 10 of the 60 crops would be right, and 18 or more with probability 0.01.
    assert result.accuracy["colours"] >= 0.3


def test_crops_of_the_parts_share_no_pixels_and_classes_are_places(photographs: ModuleType) -> None:
    """Every crop is found in its photograph, in a strip of its part and in its third."""
    images = [torch.tensor(image / 255, dtype=torch.float32).permute(2, 0, 1) for image in load_sample_images().images]
    _, height, width = images[0].shape
    side, random = photographs.SIDE, torch.Generator().manual_seed(0)
    for part in (photographs.TRAIN, photographs.READOUT, photographs.TEST):
        crops, classes = photographs.make_crops(part, random)
        for crop, number in zip(crops[::6], classes[::6], strict=True):
            windows = images[number // 3][:, : height - side + 1, : width - side + 1]
            tops, lefts = torch.nonzero((windows == crop[:, :1, :1]).all(0), as_tuple=True)
            places = [
                (int(top), int(left))
                for top, left in zip(tops, lefts, strict=True)
                if torch.equal(images[number // 3][:, top : top + side, left : left + side], crop)
            ]
            assert places
            for top, left in places[:1]:
                assert top // (height // 3) == (top + side - 1) // (height // 3) == number % 3
                assert left // (width // 12) == (left + side - 1) // (width // 12)
                assert left // (width // 12) % 3 == part


def test_descriptors(photographs: ModuleType) -> None:
    ramp = torch.arange(32.0) / 32
    rightwards = ramp.expand(1, 3, 32, 32)
    across = photographs.directions(rightwards)[0]
    downwards = photographs.directions(rightwards.transpose(2, 3))[0]
    # A gradient of 1/32 in one direction: all of it in one bin, and in another one for another direction.
    assert sorted(across.tolist()) == pytest.approx([0] * 7 + [1 / 32])
    assert across.argmax() != downwards.argmax()
    means = photographs.colours(rightwards)[0]
    torch.testing.assert_close(means, torch.cat([ramp.mean().repeat(3), rightwards[0, 0].std().repeat(3)]))
