"""The tables that the DDS authors published, beside what this package computes from their activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dds_transfer.features import Features, common_images
from dds_transfer.grid import Figures, agreement, compute_grid, draw_images
from dds_transfer.tables import Table, load_truth, read_bundled

# The features of one image are 16 x 16 x 8, flattened with the channels last.
CHANNELS = 8
IMAGES = 200
SEED = 1993


@dataclass(frozen=True)
class Published:
    """A published table: mean Spearman correlations, a row per normalisation and a column per f.

    Attributes:
        place: where it was published.
        truth: the name of the measured transfer results that it compares with.
        file: the bundled table.
    """

    place: str
    truth: str
    file: str


@dataclass(frozen=True)
class Experiment:
    """What the authors compared, and how.

    Attributes:
        draws: number of draws of 200 images without replacement; None for the first 200.
        features: the name of the authors' file.
        tables: what they published.
    """

    draws: int | None
    features: str
    tables: tuple[Published, ...]


EXPERIMENTS = {
    "taskonomy": Experiment(
        None,
        "taskonomy_pascal_feats_taskonomy_5000.npy",
        (
            Published("the authors' notebook", "taskonomy-affinity", "dds/published_affinity.csv"),
            Published("the paper's Table 2", "taskonomy-affinity", "dds/paper_table2.csv"),
            Published("the authors' notebook", "taskonomy-winrate", "dds/published_winrate.csv"),
        ),
    ),
    "pascal": Experiment(
        100,
        "taskonomy_pascal_feats_pascal_5000.npy",
        (Published("the authors' notebook", "pascal-voc", "dds/published_pascal.csv"),),
    ),
}


def steps(experiment: str) -> int:
    """How often :func:`reproduce` calls ``step``."""
    chosen = EXPERIMENTS[experiment]
    return len(_normalizations(chosen)) * (chosen.draws or 1) * len({table.truth for table in chosen.tables})


def reproduce(
    experiment: str, models: Sequence[Features], step: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Compute what the DDS authors published, from the activations that they published.

    ``taskonomy`` is Table 2: each normalisation x f on the first 200 images, U-centring, cosine; Spearman's correlation
    with Taskonomy's affinities and win rates, per target, diagonal kept, mean over 17 targets. ``pascal`` is the
    correlation of the similarities to the Pascal VOC model with the mIoU after transfer from 17 sources, z-score, mean
    over 100 draws of 200 of Pascal VOC's images without replacement, the authors' own draws.

    Args:
        experiment: a name in ``EXPERIMENTS``.
        models: the authors' models under their names, features (n, 2048), n >= 200; more models do no harm.
        step: called now and then, ``steps(experiment)`` times in all.

    Returns:
        A record for each published number: ``truth``, ``published_in``, ``normalize``, ``f``, ``published``,
        ``computed``, their ``difference``, and ``off_diagonal``, what is computed if the target itself is no source.

    Raises:
        ValueError: an unknown experiment, a model that is missing, or fewer than 200 images.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"no experiment named {experiment!r}; known are {', '.join(EXPERIMENTS)}")
    chosen = EXPERIMENTS[experiment]
    arrays = {model.name: model.X for model in models}
    truths = {name: load_truth(name) for name in dict.fromkeys(table.truth for table in chosen.tables)}
    needed = dict.fromkeys(name for measured in truths.values() for name in measured.sources + measured.targets)
    if absent := [name for name in needed if name not in arrays]:
        missing = f"no features of {', '.join(absent)} among those of {len(models)} models"
        raise ValueError(f"{missing}; the authors' {chosen.features} has them all")
    draws = draw_images(common_images(models), IMAGES, chosen.draws, SEED)
    computed: dict[tuple[str, str, str], Any] = {}
    for truth, measured in truths.items():
        square = measured.sources == measured.targets

        def reduce(matrix: NDArray[np.float64], measured: Table = measured) -> dict[str, Figures]:
            return {"": agreement(matrix, measured, [])}

        for record in compute_grid(
            {name: arrays[name] for name in measured.sources},
            None if square else {name: arrays[name] for name in measured.targets},
            draws,
            _normalizations(chosen),
            reduce,
            step,
            fs=list(dict.fromkeys(f for table in chosen.tables for _, f in _cells(table))),
            channels=CHANNELS,
            channels_last=True,
        ):
            computed[truth, record["normalize"], record["f"]] = record
    return [
        {
            "truth": table.truth,
            "published_in": table.place,
            "normalize": normalize,
            "f": f,
            "published": published,
            "computed": computed[table.truth, normalize, f]["spearman"],
            "difference": computed[table.truth, normalize, f]["spearman"] - published,
            "off_diagonal": computed[table.truth, normalize, f]["spearman_off_diagonal"],
        }
        for table in chosen.tables
        for (normalize, f), published in _cells(table).items()
    ]


def _cells(table: Published) -> dict[tuple[str, str], float]:
    content = read_bundled(table.file)
    return {
        (normalize, f): value
        for normalize, row in zip(content.sources, content.values.tolist(), strict=True)
        for f, value in zip(content.targets, row, strict=True)
    }


def _normalizations(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys(normalize for table in experiment.tables for normalize, _ in _cells(table)))
