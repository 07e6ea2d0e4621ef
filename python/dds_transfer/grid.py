"""Every normalisation x f on some models: agreement with a truth, or similarity to a target, over draws of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import dds_ext
from dds_ext.reference import NEEDS_CHANNELS
from dds_transfer.evaluation import evaluate, left_out, shared_names
from dds_transfer.features import Features
from dds_transfer.resampling import draw_rows
from dds_transfer.tables import Table

Rows: TypeAlias = slice | NDArray[np.intp]
Matrix: TypeAlias = NDArray[np.float64]
# Figures by name; a figure that is not defined is None.
Figures: TypeAlias = dict[str, float | None]
# What a grid says of its agreement with a truth.
FIGURES = ("spearman", "spearman_off_diagonal", "pearson", "pearson_off_diagonal")


def draw_images(n: int, images: int | None, bootstrap: int | None, seed: int) -> list[Rows]:
    """Which of n images to use, once or for each draw.

    Args:
        n: images there are.
        images: how many to use; all of them by default, under ``bootstrap`` 200, or n // 2 if that is less.
        bootstrap: number of draws, each without replacement. None uses the first ``images`` once.
        seed: of NumPy's RandomState; with 1993 these are the draws of the DDS authors' scripts.
    """
    count = images or (min(200, n // 2) if bootstrap else n)
    if count > n:
        raise ValueError(f"{count} images are asked for, and there are {n}")
    return list(draw_rows(n, count, bootstrap, seed)) if bootstrap else [slice(0, count)]


def choose_models(models: Sequence[Features], truth: Table) -> tuple[list[Features], list[Features] | None, list[str]]:
    """The models that are sources in the truth, those that are targets, and notes on the names left out.

    The targets are None where they are the sources: the matrices are then symmetric, which halves the work.
    """
    by_name = {model.name: model for model in models}
    names = list(by_name)
    rows, columns = shared_names(names, names, truth)
    targets = None if rows == columns else [by_name[name] for name in columns]
    return [by_name[name] for name in rows], targets, left_out(names, names, truth)


def choose_normalizations(models: Sequence[Features], channels: int | None) -> tuple[list[str], list[str]]:
    """All normalisations; less those that need channels, with a note, where nothing says what the channels are."""
    flattened = channels is None and any(model.X.ndim == 2 for model in models)
    missing = [name for name in dds_ext.NORMALIZATIONS if flattened and name in NEEDS_CHANNELS]
    notes = [f"left out: {', '.join(missing)}; flattened features need --channels for them"] if missing else []
    return [name for name in dds_ext.NORMALIZATIONS if name not in missing], notes


def compute_grid(
    sources: Mapping[str, NDArray[Any]],
    targets: Mapping[str, NDArray[Any]] | None,
    draws: Sequence[Rows],
    normalizations: Sequence[str],
    reduce: Callable[[Matrix], dict[str, Figures]],
    step: Callable[[], None],
    **options: Any,
) -> list[dict[str, Any]]:
    """``dds_ext.grid`` on each draw of images, with the statistics of the normalisation taken from that draw.

    Args:
        sources, targets: features (n, ...) by name; targets None for the sources themselves.
        draws: the images of each draw.
        normalizations: those to compute, each with every f, or those in ``fs``.
        reduce: turns an (S, T) matrix of similarities into figures, for each source or, under the name "", for all.
        step: called after every normalisation of every draw, ``len(draws) * len(normalizations)`` times in all.
        options: ``fs``, ``channels``, ``channels_last`` and ``groups`` of ``dds_ext.grid``.

    Returns:
        A record for each normalisation, f and source: ``normalize``, ``f``, ``source`` (if named), and the mean of each
        figure over the draws with, of several draws, its standard deviation as ``<figure>_sd``.
    """
    figures: dict[tuple[str, str, str], list[Figures]] = {}
    for rows in draws:
        ours = {name: X[rows] for name, X in sources.items()}
        theirs = None if targets is None else {name: X[rows] for name, X in targets.items()}
        for normalize in normalizations:
            for (name, f), matrix in dds_ext.grid(ours, theirs, normalizations=[normalize], **options).items():
                for source, values in reduce(matrix).items():
                    figures.setdefault((name, f, source), []).append(values)
            step()
    return [
        {"normalize": normalize, "f": f, **({"source": source} if source else {}), **_over_draws(sets)}
        for (normalize, f, source), sets in figures.items()
    ]


def agreement(matrix: Matrix, truth: Table, notes: list[str]) -> Figures:
    """A matrix's mean agreement with the truth, which has its rows and columns; new notes are added to ``notes``."""
    evaluation = evaluate(Table(truth.sources, truth.targets, matrix), truth)
    notes += [note for note in evaluation.notes if note not in notes]
    return {name: getattr(evaluation.mean, name) for name in FIGURES}


def _over_draws(draws: list[Figures]) -> Figures:
    result: Figures = {}
    for name in draws[0]:
        defined = [value for figures in draws if (value := figures[name]) is not None]
        result[name] = fmean(defined) if defined else None
        if len(draws) > 1:
            result[f"{name}_sd"] = stdev(defined) if len(defined) > 1 else None
    return result
