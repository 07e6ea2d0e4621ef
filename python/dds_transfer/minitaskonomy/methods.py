"""The methods whose rankings are compared, what they see, and what they cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import dds_ext
from dds_transfer.attribution import METHODS, attribution_affinity
from dds_transfer.minitaskonomy.dataset import Dataset
from dds_transfer.minitaskonomy.experiment import SEED, Experiment
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.networks import SIZE
from dds_transfer.minitaskonomy.run import SOURCES
from dds_transfer.minitaskonomy.training import load_encoder
from dds_transfer.minitaskonomy.transfer import in_batches
from dds_transfer.output import write_json
from dds_transfer.resampling import draw_rows
from dds_transfer.tables import Table

Features: TypeAlias = Mapping[str, NDArray[Any]]

BLOCK = 8  # images whose attribution maps are compared at once


@dataclass(frozen=True)
class Method:
    """What a method says, and what it costs.

    Attributes:
        table: (21, 20), its similarity of every source to every target.
        draws: (20, 20) each, the same of the trained networks from draws of images.
        seconds, cpu_seconds: from images and networks in memory to the table, on the wall clock and summed over the
            cores.
    """

    table: Table
    draws: list[NDArray[np.float64]]
    seconds: float
    cpu_seconds: float


def measured(experiment: Experiment, measure: str) -> Method:
    """One of ``dds_ext.MEASURES``, on the encoders' features."""
    encoders = {source: load_encoder(experiment.folder, "encoder", source) for source in SOURCES}
    images = experiment.images().input("image")
    wall, cpu = time.perf_counter(), time.process_time()
    features = {source: in_batches(encoder, images).numpy() for source, encoder in encoders.items()}
    table = similarities(features, measure)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = draw_rows(experiment.settings.ranking, experiment.drawn, experiment.settings.draws, SEED)
    return Method(table, on_draws(features, measure, rows), wall, cpu)


def attributed(experiment: Experiment, method: str) -> Method:
    """One of the attribution methods, on the same outputs of the same encoders.

    The affinity is a mean over images; it is computed for blocks of 8 images, and a draw is one of blocks. Images are
    in no order, so the mean of a draw is distributed as that of as many single images, but for the share of all images
    that it takes.
    """
    encoders = {source: load_encoder(experiment.folder, "encoder", source) for source in SOURCES}
    images = experiment.images().input("image")
    wall, cpu = time.perf_counter(), time.process_time()
    blocks = [
        attribution_affinity(encoders, images[i : i + BLOCK], method, batch_size=BLOCK).table
        for i in range(0, len(images), BLOCK)
    ]
    values = np.stack([block.values for block in blocks])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    sizes = np.array([len(images[i : i + BLOCK]) for i in range(0, len(images), BLOCK)], np.float64)
    whole = Table(list(SOURCES), list(SOURCES), np.average(values, axis=0, weights=sizes))
    count = max(1, experiment.drawn // BLOCK)
    drawn = draw_rows(len(blocks), count, experiment.settings.draws, SEED) if count < len(blocks) else []
    n = len(TASKS)
    return Method(
        whole.part(list(SOURCES), list(TASKS)), [values[rows].mean(axis=0)[:n, :n] for rows in drawn], wall, cpu
    )


def similarities(features: Features, measure: str) -> Table:
    """The similarity of every source to every task by one of ``dds_ext.MEASURES``."""
    targets = {name: features[name] for name in TASKS}
    return Table(list(features), list(TASKS), dds_ext.affinity(features, targets, **dds_ext.MEASURES[measure]))


def on_draws(features: Features, measure: str, draws: Iterable[NDArray[np.intp]]) -> list[NDArray[np.float64]]:
    """(20, 20) similarities of the trained networks on each draw of images."""
    return [
        dds_ext.affinity({name: features[name][rows] for name in TASKS}, **dds_ext.MEASURES[measure]) for rows in draws
    ]


@lru_cache(maxsize=1)
def all_methods(experiment: Experiment) -> dict[str, Method]:
    """Every method by name, those that cost time kept.

    Beside the methods proper there are ``random``, a random ranking, and ``identity``, which knows nothing but that a
    network suits its own task best.
    """
    known: dict[str, Callable[[Experiment, str], Method]] = {
        **dict.fromkeys(dds_ext.MEASURES, measured),
        **dict.fromkeys(METHODS, attributed),
    }
    methods = {}
    for name, make in known.items():
        path = experiment.folder / "comparison" / "similarities" / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            method = make(experiment, name)
            write_json(
                path, {**vars(method), "table": method.table.to_dict(), "draws": [d.tolist() for d in method.draws]}
            )
        methods[name] = read_method(path)
    shape = (len(TASKS), len(TASKS))
    tied = Table(list(SOURCES), list(TASKS), np.zeros((len(SOURCES), len(TASKS))))  # ties count as broken at random
    random = np.random.default_rng(experiment.seed)
    methods["random"] = Method(tied, [random.random(shape) for _ in range(experiment.settings.draws)], 0.0, 0.0)
    own = Table(list(SOURCES), list(TASKS), np.eye(len(SOURCES), len(TASKS)))
    methods["identity"] = Method(own, [], 0.0, 0.0)
    return methods


def read_method(path: Path) -> Method:
    """A method as it is kept."""
    found = json.loads(path.read_text(encoding="utf-8"))
    table = found.pop("table")
    return Method(
        Table(table["sources"], table["targets"], np.array(table["values"])),
        [np.array(drawn) for drawn in found.pop("draws")],
        **found,
    )


def trained_only(features: Features) -> dict[str, NDArray[Any]]:
    """The features of the trained networks, without the control's."""
    return {task: features[task] for task in TASKS}


def label_features(data: Dataset, task: str) -> NDArray[np.float32]:
    """(n, ...) the labels of a task as features; classes as one number each that is 0 or 1."""
    label = data.label(task)
    if TASKS[task].loss == "cross_entropy":
        label = F.one_hot(label, TASKS[task].channels)
    values: NDArray[np.float32] = label.float().numpy()
    return values


def photographs(n: int) -> Tensor:
    """(n, 3, 64, 64) in [0, 1]: parts of scikit-learn's two photographs, 128 pixels wide, at half their resolution."""
    try:
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError as error:
        message = "the photographs are scikit-learn's: pip install 'dds_ext[examples]'"
        raise ModuleNotFoundError(message, name=error.name) from error

    pictures = [torch.from_numpy(picture / 255.0).float() for picture in load_sample_images().images]
    random, side = np.random.default_rng(SEED), 2 * SIZE
    parts = []
    for i in range(n):
        picture = pictures[i % len(pictures)]
        top, left = (int(random.integers(length - side + 1)) for length in picture.shape[:2])
        parts.append(picture[top : top + side, left : left + side])
    return F.avg_pool2d(torch.stack(parts).permute(0, 3, 1, 2), 2)
