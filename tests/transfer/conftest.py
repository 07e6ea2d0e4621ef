"""Shared by the tests of dds_transfer: small features on disk, a way to run the command line, a tiny experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from dds_transfer.cli import main
from dds_transfer.minitaskonomy import shipped
from dds_transfer.minitaskonomy.run import run
from made_experiment import TINY
from made_features import Features, related_features
from torch import Tensor


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As the examples and the experiment run; and on a busy machine two threads would wait for each other."""
    with shipped.one_thread():
        yield


@pytest.fixture
def seed() -> None:
    """The same weights and images every time."""
    torch.manual_seed(0)


@pytest.fixture
def X(seed: None) -> Tensor:
    """Seven images for the networks of ``small_networks``."""
    return torch.randn(7, 3, 16, 16)


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


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mini-Taskonomy in miniature of the miniature: ten seconds, which two files of tests share."""
    folder = tmp_path_factory.mktemp("experiment")
    run(folder, 0, TINY)
    return folder
