"""The whole experiment for one seed, in steps that are kept as they end.

Every step (a few hundred images, a network, all transfers from a source) writes one file, from files of earlier steps
and the seed alone. A run that was stopped goes on with the steps whose files are missing. Steps of one phase run side
by side, each on one thread, so that results do not depend on the number of processors.

What it costs, in seconds of one core of an AMD EPYC with AVX-512: an image with its labels 0.035, a training step of an
encoder 0.05, of a small one 0.03, of the ResNet 0.07, of a readout 0.015 (a batch of 32 each). What the finished
steps of a run took stands in its folder, in ``cost.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dds_transfer.blocks import BLOCKS
from dds_transfer.minitaskonomy.dataset import Dataset, data_path, load_split, parts, read_tensors, render_part
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.networks import ResNet, make_network
from dds_transfer.minitaskonomy.steps import Step, do_steps
from dds_transfer.minitaskonomy.training import (
    load_encoder,
    network_path,
    save_network,
    stable_seed,
    train_network,
)
from dds_transfer.minitaskonomy.transfer import block_losses, in_batches, save_losses, transfer_losses
from dds_transfer.output import write_json
from dds_transfer.tables import Table
from dds_transfer.tournament import ahp_affinity, win_rates

Array: TypeAlias = NDArray[np.float32]

RANDOM = "random"  # the control: an encoder that was never trained
SOURCES = (*TASKS, RANDOM)
BRANCHED = "class_1000"  # what the ResNet is trained for, as ImageNet's are
NOTE = "settings.json"  # what experiment a folder holds
COST = "cost.json"  # what its finished steps have taken
EDITION = 2  # of rooms, networks and training: where the code has changed what a seed gives, this has too


@dataclass(frozen=True)
class Settings:
    """How large the experiment is.

    Attributes:
        train, transfer, test, ranking: numbers of images: for networks, for readouts, for losses, for rankings.
        steps: batches of 32 that networks are trained on.
        readout_steps: the same of readouts.
        draws: how often some of the ranking images are drawn, for intervals.
    """

    train: int = 4096
    transfer: int = 1024
    test: int = 512
    ranking: int = 512
    steps: int = 1000
    readout_steps: int = 160
    draws: int = 100

    def images(self, split: str) -> int:
        """The number of images of a split."""
        return int(getattr(self, split))


FULL = Settings()
SMALL = Settings(train=192, transfer=64, test=64, ranking=64, steps=16, readout_steps=5)


def phases(folder: Path, seed: int, settings: Settings) -> list[list[Step]]:
    """All steps, in phases: those of one need only files of the phases before."""
    renders = [
        Step(
            f"images {split}, {style}, {part + 1} of {parts(settings.images(split))}",
            data_path(folder, split, part, style),
            settings.images(split) / parts(settings.images(split)) / 30,
            partial(
                render_part, data_path(folder, split, part, style), seed, split, part, settings.images(split), style
            ),
        )
        for split, style in (*product(("train", "transfer", "test", "ranking"), ("day",)), ("ranking", "night"))
        for part in range(parts(settings.images(split)))
    ]
    networks = [
        Step(
            f"network {architecture}, {task}",
            network_path(folder, architecture, task),
            0.1 if task == RANDOM else settings.steps * {"encoder": 0.05, "small": 0.03, "resnet": 0.07}[architecture],
            partial(_train, folder, architecture, task, seed, settings),
        )
        for architecture, task in (*product(("encoder", "small"), SOURCES), ("resnet", BRANCHED))
    ]
    transfers = [
        Step(
            f"transfers from {source}",
            losses_path(folder, source),
            len(TASKS) * settings.readout_steps * 0.015,
            partial(_transfer, folder, source, seed, settings),
        )
        for source in SOURCES
    ]
    transfers += [
        Step(
            f"transfers from block {block + 1} of the ResNet",
            losses_path(folder, f"block{block + 1}"),
            len(TASKS) * settings.readout_steps * 0.015,
            partial(_branch, folder, block, seed, settings),
        )
        for block in range(BLOCKS)
    ]
    return [renders, networks, transfers]


def run(
    folder: Path,
    seed: int = 0,
    settings: Settings = FULL,
    workers: int = 2,
    report: Callable[[str, int, int, float], None] = lambda name, done, steps, left: None,
) -> None:
    """Run the experiment, or what is missing of it, and write its tables.

    Args:
        folder: where everything is kept: ``data``, ``networks``, ``losses`` and the tables, see :func:`write_truth`.
        seed: of rooms, weights and orders.
        settings: the sizes.
        workers: processes; results do not depend on their number.
        report: called after each step with its name, the number of steps done and in all, and the seconds left.

    Raises ValueError if the folder holds an experiment of another seed or other settings.
    """
    _claim(folder, seed, settings)
    steps = phases(folder, seed, settings)
    waiting = [[step for step in phase if not step.output.exists()] for phase in steps]
    total, done = sum(map(len, steps)), sum(map(len, steps)) - sum(map(len, waiting))
    left = sum(step.cost for phase in waiting for step in phase)
    wall_before, cpu = read_cost(folder)[1:]
    spent, start = 0.0, time.monotonic()
    for step, seconds in do_steps(waiting, workers):
        done, left, spent, cpu = done + 1, left - step.cost, spent + step.cost, cpu + seconds
        wall = time.monotonic() - start
        write_json(folder / COST, {"workers": workers, "wall_seconds": wall_before + wall, "cpu_seconds": cpu})
        report(step.name, done, total, max(0, left) / spent * wall)
    write_truth(folder)


def _claim(folder: Path, seed: int, settings: Settings) -> None:
    """Refuse a folder of another experiment, and mark it as this one's."""
    if (folder / NOTE).exists():
        if read_settings(folder) != (seed, settings):
            raise ValueError(
                f"{folder} holds an experiment of another seed or other settings ({folder / NOTE}); choose another "
                "folder"
            )
        return
    if (folder / "data").exists():
        raise ValueError(f"{folder} holds data of an experiment, but no {NOTE} says of which; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / NOTE, {"edition": EDITION, "seed": seed, **asdict(settings)})


def read_settings(folder: Path) -> tuple[int, Settings]:
    """The seed and the sizes of the experiment in a folder.

    Raises FileNotFoundError where there is none, and ValueError where it is of another edition than this code's.
    """
    path = folder / NOTE
    about = _read_json(path)
    edition = about.pop("edition", 1)
    if edition != EDITION:
        raise ValueError(
            f"{folder} holds an experiment of edition {edition}, this is edition {EDITION}; run it anew in another "
            "folder"
        )
    if set(about) != {"seed", *asdict(FULL)} or not all(type(value) is int for value in about.values()):
        raise ValueError(f"{path} does not say the seed and the settings of an experiment; choose another folder")
    return about.pop("seed"), Settings(**about)


def read_cost(folder: Path) -> tuple[int, float, float]:
    """What the finished steps have taken: the number of workers last, seconds by the clock, and of processor time.

    Zeros where there are none yet. Raises ValueError where the file is damaged.
    """
    path = folder / COST
    if not path.exists():
        return 0, 0.0, 0.0
    try:
        found = _read_json(path)
        return int(found["workers"]), float(found["wall_seconds"]), float(found["cpu_seconds"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged; remove it, and what steps take is counted from now on") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: no JSON object")
    return found


def _train(folder: Path, architecture: str, task: str, seed: int, settings: Settings) -> None:
    if task != RANDOM:
        data = load_split(folder, "train", settings.train)
        train_network(folder, architecture, task, data, settings.steps, seed)
        return
    with torch.random.fork_rng():
        torch.manual_seed(stable_seed(seed, architecture, RANDOM))
        save_network(make_network(architecture, "autoencoder"), network_path(folder, architecture, RANDOM))


def _transfer(folder: Path, source: str, seed: int, settings: Settings) -> None:
    encoder = load_encoder(folder, "encoder", source)
    save_losses(
        transfer_losses(encoder, *_readout_data(folder, settings), settings.readout_steps, seed),
        losses_path(folder, source),
    )


def _branch(folder: Path, block: int, seed: int, settings: Settings) -> None:
    encoder = load_encoder(folder, "resnet", BRANCHED)
    assert isinstance(encoder, ResNet)
    save_losses(
        block_losses(encoder, block, *_readout_data(folder, settings), settings.readout_steps, seed),
        losses_path(folder, f"block{block + 1}"),
    )


def _readout_data(folder: Path, settings: Settings) -> tuple[Dataset, Dataset]:
    return load_split(folder, "transfer", settings.transfer), load_split(folder, "test", settings.test)


def losses_path(folder: Path, source: str) -> Path:
    """Where the losses after transfer from a source, or from a block of the ResNet, are kept."""
    return folder / "losses" / f"{source}.safetensors"


def measured_losses(folder: Path, sources: tuple[str, ...] = SOURCES) -> NDArray[np.float64]:
    """(S, T, n), the loss on every test image after transfer from each source to each of ``TASKS``."""
    by_source = [read_tensors(losses_path(folder, source)) for source in sources]
    return np.stack([[losses[target].double().numpy() for target in TASKS] for losses in by_source])


def write_truth(folder: Path) -> None:
    """Write the measured transfers as tables of sources x targets.

    ``losses.csv``, the mean loss on the test images; ``winrate.csv``, the share of images and other sources that a
    source beats; ``affinity.csv``, by the Analytic Hierarchy Process as in Taskonomy; ``branching_losses.csv`` and
    ``branching_winrate.csv``, the same of the ResNet's blocks.
    """
    blocks = tuple(f"block{i + 1}" for i in range(BLOCKS))
    losses, branches = measured_losses(folder), measured_losses(folder, blocks)
    wins = win_rates(losses)
    sources, targets = list(SOURCES), list(TASKS)
    Table(sources, targets, losses.mean(axis=2)).write(folder / "losses.csv")
    Table(sources, targets, _mean_wins(wins)).write(folder / "winrate.csv")
    Table(sources, targets, ahp_affinity(wins)).write(folder / "affinity.csv")
    Table(list(blocks), targets, _mean_wins(win_rates(branches))).write(folder / "branching_winrate.csv")
    Table(list(blocks), targets, branches.mean(axis=2)).write(folder / "branching_losses.csv")


def _mean_wins(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, T) from (T, S, S): a source's mean win rate against the others; the diagonal holds zeros."""
    mean: NDArray[np.float64] = wins.sum(axis=2).T / (wins.shape[2] - 1)
    return mean


def ranking_features(
    folder: Path, settings: Settings, architecture: str = "encoder", stage: str = "end", style: str = "day"
) -> dict[str, Array]:
    """The features of every source on the ranking images, (n, 8, 16, 16), by source: what rankings are computed from.

    No network was trained and no loss measured on these images. The untrained control is among the sources at the last
    stage only.
    """
    return encoded(folder, load_split(folder, "ranking", settings.ranking, style).input("image"), architecture, stage)


def encoded(folder: Path, images: Tensor, architecture: str = "encoder", stage: str = "end") -> dict[str, Array]:
    """The features (n, 8, 16, 16) of every source for any images, by source; see :func:`ranking_features`."""
    sources = SOURCES if stage == "end" else tuple(TASKS)
    return {source: in_batches(load_encoder(folder, architecture, source, stage), images).numpy() for source in sources}
