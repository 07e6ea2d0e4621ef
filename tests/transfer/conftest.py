"""Shared by the tests of dds_transfer: small features on disk and a way to run the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dds_transfer.cli import main
from dds_transfer.tables import TASKONOMY_TASKS
from numpy.typing import NDArray

Features = dict[str, NDArray[np.float64]]

# The 20 Taskonomy models of the authors' activation file, and the Pascal VOC model that is its 21st entry.
AUTHORS_KEYS = (*TASKONOMY_TASKS, "colorization", "class_places", "inpainting_whole", "pascal_voc_segmentation")


def related_features(names: tuple[str, ...], n: int, d: int) -> Features:
    """Features (n, d) that share a signal, the more of it the later the name."""
    random = np.random.default_rng(0)
    signal = random.standard_normal((n, d))
    return {name: signal * 0.2 * i + random.standard_normal((n, d)) for i, name in enumerate(names)}


@pytest.fixture
def features() -> Features:
    return related_features(("a", "b", "c", "d", "target"), 24, 12)


@pytest.fixture
def folder(tmp_path: Path, features: Features) -> Path:
    """A folder with the features above, a .npy file each."""
    path = tmp_path / "features"
    path.mkdir()
    for name, X in features.items():
        np.save(path / f"{name}.npy", X)
    return path


@pytest.fixture
def dds() -> Callable[..., Result]:
    """Run ``dds`` with these arguments, in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="dds")

    return run
